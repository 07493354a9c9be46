"""The layers of an image network, for engines that read no ONNX.

`read` gives the convolutions, sums and poolings of a float or of a QDQ model
as plain values: an activation that follows a layer is the layer's bounds, and
a pair of QuantizeLinear and DequantizeLinear is what the value stands for.
"""

import dataclasses

import numpy
import onnx
from onnx import numpy_helper

LAYERS = ("Conv", "Gemm", "Add", "MaxPool", "GlobalAveragePool", "Slice", "Pad")


@dataclasses.dataclass
class Weights:
    """Numbers, and the scale of each output channel where they are int8."""

    numbers: numpy.ndarray
    scales: numpy.ndarray | None = None


@dataclasses.dataclass
class Layer:
    op: str
    inputs: list[str]
    output: str
    attributes: dict
    weights: Weights | None = None
    bias: Weights | None = None
    bounds: tuple[float, float] | None = None
    # Inputs that are constant and no weights, by position.
    operands: dict[int, numpy.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Network:
    input: str
    output: str
    layers: list[Layer]
    # Extents of each value, channels first.
    shapes: dict[str, list[int]]
    # Scale and zero point of the codes 0 to 255 of each value.
    codes: dict[str, tuple[float, int]]


class Unsupported(Exception):
    """A network that holds what no other engine's form was written for."""


def read(path: str) -> Network:
    """The layers of a model, for a batch of one image.

    Raises `Unsupported`, with the operator's name, where it has others.
    """
    model = onnx.load(path)
    graph = model.graph
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del graph.value_info[:]
    graph.output[0].type.tensor_type.shape.ClearField("dim")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    constants = {tensor.name: Weights(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    network = Network(graph.input[0].name, graph.output[0].name, [], shapes, {})
    # What a name that was rounded, flattened or held to bounds is called here.
    names: dict[str, str] = {}
    for node in graph.node:
        inputs = [names.get(name, name) for name in node.input]
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "DequantizeLinear" and inputs[0] in constants:
            quantized, scale = constants[inputs[0]].numbers, constants[inputs[1]].numbers
            constants[node.output[0]] = Weights(quantized, scale.reshape(-1))
        elif node.op_type == "QuantizeLinear":
            scale, zero_point = (constants[name].numbers.item() for name in inputs[1:3])
            network.codes[inputs[0]] = (scale, zero_point)
            names[node.output[0]] = inputs[0]
        elif node.op_type in ("DequantizeLinear", "Flatten"):
            names[node.output[0]] = inputs[0]
            if node.op_type == "Flatten" and inputs[0] not in network.codes and node.input[0] in network.codes:
                network.codes[inputs[0]] = network.codes[node.input[0]]
        elif node.op_type in ("Relu", "Clip"):
            at_most = float(constants[inputs[2]].numbers.item()) if node.op_type == "Clip" else float("inf")
            maker = next(layer for layer in network.layers if layer.output == inputs[0])
            maker.bounds = (0.0, at_most)
            names[node.output[0]] = inputs[0]
        elif node.op_type in LAYERS:
            values = [name for name in inputs if name and name not in constants]
            layer = Layer(node.op_type, values, node.output[0], attributes)
            if node.op_type in ("Conv", "Gemm"):
                layer.weights = constants[inputs[1]]
                layer.bias = constants[inputs[2]]
            else:
                given = enumerate(inputs)
                layer.operands = {at: constants[name].numbers for at, name in given if name in constants}
            network.layers.append(layer)
        else:
            raise Unsupported(node.op_type)
    network.output = names.get(network.output, network.output)
    return network


def pads(layer: Layer) -> list[int]:
    """Rows and columns added: above, left, below, right."""
    return list(layer.attributes.get("pads", [0, 0, 0, 0]))
