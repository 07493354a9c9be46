"""A network as ncnn's pair of files: float, or int8 with a QDQ model's ranges.

ncnn's quantization tools are not in its Python package, so the scales that
they would put into the files are written here. Its int8 is symmetric: a value
whose codes reach to `absmax` has the factor `127 / absmax`.
"""

import collections

import numpy

import graph

MAGIC = 7767517
# What stands before weights in the binary file.
FLOAT_TAG, INT8_TAG = 0, 0x000D4B38
RELU, CLIP = 1, 3


class Writer:
    def __init__(self, network: graph.Network):
        self.network = network
        self.is_int8 = bool(network.codes)
        self.lines: list[str] = []
        self.binary = bytearray()
        self.blobs = 0
        self.uses = collections.Counter(name for layer in network.layers for name in layer.inputs)
        # Each use of a value has a blob of its own.
        self.free: dict[str, list[str]] = {}

    def line(self, kind: str, inputs: list[str], outputs: list[str], parameters: str = "") -> None:
        counts = f"{len(inputs)} {len(outputs)}"
        self.lines.append(f"{kind} layer{len(self.lines)} {counts} {' '.join([*inputs, *outputs])} {parameters}")
        self.blobs += len(outputs)

    def define(self, name: str) -> None:
        """Splits what a layer just made into as many blobs as are read."""
        count = self.uses[name]
        self.free[name] = [name]
        if count > 1:
            self.free[name] = [f"{name}_{i}" for i in range(count)]
            self.line("Split", [name], self.free[name])

    def numbers(self, layer: graph.Layer, numbers: numpy.ndarray) -> None:
        """Weights, biases and scales in the order in which ncnn loads them."""
        data = numpy.ascontiguousarray(numbers).tobytes()
        self.binary += numpy.uint32(INT8_TAG if self.is_int8 else FLOAT_TAG).tobytes()
        self.binary += data + bytes(-len(data) % 4)
        bias = layer.bias.numbers.astype(numpy.float32)
        if self.is_int8:
            self.binary += (bias * layer.bias.scales).astype(numpy.float32).tobytes()
            count = len(bias)
            self.binary += numpy.broadcast_to(1 / layer.weights.scales, count).astype(numpy.float32).tobytes()
            self.binary += numpy.float32(self.factor(layer.inputs[0])).tobytes()
        else:
            self.binary += bias.tobytes()

    def factor(self, name: str) -> float:
        scale, zero_point = self.network.codes[name]
        return 127 / (scale * max(255 - zero_point, zero_point))

    def bounds(self, layer: graph.Layer) -> tuple[float, float] | None:
        """The layer's own, or those that the range of the output's codes is."""
        if layer.bounds or not self.is_int8:
            return layer.bounds
        scale, zero_point = self.network.codes[layer.output]
        return (0.0, scale * 255) if zero_point == 0 else None

    def activation(self, layer: graph.Layer) -> str:
        bounds = self.bounds(layer)
        if bounds is None:
            return ""
        return f"9={RELU}" if bounds[1] == float("inf") else f"9={CLIP} -23310=2,{bounds[0]},{bounds[1]:.7g}"

    def layer(self, layer: graph.Layer) -> None:
        inputs = [self.free[name].pop() for name in layer.inputs]
        output, int8 = [layer.output], "8=1" if self.is_int8 else ""
        attributes = layer.attributes
        if layer.op == "Conv":
            self.convolution(layer, inputs, output, int8)
        elif layer.op == "Gemm":
            numbers = layer.weights.numbers if attributes.get("transB", 0) else layer.weights.numbers.T
            sizes = f"0={len(numbers)} 1=1 2={numbers.size}"
            self.line("InnerProduct", inputs, output, f"{sizes} {int8} {self.activation(layer)}")
            self.numbers(layer, numbers)
        elif layer.op == "Add":
            bounds = self.bounds(layer)
            if bounds is None:
                self.line("BinaryOp", inputs, output, "0=0")
            else:
                self.line("BinaryOp", inputs, [f"{layer.output}_sum"], "0=0")
                self.line("Clip", [f"{layer.output}_sum"], output, f"0=0 1={min(bounds[1], 3e38):.7g}")
        elif layer.op == "MaxPool":
            (kh, kw), (sh, sw) = attributes["kernel_shape"], attributes["strides"]
            top, left, bottom, right = graph.pads(layer)
            pads = f"3={left} 13={top} 14={right} 15={bottom}"
            self.line("Pooling", inputs, output, f"0=0 1={kw} 11={kh} 2={sw} 12={sh} {pads} 5=1")
        elif layer.op == "GlobalAveragePool":
            self.line("Pooling", inputs, output, "0=1 4=1")
        elif layer.op == "Pad":
            amounts = layer.operands[1]
            self.line("Padding", inputs, output, f"4=0 5=0 7={amounts[1]} 8={amounts[5]}")
        elif layer.op == "Slice":
            # ncnn's own has no steps; the greatest of one value is the value.
            self.line("Pooling", inputs, output, f"0=0 1=1 2={layer.operands[4][0]} 5=1")
        self.define(layer.output)

    def convolution(self, layer: graph.Layer, inputs: list[str], output: list[str], int8: str) -> None:
        numbers, groups = layer.weights.numbers, layer.attributes.get("group", 1)
        (kh, kw), (sh, sw) = numbers.shape[2:], layer.attributes.get("strides", [1, 1])
        top, left, bottom, right = graph.pads(layer)
        window = f"0={len(numbers)} 1={kw} 11={kh} 3={sw} 13={sh} 4={left} 14={top} 15={right} 16={bottom}"
        kind, group = ("Convolution", "") if groups == 1 else ("ConvolutionDepthWise", f"7={groups}")
        sizes = f"5=1 6={numbers.size} {group} {int8}"
        self.line(kind, inputs, output, f"{window} {sizes} {self.activation(layer)}")
        self.numbers(layer, numbers)

    def write(self) -> tuple[str, bytes]:
        network = self.network
        self.line("Input", [], [network.input])
        self.define(network.input)
        for layer in network.layers:
            self.layer(layer)
        head = f"{MAGIC}\n{len(self.lines)} {self.blobs}\n"
        return head + "\n".join(self.lines) + "\n", bytes(self.binary)


def convert(source: str, target: str) -> graph.Network:
    """Writes `target`.param and `target`.bin from an ONNX model."""
    network = graph.read(source)
    text, binary = Writer(network).write()
    with open(f"{target}.param", "w") as file:
        file.write(text)
    with open(f"{target}.bin", "wb") as file:
        file.write(binary)
    return network
