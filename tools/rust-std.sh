# Rust's standard library for a target that the compiler has none for, built from
# the sources of the compiler's own version. Sourced by the scripts that set a
# target up, which set `folder` (where all goes) and `tools` (what for, in messages).
# shellcheck shell=bash

give_up() {
  echo "no $tools tools: $1" >&2
  exit 3
}

install_missing() { # command, packages
  local command=$1
  shift
  command -v "$command" > /dev/null && return
  install_packages "$@"
}

install_packages() { # packages
  command -v apt-get > /dev/null || give_up "$1 is missing, and there is no apt-get to install it"
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

# Unpacks these sources into `$folder/rust-src`.
unpack_sources() { # version
  rm -rf "$folder/download" "$folder/rust-src"
  mkdir -p "$folder/download"
  download_sources "$1" "$folder/download" ||
    give_up "no package rust-src of version $1 could be downloaded"
  dpkg-deb -x "$folder"/download/rust-src_*.deb "$folder/rust-src" ||
    give_up "the package rust-src could not be unpacked"
}

compiler_has() { # targets
  local target sysroot
  sysroot=$(rustc --print sysroot)
  for target in "$@"; do
    [ -d "$sysroot/lib/rustlib/$target/lib" ] || return 1
  done
}

# Whether the compiler, or the folder, has the libraries of these targets.
has_sysroot() { # targets
  compiler_has "$@" ||
    [ "$(cat "$folder/sysroot/version" 2> /dev/null)" = "$(rustc --version | awk '{ print $2 }')" ]
}

# Makes `$folder/sysroot` with the libraries of these targets, where neither the
# compiler nor the folder has them.
make_sysroot() { # crates of the library, targets
  local crates=$1 version target
  shift
  if compiler_has "$@"; then
    rm -rf "$folder/sysroot"
    return
  fi
  has_sysroot "$@" && return
  version=$(rustc --version | awk '{ print $2 }')
  command -v apt-get > /dev/null || give_up "there is no apt-get to download the standard library's sources"
  rm -rf "$folder/sysroot"
  unpack_sources "$version"
  for target in "$@"; do
    build_library "$crates" "$target"
  done
  rm -rf "$folder/download" "$folder/rust-src" "$folder/empty" "$folder/build"
  echo "$version" > "$folder/sysroot/version"
}

# An empty program for cargo to build the library for. A released cargo builds
# it only when told that it may, and looks for its sources beside the compiler
# unless told where else.
build_library() { # crates, target
  local crates=$1 target=$2
  mkdir -p "$folder/empty/src"
  printf '[package]\nname = "empty"\nedition = "2024"\n[workspace]\n' > "$folder/empty/Cargo.toml"
  : > "$folder/empty/src/lib.rs"
  (
    cd "$folder/empty"
    library=$(echo "$folder"/rust-src/usr/src/rustc-*/library)
    RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$library CARGO_TARGET_DIR=$folder/build \
      cargo build --quiet --release -Z "build-std=$crates" --target "$target"
  ) > "$folder/build.log" 2>&1 || give_up "the standard library could not be built (see $folder/build.log)"
  mkdir -p "$folder/sysroot/lib/rustlib/$target/lib"
  cp "$folder/build/$target"/release/deps/lib*.rlib "$folder/sysroot/lib/rustlib/$target/lib/"
  rm -f "$folder/sysroot/lib/rustlib/$target"/lib/libempty-*.rlib
}
