#!/usr/bin/env python3
"""Where a quantized file loses what it loses: the SQNR of every inner value.

    layers.py FLOAT.onnx QUANTIZED.onnx EXAMPLES.npz

Runs both in onnxruntime without optimization and compares the values that have a
name in both graphs, in the float graph's order. `run.py --keep` leaves the files.
"""

import sys

import numpy as np
import onnx
import onnxruntime

import measure
import sessions


def _opened(path: str, wanted: list[str]) -> onnxruntime.InferenceSession:
    """A session that gives the wanted values."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def main() -> None:
    reference, quantized, examples = sys.argv[1:]
    nodes = onnx.load(reference).graph.node
    there = {name for node in onnx.load(quantized).graph.node for name in node.output}
    wanted = [name for node in nodes if node.op_type != "Constant" for name in node.output if name in there]
    operators = {name: node.op_type for node in nodes for name in node.output}
    sums = {name: [0.0, 0.0] for name in wanted}
    pair = _opened(reference, wanted), _opened(quantized, wanted)
    inputs = {value.name for value in pair[0].get_inputs()}
    for feed in sessions.examples(examples):
        feed = {name: value for name, value in feed.items() if name in inputs}
        for name, expected, found in zip(wanted, *(session.run(None, feed) for session in pair)):
            if expected.dtype.kind == "f" and expected.shape == found.shape:
                sums[name][0] += float(np.sum(expected.astype(np.float64) ** 2))
                sums[name][1] += float(np.sum((expected.astype(np.float64) - found) ** 2))
    for name, (signal, error) in sums.items():
        if signal:
            db = measure.sqnr_db(np.array([signal**0.5]), np.array([signal**0.5 - error**0.5]))
            print(f"{db:7.1f} dB  {operators[name]:<20} {name}")


if __name__ == "__main__":
    main()
