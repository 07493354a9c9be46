#!/bin/sh
# Builds the Python package, puts it into `.venv-python` of the repository root
# with what its tests need, and runs them.
#
# usage: tools/python/test.sh [PYTEST ARGUMENTS]
#
# PYTHON names the interpreter that makes the environment (default: python3),
# VENV another environment, which must have maturin, numpy, pytest and onnx. Exits
# with 3 where no environment can be made.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=${VENV:-$root/.venv-python}
if [ ! -x "$venv/bin/python" ]; then
    if ! "${PYTHON:-python3}" -m venv "$venv" ||
        ! "$venv/bin/pip" install --quiet 'maturin>=1.7,<2' numpy pytest onnx; then
        rm -rf "$venv"
        exit 3
    fi
fi
PATH=$venv/bin:$PATH
# The tests' profile: what `cargo test` has built is not built again.
MATURIN_PEP517_ARGS='--profile dev' \
    pip install --quiet --no-build-isolation --no-deps --force-reinstall "$root"
python -m pytest --quiet "$root/crates/campana-python/tests" "$@"
