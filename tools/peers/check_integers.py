#!/usr/bin/env python3
"""Whether stock runtimes compute int8 models on integers, and alike.

onnxruntime must turn every convolution into a QLinearConv, and OpenVINO must
run every one in 8 bits; both must give the same top-1 on most images: they
round in different places, which a thin network feels (MobileNetV1 0.25 agrees
on 94 % of 200 images of ImageNet, ResNet-20 on 99.5 % of 1,000 of CIFAR-10).
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import openvino

import check_runtimes
import images
import logits

MIN_AGREEMENT = 0.9


def onnxruntime_layers(path: str) -> tuple[int, int]:
    """Convolutions on integers, and all, in the graph that onnxruntime runs."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        options.log_severity_level = 3
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    on_integers = kinds.count("QLinearConv")
    return on_integers, on_integers + sum(kinds.count(kind) for kind in ("Conv", "FusedConv"))


def openvino_layers(path: str) -> tuple[int, int]:
    """The same in the graph that OpenVINO runs."""
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    convolutions = [info for info in infos if str(info["layerType"].astype(str)) == "Convolution"]
    precisions = [str(info["runtimePrecision"].astype(str)) for info in convolutions]
    return sum(precision in ("i8", "u8") for precision in precisions), len(precisions)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="written with --target int8")
    images.add_arguments(parser)
    args = parser.parse_args()
    inputs, labels = images.load(args, args.model)
    path, failed = str(args.model), False
    for runtime, (on_integers, count) in (
        ("onnxruntime", onnxruntime_layers(path)),
        ("OpenVINO", openvino_layers(path)),
    ):
        complete = on_integers == count > 0
        failed |= not complete
        print(f"{'ok' if complete else 'FAILED':6} {runtime}: {on_integers} of {count} convolutions on integers")
    top1 = [outputs.argmax(1) for outputs in (logits.run(path, inputs), check_runtimes.run_openvino(path, inputs))]
    agreement = np.mean(top1[0] == top1[1])
    failed |= agreement < MIN_AGREEMENT
    accuracies = " and ".join(f"{np.mean(answers == labels):.2%}" for answers in top1)
    print(f"{'FAILED' if agreement < MIN_AGREEMENT else 'ok':6} agreement {agreement:.2%}, top-1 {accuracies}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
