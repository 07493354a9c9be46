#!/bin/sh
# Makes the README's picture anew: the page of `campana inspect` about the
# network of the repository, with the card of one tensor. Needs Chromium.
#
# usage: docs/images/make.sh [CAMPANA]
set -eu
cd "$(dirname "$0")/../.."
campana=${1:-target/release/campana}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$campana" inspect fixtures/cifar10_resnet8.onnx --html "$work/page.html" > "$work/table.txt"
# The table and one card fit a picture; words and the other cards do not.
sed 's|</style>|.glossary, footer, .card:not(#t1) { display: none; } body { padding-bottom: 1rem; }</style>|' \
    "$work/page.html" > "$work/picture.html"
chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars \
    --disable-background-networking --disable-component-update --disable-sync --user-data-dir="$work/profile" \
    --window-size=1280,1430 --screenshot="$PWD/docs/images/inspect.png" "file://$work/picture.html"
