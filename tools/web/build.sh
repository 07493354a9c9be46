#!/bin/sh
# Builds the browser page into FOLDER (default: dist): one HTML file,
# campana.html, that holds everything and opens from a disk or any server.
#
# usage: tools/web/build.sh [FOLDER]
#
# Needs the wasm32-unknown-unknown target (`rustup target add
# wasm32-unknown-unknown`), the wasm-bindgen command of the version in Cargo.lock
# (`cargo install wasm-bindgen-cli --version ...`) and Python. Exits with 3 where
# the target or the command is missing. WEB_RUSTC names a compiler that has the target,
# where the usual one has not.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-dist}
rustc=${WEB_RUSTC:-rustc}
target=wasm32-unknown-unknown
version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
if [ ! -d "$("$rustc" --print sysroot)/lib/rustlib/$target/lib" ]; then
    echo "no target $target: rustup target add $target" >&2
    exit 3
fi
if [ "$(wasm-bindgen --version 2> /dev/null)" != "wasm-bindgen $version" ]; then
    echo "no wasm-bindgen $version: cargo install wasm-bindgen-cli --version $version" >&2
    exit 3
fi
RUSTC=$rustc cargo build --release --locked --package campana-web --target "$target"
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
wasm-bindgen --target no-modules --no-typescript --out-dir "$parts" --out-name campana \
    "${CARGO_TARGET_DIR:-target}/$target/release/campana_web.wasm"
mkdir -p "$folder"
"${PYTHON:-python3}" tools/web/bundle.py "$parts/campana.js" "$parts/campana_bg.wasm" "$folder/campana.html"
ls -l "$folder/campana.html"
