#!/bin/sh
# Builds the wheel of the Python package into FOLDER (default: dist): one for
# every CPython from 3.9 on.
#
# usage: tools/python/wheel.sh [FOLDER]
#
# Needs maturin (`pip install maturin`). With ziglang beside it (`pip install
# ziglang`) the wheel is linked against an old glibc and fits every Linux since
# 2014; without it, those with the glibc of this machine or later.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-dist}
python=${PYTHON:-python3}
largest=$((8 * 1024 * 1024))
if "$python" -c 'import ziglang' 2> /dev/null; then
    "$python" -m maturin build --release --locked --out "$folder" --zig --compatibility manylinux2014
else
    "$python" -m maturin build --release --locked --out "$folder"
fi
for wheel in "$folder"/campana-*.whl; do
    bytes=$(wc -c < "$wheel")
    echo "$wheel: $bytes bytes"
    if [ "$bytes" -gt "$largest" ]; then
        echo "error: a wheel must not have more than $largest bytes" >&2
        exit 1
    fi
done
