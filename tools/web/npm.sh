#!/usr/bin/env bash
# Packs the npm package campana-web into FOLDER (default: dist).
#
# usage: tools/web/npm.sh [FOLDER]
#
# MODULES names a folder that modules.sh has filled already. Exits with 3 where
# what setup.sh makes is missing, or npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${1:-dist}"
folder=$(cd "${1:-dist}" && pwd)
if ! command -v npm > /dev/null; then
  echo "there is no npm" >&2
  exit 3
fi
modules=${MODULES:-}
if [ -z "$modules" ]; then
  modules=${CARGO_TARGET_DIR:-$PWD/target}/web-modules
  tools/web/modules.sh "$modules"
fi
version=$(sed -n '/^\[workspace.package\]$/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
cp web/npm/* web/levels.js LICENSE-APACHE LICENSE-MIT "$package/"
cp "$modules"/campana.js "$modules"/campana-*.wasm "$package/"
sed -i "s/\"version\": \".*\"/\"version\": \"$version\"/" "$package/package.json"
(cd "$package" && npm pack --silent --pack-destination "$folder" > /dev/null)
ls -l "$folder/campana-web-$version.tgz"
