#!/usr/bin/env python3
"""Whether a Core ML package is what the ONNX model of its decoded weights is (campana quantize --target float).

The package must load in coremltools without a warning, whose own decompression must give what ours gives. Weights must
be those of the ONNX model, rounded to the program's floats: exactly, or, where the scale of channels stands behind the
layer, as level and scale are rounded. The program, run by an interpreter of ours, must give what onnxruntime gives.
"""

import argparse
import json
import logging
import pathlib
import shutil
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

logging.disable(logging.WARNING)
import coremltools
from coremltools.converters.mil.frontend.milproto import load as milproto

logging.disable(logging.NOTSET)
from coreml_program import SPECIFICATION, WEIGHTS, Package

# Of the largest value: programs of 32-bit floats, and of 16-bit ones, whose constants are rounded.
TOLERANCES = {"FLOAT32": 1e-3, "FLOAT16": 3e-2}
# Of a weight: levels and scales that are rounded each.
ROUNDED = {"FLOAT32": 2.0 ** -22, "FLOAT16": 2.0 ** -10 + 2.0 ** -20}
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def own_name(name: str) -> str:
    plain = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    return plain if plain[:1].isalpha() or plain[:1] == "_" else "_" + plain


def materialized(operation):
    """What coremltools decodes; of tables that are computed themselves its operator wants their values."""
    if operation.op_type != "constexpr_lut_to_dense" or operation.lut.val is not None:
        return operation.materialized_val_inference()
    axis = None if operation.vector_axis is None else operation.vector_axis.val
    return operation.decompress(operation.indices.val, materialized(operation.lut.op), axis)


def load_in_coremltools(path: pathlib.Path) -> dict:
    """The constants that coremltools decodes, by the names of their values; fails where it says anything."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("coremltools").addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with tempfile.TemporaryDirectory() as folder:
            # coremltools writes the manifest of what it opens anew.
            copy = pathlib.Path(shutil.copytree(path, pathlib.Path(folder) / path.name))
            model = coremltools.models.MLModel(str(copy), skip_model_load=True)
            spec = model.get_spec()
            program = milproto.load(spec, spec.specificationVersion, str((copy / WEIGHTS).parent))
    said += [str(one.message) for one in caught]
    if said:
        raise ValueError(f"coremltools says: {said}")
    decoded = {}
    for operation in program.functions["main"].operations:
        if operation.op_type.startswith("constexpr_"):
            decoded[operation.outputs[0].name] = materialized(operation)
    return decoded


class Weights:
    """Weights of the package beside those of the ONNX model."""

    def __init__(self, package: Package, model: onnx.ModelProto, precision: str):
        self.package, self.model, self.precision = package, model, precision
        self.floats = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        self.uses = {}
        for operation in package.block.operations:
            for role, argument in operation.inputs.items():
                for one in argument.arguments:
                    self.uses.setdefault(one.name, []).append((role, operation))
        self.exact = self.scaled = self.normalized = 0

    def factor(self, value: str):
        """What a product's output is multiplied by, where that is a constant of its channels."""
        _, product = self.uses[value][0]
        users = self.uses.get(product.outputs[0].name, [])
        if len(users) != 1 or users[0][1].type != "mul":
            return None
        factor = self.package.constants.get(users[0][1].inputs["y"].arguments[0].name)
        return None if factor is None else factor.astype(np.float64).ravel()

    def normalization(self, output: str):
        """The factor of the batch normalization behind a product of the ONNX model."""
        for node in self.model.graph.node:
            if node.op_type == "BatchNormalization" and node.input[0] == output:
                scale, _, _, variance = (self.floats[name].astype(np.float64) for name in node.input[1:5])
                epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
                return scale / np.sqrt(variance + epsilon)
        return None

    def check(self) -> None:
        held = {}
        for name, (value, values) in self.package.decoded.items():
            role, reader = self.uses[value][0]
            if reader.type == "reshape":
                value = reader.outputs[0].name
                values = values.reshape([extent.constant.size for extent in reader.outputs[0].type.tensorType.dimensions])
            held[name] = (value, values)
        for node in self.model.graph.node:
            if node.op_type not in PRODUCTS or len(node.input) < 2 or own_name(node.input[1]) not in held:
                continue
            value, values = held[own_name(node.input[1])]
            want = self.floats[node.input[1]]
            is_transposed = node.op_type == "MatMul" and want.ndim == 2 or node.op_type == "Gemm" and not any(
                a.name == "transB" and a.i for a in node.attribute)
            users = [operation.type for _, operation in self.uses[value]]
            if is_transposed and "linear" in users:
                want = want.T
            self.compare(node, value, values, want)

    def compare(self, node, value, values, want) -> None:
        name, type_of = node.input[1], np.float16 if self.precision == "FLOAT16" else np.float32
        assert values.shape == want.shape, (name, values.shape, want.shape)
        if np.array_equal(values, want.astype(type_of)):
            self.exact += 1
            return
        factor = self.factor(value)
        if factor is None:
            raise ValueError(f"the weights '{name}' are others")
        normalization = self.normalization(node.output[0])
        if normalization is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = np.where(normalization == 0, 0.0, factor / normalization)
            self.normalized += 1
        axis = 1 if node.op_type == "ConvTranspose" else 0
        of_channels = [-1 if i == axis else 1 for i in range(want.ndim)]
        got = values.astype(np.float64) * factor.reshape(of_channels)
        if self.precision == "FLOAT32" and normalization is None:
            if not np.array_equal(got.astype(np.float32), want):
                raise ValueError(f"the weights '{name}' are others")
            self.exact += 1
            return
        # The step of 16-bit floats near zero, in the factor and in the table.
        least = np.full(factor.shape, 2.0 ** -24 if self.precision == "FLOAT16" else 0.0)
        if normalization is not None:
            least /= np.maximum(np.abs(normalization), 1e-30)
        allowed = least.reshape(of_channels) * np.abs(values) + least.min() * np.abs(factor).max()
        worst = np.max((np.abs(got - want) - allowed) / np.maximum(np.abs(want), 1e-30), initial=0.0,
                       where=want != 0)
        # What a normalization multiplies is rounded once more, in both.
        if worst > ROUNDED[self.precision] * (1 if normalization is None else 2):
            raise ValueError(f"the weights '{name}' differ by {worst:.1e}")
        self.scaled += 1


def feeds(package: Package, session: onnxruntime.InferenceSession, sidecar: pathlib.Path, count: int):
    """Inputs of the package, and the same for onnxruntime."""
    random = np.random.default_rng(0)
    described = {one.name: one for one in package.model.description.input}
    for _ in range(count):
        ours, theirs = {}, {}
        for one in session.get_inputs():
            shape = [extent if isinstance(extent, int) else 1 for extent in one.shape]
            name = own_name(one.name)
            if described[name].type.WhichOneof("Type") != "imageType":
                ours[name] = theirs[one.name] = random.standard_normal(shape).astype(np.float32)
                continue
            settings = json.loads(sidecar.read_text())["input"]
            image = described[name].type.imageType
            pixels = random.integers(0, 256, [1, len(settings["mean"]), image.height, image.width])
            mean, std = (np.reshape(settings[key], [1, -1, 1, 1]) for key in ("mean", "std"))
            values = ((pixels / 255 - mean) / std).astype(np.float32)
            theirs[one.name] = values.transpose(0, 2, 3, 1) if settings.get("layout") == "NHWC" else values
            ours[name] = pixels
        yield ours, theirs


def check(path: pathlib.Path, model_path: pathlib.Path, sidecar: pathlib.Path, count: int) -> str:
    """What was compared; raises where something is wrong."""
    package = Package(path)
    theirs = load_in_coremltools(path)
    for name, values in package.decoded.values():
        if not np.array_equal(theirs[name], values):
            raise ValueError(f"coremltools decodes '{name}' to other values")
    floats = {kind for kind in package.types().values() if kind in TOLERANCES}
    precision = "FLOAT16" if "FLOAT16" in floats else "FLOAT32"
    weights = Weights(package, onnx.load(model_path), precision)
    weights.check()
    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    worst = alike = 0
    for ours, theirs in feeds(package, session, sidecar, count):
        got = package.run(ours)
        for output, want in zip(session.get_outputs(), session.run(None, theirs)):
            values = got[own_name(output.name)]
            assert values.shape == want.shape, (output.name, values.shape, want.shape)
            worst = max(worst, float(np.abs(values - want).max() / max(float(np.abs(want).max()), 1e-6)))
            alike += int(values.argmax() == want.argmax())
            if package.model.description.predictedFeatureName:
                told = got[package.model.description.predictedFeatureName]
                labels = list(got[package.model.description.predictedProbabilitiesName])
                assert told == labels[int(values.argmax())], told
    if worst > TOLERANCES[precision]:
        raise ValueError(f"outputs differ by {worst:.1e} of the largest")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return (f"{size:,} bytes, {precision.lower()}, {weights.exact + weights.scaled} layers of codes, "
            f"{weights.exact} with equal weights, {weights.scaled} with scales of their own rounding "
            f"({weights.normalized} under a normalization); outputs within {worst:.1e}, {alike} of {count} greatest alike")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("onnx", type=pathlib.Path, help="what campana wrote with --target float")
    parser.add_argument("--sidecar", type=pathlib.Path, help="preprocessing [default: beside the ONNX model]")
    parser.add_argument("--inputs", type=int, default=3, help="random inputs [default: 3]")
    args = parser.parse_args()
    sidecar = args.sidecar or args.onnx.with_suffix(".json")
    assert (args.package / SPECIFICATION).exists(), f"{args.package} is no package"
    print(f"{args.package.name}: {check(args.package, args.onnx, sidecar, args.inputs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
