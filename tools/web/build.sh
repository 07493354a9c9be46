#!/usr/bin/env bash
# Builds the browser page into FOLDER (default: dist): one HTML file,
# campana.html, that holds everything and opens from a disk or any server.
#
# usage: tools/web/build.sh [FOLDER]
#
# MODULES names a folder that modules.sh has filled already. Exits with 3 where
# what setup.sh makes is missing. Needs Python.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-dist}
modules=${MODULES:-}
if [ -z "$modules" ]; then
  modules=${CARGO_TARGET_DIR:-$PWD/target}/web-modules
  tools/web/modules.sh "$modules"
fi
mkdir -p "$folder"
"${PYTHON:-python3}" tools/web/bundle.py "$modules" "$folder/campana.html"
ls -l "$folder/campana.html"
