#!/usr/bin/env python3
"""A fully connected layer of 4096 x 4096 at batch 1 with 2-, 4- and 8-bit weights.

    tools/peers/make_networks.py FOLDER --networks linear4096
    python benches/peers/linear.py target/release/campana FOLDER/linear4096.onnx [--record benchmarks/record]

The layer reads each weight once, so its time is that of the memory where the
weights are read from. The widths take turns; a ratio is the median of the
rounds' ratios. Needs no package.
"""

import argparse
import json
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

import engines
import record

BITS = ["8", "4", "2"]
# The layer's node in what `make_networks.py` writes.
NODE = "logits"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the command, built with --release")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=50, help="runs in a round")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the quantized models, used again where they are")
    parser.add_argument("--record", type=pathlib.Path, help="folder for a dated record, which is added to")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        models = {bits: quantized(args, bits, args.keep or pathlib.Path(scratch)) for bits in BITS}
        for threads in args.threads:
            times = {bits: [] for bits in BITS}
            for _ in range(args.rounds):
                for bits, model in models.items():
                    times[bits].append(layer_ms(args, model, threads))
            for bits in BITS:
                gain = statistics.median(a / b for a, b in zip(times[BITS[0]], times[bits]))
                rows.append([bits, str(threads), f"{statistics.median(times[bits]):.3f}", f"{gain:.2f}"])
    lines = record.table(["bits", "threads", "ms", "times as fast as 8 bits"], rows)
    print(*lines, sep="\n")
    if args.record:
        target = args.record / platform.machine() / f"{record.today()}-linear.md"
        record.append(target, record.head({"campana": engines.campana_version(args.campana)}) + lines)
    return 0


def quantized(args, bits: str, folder: pathlib.Path) -> str:
    target = folder / f"{args.model.stem}.w{bits}a8.onnx"
    if not target.exists():
        options = ["--target", "w4a8", "--bits", bits, "--no-correct"]
        command = [args.campana, "quantize", str(args.model), "-o", str(target), *options]
        subprocess.run(command, check=True, capture_output=True)
        shutil.copy(args.model.with_suffix(".json"), target.with_suffix(".json"))
    return str(target)


def layer_ms(args, model: str, threads: int) -> float:
    command = [args.campana, "bench", model, "--json", "--layers", "--threads", str(threads), "--runs", str(args.runs)]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    (layer,) = [layer for layer in json.loads(output)["models"][0]["layers"] if layer["node"] == NODE]
    assert layer["on_codes"], "the layer was computed on floats"
    return layer["median_ms"]


if __name__ == "__main__":
    sys.exit(main())
