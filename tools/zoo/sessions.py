#!/usr/bin/env python3
"""Runs one model in stock runtimes; a process of its own, since runtimes crash.

    sessions.py MODEL EXAMPLES.npz OUT RUNTIME...

EXAMPLES holds INDEX/INPUT arrays. Writes OUT/RUNTIME.npz with INDEX/OUTPUT arrays
and prints a line of JSON for each runtime: its fastest run in ms, or its error.
RUNTIME is ort (default optimization), ort-off (optimization disabled) or openvino.
"""

import json
import pathlib
import re
import sys
import time

import numpy as np

TIMED_RUNS = 5


def examples(path: str) -> list[dict[str, np.ndarray]]:
    """The examples in their order."""
    found: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path) as file:
        for key in file.files:
            index, name = key.split("/", 1)
            found.setdefault(int(index), {})[name] = file[key]
    return [found[index] for index in sorted(found)]


def _onnxruntime(model: str, optimize: bool):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(None, {k: v for k, v in feed.items() if k in wanted})))


def _openvino(model: str):
    import openvino

    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", properties)
    names = [sorted(port.get_names()) for port in compiled.outputs]

    def run(feed):
        results = compiled(feed)
        return {name: results[at] for at, among in enumerate(names) for name in among}

    return run


def run(runtime: str, model: str, feeds: list[dict[str, np.ndarray]], out: pathlib.Path) -> dict:
    """Runs every example and writes its outputs."""
    start = time.perf_counter()
    call = _openvino(model) if runtime == "openvino" else _onnxruntime(model, runtime == "ort")
    load_ms = (time.perf_counter() - start) * 1e3
    outputs = {f"{at}/{name}": value for at, feed in enumerate(feeds) for name, value in call(feed).items()}
    np.savez(out / f"{runtime}.npz", **outputs)
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        call(feeds[0])
        times.append((time.perf_counter() - start) * 1e3)
    return {"runtime": runtime, "load_ms": load_ms, "fastest_ms": min(times)}


def _told(error: Exception, model: str) -> str:
    """The error in one line, without paths and OpenVINO's stack of files."""
    text = re.sub(r"Exception from \S+:\d+: ?|Check '.*?' failed at \S+:\d+: ?", "", str(error))
    return " ".join(text.replace(model, pathlib.Path(model).name).split()) or type(error).__name__


def main() -> None:
    model, path, out, *runtimes = sys.argv[1:]
    feeds = examples(path)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    for runtime in runtimes:
        try:
            line = run(runtime, model, feeds, pathlib.Path(out))
        except Exception as error:  # whatever a runtime throws is the cell's text
            line = {"runtime": runtime, "error": _told(error, model)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
