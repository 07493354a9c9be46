#!/usr/bin/env python3
"""Whether networks whose forms go wrong elsewhere come out right.

Each file of cases/files in the shared folder (CAMPANA_SHARED, else `shared`
beside the repository) is quantized for each target, on synthetic images and on
given ones. What is written must be smaller, pass onnx's full checker, compute
in onnxruntime at its default optimization and without, in OpenVINO and in
campana, and be near the float outputs; the closing lines must be true. Some
cases must be refused instead, with one error at once, leaving no file.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime

from check_forms import RUNTIMES

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGETS = ("lut", "w4a8", "int8")
# SQNR of each output in dB, from the README of the cases.
MIN_SQNR_DB = {"lut": 10.0, "w4a8": 8.0, "int8": 20.0}
MIN_CAMPANA_SQNR_DB = {"lut": 10.0, "w4a8": 10.0, "int8": 20.0}
MAX_REFUSAL_S = 1.0
BATCH = 4
CALIBRATION_SAMPLES = 32
REFUSED = {("batch_norm_in_training", target) for target in TARGETS}
REFUSED |= {("weights_in_if", target) for target in ("w4a8", "int8")}
# Outputs that are zero but for rounding: a step of 8 bits, as a share of the activations' size, is near.
ZERO_OUTPUTS = {"mean_removed_then_pooled": 0.1}
# One or two values cost a bit or none, and a little for the levels.
MAX_BITS = {(name, target): 1.1 for name in ("constant_weights", "two_values") for target in ("lut", "w4a8")}

# Weights that are stored exactly, or lie in branches.
NOTHING_TO_CORRECT = ("constant_weights", "two_values", "weights_in_if")

FLOAT_PRODUCTS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


def sqnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    """As in check_forms, but of values of any scale."""
    if expected.shape != found.shape:
        raise ValueError(f"shape {found.shape}, not {expected.shape}")
    unit = np.abs(expected).max() or 1.0
    a, b = expected.astype(np.float64) / unit, found.astype(np.float64) / unit
    return 10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-20))


def images(shape: list[int], count: int, seed: int, deviation: float) -> np.ndarray:
    """Smooth random images with some noise."""
    random = np.random.default_rng(seed)
    channels, height, width = shape[1:]
    coarse = random.normal(0, 1, (count, channels, height // 2, width // 2))
    smooth = np.kron(coarse, np.ones((2, 2)))[:, :, :height, :width]
    fine = random.normal(0, 0.5, (count, channels, height, width))
    return (deviation * (smooth + fine) / np.sqrt(1.25)).astype(np.float32)


def run_campana(campana: str, path: pathlib.Path, value: np.ndarray, like: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs as the process of `campana verify` computes them."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    name = next(taken.name for taken in graph.input if taken.name not in constants)
    inputs, outputs = (path.with_name(file) for file in ("worker-inputs", "worker-outputs"))
    value.tofile(inputs)
    described = [[{"name": name, "type": str(value.dtype), "shape": value.shape}]]
    inputs.with_suffix(".json").write_text(json.dumps(described))
    run = [campana, "verify-worker", "campana", str(path), str(inputs), str(outputs), "1"]
    process = subprocess.run(run, input="load\noutputs\n", capture_output=True, text=True)
    for line in process.stdout.splitlines():
        if error := json.loads(line).get("error"):
            raise RuntimeError(error)
    if process.returncode != 0:
        raise RuntimeError(process.stderr)
    values, found, start = np.fromfile(outputs, np.float32), [], 0
    for expected in like:
        found.append(values[start : start + expected.size].reshape(expected.shape))
        start += expected.size
    return found


def complaint(path: pathlib.Path) -> str | None:
    """What onnx's full checker says of a model, if anything."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # any of several kinds
        return " ".join(str(error).split())[:120]
    return None


def activation_size(path: pathlib.Path, value: np.ndarray) -> float:
    """Root of the mean square of what the first node computes."""
    model = onnx.load(path)
    first = model.graph.node[0].output[0]
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, None))
    name = next(i.name for i in model.graph.input)
    return float(np.sqrt(np.mean(RUNTIMES["plain"](model.SerializeToString(), {name: value})[0] ** 2)))


def float_products(path: pathlib.Path) -> list[str]:
    """Convolutions and products that onnxruntime, optimized, computes on floats."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    optimized = path.with_suffix(".optimized.onnx")
    options.optimized_model_filepath = str(optimized)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(optimized).graph.node if node.op_type in FLOAT_PRODUCTS]


def false_lines(said: str, output: pathlib.Path, source: pathlib.Path) -> list[str]:
    """What the lines of `quantize` say though it is not so."""
    smaller = output.stat().st_size < source.stat().st_size
    found = []
    if "Smaller to ship" in said and not smaller:
        found.append("says it is smaller")
    if "does not get smaller" in said and smaller:
        found.append("says it is not smaller")
    if "read by no operator" in said:
        found.append("says that weights are read by no operator")
    if "Corrected with" in said and "codes of 0 tensors, values of 0 norm" in said and "exact" not in said:
        found.append("says it is corrected, though nothing is")
    # The claims of int8 and w4a8.
    if claim := re.search(r"(?:All|(\d+) of) (\d+) layers? lie between 8-bit activations", said):
        on_integers, layers = int(claim[1] or claim[2]), int(claim[2])
        floats = float_products(output)
        if len(floats) > layers - on_integers:
            found.append(f"says that {on_integers} of {layers} layers are on integers, in floats: {' '.join(floats)}")
    return found


def refusal(process: subprocess.CompletedProcess, elapsed: float, left: list[str], refused: bool) -> list[str]:
    """What is wrong with a refusal."""
    lines = process.stderr.strip().splitlines()
    found = [] if refused else ["must not be refused"]
    if process.returncode != 2:
        found.append(f"status {process.returncode}")
    # An error is a line, and what caused it one below.
    if not lines or not lines[0].startswith("error: ") or len(lines) > 2:
        found.append(f"{len(lines)} lines")
    if elapsed >= MAX_REFUSAL_S:
        found.append(f"after {elapsed:.1f} s")
    return found + [f"left {name}" for name in left]


class Case:
    """A file, and what it computes."""

    def __init__(self, path: pathlib.Path):
        self.path, self.name = path, path.stem
        model = onnx.load(path)
        weights = {weight.name for weight in model.graph.initializer}
        [value] = [value for value in model.graph.input if value.name not in weights]
        self.input = value.name
        self.shape = [dim.dim_value or BATCH for dim in value.type.tensor_type.shape.dim]

    def check(self, campana: str, folder: pathlib.Path, target: str, calibrated: bool) -> tuple[list[str], str, str]:
        """What is wrong, what was measured, and what campana said."""
        deviation = 2.5 if calibrated else 1.0
        output = folder / f"{self.name}.{target}.onnx"
        run = [campana, "quantize", str(self.path), "-o", str(output), "--target", target, "--threads", "1"]
        if calibrated:
            samples = folder / "samples.npy"
            np.save(samples, images(self.shape, CALIBRATION_SAMPLES, 1, deviation))
            run += ["--calibrate", str(samples)]
        before = set(folder.iterdir())
        start = time.monotonic()
        process = subprocess.run(run, capture_output=True, text=True)
        elapsed = time.monotonic() - start
        refused = (self.name, target) in REFUSED
        if process.returncode != 0:
            left = [path.name for path in set(folder.iterdir()) - before]
            wrong = refusal(process, elapsed, left, refused)
            return wrong, f"{elapsed:.2f} s", "refused: " + " ".join(process.stderr.split())
        wrong = ["must be refused"] if refused else []
        value = images(self.shape, self.shape[0], 2, deviation)
        measured = self.measure(campana, output, target, value, wrong)
        said = process.stdout + process.stderr
        if output.stat().st_size > self.path.stat().st_size:
            wrong.append("larger than before")
        bits = float(re.search(r"weights at ([\d.]+) bits", said)[1])
        if bits > MAX_BITS.get((self.name, target), bits):
            wrong.append(f"{bits} bits a weight")
        wrong += false_lines(said, output, self.path)
        corrected = re.search(r"Corrected .*|Not corrected.*|Nothing corrected.*", said)[0]
        if corrected.startswith("Not") and self.name not in NOTHING_TO_CORRECT:
            wrong.append("not corrected")
        return wrong, measured, corrected

    def measure(self, campana: str, output: pathlib.Path, target: str, value: np.ndarray, wrong: list[str]) -> str:
        """SQNR in dB in each runtime; adds to what is wrong."""
        feeds = {self.input: value}
        expected = RUNTIMES["plain"](str(self.path), feeds)
        runtimes = {name: lambda run=run: run(str(output), feeds) for name, run in RUNTIMES.items()}
        runtimes["campana"] = lambda: run_campana(campana, output, value, expected)
        if complaint(self.path) is None and (found := complaint(output)):
            wrong.append(f"checker: {found}")
        measured = []
        for runtime, run in runtimes.items():
            try:
                found = run()
                db = min(sqnr_db(a, b) for a, b in zip(expected, found, strict=True))
            except Exception as error:  # any of several kinds
                wrong.append(f"{runtime}: {' '.join(str(error).split())[-200:]}")
                continue
            if self.name in ZERO_OUTPUTS:
                size = max(float(np.abs(values).max()) for values in found) / activation_size(self.path, value)
                measured.append(f"{runtime} {size:.0e}")
                if not size <= ZERO_OUTPUTS[self.name]:
                    wrong.append(f"{runtime}: {size:.1e} of the activations rather than 0")
                continue
            least = (MIN_CAMPANA_SQNR_DB if runtime == "campana" else MIN_SQNR_DB)[target]
            measured.append(f"{runtime} {db:.1f}")
            if not db >= least:
                wrong.append(f"{runtime}: {db:.1f} dB, not {least:.0f}")
        return ", ".join(measured)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the program")
    parser.add_argument("--only", default="", help="cases whose names begin so")
    parser.add_argument("--targets", default=",".join(TARGETS))
    args = parser.parse_args()
    shared = pathlib.Path(os.environ.get("CAMPANA_SHARED", ROOT.parent / "shared"))
    paths = sorted(path for path in (shared / "cases/files").glob("*.onnx") if path.stem.startswith(args.only))
    failed = count = 0
    for path in paths:
        case = Case(path)
        for target in args.targets.split(","):
            for calibrated in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    wrong, measured, said = case.check(args.campana, pathlib.Path(folder), target, calibrated)
                count, failed = count + 1, failed + bool(wrong)
                form = target + ("+data" if calibrated else "")
                verdict = "NO" if wrong else "ok"
                print(f"{verdict} {case.name:24} {form:9} {measured:58} {'; '.join([*wrong, said])}", flush=True)
    print(f"{count - failed} of {count} as they should be")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
