#!/bin/sh
# Builds what a release ships, into FOLDER (default: dist): one static binary,
# completions, manual pages, licences, and an archive of them all.
#
# usage: tools/release/build.sh [FOLDER]
#
# The binary is built for musl where the toolchain has that target (`rustup
# target add x86_64-unknown-linux-musl`), and else for glibc, linked statically
# all the same; campana looks up no names, which is what static glibc cannot.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-dist}
machine=$(uname -m)
musl=$machine-unknown-linux-musl
if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ]; then
    target=$musl
else
    target=$machine-unknown-linux-gnu
    echo "no target $musl: linking glibc statically" >&2
fi
RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" \
    cargo build --release --locked --package campana --target "$target"
version=$(cargo pkgid --package campana | sed 's/.*[#@]//')
name=campana-$version-$target
out=$folder/$name
mkdir -p "$out/completions" "$out/man"
cp "${CARGO_TARGET_DIR:-target}/$target/release/campana" "$out/"
for shell in bash zsh fish powershell elvish; do
    "$out/campana" completions "$shell" > "$out/completions/campana.$shell"
done
"$out/campana" man "$out/man"
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$out/"
if ldd "$out/campana" 2>/dev/null | grep -q '=>'; then
    echo "error: the binary needs shared libraries" >&2
    exit 1
fi
tar -C "$folder" -czf "$folder/$name.tar.gz" "$name"
ls -l "$out/campana" "$folder/$name.tar.gz"
