#!/usr/bin/env python3
"""Runs a model on inputs from a .npy file in onnxruntime; writes its first
output to a .npy file. Runs in every onnxruntime, for check_runtimes.py."""

import argparse
import sys

import numpy as np
import onnxruntime

BATCH = 50


def run(model: str, inputs: np.ndarray) -> np.ndarray:
    """The model's first output for all inputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    batches = [inputs[at : at + BATCH] for at in range(0, len(inputs), BATCH)]
    return np.concatenate([session.run(None, {name: batch})[0] for batch in batches])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", help=".npy file of float32 inputs")
    parser.add_argument("output", help="where to write the results, [models, N, classes]")
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    inputs = np.load(args.inputs)
    np.save(args.output, np.stack([run(model, inputs) for model in args.models]))
    print(onnxruntime.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
