#!/usr/bin/env bash
# Runs the kernels' tests at every level of WebAssembly, and whole networks
# against outputs recorded elsewhere, under Node, and prints a table.
#
# usage: tools/web/test_levels.sh [LEVEL...]
#
# Exits with 3 where setup.sh could not make what it needs, with 1 where a test fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools/web/setup.sh
levels=("$@")
[ ${#levels[@]} -gt 0 ] || levels=(portable simd128 relaxed-simd)
# Without the checks of the standard library's own `unsafe` code, as for AArch64.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false CARGO_PROFILE_DEV_OVERFLOW_CHECKS=true

failed=0
printf '%-13s %-36s %s\n' level kernels networks
for level in "${levels[@]}"; do
  results=()
  for tests in "campana-kernels --lib" "campana-runtime --test recorded"; do
    # shellcheck disable=SC2086
    if output=$(CAMPANA_CPU=$level tools/web/cargo.sh "$level" test --quiet --locked --package $tests 2>&1); then :; else
      failed=1
      echo "$output" >&2
    fi
    results+=("$(echo "$output" | sed -n 's/^test result: \(.*\); 0 measured.*/\1/p')")
  done
  printf '%-13s %-36s %s\n' "$level" "${results[0]:-no result}" "${results[1]:-no result}"
done
exit "$failed"
