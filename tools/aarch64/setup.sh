#!/usr/bin/env bash
# Makes what building and running for AArch64 on another machine needs: a
# linker and a C library, an emulator, and Rust's standard library, built from
# the sources of the compiler's own version.
#
# usage: tools/aarch64/setup.sh
#
# Installs Debian packages (as root) where they are missing; the library goes to
# target/aarch64-tools unless the variable AARCH64_TOOLS names another folder.
# Does nothing where all is there, and builds no library where the compiler has
# one for the target (`rustup target add aarch64-unknown-linux-gnu`). Exits with 3 where something could not be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${AARCH64_TOOLS:-$PWD/target/aarch64-tools}
tools=AArch64
. tools/rust-std.sh

mkdir -p "$folder"
install_missing aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
install_missing qemu-aarch64 qemu-user
make_sysroot std,panic_unwind,panic_abort,proc_macro,test aarch64-unknown-linux-gnu
