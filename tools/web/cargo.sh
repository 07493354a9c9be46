#!/usr/bin/env bash
# Runs cargo for WebAssembly: `build` makes what a page loads
# (wasm32-unknown-unknown), `test`, `run` and `bench` make programs that Node runs
# (wasm32-wasip1).
#
# usage: tools/web/cargo.sh LEVEL COMMAND [ARGUMENTS]
#
# LEVEL is portable, simd128 or relaxed-simd: what instructions the module has.
# What setup.sh makes must be there.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
folder=${WEB_TOOLS:-$root/target/web-tools}
level=$1 command=$2
shift 2
case $level in
  portable) flags= ;;
  simd128) flags="-C target-feature=+simd128" ;;
  relaxed-simd) flags="-C target-feature=+simd128,+relaxed-simd" ;;
  *)
    echo "error: no level $level: portable, simd128 or relaxed-simd" >&2
    exit 2
    ;;
esac
case $command in
  build | clippy | rustc) target=wasm32-unknown-unknown ;;
  *) target=wasm32-wasip1 ;;
esac
[ -d "$folder/sysroot" ] && flags="--sysroot $folder/sysroot $flags"
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$flags ${WEB_RUSTFLAGS:-}"
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$flags ${WEB_RUSTFLAGS:-}"
# Node warns that its WASI may change.
export CARGO_TARGET_WASM32_WASIP1_RUNNER="$(tools/web/node.sh) --no-warnings --stack-size=4000 $root/tools/web/wasi.mjs"
# Levels beside each other, so that none is compiled anew when another was.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/web-$level
exec cargo "$command" --target "$target" "$@"
