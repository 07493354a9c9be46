#!/usr/bin/env python3
"""The same quantized files in several runtimes.

Each LUT model must give, in onnxruntime 1.16.3 (from its own environment), in
the newest onnxruntime and in OpenVINO, the logits of the float form of the
same options, up to rounding, and the same top-1 on every image.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime
import openvino

import images
import logits

# The float form sums in the same order; runtimes among themselves do not.
MAX_LOGIT_DIFFERENCE = 1e-3

HERE = pathlib.Path(__file__).parent


def run_openvino(model: str, inputs: np.ndarray) -> np.ndarray:
    """Logits in OpenVINO, in float32: its default is bfloat16 on some CPUs."""
    core = openvino.Core()
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batches = [inputs[at : at + logits.BATCH] for at in range(0, len(inputs), logits.BATCH)]
    return np.concatenate([compiled(batch)[0] for batch in batches])


def run_old(python: pathlib.Path, models: list[str], inputs: np.ndarray) -> tuple[str, np.ndarray]:
    """Version and logits of the onnxruntime of another environment."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/inputs.npy", f"{folder}/logits.npy"
        np.save(source, inputs)
        command = [python, HERE / "logits.py", source, target, *models]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        return result.stdout.strip(), np.load(target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("float_model", type=pathlib.Path, help="written with --target float")
    parser.add_argument("models", nargs="+", help="written with --target lut or lut-uint4")
    parser.add_argument("--old-python", type=pathlib.Path, help="Python with the old onnxruntime")
    parser.add_argument("--old-skips", default="uint4", help="models with this in their name need a newer runtime")
    images.add_arguments(parser)
    args = parser.parse_args()
    inputs, labels = images.load(args, args.float_model)
    expected = logits.run(str(args.float_model), inputs)
    top1 = expected.argmax(1)
    print(f"{len(labels)} images, float form: top-1 {np.mean(top1 == labels):.2%}")

    results = []
    for model in args.models:
        results.append((f"onnxruntime {onnxruntime.__version__}", model, logits.run(model, inputs)))
        results.append((f"OpenVINO {openvino.__version__.split('-')[0]}", model, run_openvino(model, inputs)))
    if args.old_python:
        models = [model for model in args.models if args.old_skips not in pathlib.Path(model).name]
        version, outputs = run_old(args.old_python, models, inputs)
        results += [(f"onnxruntime {version}", model, output) for model, output in zip(models, outputs)]

    failures = 0
    for runtime, model, output in sorted(results, key=lambda result: result[:2]):
        difference = np.abs(output - expected).max()
        other = int((output.argmax(1) != top1).sum())
        failed = difference >= MAX_LOGIT_DIFFERENCE or other > 0
        failures += failed
        print(
            f"{'FAILED' if failed else 'ok':6} {pathlib.Path(model).name} in {runtime}: "
            f"top-1 {np.mean(output.argmax(1) == labels):.2%}, {other} images differ, "
            f"largest logit difference {difference:.2e}"
        )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
