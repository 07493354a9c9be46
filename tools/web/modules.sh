#!/usr/bin/env bash
# Builds the WebAssembly modules, one for each level of instructions, and their
# JavaScript into FOLDER: campana.js, an ES module, and campana-LEVEL.wasm.
#
# usage: tools/web/modules.sh FOLDER [LEVEL...]
#
# LEVELS are portable, simd128 and relaxed-simd, by default all. What setup.sh
# makes must be there: exits with 3 where it is not.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1
shift
levels=("$@")
[ ${#levels[@]} -gt 0 ] || levels=(portable simd128 relaxed-simd)
tools/web/setup.sh --check
PATH=${WEB_TOOLS:-$PWD/target/web-tools}/bin:$PATH
mkdir -p "$folder"
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
for level in "${levels[@]}"; do
  tools/web/cargo.sh "$level" build --profile web --locked --package campana-web
  module=${CARGO_TARGET_DIR:-target}/web-$level/wasm32-unknown-unknown/web/campana_web.wasm
  wasm-bindgen --target web --no-typescript --out-dir "$parts" --out-name campana "$module"
  # Who loads a module names it; bundlers shall not look for one of the script's own.
  sed -i "s/new URL('campana_bg.wasm', import.meta.url)/undefined/" "$parts/campana.js"
  # One script serves all modules.
  if [ "$level" != "${levels[0]}" ] && ! cmp -s "$parts/campana.js" "$folder/campana.js"; then
    echo "error: the script of $level is another than that of ${levels[0]}" >&2
    exit 1
  fi
  cp "$parts/campana.js" "$folder/"
  cp "$parts/campana_bg.wasm" "$folder/campana-$level.wasm"
done
for level in "${levels[@]}"; do
  file=$folder/campana-$level.wasm
  echo "campana-$level.wasm: $(stat -c %s "$file") bytes, $(gzip -9 -c "$file" | wc -c) compressed"
done
