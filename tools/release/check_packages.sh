#!/bin/sh
# Lists what `cargo package` would pack of every crate, and fails where a
# licence or the README is missing, or a file is there that no package needs.
#
# usage: tools/release/check_packages.sh
set -eu
cd "$(dirname "$0")/../.."
failed=0
for manifest in crates/*/Cargo.toml; do
    crate=$(basename "$(dirname "$manifest")")
    if grep -q '^publish = false' "$manifest"; then
        echo "$crate: not published"
        continue
    fi
    files=$(cargo package --list --quiet --allow-dirty --offline --package "$crate")
    for needed in Cargo.toml README.md LICENSE-APACHE LICENSE-MIT; do
        if ! echo "$files" | grep -qx "$needed"; then
            echo "$crate: $needed is missing" >&2
            failed=1
        fi
    done
    junk=$(echo "$files" | grep -E '\.(snap\.new|rej|log|tmp|pyc)$|(^|/)(target|\.venv)[^/]*/' || true)
    if [ -n "$junk" ]; then
        echo "$crate: $junk" >&2
        failed=1
    fi
    echo "$crate: $(echo "$files" | wc -l) files"
done
exit $failed
