#!/usr/bin/env bash
# Builds the command for AArch64 Linux into FOLDER (default: dist): one static binary.
#
# usage: tools/aarch64/build.sh [FOLDER]
#
# Exits with 3 where setup.sh could not make what it needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-dist}
tools/aarch64/setup.sh
AARCH64_RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" \
  tools/aarch64/cargo.sh build --release --locked --package campana
mkdir -p "$folder"
cp "${CARGO_TARGET_DIR:-target}/aarch64-unknown-linux-gnu/release/campana" "$folder/campana-aarch64"
if readelf -d "$folder/campana-aarch64" | grep -q NEEDED; then
  echo "error: the binary needs shared libraries" >&2
  exit 1
fi
ls -l "$folder/campana-aarch64"
