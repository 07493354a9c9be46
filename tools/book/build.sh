#!/bin/sh
# Builds the book of the documentation into target/book.
#
# usage: tools/book/build.sh
#
# Takes mdbook from PATH or from target/mdbook, where it is installed with cargo
# if it is in neither. Exits with 3 where it cannot be had.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PATH:$PWD/target/mdbook/bin
if ! command -v mdbook > /dev/null &&
    ! cargo install --quiet --locked --no-default-features --root target/mdbook mdbook; then
    echo "SKIPPED: the book, without mdbook"
    exit 3
fi
mdbook build
pages=$(grep -c '\.md)' docs/SUMMARY.md)
built=$(find target/book -name '*.html' | wc -l)
echo "target/book/index.html: $built pages of $pages in docs/SUMMARY.md"
test "$built" -ge "$pages"
