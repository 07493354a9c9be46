#!/usr/bin/env bash
# The zoo in its short form as a gate: three shipped networks through every form
# and every runtime (rules in gate.py). Exits with 3 where the networks cannot be
# installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v python3 >/dev/null; then
  echo 'zoo: there is no python3' >&2
  exit 3
fi
if ! tools/zoo/setup.sh --short; then
  echo 'zoo: the packages of networks could not be installed' >&2
  exit 3
fi
# With the features of the whole workspace, as the tests have built it already.
cargo build --quiet --workspace --tests --bins
CAMPANA=target/debug/campana .venv-zoo/bin/python tools/zoo/run.py --short --gate --again --results target/zoo-short
