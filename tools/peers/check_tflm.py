#!/usr/bin/env python3
"""Whether a model for TFLite Micro gives in its interpreter what it gives with its weights decoded beforehand.

DECODE operators are carried out here, in NumPy, and taken out of the model; both models then run in TFLite Micro's
interpreter, and their outputs must be equal to the bit. What is decoded runs in LiteRT too, whose kernels round sums
otherwise: it must answer alike on --alike of the inputs, and it is said how many values are within a step, 1/255 of the
range of an output's values over all runs.
"""

import argparse
import pathlib
import sys

import flatbuffers
import images
import numpy as np
from ai_edge_litert.interpreter import Interpreter as LiteRt
from tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

ARENA_BYTES = 1 << 28
HEADER_BYTES = 16
TYPES = {schema.TensorType.INT8: np.int8, schema.TensorType.FLOAT32: np.float32}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=pathlib.Path)
    images.add_arguments(parser, needed=False)
    parser.add_argument("--alike", type=float, default=0.95, help="least share of inputs with LiteRT's greatest output")
    parser.add_argument("--decodes", type=int, default=1, help="least number of DECODE operators")
    return parser.parse_args()


def looked_up(codes: np.ndarray, ancillary: np.ndarray, tensor) -> np.ndarray:
    """The elements that codes stand for: the first bit of each code is the most significant."""
    kind, version, _, _, lut_version, width, stride = ancillary[:7].tolist()
    assert (kind, version, lut_version) == (0, 1, 1) and 1 <= width <= 7 and stride <= 128
    count = int(np.prod(tensor.shape))
    bits = np.unpackbits(codes)[: count * width].reshape(count, width)
    indices = bits @ (1 << np.arange(width)[::-1])
    quantization = tensor.quantization
    scales = quantization.scale if quantization is not None and quantization.scale is not None else [1.0]
    channels, axis = len(scales), quantization.quantizedDimension if quantization is not None else 0
    shape = [1] * len(tensor.shape)
    if channels > 1:
        assert tensor.shape[axis] == channels
        shape[axis] = channels
    channel = np.broadcast_to(np.arange(channels).reshape(shape), tensor.shape).ravel()
    table = ancillary[HEADER_BYTES:].view(TYPES[tensor.type])
    return table[channel * stride + indices]


def decoded(data: bytes) -> tuple[bytes, int]:
    """The model with constants in place of its DECODE operators, and how many these were."""
    model = runtime.convert_bytearray_to_object(bytearray(data))
    graph = model.subgraphs[0]
    is_decode = lambda operator: model.operatorCodes[operator.opcodeIndex].customCode == b"TFLM_DECODE"
    count = 0
    for operator in filter(is_decode, graph.operators):
        codes, ancillary = (np.array(model.buffers[graph.tensors[at].buffer].data, np.uint8) for at in operator.inputs)
        tensor = graph.tensors[operator.outputs[0]]
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(looked_up(codes, ancillary, tensor).tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
        if tensor.type == schema.TensorType.FLOAT32:
            tensor.quantization = None
        count += 1
    graph.operators = [operator for operator in graph.operators if not is_decode(operator)]
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), count


def feeds(args: argparse.Namespace, details):
    """The inputs of each run, and labels or None."""
    if args.data:
        pictures, labels = images.load(args, args.model)
        return [[np.moveaxis(picture[None], 1, -1).copy()] for picture in pictures], labels
    random = np.random.default_rng(0)
    draw = lambda: [random.standard_normal(one["shape"]).astype(np.float32) for one in details]
    return [draw() for _ in range(args.limit or 8)], None


def run_micro(data: bytes, inputs, outputs: int) -> list[list[np.ndarray]]:
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=ARENA_BYTES)
    found = []
    for values in inputs:
        for at, one in enumerate(values):
            interpreter.set_input(one, at)
        interpreter.invoke()
        found.append([interpreter.get_output(at).copy() for at in range(outputs)])
    return found


def are_equal(runs, others) -> bool:
    """Whether all outputs of all runs are the same to the bit."""
    pairs = [pair for run, other in zip(runs, others) for pair in zip(run, other)]
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def run_litert(interpreter, inputs) -> list[list[np.ndarray]]:
    interpreter.allocate_tensors()
    found = []
    for values in inputs:
        for one, value in zip(interpreter.get_input_details(), values):
            interpreter.set_tensor(one["index"], value)
        interpreter.invoke()
        found.append([interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()])
    return found


def main() -> int:
    args = arguments()
    data = args.model.read_bytes()
    plain, decodes = decoded(data)
    litert = LiteRt(model_content=plain, num_threads=1)
    inputs, labels = feeds(args, litert.get_input_details())
    outputs = len(litert.get_output_details())
    micro, expected = (run_micro(model, inputs, outputs) for model in (data, plain))
    equal = are_equal(micro, expected)
    other = run_litert(litert, inputs)
    within = count = 0
    for at in range(outputs):
        got, want = (np.array([run[at] for run in runs]) for runs in (micro, other))
        step = max(float(want.max() - want.min()), 1e-6) / 255
        within, count = within + int((np.abs(got - want) <= step).sum()), count + want.size
    answers = [int(run[0].argmax()) for run in micro]
    alike = np.mean([answer == int(run[0].argmax()) for answer, run in zip(answers, other)])
    print(f"{args.model.name}: {len(data)} bytes, {decodes} decoded tensors, {len(plain)} bytes without; "
          f"{'equal' if equal else 'NOT EQUAL'} to decoded weights; LiteRT: {within / count:.2%} of {count} values "
          f"within a step, {alike:.2%} of {len(inputs)} answers alike", end="")
    print("" if labels is None else f"; right {np.mean(np.array(answers) == labels):.2%}")
    return int(not equal or alike < args.alike or decodes < args.decodes)


if __name__ == "__main__":
    sys.exit(main())
