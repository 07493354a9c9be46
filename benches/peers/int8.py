#!/usr/bin/env python3
"""Latency of campana's w4a8 models against other engines' int8 and float.

For each float model the peers' static int8 form is made by onnxruntime's own
quantizer (QDQ, per channel, normalizations folded first) on random images,
which is enough for timing. All engines take turns in short slices; printed are
medians over the slices and ratios to the best peer's int8. With --record a
dated record with processor, versions, commit and command is written.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
import openvino
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

SLICE_S = 0.25
WARM_UP = 5


class RandomImages(CalibrationDataReader):
    def __init__(self, name: str, shape: list[int]):
        random = np.random.default_rng(1)
        self.images = iter([{name: random.normal(0, 1, shape).astype(np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.images, None)


def input_of(path: str) -> tuple[str, list[int]]:
    value = onnx.load(path, load_external_data=False).graph.input[0]
    return value.name, [1] + [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]


def peer_int8(model: pathlib.Path, folder: pathlib.Path) -> str:
    prepared, output = str(folder / "prepared.onnx"), str(folder / f"{model.stem}.qdq.onnx")
    quant_pre_process(str(model), prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        output,
        RandomImages(*input_of(prepared)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return output


def onnxruntime_engine(path: str, threads: int):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name, shape = input_of(path)
    feed = {name: np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)}
    return lambda: session.run(None, feed)


def openvino_engine(path: str, threads: int):
    core = openvino.Core()
    model = core.read_model(path)
    name, shape = input_of(path)
    model.reshape(shape)
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    image = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    return lambda: request.infer([image], share_inputs=True)


def timed_slice(run) -> float:
    """Median milliseconds of a slice of runs in this process."""
    for _ in range(WARM_UP):
        run()
    times, end = [], time.perf_counter() + SLICE_S
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def campana_slice(command: str, path: str, threads: int, runs: int) -> float:
    output = subprocess.run(
        [command, "bench", path, "--json", "--threads", str(threads), "--runs", str(runs)],
        env={**os.environ, "CAMPANA_BENCH_ALONE": "1"},
        check=True,
        capture_output=True,
    ).stdout
    return json.loads(output)["models"][0]["median_ms"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the command, built with --release")
    parser.add_argument("models", type=pathlib.Path, nargs="+", help="float ONNX models with their sidecars")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bits", default="4")
    parser.add_argument("--quantize-options", default="", help="further options of campana quantize")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the quantized models, used again where they are")
    parser.add_argument("--prepare-only", action="store_true", help="make the quantized models, measure nothing")
    parser.add_argument("--record", type=pathlib.Path, help="folder for a dated record")
    args = parser.parse_args()
    lines = [
        f"# {datetime.date.today()} {cpu()}; onnxruntime {onnxruntime.__version__}, "
        f"openvino {openvino.__version__.split('-')[0]}, {commit()}",
        f"# {' '.join(map(os.path.basename, sys.argv))}",
        "network,threads,engine,median_ms,ratio_to_best_peer_int8",
    ]
    print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for model in args.models:
            qdq = folder / f"{model.stem}.qdq.onnx"
            if not qdq.exists():
                peer_int8(model, folder)
            own = folder / f"{model.stem}.w4a8.onnx"
            if not own.exists():
                options = ["--target", "w4a8", "--bits", args.bits, *args.quantize_options.split()]
                subprocess.run(
                    [args.campana, "quantize", str(model), "-o", str(own), *options], check=True, capture_output=True
                )
                sidecar = model.with_suffix(".json")
                own.with_suffix(".json").write_text(sidecar.read_text())
            if args.prepare_only:
                continue
            for threads in args.threads:
                lines.extend(measure(args, model, str(qdq), str(own), threads))
    if args.record and not args.prepare_only:
        target = args.record / platform.machine()
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{datetime.date.today()}-int8.csv").write_text("\n".join(lines) + "\n")
    return 0


def measure(args, model: pathlib.Path, qdq: str, own: str, threads: int) -> list[str]:
    engines = {
        "onnxruntime int8": onnxruntime_engine(qdq, threads),
        "openvino int8": openvino_engine(qdq, threads),
        "onnxruntime float": onnxruntime_engine(str(model), threads),
        "openvino float": openvino_engine(str(model), threads),
    }
    once = campana_slice(args.campana, own, threads, 5)
    runs = max(10, int(SLICE_S * 1e3 / once))
    times = {name: [] for name in [*engines, "campana w4a8"]}
    for _ in range(args.rounds):
        for name, run in engines.items():
            times[name].append(timed_slice(run))
        times["campana w4a8"].append(campana_slice(args.campana, own, threads, runs))
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min(medians["onnxruntime int8"], medians["openvino int8"])
    lines = [f"{model.stem},{threads},{name},{ms:.4f},{ms / best:.3f}" for name, ms in medians.items()]
    print(*lines, sep="\n", flush=True)
    return lines


def cpu() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit() -> str:
    result = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"commit {result.stdout.strip() or 'unknown'}"


if __name__ == "__main__":
    raise SystemExit(main())
