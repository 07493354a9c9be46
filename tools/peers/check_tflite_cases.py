#!/usr/bin/env python3
"""Whether small networks, one an operator or shape, give in LiteRT what they give in onnxruntime.

Each is a convolution or product and what is tested behind it, quantized four times by campana: to the targets float
and tflite-float, whose outputs must agree to 1e-4 of the largest value; to int8 and tflite, whose outputs must agree
within two steps of the output on 95 % of values; to tflite with 4 bits, whose outputs must be within four steps of those
of the same weights stored as int8 on 95 % of values; and to tflm with 4 bits, whose outputs in TFLite Micro's interpreter
must equal those of the same model without DECODE to the bit and agree with LiteRT's within four steps on 95 % of values.
Operators that TFLite Micro lacks must be refused for it.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import flatbuffers
import numpy as np
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from check_tflm import are_equal, decoded, run_litert, run_micro
from images import channels_last
from small_networks import CASES, made, net, random
from tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

FLOAT_TOLERANCE = 1e-4
STEPS = 2.0
SHARE = 0.95
# The kernels of TFLite Micro, and LiteRT's for weights of 4 bits, round otherwise than LiteRT's for 8.
OTHER_STEPS = 4.0
MICRO_LACKS = ("has no form in TFLite Micro",)


def peaks():
    one = net().then("Sigmoid")
    peak = one.add("Equal", [one.add("MaxPool", [one.value], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), one.value])
    one.value = one.add("Mul", [one.value, one.add("Cast", [peak], to=onnx.TensorProto.FLOAT)])
    return one


def chosen(low, high):
    """Values between two bounds, and others held to these: an operand that is rounded otherwise changes little."""
    one = net()
    bounds = [one.constant(np.float32(bound)) for bound in (-0.4, 0.5)]
    inside = [one.add(op, [one.value, bound]) for op, bound in zip((low, high), bounds)]
    outside = one.add("Or", [one.add("Not", [inside[0]]), one.add("Xor", inside)])
    inside = one.add("And", [one.add("And", inside), one.add("Not", [outside])])
    held = one.add("Clip", [one.value, *bounds])
    one.value = one.add("Where", [inside, one.value, held])
    return one.then_conv([4, 8, 1, 1])


def masked():
    one = net()
    mask = one.constant(random.uniform(0, 1, [12, 10]) > 0.5)
    one.value = one.add("Where", [mask, one.value, one.constant(np.float32(-0.3))])
    return one.then_conv([4, 8, 1, 1])


def of_unit_length():
    one = net()
    norm = one.add("Clip", [one.add("ReduceL2", [one.value], axes=[1]), one.constant(np.float32(1e-12))])
    one.value = one.add("Div", [one.value, one.add("Expand", [norm, one.add("Shape", [one.value])])])
    return one


def joined_with_an_image_of_one_value():
    one = net()
    wide = one.add("Expand", [one.add("GlobalAveragePool", [one.value]), one.constant(np.int64([1, 1, 12, 10]))])
    one.value = one.add("Concat", [one.value, wide], axis=1)
    return one.then_conv([4, 16, 1, 1])


def beside_a_grid():
    """What YOLO's heads do: places are made from extents, and added."""
    one = net()
    extent = one.add("Gather", [one.add("Shape", [one.value]), one.constant(np.int64(3))], axis=0)
    places = one.add("Range", [one.constant(np.int64(0)), extent, one.constant(np.int64(1))])
    one.value = one.add("Add", [one.add("Sigmoid", [one.value]), one.add("Cast", [places], to=onnx.TensorProto.FLOAT)])
    return one.then("Reshape", np.int64([1, -1, 10]))


# Beside those that are checked for Core ML too.
MORE = {
    "peaks": peaks,
    "chosen between bounds": lambda: chosen("Greater", "Less"),
    "chosen up to bounds": lambda: chosen("GreaterOrEqual", "LessOrEqual"),
    "masked": masked,
    "of unit length": of_unit_length,
    "reduced norm": lambda: net().then("ReduceL2", axes=[2], keepdims=0),
    "reduced magnitudes": lambda: net().then("ReduceL1", axes=[1, 2], keepdims=1),
    "reduced squares": lambda: net().then("ReduceSumSquare", axes=[1], keepdims=1),
    "reduced logarithm": lambda: net().then("Exp").then("ReduceLogSum", axes=[1], keepdims=1),
    "expanded": lambda: net().then("GlobalAveragePool").then("Expand", np.int64([1, 8, 3, 4])),
    "expanded to more axes": lambda: net().then("ReduceMean", axes=[1], keepdims=0).then("Expand", np.int64([2, 1, 12, 10])),
    "expanded and joined": joined_with_an_image_of_one_value,
    "beside a grid": beside_a_grid,
}


def quantize(campana, source, output, target, bits):
    return subprocess.run(
        [campana.resolve(), "quantize", source, "-o", output, "--target", target, "--bits", str(bits), "--force",
         "--no-correct", "--input-range=-3,3", "--activation-ranges", "minmax"], capture_output=True, text=True)


def run_onnx(path, feed):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feed)))


def run_tflite(path, feed):
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    for one in interpreter.get_input_details():
        interpreter.set_tensor(one["index"], channels_last(feed[one["name"]], tuple(one["shape"])))
    interpreter.invoke()
    return {one["name"]: interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}


def errors_of(campana, folder, model, target, peer, feed):
    """The largest error of each output, in units of its largest value, and the share within steps of 1/255 of it."""
    source, ours, theirs = folder / "case.onnx", folder / "ours.onnx", folder / "theirs.tflite"
    onnx.save(model, source)
    for to, output in ((target, ours), (peer, theirs)):
        ran = quantize(campana, source, output, to, 8)
        if ran.returncode:
            raise RuntimeError(f"{to}: {ran.stderr.strip()}")
    want, got = run_onnx(ours, feed), run_tflite(theirs, feed)
    worst, shares = 0.0, []
    for name, values in want.items():
        if got[name].shape != values.shape:
            raise RuntimeError(f"output '{name}' is {got[name].shape}, not {values.shape}")
        errors = np.abs(got[name] - values) / max(float(np.abs(values).max()), 1e-6)
        worst = max(worst, float(errors.max()))
        width = max(float(values.max() - values.min()), 1e-6) / max(float(np.abs(values).max()), 1e-6)
        shares.append(float((errors <= STEPS * width / 255).mean()))
    return worst, min(shares)


def with_int8(data):
    """The model with its int4 tensors stored as int8, and how many these were."""
    model = runtime.convert_bytearray_to_object(bytearray(data))
    count = 0
    for tensor in model.subgraphs[0].tensors:
        if tensor.type != schema.TensorType.INT4:
            continue
        packed = np.array(model.buffers[tensor.buffer].data, np.uint8)
        halves = np.stack([packed << 4, packed & 0xF0], -1).view(np.int8) >> 4
        buffer = schema.BufferT()
        buffer.data = halves.ravel()[: int(np.prod(tensor.shape))].view(np.uint8)
        model.buffers.append(buffer)
        tensor.buffer, tensor.type = len(model.buffers) - 1, schema.TensorType.INT8
        count += 1
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), count


def int4(campana, folder, feed):
    """What LiteRT makes of the case with weights of 4 bits, in words, and whether that is right."""
    path = folder / "int4.tflite"
    ran = quantize(campana, folder / "case.onnx", path, "tflite", 4)
    if ran.returncode:
        return ran.stderr.strip(), False
    wide, count = with_int8(path.read_bytes())
    (folder / "wide.tflite").write_bytes(wide)
    got, want = run_tflite(path, feed), run_tflite(folder / "wide.tflite", feed)
    shares = []
    for name, values in want.items():
        step = max(float(values.max() - values.min()), 1e-6) / 255
        shares.append(float((np.abs(got[name] - values) <= OTHER_STEPS * step).mean()))
    return f"{min(shares):.1%} within {OTHER_STEPS:g} steps, {count} of 4 bits", min(shares) >= SHARE


def micro(campana, folder, feed):
    """What TFLite Micro makes of the case that is in the folder, in words, and whether that is right."""
    path = folder / "micro.tflite"
    ran = quantize(campana, folder / "case.onnx", path, "tflm", 4)
    if ran.returncode:
        is_known = any(reason in ran.stderr for reason in MICRO_LACKS)
        return ("refused" if is_known else ran.stderr.strip()), is_known
    data = path.read_bytes()
    plain, count = decoded(data)
    interpreter = Interpreter(model_content=plain, num_threads=1)
    interpreter.allocate_tensors()
    inputs = [channels_last(feed[one["name"]], tuple(one["shape"])) for one in interpreter.get_input_details()]
    other = run_litert(interpreter, [inputs])
    found, expected = (run_micro(one, [inputs], len(other[0])) for one in (data, plain))
    if not are_equal(found, expected):
        return "not equal to decoded weights", False
    shares = []
    for got, want in zip(found[0], other[0]):
        step = max(float(want.max() - want.min()), 1e-6) / 255
        shares.append(float((np.abs(got - want) <= OTHER_STEPS * step).mean()))
    return f"{min(shares):.1%} within {OTHER_STEPS:g} steps, {count} decoded", min(shares) >= SHARE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campana", type=pathlib.Path)
    parser.add_argument("--case", help="only those whose name has this")
    args = parser.parse_args()
    failed = 0
    for name, make in {**CASES, **MORE}.items():
        if args.case and args.case not in name:
            continue
        model, feed = made(make)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            try:
                float_error, _ = errors_of(args.campana, folder, model, "float", "tflite-float", feed)
                int8_error, share = errors_of(args.campana, folder, model, "int8", "tflite", feed)
                narrow, is_narrow_right = int4(args.campana, folder, feed)
                in_micro, is_right = micro(args.campana, folder, feed)
            except (RuntimeError, ValueError) as error:
                failed += 1
                print(f"FAILED {name}: {error}")
                continue
        is_good = float_error <= FLOAT_TOLERANCE and share >= SHARE and is_right and is_narrow_right
        failed += not is_good
        print(f"{'ok    ' if is_good else 'FAILED'} {name}: float {float_error:.1e}, int8 {int8_error:.1e}, "
              f"{share:.1%} within {STEPS:g} steps; int4: {narrow}; "
              f"in TFLite Micro: {in_micro}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
