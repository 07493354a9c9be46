#!/usr/bin/env python3
"""The forms of a float ONNX model that onnxruntime-web reads.

    prepare.py FOLDER MODEL...

Writes MODEL.float.onnx and MODEL.qdq.onnx into FOLDER, as benches/peers makes
them for onnxruntime: normalizations folded first, then QDQ, per channel, ranges
from random images, which is enough for timing.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/peers"))

import forms  # noqa: E402

# Only onnxruntime's forms are read here.
forms.convert = lambda source, target: None


def main(folder, *models):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for model in map(pathlib.Path, models):
        forms.peer_files(model, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
