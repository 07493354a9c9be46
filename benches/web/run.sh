#!/usr/bin/env bash
# Times campana's engine in Chromium beside onnxruntime-web, on one thread, and
# how long quantizing a network takes there; prints a record.
#
# usage: benches/web/run.sh [--record FOLDER] [MODEL...]
#
# MODELS are float ONNX files with fixed sizes; by default MobileNetV2 with random
# weights and, where the shared folder is there, EfficientNet-Lite0. Makes what it
# needs in target/web-bench: the npm package, onnxruntime-web of package.json,
# onnxruntime for Python. ROUNDS and SLICE_MS say how long it takes. Exits with 3
# where tools are missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
record=
if [ "${1:-}" = --record ]; then
  record=$2
  shift 2
fi
folder=${CARGO_TARGET_DIR:-$root/target}/web-bench
mkdir -p "$folder/networks" "$folder/models"
if [ ! -x "$folder/venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx onnxruntime numpy sympy
fi
cp benches/web/package.json "$folder/"
(cd "$folder" && npm install --silent --no-audit --no-fund --no-package-lock)
tools/web/npm.sh "$folder"
rm -rf "$folder/package"
tar -xzf "$folder"/campana-web-*.tgz -C "$folder"
shared=${CAMPANA_SHARED:-$root/../shared}
models=("$@")
if [ ${#models[@]} = 0 ]; then
  "$folder/venv/bin/python" tools/peers/make_networks.py "$folder/networks" --networks mobilenetv2
  models=("$folder/networks/mobilenetv2.onnx")
  lite=$shared/models/imagenet_efficientnet_lite0_bn.onnx
  if [ -f "$lite" ]; then models+=("$lite"); else echo "no EfficientNet-Lite0 at $lite" >&2; fi
fi
"$folder/venv/bin/python" benches/web/prepare.py "$folder/models" "${models[@]}"
names=()
for model in "${models[@]}"; do names+=("$(basename "$model" .onnx)"); done
quantized=cifar10_resnet20_bn.onnx
arguments=()
if [ -f "$shared/models/$quantized" ]; then
  cp "$shared/models/$quantized" "$folder/models/"
  arguments=(--quantize "$quantized")
fi
text=$("$(tools/web/node.sh)" benches/web/run.mjs "$folder/models" "$folder/package" \
  "$folder/node_modules/onnxruntime-web/dist" "${names[@]}" "${arguments[@]}")
echo "$text"
if [ -n "$record" ]; then
  mkdir -p "$record"
  echo "$text" >> "$record/$(date +%F).md"
fi
