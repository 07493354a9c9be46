#!/usr/bin/env python3
"""Whether what campana writes for any network loads and runs elsewhere.

Small networks, each with an operator whose form or meaning changed between
opsets, a graph inside of a node, an older IR version or weights of another
kind, at several opsets from 7 to 24, are quantized for each target. What is
written must pass onnx's full checker, load and run in onnxruntime at its
default optimization and without, and in OpenVINO, and be near the float
outputs; or campana must refuse it with one line within a second or two.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

# SQNR of the outputs in dB that each target must reach.
MIN_SQNR_DB = {"lut": 10.0, "w4a8": 8.0, "int8": 20.0}
# Refusals come before any work; the machine may be busy.
MAX_REFUSAL_S = 5.0
# OpenVINO lacks some operators, which the float network shows.
OPSETS = (7, 8, 9, 10, 11, 12, 13, 17, 20, 22, 24)


class Net:
    """Nodes and weights of a network of some opset."""

    def __init__(self, opset: int, ir_version: int | None = None):
        self.opset = opset
        self.ir_version = ir_version or (3 if opset < 9 else 8 if opset < 21 else 10)
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(opset)

    def tensor(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        # Biases are small, so that they do not hide the errors of weights.
        deviation = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.05
        values = self.random.laplace(0, deviation, shape)
        return self.tensor(name, values.astype(np.float32))

    def node(self, op_type: str, inputs: list[str], outputs: list[str], **attributes) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, outputs, **attributes))
        return outputs[0]

    def ints(self, name: str, values: list[int]) -> str:
        return self.tensor(name, np.array(values, np.int64))

    def axes(self, op_type: str, value: str, output: str, axes: list[int], **attributes) -> str:
        """An operator whose axes became an input with opset 13."""
        if self.opset < 13:
            return self.node(op_type, [value], [output], axes=axes, **attributes)
        return self.node(op_type, [value, self.ints(output + ".axes", axes)], [output], **attributes)

    def model(self, shape: list[int], output_shape: list[int]) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        if self.ir_version < 4:
            inputs += [helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in self.weights]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)]
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version)


def middle(net: Net, kind: str, value: str) -> str:
    """The operator between two convolutions of 32 channels."""
    opset, node = net.opset, net.node
    if kind == "clip":
        if opset < 11:
            return node("Clip", [value], ["m"], min=0.0, max=6.0)
        low, high = (net.tensor(n, np.array(v, np.float32)) for n, v in (("low", 0), ("high", 6)))
        return node("Clip", [value, low, high], ["m"])
    if kind == "pad":
        pads = [0, 0, 1, 1, 0, 0, 1, 1]
        if opset < 11:
            return node("Pad", [value], ["m"], pads=pads)
        return node("Pad", [value, net.ints("pads", pads)], ["m"])
    if kind == "slice":
        if opset < 10:
            return node("Slice", [value], ["m"], starts=[1, 1], ends=[9, 9], axes=[2, 3])
        lists = [net.ints(n, v) for n, v in (("starts", [1, 1]), ("ends", [9, 9]), ("slice.axes", [2, 3]))]
        return node("Slice", [value, *lists], ["m"])
    if kind == "resize":
        scales = [1.0, 1.0, 2.0, 2.0]
        if opset < 9:
            return node("Upsample", [value], ["m"], scales=scales, mode="nearest")
        scales = net.tensor("scales", np.array(scales, np.float32))
        if opset < 10:
            return node("Upsample", [value, scales], ["m"], mode="nearest")
        if opset < 11:
            return node("Resize", [value, scales], ["m"], mode="nearest")
        roi = net.tensor("roi", np.zeros(0, np.float32)) if opset < 13 else ""
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return node("Resize", [value, roi, scales], ["m"], mode="nearest", **how)
    if kind == "dropout":
        return node("Dropout", [value], ["m"], **({"ratio": 0.4} if opset < 12 else {}))
    if kind == "split":
        halves = ["half", "rest"]
        if opset < 13:
            node("Split", [value], halves, axis=1, split=[16, 16])
        else:
            node("Split", [value, net.ints("lengths", [16, 16])], halves, axis=1)
        return node("Concat", halves[::-1], ["m"], axis=1)
    if kind == "squeeze":
        wide = net.axes("Unsqueeze", value, "wide", [2])
        return net.axes("Squeeze", wide, "m", [2])
    if kind == "gate":
        mean = net.axes("ReduceSum", value, "sum", [2, 3], keepdims=1)
        return node("Mul", [value, node("Sigmoid", [mean], ["gate"])], ["m"])
    if kind == "softmax":
        return node("Softmax", [value], ["m"], axis=1)
    if kind == "normalized":
        for name in ("gain", "offset", "mean"):
            net.tensor(name, net.random.normal(0.5, 0.2, 32).astype(np.float32))
        net.tensor("variance", np.abs(net.random.normal(1, 0.2, 32)).astype(np.float32))
        return node("BatchNormalization", [value, "gain", "offset", "mean", "variance"], ["m"])
    if kind == "transposed":
        wider = net.node("ConvTranspose", [value, net.weight("w4", 32, 32, 3, 3)], ["t"], pads=[1] * 4)
        same = net.node("Conv", [value, net.weight("w5", 32, 32, 1, 1)], ["c"])
        return net.node("Add", [wider, same], ["m"])
    if kind == "pooled":
        how = {"ceil_mode": 1, "dilations": [2, 2]} if opset >= 10 else {}
        largest = node("MaxPool", [value], ["largest"], kernel_shape=[3, 3], strides=[2, 2], **how)
        return node("Concat", [largest, node("LeakyRelu", [largest], ["leaky"])], ["m"], axis=2)
    if kind == "average":
        how = {"ceil_mode": 1} if opset >= 10 else {}
        if opset >= 19:
            how["dilations"] = [2, 2]
        return node("AveragePool", [value], ["m"], kernel_shape=[2, 2], **how)
    return node("Relu", [value], ["m"])


KINDS = (
    "relu clip pad slice resize dropout split squeeze gate softmax normalized transposed pooled average"
).split()


def convolutional(opset: int, kind: str, ir_version: int | None = None) -> onnx.ModelProto:
    net = Net(opset, ir_version)
    a = net.node("Conv", ["x", net.weight("w1", 32, 3, 3, 3), net.weight("b1", 32)], ["a"], pads=[1] * 4)
    m = middle(net, kind, net.node("Relu", [a], ["r"]))
    b = net.node("Conv", [m, net.weight("w2", 32, 32, 3, 3), net.weight("b2", 32)], ["b"], pads=[1] * 4)
    pooled = net.node("GlobalAveragePool", [net.node("Relu", [b], ["s"])], ["p"])
    flat = net.node("Flatten", [pooled], ["f"])
    net.node("Gemm", [flat, net.weight("w3", 10, 32), net.weight("b3", 10)], ["y"], transB=1)
    return net.model([1, 3, 12, 12], [1, 10])


def branches(opset: int, outer: bool) -> onnx.ModelProto:
    net = Net(opset)

    def branch(name: str) -> onnx.GraphProto:
        own = "w2" if outer else f"w{name}"
        conv = helper.make_node("Conv", ["r", own], [name], pads=[1] * 4)
        inner = Net(opset)
        if not outer:
            inner.weight(own, 32, 32, 3, 3)
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([conv], name, [], [result], inner.weights)

    net.node("Relu", [net.node("Conv", ["x", net.weight("w1", 32, 3, 3, 3)], ["a"], pads=[1] * 4)], ["r"])
    if outer:
        net.weight("w2", 32, 32, 3, 3)
    net.tensor("yes", np.array(True))
    net.node("If", ["yes"], ["y"], then_branch=branch("t"), else_branch=branch("e"))
    return net.model([1, 3, 12, 12], [1, 32, 12, 12])


def recurrent(opset: int, kind: str) -> onnx.ModelProto:
    net = Net(opset)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    weights = [net.weight("w", 1, gates * 64, 32), net.weight("r", 1, gates * 64, 64), net.weight("b", 1, 2 * gates * 64)]
    net.node(kind, ["x", *weights], ["h"], hidden_size=64)
    net.node("MatMul", ["h", net.weight("v", 64, 32)], ["y"])
    return net.model([6, 1, 32], [6, 1, 1, 32])


def products(opset: int) -> onnx.ModelProto:
    net = Net(opset)
    net.node("MatMul", ["x", net.weight("w1", 4, 32, 64)], ["a"])
    net.node("MatMul", [net.weight("w2", 48, 6), "a"], ["b"])
    if opset >= 12:
        net.node("Einsum", ["b", net.weight("w3", 64, 32)], ["y"], equation="bij,jk->bik")
    else:
        net.node("MatMul", ["b", net.weight("w3", 64, 32)], ["y"])
    return net.model([4, 6, 32], [4, 48, 32])


def networks() -> dict[str, onnx.ModelProto]:
    found = {}
    for opset in OPSETS:
        for kind in KINDS:
            found[f"{kind}-{opset}"] = convolutional(opset, kind)
    found["relu-ir3"] = convolutional(13, "relu", ir_version=3)
    for opset in (11, 13, 21):
        found[f"branches-{opset}"] = branches(opset, outer=False)
        found[f"outer-{opset}"] = branches(opset, outer=True)
    for kind in ("LSTM", "GRU", "RNN"):
        found[f"{kind}-14"] = recurrent(14, kind)
    for opset in (9, 13, 17):
        found[f"products-{opset}"] = products(opset)
    return found


def run_onnxruntime(path: str, feeds: dict, level: str) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def run_openvino(path: str, feeds: dict) -> list[np.ndarray]:
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    compiled = openvino.Core().compile_model(path, "CPU", hints)
    results = compiled(feeds)
    return [results[output] for output in compiled.outputs]


RUNTIMES = {
    "plain": lambda path, feeds: run_onnxruntime(path, feeds, "ORT_DISABLE_ALL"),
    "optimized": lambda path, feeds: run_onnxruntime(path, feeds, "ORT_ENABLE_ALL"),
    "openvino": run_openvino,
}


def sqnr_db(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(expected, found, strict=True)]
    noise = max(sum(float(((a - b) ** 2).sum()) for a, b in pairs), 1e-30)
    return 10 * np.log10(sum(float((a**2).sum()) for a, _ in pairs) / noise)


def check(campana: str, path: pathlib.Path, target: str, expected: dict, feeds: dict) -> tuple[str, bool]:
    """What is said of a target, and whether it is right."""
    output = path.with_suffix(f".{target}.onnx")
    start = time.monotonic()
    run = [campana, "quantize", str(path), "-o", str(output), "--target", target, "--force"]
    process = subprocess.run(run, capture_output=True, text=True)
    if process.returncode != 0:
        elapsed = time.monotonic() - start
        message = " ".join(process.stderr.split())
        return f"refused: {message}", process.returncode == 2 and elapsed < MAX_REFUSAL_S and target != "lut"
    said, right = [], output.stat().st_size <= path.stat().st_size
    try:
        onnx.checker.check_model(str(output), full_check=True)
    except Exception as error:  # any of several kinds
        said.append(f"checker: {' '.join(str(error).split())[:120]}")
        right = False
    for runtime, run in RUNTIMES.items():
        if runtime not in expected:
            continue
        try:
            db = sqnr_db(expected["plain"], run(str(output), feeds))
            right &= db >= MIN_SQNR_DB[target]
            said.append(f"{runtime} {db:.1f}")
        except Exception as error:  # as above
            said.append(f"{runtime}: {' '.join(str(error).split())[-160:]}")
            right = False
    return ", ".join(said), right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campana", help="the program")
    parser.add_argument("--only", default="", help="networks whose names begin so")
    parser.add_argument("--sample", type=int, default=1, help="every n-th network")
    parser.add_argument("--targets", default="lut,w4a8,int8")
    args = parser.parse_args()
    failed = count = 0
    with tempfile.TemporaryDirectory() as folder:
        names = [(name, model) for name, model in networks().items() if name.startswith(args.only)]
        for name, model in names[:: args.sample]:
            path = pathlib.Path(folder) / f"{name}.onnx"
            onnx.save(model, path)
            shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
            feeds = {"x": np.random.default_rng(5).normal(0, 1, shape).astype(np.float32)}
            expected = {}
            for runtime, run in RUNTIMES.items():
                try:
                    expected[runtime] = run(str(path), feeds)
                except Exception as error:  # the float network is not for this runtime
                    print(f"{name}: {runtime} does not run the float network: {' '.join(str(error).split())[-120:]}")
            if "plain" not in expected:
                continue
            for target in args.targets.split(","):
                said, right = check(args.campana, path, target, expected, feeds)
                count, failed = count + 1, failed + (not right)
                print(f"{'  ' if right else 'NO'} {name:14} {target:5} {said}", flush=True)
    print(f"{count - failed} of {count} as they should be")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
