#!/usr/bin/env python3
"""Writes a model of very many random weights, to measure speed and memory."""

import argparse
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper


def shapes(count: int, single: bool) -> list[list[int]]:
    """Shapes of weight tensors that add up to about `count` weights."""
    if single:
        rows = int(count**0.5)
        return [[rows, count // rows]]
    channels = int((count / 2 / 8 / 9) ** 0.5)
    side = int((count / 2 / 8) ** 0.5)
    return [[channels, channels, 3, 3]] * 8 + [[side, side]] * 8


def weights(random: np.random.Generator, shape: list[int]) -> np.ndarray:
    """Half of the tensors Gaussian, half Laplace."""
    count = int(np.prod(shape))
    if random.random() < 0.5:
        values = random.standard_normal(count, np.float32)
    else:
        values = random.standard_exponential(count, np.float32)
        values *= random.integers(0, 2, count, np.int8).astype(np.float32) * 2 - 1
    return values * np.float32(0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--weights", type=int, default=100_000_000, help="number of weights [default: %(default)s]")
    parser.add_argument("--single", action="store_true", help="all of them in one tensor")
    args = parser.parse_args()
    random = np.random.default_rng(7)
    graph = onnx.GraphProto(name="large")
    for number, shape in enumerate(shapes(args.weights, args.single)):
        x, w, y = f"x{number}", f"layer{number}.weight", f"y{number}"
        is_conv = len(shape) == 4
        graph.node.append(helper.make_node("Conv" if is_conv else "MatMul", [x, w], [y]))
        input_shape = [1, shape[1], 3, 3] if is_conv else [1, shape[0]]
        output_shape = [1, shape[0], 1, 1] if is_conv else [1, shape[1]]
        graph.input.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, input_shape))
        graph.output.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, output_shape))
        raw = weights(random, shape).tobytes()
        graph.initializer.append(TensorProto(name=w, dims=shape, data_type=TensorProto.FLOAT, raw_data=raw))
    opsets = [helper.make_opsetid("", 17)]
    model = onnx.ModelProto(ir_version=8, opset_import=opsets)
    model.graph.CopyFrom(graph)
    onnx.save(model, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
