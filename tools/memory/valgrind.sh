#!/usr/bin/env bash
# The kernels' tests under valgrind: reads and writes beyond what was allocated,
# and jumps that depend on what was never written. valgrind knows AVX2 at most, so
# that is the best instruction set that is tested. Exits with 3 where there is no
# valgrind.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v valgrind >/dev/null; then
  echo 'valgrind.sh: there is no valgrind' >&2
  exit 3
fi
program=$(cargo test --package campana-kernels --lib --no-run --message-format json |
  sed -n 's/.*"executable":"\([^"]*campana_kernels-[^"]*\)".*/\1/p' | tail -1)
cd crates/campana-kernels
valgrind --quiet --error-exitcode=1 "$program" --test-threads=1
