#!/usr/bin/env bash
# Makes the two virtual environments of the peers' checks in the repository's
# root: .venv-peers (newest runtimes) and .venv-peers-old (onnxruntime 1.16.3).
# Safe to run again: an environment whose requirements are unchanged is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

make_environment() { # folder, requirements file
  if cmp -s "$2" "$1/requirements.txt"; then
    return
  fi
  rm -rf "$1"
  "$python" -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
  cp "$2" "$1/requirements.txt"
}

make_environment .venv-peers tools/peers/requirements.txt
make_environment .venv-peers-old tools/peers/requirements-old.txt
