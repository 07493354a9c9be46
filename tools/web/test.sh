#!/usr/bin/env bash
# Builds the browser page and looks at it in headless Chromium.
#
# usage: tools/web/test.sh [PYTEST ARGUMENTS]
#
# PAGE names a page that is built already, PICTURES a folder for screenshots.
# Makes `.venv-web` for what the test needs. Exits with 3 where there is no
# Chromium, nothing of what setup.sh makes, or no environment.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
venv=${VENV:-$root/.venv-web}
if ! command -v chromium > /dev/null; then
  echo "there is no chromium" >&2
  exit 3
fi
[ -n "${PAGE:-}" ] || tools/web/setup.sh --check
if [ ! -x "$venv/bin/python" ]; then
  if ! "${PYTHON:-python3}" -m venv "$venv" ||
    ! "$venv/bin/pip" install --quiet playwright pytest; then
    rm -rf "$venv"
    exit 3
  fi
fi
if [ -z "${PAGE:-}" ]; then
  tools/web/build.sh "$root/target/web"
  PAGE=$root/target/web/campana.html
fi
# With the features of the whole workspace, as the tests have built it already.
cargo build --quiet --workspace --tests --bins
CAMPANA=${CARGO_TARGET_DIR:-$root/target}/debug/campana
export PAGE CAMPANA
"$venv/bin/python" -m pytest --quiet "$root/web/test_page.py" "$@"
