#!/usr/bin/env python3
"""onnxruntime's own 8-bit quantization, as the zoo's baseline.

    baselines.py static|dynamic MODEL OUTPUT EXAMPLES.npz

`static` is the QDQ form with a scale per channel and ranges from the examples;
`dynamic` rounds activations while running. Both as their documentation says,
after its preparation of the model where that takes it.
"""

import os
import sys
import tempfile

import onnx
import onnx.version_converter
from onnxruntime import quantization
from onnxruntime.quantization import shape_inference

import sessions

LEAST_OPSET = 13
RAISED_OPSET = 17


class Examples(quantization.CalibrationDataReader):
    """Hands the examples to onnxruntime, one by one."""

    def __init__(self, path: str, names: set[str]):
        self._feeds = iter(
            {name: value for name, value in feed.items() if name in names} for feed in sessions.examples(path)
        )

    def get_next(self):
        return next(self._feeds, None)


def _raised(model: str, folder: str) -> str:
    """The model at opset 17 where it is below 13: a scale per channel needs that."""
    loaded = onnx.load(model)
    opset = next((entry.version for entry in loaded.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset >= LEAST_OPSET:
        return model
    path = f"{folder}/raised.onnx"
    try:
        onnx.save(onnx.version_converter.convert_version(loaded, RAISED_OPSET), path)
        return path
    except Exception as error:  # without it the baseline does what it can
        print(f"opset {opset} was not raised: {error}", file=sys.stderr)
        return model


def _prepared(model: str, folder: str) -> str:
    """The model with shapes inferred and simplified, or itself where that fails."""
    path = f"{folder}/prepared.onnx"
    for skip_symbolic in (False, True):
        try:
            shape_inference.quant_pre_process(model, path, skip_symbolic_shape=skip_symbolic)
            return path
        except Exception as error:  # the preparation is optional
            print(f"preparation failed: {error}", file=sys.stderr)
    return model


def main() -> None:
    kind = sys.argv[1]
    model, output, path = (os.path.abspath(path) for path in sys.argv[2:])
    initializers = {tensor.name for tensor in onnx.load(model, load_external_data=False).graph.initializer}
    names = {value.name for value in onnx.load(model, load_external_data=False).graph.input} - initializers
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # onnxruntime leaves temporary files where it runs
        prepared = _prepared(_raised(model, folder), folder)
        if kind == "static":
            quantization.quantize_static(
                prepared,
                output,
                Examples(path, names),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        else:
            # Unsigned: onnxruntime has no ConvInteger of signed weights.
            quantization.quantize_dynamic(prepared, output, weight_type=quantization.QuantType.QUInt8)


if __name__ == "__main__":
    main()
