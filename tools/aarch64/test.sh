#!/usr/bin/env bash
# Runs the kernels' tests at every level of AArch64, and whole networks against
# outputs recorded elsewhere, on emulated processors, and prints a table.
#
# usage: tools/aarch64/test.sh
#
# Exits with 3 where setup.sh could not make what it needs, with 1 where a test fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools/aarch64/setup.sh
sysroot=${AARCH64_SYSROOT:-/usr/aarch64-linux-gnu}
# Without the checks of the standard library's own `unsafe` code, which are half
# of what is compiled here; those of overflow stay.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false CARGO_PROFILE_DEV_OVERFLOW_CHECKS=true

# The program of a package's tests.
program() { # cargo's arguments
  tools/aarch64/cargo.sh test --quiet --no-run --message-format=json "$@" |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
kernels=$(program --package campana-kernels --lib)
networks=$(program --package campana-runtime --test recorded)

failed=0
printf '%-12s %-9s %-34s %s\n' processor level kernels networks
for row in cortex-a53:neon cortex-a76:dotprod max:i8mm; do
  cpu=${row%:*} level=${row#*:}
  run=(qemu-aarch64 -cpu "$cpu" -L "$sysroot")
  results=()
  for test in "$kernels" "$networks"; do
    if output=$(CAMPANA_CPU=$level "${run[@]}" "$test" 2>&1); then :; else
      failed=1
      echo "$output" >&2
    fi
    results+=("$(echo "$output" | sed -n 's/^test result: \(.*\); 0 measured.*/\1/p')")
  done
  printf '%-12s %-9s %-34s %s\n' "$cpu" "$level" "${results[0]:-no result}" "${results[1]:-no result}"
done
exit "$failed"
