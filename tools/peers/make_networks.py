#!/usr/bin/env python3
"""Writes networks of well-known shapes with random weights, for timing.

Normalizations are folded into the convolutions, as exporters do. Weights are
normal with the variance that keeps activations at one size (He et al., 2015),
so that ranges are those of real networks.
"""

import argparse
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.nodes = []
        self.weights = []

    def constant(self, values: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, op_type: str, inputs: list[str], **attributes) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, channels: int, filters: int, window: int, stride: int = 1, groups: int = 1) -> str:
        shape = (filters, channels // groups, window, window)
        deviation = (2 / (shape[1] * window * window)) ** 0.5
        weights = self.constant(self.random.normal(0, deviation, shape))
        bias = self.constant(self.random.normal(0, 0.1, filters))
        pad = window // 2
        return self.add(
            "Conv",
            [x, weights, bias],
            kernel_shape=[window, window],
            strides=[stride, stride],
            pads=[pad, pad, pad, pad],
            group=groups,
        )

    def relu(self, x: str) -> str:
        return self.add("Relu", [x])

    def relu6(self, x: str) -> str:
        if not hasattr(self, "bounds"):
            self.bounds = [self.constant(np.array(0.0)), self.constant(np.array(6.0))]
        return self.add("Clip", [x, *self.bounds])

    def head(self, x: str, channels: int, classes: int = 1000) -> None:
        x = self.add("GlobalAveragePool", [x])
        x = self.add("Flatten", [x])
        weights = self.constant(self.random.normal(0, (1 / channels) ** 0.5, (classes, channels)))
        bias = self.constant(np.zeros(classes))
        self.nodes.append(helper.make_node("Gemm", [x, weights, bias], ["logits"], name="logits", transB=1))


def resnet(builder: Builder, blocks: list[int], bottleneck: bool) -> None:
    x = builder.relu(builder.conv("image", 3, 64, 7, 2))
    x = builder.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            filters = width * 4 if bottleneck else width
            if bottleneck:
                y = builder.relu(builder.conv(x, channels, width, 1))
                y = builder.relu(builder.conv(y, width, width, 3, stride))
                y = builder.conv(y, width, filters, 1)
            else:
                y = builder.relu(builder.conv(x, channels, width, 3, stride))
                y = builder.conv(y, width, filters, 3)
            if stride != 1 or channels != filters:
                x = builder.conv(x, channels, filters, 1, stride)
            x = builder.relu(builder.add("Add", [y, x]))
            channels = filters
    builder.head(x, channels)


def mobilenet_v2(builder: Builder) -> None:
    x = builder.relu6(builder.conv("image", 3, 32, 3, 2))
    channels = 32
    settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, filters, count, first_stride in settings:
        for block in range(count):
            stride = first_stride if block == 0 else 1
            width = channels * expansion
            y = builder.relu6(builder.conv(x, channels, width, 1)) if expansion > 1 else x
            y = builder.relu6(builder.conv(y, width, width, 3, stride, groups=width))
            y = builder.conv(y, width, filters, 1)
            x = builder.add("Add", [y, x]) if stride == 1 and channels == filters else y
            channels = filters
    x = builder.relu6(builder.conv(x, channels, 1280, 1))
    builder.head(x, 1280)


def linear(builder: Builder, width: int) -> None:
    """A layer of `width` x `width` behind one pixel of the image in so many channels."""
    builder.head(builder.relu(builder.conv("image", 3, width, 1, 224)), width, width)


NETWORKS = {
    "resnet18": lambda builder: resnet(builder, [2, 2, 2, 2], False),
    "resnet50": lambda builder: resnet(builder, [3, 4, 6, 3], True),
    "mobilenetv2": mobilenet_v2,
    "linear4096": lambda builder: linear(builder, 4096),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.networks:
        builder = Builder(args.seed)
        NETWORKS[name](builder)
        graph = helper.make_graph(
            builder.nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 224, 224])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "classes"])],
            builder.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(args.folder / f"{name}.onnx"))
        sidecar = {
            "input": {
                "size": [224, 224],
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
                "channels": "RGB",
                "layout": "NCHW",
            }
        }
        (args.folder / f"{name}.json").write_text(json.dumps(sidecar))


if __name__ == "__main__":
    main()
