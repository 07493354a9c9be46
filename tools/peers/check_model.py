#!/usr/bin/env python3
"""Checks quantized models against their float forms.

FOLDER holds models in groups: NAME.float.onnx (`campana quantize --target
float`) beside NAME.lut.onnx and NAME.lut-uint4.onnx of the same options. Each
must pass onnx's full checker, and each tensor that the others decode must
equal the float form's initializer bit for bit, as onnxruntime computes it
(and onnx's reference evaluator, with --reference).
"""

import argparse
import pathlib
import sys

import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnx import numpy_helper


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Tensors of a graph by the name under which nodes read them."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def decoder(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The part of a model that makes these values, as a model of its own."""
    producers = {output: node for node in model.graph.node for output in node.output}
    needed, pending = set(), list(names)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += producers[name].input if name in producers else []
    nodes = [node for node in model.graph.node if needed.intersection(node.output)]
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = onnx.helper.make_graph(nodes, "decoder", [], outputs, tensors)
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 4)
    )


def run_onnxruntime(model: onnx.ModelProto, types: dict[str, int]) -> list[np.ndarray]:
    """Values of a model without inputs. bfloat16 is fetched as float32, which
    holds it exactly and which numpy knows."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    names = []
    for value in list(model.graph.output):
        element_type, name = types[value.name], value.name
        if element_type == onnx.TensorProto.BFLOAT16:
            element_type = onnx.TensorProto.FLOAT
            cast = onnx.helper.make_node("Cast", [name], [f"{name}.float"], to=element_type)
            model.graph.node.append(cast)
            value.name = f"{name}.float"
        value.type.tensor_type.elem_type = element_type
        names.append(value.name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(names, {})


def run_reference(model: onnx.ModelProto, types: dict[str, int]) -> list[np.ndarray]:
    """The same by onnx's own evaluator."""
    for value in model.graph.output:
        value.type.tensor_type.elem_type = types[value.name]
    return onnx.reference.ReferenceEvaluator(model).run(None, {})


def as_float32_bits(array: np.ndarray) -> np.ndarray:
    """Bit patterns of values that float32 holds exactly."""
    return np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)


def differences(float_path: pathlib.Path, path: pathlib.Path, evaluators) -> tuple[int, list[str]]:
    """Number of weights compared, and what is wrong with the model."""
    onnx.checker.check_model(path, full_check=True)
    expected_model, model = onnx.load(float_path), onnx.load(path)
    expected, stored = constants(expected_model.graph), constants(model.graph)
    names = sorted(set(expected) - set(stored))
    if not names:
        return 0, []
    count, wrong = 0, []
    part = decoder(model, names)
    types = {name: expected[name].data_type for name in names}
    for run in evaluators:
        for name, value in zip(names, run(part, types)):
            want = numpy_helper.to_array(expected[name])
            if value.shape != want.shape:
                wrong.append(f"{name} has shape {value.shape}, expected {want.shape}")
                continue
            unequal = as_float32_bits(value) != as_float32_bits(want)
            if unequal.any():
                first = np.flatnonzero(unequal)[0]
                wrong.append(
                    f"{name}: {unequal.sum()} of {want.size} weights differ, the first is "
                    f"{value.ravel()[first]!r} instead of {want.ravel()[first]!r} ({run.__name__})"
                )
            count += want.size
    return count, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--reference", action="store_true", help="also run onnx's reference evaluator (slow)")
    args = parser.parse_args()
    evaluators = [run_onnxruntime] + [run_reference] * args.reference
    models = weights = failures = 0
    for float_path in sorted(args.folder.glob("*.float.onnx")):
        onnx.checker.check_model(float_path, full_check=True)
        name = float_path.name.removesuffix(".float.onnx")
        for path in sorted(args.folder.glob(f"{name}.lut*.onnx")):
            try:
                count, wrong = differences(float_path, path, evaluators)
            except Exception as error:  # noqa: BLE001 - whatever a library raises is a failure
                count, wrong = 0, [str(error)]
            models, weights = models + 1, weights + count
            for message in wrong:
                failures += 1
                print(f"FAILED {path.name}: {message}")
    print(f"{models} models pass onnx's full checker and decode exactly: {weights} weights compared, {failures} failures")
    return int(failures > 0 or weights == 0)


if __name__ == "__main__":
    sys.exit(main())
