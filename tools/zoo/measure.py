"""What is measured on files and outputs."""

import collections
import math
import pathlib

import numpy as np
import onnx

SMALLEST_WEIGHTS = 64
"""Tensors with fewer values are constants, not weights."""
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}


def _float_tensors(graph: onnx.GraphProto) -> collections.Counter:
    """Shapes of the float tensors of two axes or more, in all subgraphs."""
    shapes: collections.Counter = collections.Counter()

    def note(tensor: onnx.TensorProto) -> None:
        if tensor.data_type in FLOATS and len(tensor.dims) > 1 and math.prod(tensor.dims) >= SMALLEST_WEIGHTS:
            shapes[tuple(tensor.dims)] += 1

    for tensor in graph.initializer:
        note(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                note(attribute.t)
            for inner in [attribute.g, *attribute.graphs]:
                shapes.update(_float_tensors(inner))
    return shapes


def quantized_share(model: pathlib.Path, quantized: pathlib.Path) -> float | None:
    """Share of the weights that the quantized file no longer holds as floats.

    Weights are float tensors of two axes or more, subgraphs included. They are
    told by their shapes: names may change.
    """
    before, after = (_float_tensors(onnx.load(path, load_external_data=False).graph) for path in (model, quantized))
    total = sum(math.prod(shape) * count for shape, count in before.items())
    kept = sum(math.prod(shape) * min(count, after[shape]) for shape, count in before.items())
    return None if total == 0 else 1 - kept / total


def by_output(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Outputs of all examples, flattened and joined, by name."""
    joined: dict[str, list[np.ndarray]] = {}
    with np.load(path) as file:
        for key in file.files:
            joined.setdefault(key.split("/", 1)[1], []).append(file[key].ravel())
    return {name: np.concatenate(values) for name, values in joined.items()}


def sqnr_db(reference: np.ndarray, values: np.ndarray) -> float | None:
    """Signal to error in dB, at most 120; None for integers or other shapes."""
    if reference.shape != values.shape or reference.dtype.kind != "f":
        return None
    reference, values = reference.astype(np.float64), values.astype(np.float64)
    if not np.isfinite(values).all():
        return -math.inf
    signal, error = np.sum(reference**2), np.sum((reference - values) ** 2)
    if signal == 0:
        return None
    return 120.0 if error == 0 else min(120.0, 10 * math.log10(signal / error))


def compare(reference: pathlib.Path, path: pathlib.Path) -> dict[str, float]:
    """SQNR of every float output in dB; for integer outputs, the share that is equal."""
    expected, found = by_output(reference), by_output(path)
    result = {}
    for name, values in expected.items():
        if name not in found:
            continue
        sqnr = sqnr_db(values, found[name])
        if sqnr is not None:
            result[name] = sqnr
        elif values.dtype.kind in "iub" and values.shape == found[name].shape:
            result[f"{name} (equal)"] = float(np.mean(values == found[name]))
    return result


def same_answers(reference: pathlib.Path, path: pathlib.Path, axis: int) -> float | None:
    """Share of answers (largest along `axis` of the first output) that agree."""
    equal = count = 0
    with np.load(reference) as expected, np.load(path) as found:
        first = expected.files[0].split("/", 1)[1]
        for key in (key for key in expected.files if key.split("/", 1)[1] == first):
            if key not in found.files or expected[key].shape != found[key].shape:
                return None
            pair = expected[key].argmax(axis), found[key].argmax(axis)
            equal += int((pair[0] == pair[1]).sum())
            count += pair[0].size
    return equal / count if count else None
