#!/usr/bin/env python3
"""Top-1 accuracy of ONNX models in onnxruntime."""

import argparse
import pathlib
import sys

import numpy as np

import images
import logits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    images.add_arguments(parser)
    args = parser.parse_args()
    inputs, labels = images.load(args, args.models[0])
    reference = None
    for model in args.models:
        top1 = logits.run(str(model), inputs).argmax(1)
        reference = top1 if reference is None else reference
        accuracy, agreement = np.mean(top1 == labels), np.mean(top1 == reference)
        print(f"{model.name}: top-1 {accuracy:.2%} of {len(labels)}, agrees with the first model on {agreement:.2%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
