#!/usr/bin/env python3
"""Whether small networks, one an operator or shape, are in Core ML packages what they are in onnxruntime.

Each is quantized by campana to the targets float and coreml-float32 with different widths, and once to coreml; the
package is checked as check_coreml.py checks it. What Core ML cannot say must be refused with the node's name, and
nothing be written.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from check_coreml import check
from small_networks import CASES, Net, made, net, random

# Only layers that are large enough gain by tables: these have hundreds of weights a channel.
WIDE = [1, 3, 10, 9]


def wide():
    return Net(WIDE, channels=32)


MORE = {
    "codes of a convolution": lambda: wide().then_conv([48, 32, 3, 3], pads=[1, 1, 1, 1]).then("Relu").then_conv([64, 48, 3, 3]),
    "codes of points": lambda: wide().then_conv([96, 32, 1, 1]).then("Relu").then_conv([64, 96, 1, 1]),
    "codes under a normalization": lambda: wide().then_conv([48, 32, 3, 3]).then(
        "BatchNormalization", random.uniform(.5, 2, 48), random.standard_normal(48), random.standard_normal(48),
        random.uniform(.5, 2, 48)).then_conv([64, 48, 3, 3]),
    "codes of a dilated convolution": lambda: wide().then_conv([48, 32, 3, 3], dilations=[2, 2]).then_conv([64, 48, 3, 3]),
    "codes of a transposed convolution": lambda: wide().then(
        "ConvTranspose", random.standard_normal([32, 48, 4, 4]) / 20, strides=[2, 2], pads=[1, 1, 1, 1]),
    "codes of groups": lambda: wide().then_conv([64, 8, 5, 5], group=4, pads=[2, 2, 2, 2]),
    "codes of a matrix": lambda: Net([2, 48], weights=[128, 48]).then("MatMul", random.standard_normal([128, 96]) / 11),
    "codes of a transposed matrix": lambda: Net([2, 48], weights=[128, 48]).then(
        "Gemm", random.standard_normal([128, 96]) / 11, random.standard_normal(96), alpha=0.5, beta=2.0),
    "reciprocal": lambda: net().then("Exp").then("Reciprocal"),
    "negative": lambda: net().then("Neg").then("Abs").then("Sqrt"),
    "logarithm": lambda: net().then("Exp").then("Log"),
    "erf": lambda: net().then("Erf"),
    "softplus": lambda: net().then("Softplus"),
    "softsign": lambda: net().then("Softsign"),
    "hard sigmoid": lambda: net().then("HardSigmoid", alpha=0.3),
    "selu": lambda: net().then("Selu"),
    "elu of 0.5": lambda: net().then("Elu", alpha=0.5),
    "thresholded relu": lambda: net().then("ThresholdedRelu", alpha=0.3),
    "gelu by parts": lambda: net().then("Mul", np.float32(0.5)).then("Pow", np.float32(2)).then("Add", np.float32(1)),
    "sine": lambda: net().then("Sin").then("Cos"),
    "rounded": lambda: net().then("Floor").then("Ceil"),
    "minimum and sum": lambda: net().then("Min", np.float32(0.4)).then("Sum", np.float32(0.2), random.standard_normal([8, 1, 1])),
    "prelu of one slope": lambda: net().then("PRelu", np.float32([0.2])),
    "prelu of places": lambda: net().then("PRelu", random.uniform(0, 1, [8, 12, 10])),
    "logarithm of softmax": lambda: Net([1, 6], weights=[12, 6]).then("LogSoftmax", axis=-1),
    "layer normalization": lambda: net().then("Transpose", perm=[0, 2, 3, 1]).then(
        "LayerNormalization", random.uniform(.5, 2, 8), random.standard_normal(8), axis=-1),
    "instance normalization": lambda: net().then("InstanceNormalization", random.uniform(.5, 2, 8), random.standard_normal(8)),
    "global maximum": lambda: net().then("GlobalMaxPool"),
    "reduced sum": lambda: net().then("ReduceSum", np.int64([1]), keepdims=0),
    "reduced norm": lambda: net().then("ReduceL2", axes=[1], keepdims=1),
    "repeated": lambda: net().then("Tile", np.int64([1, 1, 2, 1])),
    "expanded": lambda: net().then("GlobalAveragePool").then("Expand", np.int64([1, 8, 3, 4])),
    "gathered": lambda: net().then("Gather", np.int64([2, -1, 0]), axis=1),
    "pad by the edge": lambda: net().then("Pad", np.int64([0, 0, 1, 2, 0, 0, 1, 2]), mode="edge"),
    "to depth": lambda: net().then("SpaceToDepth", blocksize=2),
    "to space by columns": lambda: net().then("DepthToSpace", blocksize=2, mode="CRD"),
    "thirds to the nearest": lambda: net().then("Resize", "", "", np.int64([1, 8, 17, 7]), mode="nearest"),
    "doubled from the origin": lambda: net().then(
        "Resize", "", np.float32([1, 1, 2, 2]), mode="linear", coordinate_transformation_mode="asymmetric"),
    "pool of one axis": lambda: Net([1, 3, 20]).then("MaxPool", kernel_shape=[3], strides=[2]),
    "pool of three axes": lambda: Net([1, 2, 6, 6, 6], channels=4).then("AveragePool", kernel_shape=[2, 2, 2]),
    "squeezed and back": lambda: net().then("ReduceMean", axes=[2], keepdims=1).then("Squeeze", np.int64([2])).then(
        "Unsqueeze", np.int64([0])),
    "product of activations": lambda: net().then("Softmax", axis=3).then("Sigmoid"),
}
# What Core ML has no form for, and what is said.
REFUSED = {
    "sorted": (lambda: net().then("TopK", np.int64([2]), axis=1), "(TopK)"),
    "cubic": (lambda: net().then("Resize", "", np.float32([1, 1, 2, 2]), mode="cubic"), "(Resize)"),
    "dilated pool": (lambda: net().then("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), "(MaxPool)"),
    "backwards": (lambda: net().then("Slice", np.int64([-1]), np.int64([-99]), np.int64([3]), np.int64([-1])), "(Slice)"),
    "six axes": (lambda: net().then("Reshape", np.int64([1, 2, 4, 3, 4, 10])), "(Reshape)"),
    "single number": (lambda: net().then("ReduceMean", keepdims=0), "(ReduceMean)"),
}
WIDTHS = ["2", "3", "4", "5", "8"]


def quantize(campana, source, output, target, *options):
    command = [campana.resolve(), "quantize", source, "-o", output, "--target", target, "--force", "--no-correct", *options]
    return subprocess.run(command, capture_output=True, text=True)


def compare(campana, folder, model, bits, target):
    source, floats, package = folder / "case.onnx", folder / "floats.onnx", folder / "case.mlpackage"
    onnx.save(model, source)
    for to, output in (("float", floats), (target, package)):
        ran = quantize(campana, source, output, to, "--bits", bits)
        if ran.returncode:
            raise ValueError(f"{to}: {ran.stderr.strip()}")
    return check(package, floats, source.with_suffix(".json"), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campana", type=pathlib.Path)
    parser.add_argument("--case", default="", help="only those whose name has this")
    args = parser.parse_args()
    failed = 0
    for name, make in {**CASES, **MORE}.items():
        if args.case not in name:
            continue
        model, _ = made(make)
        widths = WIDTHS if name.startswith("codes") else ["4"]
        jobs = [(bits, "coreml-float32") for bits in widths] + [("4", "coreml")]
        for bits, target in jobs:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    said = compare(args.campana, pathlib.Path(folder), model, bits, target)
                    print(f"ok     {name}, {bits} bits: {said}")
                except (ValueError, AssertionError, KeyError, TypeError) as error:
                    failed += 1
                    print(f"FAILED {name}, {bits} bits, {target}: {type(error).__name__} {error}")
    for name, (make, words) in REFUSED.items():
        if args.case not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            onnx.save(made(make)[0], folder / "case.onnx")
            ran = quantize(args.campana, folder / "case.onnx", folder / "case.mlpackage", "coreml")
            is_good = ran.returncode == 2 and words in ran.stderr and len(list(folder.iterdir())) == 1
            failed += not is_good
            print(f"{'ok    ' if is_good else 'FAILED'} {name}: {ran.stderr.strip()}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
