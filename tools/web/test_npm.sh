#!/usr/bin/env bash
# Packs the npm package, installs it into an empty folder, and has Node quantize
# and run a network with it at every level that Node has.
#
# usage: tools/web/test_npm.sh
#
# MODULES names a folder that modules.sh has filled already. Exits with 3 where
# what setup.sh makes is missing, or npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
node=$(tools/web/node.sh)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tools/web/npm.sh "$folder"
cd "$folder"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund ./campana-web-*.tgz
cp "$root/web/npm_test.mjs" "$folder/"
for level in portable simd128 relaxed-simd; do
  LEVEL=$level FIXTURES=$root/fixtures "$node" --test "$folder/npm_test.mjs"
done
