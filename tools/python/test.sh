#!/bin/sh
# Builds the Python package in the tests' profile and runs its tests.
#
# usage: tools/python/test.sh [PYTEST ARGUMENTS]
#
# The crates are built together with the workspace's tests: built alone, as `pip
# install` does, they get other features of shared dependencies, and all would be
# compiled once more. `tools/python/wheel.sh` builds what is installed.
#
# PYTHON names the interpreter that makes the environment (default: python3),
# VENV another environment, which must have numpy, pytest, onnx, pandas and pillow (ray, pyarrow,
# nbclient and ipykernel are needed by some tests, which skip without). Exits with 3
# where no environment can be made.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=${VENV:-$root/.venv-python}
if [ ! -x "$venv/bin/python" ]; then
    if ! "${PYTHON:-python3}" -m venv "$venv" ||
        ! "$venv/bin/pip" install --quiet numpy pytest onnx pandas pillow; then
        rm -rf "$venv"
        exit 3
    fi
    # Not there for every interpreter and machine; what needs them is skipped then.
    for package in ray pyarrow nbclient ipykernel; do
        "$venv/bin/pip" install --quiet "$package" || echo "SKIPPED: tests that need $package"
    done
fi
target=${CARGO_TARGET_DIR:-$root/target}
package=$target/python
cd "$root"
cargo build --quiet --workspace --lib --tests
rm -rf "$package"
mkdir -p "$package"
cp -R crates/campana-python/python/campana "$package"
for library in "$target"/debug/lib_campana.so "$target"/debug/lib_campana.dylib; do
    if [ -e "$library" ]; then
        cp "$library" "$package/campana/_campana.abi3.so"
    fi
done
PYTHONPATH=$package "$venv/bin/python" -m pytest --quiet crates/campana-python/tests "$@"
