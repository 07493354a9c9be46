#!/usr/bin/env bash
# Makes .venv-bench in the repository's root, with each peer that can be
# installed on this machine; says which cannot. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/../.."
requirements=benches/peers/requirements.txt
if cmp -s "$requirements" .venv-bench/requirements.txt; then
  exit
fi
rm -rf .venv-bench
"${PYTHON:-python3}" -m venv .venv-bench
missing=()
while read -r package; do
  .venv-bench/bin/pip install --quiet --disable-pip-version-check "$package" || missing+=("$package")
done < <(grep -v '^#' "$requirements")
if [ ${#missing[@]} -gt 0 ]; then
  echo "not installed, and left out of records: ${missing[*]}" >&2
fi
cp "$requirements" .venv-bench/requirements.txt
