"""A float ONNX model in the int8 and float forms that the peers read."""

import json
import pathlib
import sys

import numpy
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import graph

CALIBRATION_IMAGES = 8


class RandomImages(CalibrationDataReader):
    def __init__(self, name: str, shape: list[int]):
        random = numpy.random.default_rng(1)
        images = [random.normal(0, 1, shape).astype(numpy.float32) for _ in range(CALIBRATION_IMAGES)]
        self.images = iter([{name: image} for image in images])

    def get_next(self):
        return next(self.images, None)


def peer_files(model: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    """What each engine reads, by engine and form; made where it is not there."""
    prepared, qdq = folder / f"{model.stem}.float.onnx", folder / f"{model.stem}.qdq.onnx"
    if not qdq.exists():
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        image = onnx.load(str(prepared)).graph.input[0]
        shape = [1] + [axis.dim_value for axis in image.type.tensor_type.shape.dim[1:]]
        quantize_static(
            str(prepared),
            str(qdq),
            RandomImages(image.name, shape),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    files = {}
    for form, source in (("int8", qdq), ("float", prepared)):
        target = folder / f"{model.stem}.{form}"
        files |= {f"{engine} {form}": str(source) for engine in ("onnxruntime", "openvino")}
        files |= {f"litert {form}": f"{target}.tflite", f"ncnn {form}": str(target)}
        convert(str(source), str(target))
    return files


def convert(source: str, target: str) -> None:
    """The forms of LiteRT and of ncnn, where these are installed and can take the model."""
    try:
        if not pathlib.Path(f"{target}.tflite").exists():
            import tflite_form

            tflite_form.convert(source, f"{target}.tflite")
        if not pathlib.Path(f"{target}.param").exists():
            import ncnn_form

            network = ncnn_form.convert(source, target)
            description = {"input": network.input, "output": network.output, "shape": network.shapes[network.input][1:]}
            pathlib.Path(f"{target}.json").write_text(json.dumps(description))
    except (ImportError, graph.Unsupported) as reason:
        # The engine then finds no file, and the record says so.
        print(f"{target}: not converted: {reason}", file=sys.stderr)
