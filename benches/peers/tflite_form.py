"""A network as a TFLite file: float, or int8 with a QDQ model's scales.

Written with the schema that LiteRT's own package carries, because the usual
converters bring whole training frameworks along.
"""

import flatbuffers
import numpy
from ai_edge_litert import schema_py_generated as schema

import graph

# What the operators are called in the schema, with the class of their options.
OPERATORS = {
    "CONV_2D": schema.Conv2DOptionsT,
    "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptionsT,
    "FULLY_CONNECTED": schema.FullyConnectedOptionsT,
    "ADD": schema.AddOptionsT,
    "MAX_POOL_2D": schema.Pool2DOptionsT,
    "MEAN": schema.ReducerOptionsT,
    "PAD": schema.PadOptionsT,
    "STRIDED_SLICE": schema.StridedSliceOptionsT,
    "QUANTIZE": schema.QuantizeOptionsT,
    "DEQUANTIZE": schema.DequantizeOptionsT,
}
TYPES = {
    numpy.dtype(numpy.float32): schema.TensorType.FLOAT32,
    numpy.dtype(numpy.int8): schema.TensorType.INT8,
    numpy.dtype(numpy.int32): schema.TensorType.INT32,
}
# Versions of the operators that take int8; the first takes floats.
INT8_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "ADD": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "PAD": 2,
    "STRIDED_SLICE": 2,
    "DEQUANTIZE": 2,
}
# Axes of a TFLite tensor in those of ONNX.
LAST = [0, 2, 3, 1]


class Writer:
    def __init__(self, network: graph.Network):
        self.network = network
        self.is_int8 = bool(network.codes)
        self.tensors, self.buffers, self.operators = [], [schema.BufferT()], []
        self.codes: dict[str, int] = {}
        self.places: dict[str, int] = {}

    def tensor(self, name, shape, dtype, data=None, scales=None, zero_point=0, axis=0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), list(shape), TYPES[numpy.dtype(dtype)]
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = numpy.frombuffer(numpy.ascontiguousarray(data).tobytes(), numpy.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if scales is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = numpy.asarray(scales, numpy.float32)
            tensor.quantization.zeroPoint = numpy.full(len(scales), zero_point, numpy.int64)
            tensor.quantization.quantizedDimension = axis
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, values, **quantization) -> int:
        return self.tensor(name, values.shape, values.dtype, values, **quantization)

    def value(self, name: str, shape) -> int:
        """A tensor for a value whose extents are given channels last."""
        if not self.is_int8:
            return self.tensor(name, shape, numpy.float32)
        scale, zero_point = self.network.codes[name]
        return self.tensor(name, shape, numpy.int8, scales=[scale], zero_point=zero_point - 128)

    def operator(self, name: str, inputs: list[int], output: int, **options) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.setdefault(name, len(self.codes))
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptions = OPERATORS[name]()
        kind = OPERATORS[name].__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        for option, value in options.items():
            assert hasattr(operator.builtinOptions, option), option
            setattr(operator.builtinOptions, option, value)
        self.operators.append(operator)

    def shape(self, name: str) -> list[int]:
        shape = self.network.shapes[name]
        return [shape[axis] for axis in LAST] if len(shape) == 4 else shape

    def padded(self, layer: graph.Layer) -> tuple[int, int]:
        """The layer's input, padded where no scheme of TFLite pads like that, and the scheme."""
        place, shape = self.places[layer.inputs[0]], self.shape(layer.inputs[0])
        window = layer.attributes["kernel_shape"]
        strides = layer.attributes.get("strides", [1, 1])
        pads = graph.pads(layer)
        if not any(pads):
            return place, schema.Padding.VALID
        total = [max(0, (-(-shape[1 + i] // strides[i]) - 1) * strides[i] + window[i] - shape[1 + i]) for i in (0, 1)]
        if pads == [total[0] // 2, total[1] // 2, (total[0] + 1) // 2, (total[1] + 1) // 2]:
            return place, schema.Padding.SAME
        amounts = numpy.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], numpy.int32)
        return self.pad(layer.inputs[0], f"{layer.output}/padded", amounts), schema.Padding.VALID

    def pad(self, source: str, name: str, amounts: numpy.ndarray) -> int:
        shape = [n + int(a) for n, a in zip(self.shape(source), amounts.sum(1))]
        if self.is_int8:
            self.network.codes[name] = self.network.codes[source]
        output = self.value(name, shape)
        self.operator("PAD", [self.places[source], self.constant(f"{name}/amounts", amounts)], output)
        return output

    def weights(self, layer: graph.Layer, numbers: numpy.ndarray, axis: int) -> list[int]:
        name = layer.output
        if not self.is_int8:
            return [self.constant(f"{name}/weights", numbers), self.constant(f"{name}/bias", layer.bias.numbers)]
        scales = layer.weights.scales
        weights = self.constant(f"{name}/weights", numbers, scales=scales, axis=axis)
        sums = self.network.codes[layer.inputs[0]][0] * scales
        bias = numpy.round(layer.bias.numbers * (layer.bias.scales / sums)).astype(numpy.int32)
        return [weights, self.constant(f"{name}/bias", bias, scales=sums)]

    def activation(self, layer: graph.Layer) -> int:
        kinds = schema.ActivationFunctionType
        known = {None: kinds.NONE, (0.0, 6.0): kinds.RELU6, (0.0, float("inf")): kinds.RELU}
        # In int8 the range of the output's codes is the bound.
        return kinds.NONE if self.is_int8 else known[layer.bounds]

    def convolution(self, layer: graph.Layer, output: int) -> None:
        numbers, strides = layer.weights.numbers, layer.attributes.get("strides", [1, 1])
        place, padding = self.padded(layer)
        shared = dict(padding=padding, strideH=strides[0], strideW=strides[1])
        shared["fusedActivationFunction"] = self.activation(layer)
        if layer.attributes.get("group", 1) == 1:
            weights = self.weights(layer, numbers.transpose(0, 2, 3, 1), 0)
            self.operator("CONV_2D", [place, *weights], output, **shared)
        else:
            weights = self.weights(layer, numbers.transpose(1, 2, 3, 0), 3)
            self.operator("DEPTHWISE_CONV_2D", [place, *weights], output, depthMultiplier=1, **shared)

    def layer(self, layer: graph.Layer) -> None:
        output = self.value(layer.output, self.shape(layer.output))
        inputs = [self.places[name] for name in layer.inputs]
        if layer.op == "Conv":
            self.convolution(layer, output)
        elif layer.op == "Gemm":
            turned = layer.attributes.get("transB", 0) == 0
            weights = self.weights(layer, layer.weights.numbers.T if turned else layer.weights.numbers, 0)
            activation = self.activation(layer)
            self.operator("FULLY_CONNECTED", [*inputs, *weights], output, fusedActivationFunction=activation)
        elif layer.op == "Add":
            self.operator("ADD", inputs, output, fusedActivationFunction=self.activation(layer))
        elif layer.op == "MaxPool":
            place, padding = self.padded(layer)
            (height, width), strides = layer.attributes["kernel_shape"], layer.attributes["strides"]
            self.operator(
                "MAX_POOL_2D", [place], output, padding=padding,
                filterHeight=height, filterWidth=width, strideH=strides[0], strideW=strides[1],
            )  # fmt: skip
        elif layer.op == "GlobalAveragePool":
            axes = self.constant(f"{layer.output}/axes", numpy.array([1, 2], numpy.int32))
            self.operator("MEAN", [*inputs, axes], output, keepDims=True)
        elif layer.op == "Pad":
            before, after = layer.operands[1].reshape(2, 4)
            output = self.pad(layer.inputs[0], layer.output, numpy.stack([before, after], 1)[LAST].astype(numpy.int32))
        elif layer.op == "Slice":
            self.slice(layer, inputs[0], output)
        self.places[layer.output] = output

    def slice(self, layer: graph.Layer, place: int, output: int) -> None:
        source = self.network.shapes[layer.inputs[0]]
        begin, end, stride = [0] * 4, list(source), [1] * 4
        for i, axis in enumerate(layer.operands[3]):
            begin[axis], stride[axis] = int(layer.operands[1][i]), int(layer.operands[4][i])
            end[axis] = min(int(layer.operands[2][i]), source[axis])
        rows = zip(("begin", "end", "strides"), (begin, end, stride))
        parts = [self.constant(f"{layer.output}/{n}", numpy.array(row, numpy.int32)[LAST]) for n, row in rows]
        self.operator("STRIDED_SLICE", [place, *parts], output)

    def write(self) -> bytes:
        network = self.network
        outside = self.tensor("image", self.shape(network.input), numpy.float32)
        self.places[network.input] = outside
        if self.is_int8:
            self.places[network.input] = self.value(network.input, self.shape(network.input))
            self.operator("QUANTIZE", [outside], self.places[network.input])
        for layer in network.layers:
            self.layer(layer)
        result = self.places[network.output]
        if self.is_int8:
            logits = self.tensor("logits", self.shape(network.output), numpy.float32)
            self.operator("DEQUANTIZE", [result], logits)
            result = logits
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self.tensors, self.operators
        subgraph.inputs, subgraph.outputs = [outside], [result]
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [subgraph], self.buffers
        model.operatorCodes = [self.operator_code(name) for name in self.codes]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def operator_code(self, name: str) -> schema.OperatorCodeT:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = INT8_VERSIONS.get(name, 1) if self.is_int8 else 1
        return code


def convert(source: str, target: str) -> None:
    """Writes the TFLite form of an ONNX model."""
    content = Writer(graph.read(source)).write()
    with open(target, "wb") as file:
        file.write(content)
