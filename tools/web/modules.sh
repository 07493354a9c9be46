#!/usr/bin/env bash
# Builds the WebAssembly modules, one for each level of instructions, and their
# JavaScript into FOLDER: campana.js (a plain script), campana_module.js and
# campana_module.d.ts (an ES module), campana-LEVEL.wasm.
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
  wasm-bindgen --target no-modules --no-typescript --out-dir "$parts/plain" --out-name campana "$module"
  wasm-bindgen --target web --out-dir "$parts/module" --out-name campana_module "$module"
  # One script serves all modules.
  for script in plain/campana.js module/campana_module.js; do
    built=$folder/${script#*/}
    if [ "$level" != "${levels[0]}" ] && ! cmp -s "$parts/$script" "$built"; then
      echo "error: the script of $level is another than that of ${levels[0]}" >&2
      exit 1
    fi
    cp "$parts/$script" "$built"
  done
  cp "$parts/module/campana_module.d.ts" "$folder/"
  cp "$parts/plain/campana_bg.wasm" "$folder/campana-$level.wasm"
done
for level in "${levels[@]}"; do
  file=$folder/campana-$level.wasm
  echo "campana-$level.wasm: $(stat -c %s "$file") bytes, $(gzip -9 -c "$file" | wc -c) compressed"
done
