#!/bin/sh
# Installs what run.sh needs on Debian: the compiler for Cortex-M and the machine
# that it is tested in.
set -eu
if [ "$(id -u)" != 0 ]; then
    exec sudo "$0"
fi
apt-get update
apt-get install --yes --no-install-recommends \
    gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
