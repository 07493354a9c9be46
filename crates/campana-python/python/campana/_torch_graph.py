"""The constants of ONNX graphs that torch exported, before quantization and behind it."""

import onnx
from onnx import numpy_helper

from ._session import Session

_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}


def float_constants(model):
    """The arrays of floats that initializers and ``Constant`` nodes hold, by name."""
    return {name: numpy_helper.to_array(tensor) for name, tensor in _tensors(model).items()
            if tensor.data_type in _FLOATS}


def decoded(model, like):
    """The values that a quantized model has for the names of ``like``, arrays of the types to decode to.

    What operators compute of codes and tables is computed by campana itself, so that any form is read that it writes.
    """
    stored = _tensors(model)
    values = {name: numpy_helper.to_array(stored[name]) for name in like if name in stored}
    made = {output for node in model.graph.node for output in node.output}
    computed = [name for name in like if name not in values and name in made]
    if computed:
        values.update(Session(_decoder(model, computed, like)).run({}))
    return values


def aliases(model):
    """The names of constants behind ``Identity`` nodes: TorchScript's exporter stores equal tensors once."""
    known = {}
    for node in model.graph.node:
        if node.op_type == "Identity":
            known[node.output[0]] = known.get(node.input[0], node.input[0])
    return known


def _tensors(model):
    """The tensors that the graph holds as they are, by name."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
    return tensors


def _decoder(model, names, like):
    """A model without inputs whose outputs are constants of another."""
    makers = {output: node for node in model.graph.node for output in node.output}
    needed, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(makers[name].input if name in makers else ())
    decoder = onnx.ModelProto(ir_version=model.ir_version)
    decoder.opset_import.extend(model.opset_import)
    decoder.functions.extend(model.functions)
    decoder.graph.name = "decoder"
    decoder.graph.node.extend(node for node in model.graph.node if needed.intersection(node.output))
    decoder.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    decoder.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(like[name].dtype), None)
        for name in names)
    return decoder
