#!/bin/sh
# Packs the C interface into FOLDER: an archive of campana.h, the shared and the
# static library, what CMake and pkg-config need, examples and licences.
#
# usage: [PROFILE=release] tools/release/c_library.sh FOLDER [TARGET]
#
# TARGET is one of rustc's (default: this machine), installed with `rustup target
# add`; cross-compiling takes the linker of its system, set as Cargo's
# documentation says (CARGO_TARGET_<TARGET>_LINKER).
set -eu
if [ $# -lt 1 ]; then
    echo "usage: [PROFILE=release] $0 FOLDER [TARGET]" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
profile=${PROFILE:-release}
host=$(rustc -vV | sed -n 's/^host: //p')
target=${2:-$host}
built=${CARGO_TARGET_DIR:-target}
set -- --locked --package campana-c --lib --profile "$profile"
if [ "$target" != "$host" ]; then
    set -- "$@" --target "$target"
    built=$built/$target
fi
case $profile in
    dev) built=$built/debug strip=none ;;
    *) built=$built/$profile strip=symbols ;;
esac
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cargo rustc "$@" -- -C "strip=$strip" --print native-static-libs 2> "$log"; then
    cat "$log" >&2
    exit 1
fi
static_libs=$(sed -n 's/^note: native-static-libs: *//p' "$log" | tail -n 1)
if [ -z "$static_libs" ]; then
    cat "$log" >&2
    echo "error: rustc did not say which libraries the static one needs" >&2
    exit 1
fi

version=$(cargo pkgid --package campana-c | sed 's/.*[#@]//')
name=campana-c-$version-$target
out=$folder/$name
rm -rf "$out"
mkdir -p "$out/include" "$out/lib/pkgconfig" "$out/lib/cmake/campana" "$out/examples"
cp crates/campana-c/include/campana.h "$out/include/"
found=0
for library in libcampana.so libcampana.dylib campana.dll campana.dll.lib libcampana.a campana.lib; do
    if [ -f "$built/$library" ]; then
        cp "$built/$library" "$out/lib/"
        found=$((found + 1))
    fi
done
if [ "$found" -lt 2 ]; then
    echo "error: no shared and static library in $built" >&2
    exit 1
fi
cmake_libs=$(echo "$static_libs" | sed 's/ \+/;/g')
sed "s|@STATIC_LIBS@|$cmake_libs|" crates/campana-c/cmake/campana-config.cmake \
    > "$out/lib/cmake/campana/campana-config.cmake"
sed -e "s|@STATIC_LIBS@|$static_libs|" -e "s|@VERSION@|$version|" \
    crates/campana-c/cmake/campana.pc.in > "$out/lib/pkgconfig/campana.pc"
cp crates/campana-c/examples/*.c crates/campana-c/examples/*.cpp "$out/examples/"
# Links to other pages lead nowhere in the archive.
sed 's/\[\([^]]*\)\]([^:)]*)/\1/g' docs/c.md > "$out/README.md"
cp LICENSE-APACHE LICENSE-MIT "$out/"
tar -C "$folder" -czf "$folder/$name.tar.gz" "$name"
ls -l "$out"/lib/*campana.* "$folder/$name.tar.gz" >&2
echo "$out"
