#!/usr/bin/env bash
# The kernels' tests under AddressSanitizer (reads and writes beyond what was
# allocated, at every instruction set of the machine) and under ThreadSanitizer
# (data races of the thread pool). A released compiler has both when it is told
# that it may; ThreadSanitizer must see the standard library too, which is built
# from Debian's sources of the compiler's own version. Exits with 3 where there
# are none.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$(rustc -vV | sed -n 's/^host: //p')
folder=$PWD/target/sanitizers
tools=ThreadSanitizer
. tools/rust-std.sh

library() {
  local version
  version=$(rustc --version | awk '{ print $2 }')
  if [ "$(cat "$folder/version" 2> /dev/null)" != "$version" ]; then
    unpack_sources "$version"
    rm -rf "$folder/download"
    echo "$version" > "$folder/version"
  fi
  echo "$folder"/rust-src/usr/src/rustc-*/library
}

test_under() { # sanitizer, options of cargo
  local sanitizer=$1
  shift
  echo "== $sanitizer sanitizer"
  RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Z sanitizer=$sanitizer" CARGO_TARGET_DIR=$folder/$sanitizer \
    cargo test --quiet --target "$target" "$@"
}

test_under address --package campana-kernels --package campana-codebook \
  --package campana-container --package campana-tensor --lib
# Assigned apart: a failure within an argument would not end the script.
sources=$(library)
__CARGO_TESTS_ONLY_SRC_ROOT=$sources \
  test_under thread -Z build-std --package campana-kernels --lib
