#!/usr/bin/env bash
# Makes what building and running for AArch64 on another machine needs: a
# linker and a C library, an emulator, and Rust's standard library, built from
# the sources of the compiler's own version.
#
# usage: tools/aarch64/setup.sh
#
# Installs Debian packages (as root) where they are missing; the library goes to
# target/aarch64-tools unless the variable AARCH64_TOOLS names another folder.
# Does nothing where all is there, and builds no library where the compiler has
# one for the target (`rustup target add aarch64-unknown-linux-gnu`). Exits with 3 where something could not be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${AARCH64_TOOLS:-$PWD/target/aarch64-tools}

give_up() {
  echo "no AArch64 tools: $1" >&2
  exit 3
}

install_missing() { # command, packages
  local command=$1
  shift
  command -v "$command" > /dev/null && return
  command -v apt-get > /dev/null || give_up "there is no $command, and no apt-get to install it"
  { apt-get update && apt-get install -y --no-install-recommends "$@"; } > "$folder/apt.log" 2>&1 ||
    give_up "apt-get could not install $* (see $folder/apt.log)"
}

# The package rust-src of this version out of the suites of Debian that have
# newer packages than the machine's own, with apt's lists of its own: the
# machine's stay as they are.
download_sources() { # version, where to
  local version=$1 to=$2 lists=$2/lists uri suite options found
  mkdir -p "$lists/partial" "$to/parts"
  uri=$(apt-get indextargets --format '$(REPO_URI)' 2> /dev/null | grep -v security | head -n 1) || true
  [ -n "$uri" ] || return 1
  for suite in trixie-backports testing unstable; do
    options=(-o "Dir::Etc::SourceList=$to/sources.list" -o Dir::Etc::SourceParts="$to/parts"
      -o "Dir::State::Lists=$lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=")
    echo "deb $uri $suite main" > "$to/sources.list"
    apt-get "${options[@]}" update > "$to/apt.log" 2>&1 || continue
    found=$(apt-cache "${options[@]}" madison rust-src | awk '{ print $3 }' | grep -m 1 "^$version" || true)
    [ -n "$found" ] || continue
    (cd "$to" && apt-get "${options[@]}" download "rust-src=$found") >> "$to/apt.log" 2>&1 && return
  done
  return 1
}

mkdir -p "$folder"
install_missing aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
install_missing qemu-aarch64 qemu-user

version=$(rustc --version | awk '{ print $2 }')
sysroot=$(rustc --print sysroot)
target=aarch64-unknown-linux-gnu
if [ -d "$sysroot/lib/rustlib/$target/lib" ]; then
  rm -rf "$folder/sysroot"
  exit
fi
if [ "$(cat "$folder/sysroot/version" 2> /dev/null)" = "$version" ]; then
  exit
fi
command -v apt-get > /dev/null || give_up "there is no apt-get to download the standard library's sources"
rm -rf "$folder/download" "$folder/rust-src" "$folder/sysroot"
mkdir -p "$folder/download"
download_sources "$version" "$folder/download" ||
  give_up "no package rust-src of version $version could be downloaded"
dpkg-deb -x "$folder"/download/rust-src_*.deb "$folder/rust-src" ||
  give_up "the package rust-src could not be unpacked"

# An empty program for cargo to build the library for. A released cargo builds
# it only when told that it may, and looks for its sources beside the compiler
# unless told where else.
mkdir -p "$folder/empty/src"
printf '[package]\nname = "empty"\nedition = "2024"\n[workspace]\n' > "$folder/empty/Cargo.toml"
: > "$folder/empty/src/lib.rs"
(
  cd "$folder/empty"
  library=$(echo "$folder"/rust-src/usr/src/rustc-*/library)
  RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$library CARGO_TARGET_DIR=$folder/build \
    cargo build --quiet --release -Z build-std=std,panic_unwind,panic_abort,proc_macro,test --target "$target"
) > "$folder/build.log" 2>&1 || give_up "the standard library could not be built (see $folder/build.log)"
mkdir -p "$folder/sysroot/lib/rustlib/$target/lib"
cp "$folder/build/$target"/release/deps/lib*.rlib "$folder/sysroot/lib/rustlib/$target/lib/"
rm -f "$folder/sysroot/lib/rustlib/$target"/lib/libempty-*.rlib
rm -rf "$folder/download" "$folder/rust-src" "$folder/empty" "$folder/build"
echo "$version" > "$folder/sysroot/version"
