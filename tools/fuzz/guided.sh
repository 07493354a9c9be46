#!/usr/bin/env bash
# Targets of campana-fuzz guided by coverage, by libFuzzer: a folder for each,
# with its corpus, its log and what was found. Ends with a line a target:
# executions, what was covered (edges and features), inputs kept.
#
#   tools/fuzz/guided.sh FOLDER EXECUTIONS SECONDS TARGET...
#
# EXECUTIONS or SECONDS, whichever comes first. Runs on the stable toolchain;
# libFuzzer is built from its crate by the machine's C++ compiler. Exits with 1
# where something was found, 3 where there is no C++ compiler.
set -euo pipefail
[ $# -ge 4 ] || {
  sed -n 's/^#   //p' "$0" >&2
  exit 2
}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
executions=$2 seconds=$3
shift 3
cd "$(dirname "$0")/../.."
command -v c++ > /dev/null || {
  echo 'guided.sh: there is no C++ compiler to build libFuzzer with' >&2
  exit 3
}

coverage='-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4
  -C llvm-args=-sanitizer-coverage-inline-8bit-counters
  -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares'
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, build scripts and macros are built without coverage.
RUSTFLAGS=$(echo $coverage) cargo build --release --target "$host" \
  --manifest-path crates/campana-fuzz/guided/Cargo.toml
program=$CARGO_TARGET_DIR/$host/release/campana-fuzz-guided

found=0
for target in "$@"; do
  mkdir -p "$folder/$target/corpus"
  CAMPANA_FUZZ_TARGET=$target CAMPANA_FUZZ_CORPUS=$folder/$target/corpus "$program" \
    -runs="$executions" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=0 -malloc_limit_mb=0 \
    -print_final_stats=1 -artifact_prefix="$folder/$target/" "$folder/$target/corpus" \
    > "$folder/$target/log" 2>&1 || {
    found=1
    echo "$target: found something, see $folder/$target"
  }
  awk -v target="$target" -v folder="$folder/$target/corpus" '
    /cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") edges = $(i + 1); if ($i == "ft:") features = $(i + 1) } }
    /number_of_executed_units/ { executed = $2 }
    END { printf "%s: %s executions, %s edges, %s features, ", target, executed, edges, features }
  ' "$folder/$target/log"
  echo "$(find "$folder/$target/corpus" -type f | wc -l) inputs kept"
done
exit "$found"
