#!/usr/bin/env python3
"""Whether small networks, one an operator or shape, give in LiteRT what they give in onnxruntime.

Each is a convolution or product and what is tested behind it, quantized twice by campana: to the targets float and
tflite-float, whose outputs must agree to 1e-4 of the largest value, and to int8 and tflite, whose outputs must agree
within two steps of the output on 95 % of values.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from small_networks import CASES, made

FLOAT_TOLERANCE = 1e-4
STEPS = 2.0
SHARE = 0.95


def run_onnx(path, feed):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feed)))


def run_tflite(path, feed):
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    for one in interpreter.get_input_details():
        values, shape = feed[one["name"]], tuple(one["shape"])
        if values.shape != shape:
            values = np.ascontiguousarray(np.moveaxis(values, 1, -1)).reshape(shape)
        interpreter.set_tensor(one["index"], values)
    interpreter.invoke()
    return {one["name"]: interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}


def errors_of(campana, folder, model, target, peer, feed):
    """The largest error of each output, in units of its largest value, and the share within steps of 1/255 of it."""
    source, ours, theirs = folder / "case.onnx", folder / "ours.onnx", folder / "theirs.tflite"
    onnx.save(model, source)
    for to, output in ((target, ours), (peer, theirs)):
        ran = subprocess.run(
            [campana.resolve(), "quantize", source, "-o", output, "--target", to, "--force", "--no-correct", "--input-range=-3,3",
             "--bits", "8", "--activation-ranges", "minmax"], capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"{to}: {ran.stderr.strip()}")
    want, got = run_onnx(ours, feed), run_tflite(theirs, feed)
    worst, shares = 0.0, []
    for name, values in want.items():
        if got[name].shape != values.shape:
            raise RuntimeError(f"output '{name}' is {got[name].shape}, not {values.shape}")
        errors = np.abs(got[name] - values) / max(float(np.abs(values).max()), 1e-6)
        worst = max(worst, float(errors.max()))
        width = max(float(values.max() - values.min()), 1e-6) / max(float(np.abs(values).max()), 1e-6)
        shares.append(float((errors <= STEPS * width / 255).mean()))
    return worst, min(shares)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campana", type=pathlib.Path)
    parser.add_argument("--case", help="only those whose name has this")
    args = parser.parse_args()
    failed = 0
    for name, make in CASES.items():
        if args.case and args.case not in name:
            continue
        model, feed = made(make)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            try:
                float_error, _ = errors_of(args.campana, folder, model, "float", "tflite-float", feed)
                int8_error, share = errors_of(args.campana, folder, model, "int8", "tflite", feed)
            except (RuntimeError, ValueError) as error:
                failed += 1
                print(f"FAILED {name}: {error}")
                continue
        is_good = float_error <= FLOAT_TOLERANCE and share >= SHARE
        failed += not is_good
        print(f"{'ok    ' if is_good else 'FAILED'} {name}: float {float_error:.1e}, int8 {int8_error:.1e}, "
              f"{share:.1%} within {STEPS:g} steps")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
