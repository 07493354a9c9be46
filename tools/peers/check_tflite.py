#!/usr/bin/env python3
"""Whether a TFLite model gives in LiteRT what an ONNX model gives in onnxruntime.

A step is 1/255 of the range of an output's values over all runs. Without --data the inputs are drawn at random.
"""

import argparse
import pathlib
import sys

import images
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("onnx", type=pathlib.Path)
    parser.add_argument("tflite", type=pathlib.Path)
    images.add_arguments(parser, needed=False)
    parser.add_argument("--within", type=float, default=0.95, help="least share of values within a step")
    parser.add_argument("--same", type=float, default=0.995, help="least share of inputs with the same greatest output")
    return parser.parse_args()


def feeds(args: argparse.Namespace, session: onnxruntime.InferenceSession):
    """The inputs of each run, and labels or None."""
    if args.data:
        pictures, labels = images.load(args, args.onnx)
        name = session.get_inputs()[0].name
        return [{name: picture[None]} for picture in pictures], labels
    random = np.random.default_rng(0)
    shapes = {one.name: [d if isinstance(d, int) else 1 for d in one.shape] for one in session.get_inputs()}
    draw = lambda: {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return [draw() for _ in range(args.limit or 8)], None


def errors_in_steps(pairs: np.ndarray) -> np.ndarray:
    """Differences of an output's values over all runs, in 1/255 of the range of the expected ones."""
    want, got = pairs[:, 0], pairs[:, 1]
    return np.abs(want - got).ravel() / (max(float(want.max() - want.min()), 1e-6) / 255)


def main() -> int:
    args = arguments()
    session = onnxruntime.InferenceSession(str(args.onnx), providers=["CPUExecutionProvider"])
    interpreter = Interpreter(model_path=str(args.tflite), num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details(), interpreter.get_output_details()
    names = [one.name for one in session.get_outputs()]
    inputs, labels = feeds(args, session)
    same = right = reference_right = 0
    pairs = {one["name"]: [] for one in given}
    for at, feed in enumerate(inputs):
        expected = dict(zip(names, session.run(names, feed)))
        for one in taken:
            interpreter.set_tensor(one["index"], images.channels_last(feed[one["name"]], tuple(one["shape"])))
        interpreter.invoke()
        for one in given:
            want = expected[one["name"]]
            pairs[one["name"]].append((want, interpreter.get_tensor(one["index"]).reshape(want.shape)))
        answers = [int(np.argmax(values)) for values in pairs[given[0]["name"]][-1]]
        same += answers[0] == answers[1]
        if labels is not None:
            right, reference_right = right + (answers[1] == labels[at]), reference_right + (answers[0] == labels[at])
    errors = np.concatenate([errors_in_steps(np.array(pair)) for pair in pairs.values()])
    within, count, worst = int((errors <= 1).sum()), errors.size, float(errors.max())
    share, alike = within / count, same / len(inputs)
    print(f"{args.tflite.name}: {share:.2%} of {count} values within a step, worst {worst:.1f} steps; "
          f"{alike:.2%} of {len(inputs)} answers alike", end="")
    print("" if labels is None else f"; right {right / len(inputs):.2%}, reference {reference_right / len(inputs):.2%}")
    return int(share < args.within or alike < args.same)


if __name__ == "__main__":
    sys.exit(main())
