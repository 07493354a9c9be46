#!/usr/bin/env bash
# Runs cargo for AArch64 Linux on any machine: `build`, `test`, `clippy`, `run`.
#
# usage: tools/aarch64/cargo.sh COMMAND [ARGUMENTS]
#
# AARCH64_CPU names the processor that programs run on, one of `qemu-aarch64
# -cpu help` (default: max), AARCH64_RUSTFLAGS flags of the compiler. What
# setup.sh makes must be there.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${AARCH64_TOOLS:-$PWD/target/aarch64-tools}
target=aarch64-unknown-linux-gnu
sysroot=${AARCH64_SYSROOT:-/usr/aarch64-linux-gnu}
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu ${AARCH64_CPU:-max} -L $sysroot"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
command=$1
shift
if [ -d "$folder/sysroot" ]; then
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="--sysroot $folder/sysroot ${AARCH64_RUSTFLAGS:-}"
else
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=${AARCH64_RUSTFLAGS:-}
fi
exec cargo "$command" --target "$target" "$@"
