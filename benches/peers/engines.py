"""Engines as processes of their own, which time a network when they are asked.

An engine's threads spin for a while after a run; in one process they would
take time from the engine that has its turn. A worker loads a network, says how
long that took and how much memory it has, then answers each line on its
standard input with the median milliseconds of a slice of runs.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

WARM_UP = 5
MIN_RUNS = 5


class Onnxruntime:
    def __init__(self, path: str, threads: int, batch: int):
        import onnxruntime

        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.batch = batch

    def take_images(self) -> None:
        image = self.session.get_inputs()[0]
        self.feed = {image.name: images([self.batch, *image.shape[1:]])}

    def run(self):
        return self.session.run(None, self.feed)[0]


class Openvino:
    def __init__(self, path: str, threads: int, batch: int):
        import openvino

        self.version = openvino.__version__.split("-")[0]
        core = openvino.Core()
        model = core.read_model(path)
        self.shape = [batch, *[axis.get_length() for axis in list(model.input(0).partial_shape)[1:]]]
        model.reshape(self.shape)
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        self.request = core.compile_model(model, "CPU", settings).create_infer_request()

    def take_images(self) -> None:
        self.image = images(self.shape)

    def run(self):
        return next(iter(self.request.infer([self.image], share_inputs=True).values()))


class Litert:
    def __init__(self, path: str, threads: int, batch: int):
        import importlib.metadata

        from ai_edge_litert.interpreter import Interpreter

        self.version = importlib.metadata.version("ai-edge-litert")
        self.interpreter = Interpreter(path, num_threads=threads)
        image = self.interpreter.get_input_details()[0]
        if batch != 1:
            self.interpreter.resize_tensor_input(image["index"], [batch, *image["shape"][1:]])
        self.interpreter.allocate_tensors()
        self.output = self.interpreter.get_output_details()[0]["index"]

    def take_images(self) -> None:
        image = self.interpreter.get_input_details()[0]
        batch, rows, columns, channels = image["shape"]
        self.interpreter.set_tensor(image["index"], images([batch, channels, rows, columns]).transpose(0, 2, 3, 1))

    def run(self):
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output)


class Ncnn:
    def __init__(self, path: str, threads: int, batch: int):
        import ncnn
        import numpy

        if batch != 1:
            raise ValueError("ncnn takes one image")
        self.version = ncnn.__version__
        self.net, self.ncnn, self.numpy = ncnn.Net(), ncnn, numpy
        self.net.opt.num_threads = threads
        if self.net.load_param(f"{path}.param") or self.net.load_model(f"{path}.bin"):
            raise ValueError("ncnn refused the files")
        description = json.loads(pathlib.Path(f"{path}.json").read_text())
        self.input, self.output = description["input"], description["output"]
        self.shape = description["shape"]

    def take_images(self) -> None:
        self.image = images([1, *self.shape])[0]

    def run(self):
        extractor = self.net.create_extractor()
        extractor.input(self.input, self.ncnn.Mat(self.image))
        return self.numpy.array(extractor.extract(self.output)[1])


ENGINES = {"onnxruntime": Onnxruntime, "openvino": Openvino, "litert": Litert, "ncnn": Ncnn}


def images(shape: list[int]):
    import numpy

    return numpy.random.default_rng(0).normal(0, 1, shape).astype(numpy.float32)


class Peer:
    """An engine with a network, in its own process."""

    def __init__(self, engine: str, path: str, threads: int, batch: int = 1):
        command = [sys.executable, __file__, engine, path, str(threads), str(batch)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        # The version, scores, load_ms, first_ms, import_bytes, peak_bytes; or the error.
        self.facts = json.loads(self.process.stdout.readline() or '{"error": "the process ended"}')

    def slice(self, seconds: float) -> float:
        """Median milliseconds of runs that take about this long."""
        print(seconds, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Campana:
    """`campana bench` with a network, a process for each slice."""

    def __init__(self, command: str, path: str, threads: int, batch: int = 1):
        self.command = [command, "bench", path, "--json", "--threads", str(threads), "--batch", str(batch)]
        facts = self.bench(3)
        self.facts = {**facts, "peak_bytes": facts["peak_rss_bytes"]}
        self.median_ms = self.facts["median_ms"]

    def bench(self, runs: int) -> dict:
        environment = {**os.environ, "CAMPANA_BENCH_ALONE": "1"}
        command = [*self.command, "--runs", str(runs)]
        result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return json.loads(result.stdout)["models"][0]

    def slice(self, seconds: float) -> float:
        self.median_ms = self.bench(max(MIN_RUNS, int(seconds * 1e3 / self.median_ms)))["median_ms"]
        return self.median_ms

    def close(self) -> None:
        pass


def campana_version(command: str) -> str:
    result = subprocess.run([command, "--version"], check=True, capture_output=True, text=True)
    return result.stdout.split()[-1]


def memory(facts: dict) -> str:
    """Peak megabytes of a process: the network's, and what was there before it."""
    imported = facts.get("import_bytes", 0)
    own = f"{(facts['peak_bytes'] - imported) / 1e6:.1f}"
    return f"{own} + {imported / 1e6:.1f}" if imported else own


def peak_bytes() -> int:
    """Largest resident memory of this process; what its parent had counts in `ru_maxrss`, not here."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def serve(engine: str, path: str, threads: int, batch: int) -> None:
    """A worker's life."""
    # Results alone go to the standard output, whatever an engine prints.
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)
    try:
        # Once for the engine's own libraries, which are no part of loading a network.
        __import__({"litert": "ai_edge_litert.interpreter"}.get(engine, engine))
        import_bytes = peak_bytes()
        start = time.perf_counter()
        loaded = ENGINES[engine](path, threads, batch)
        load_ms = (time.perf_counter() - start) * 1e3
        loaded.take_images()
        ready = time.perf_counter()
        scores = loaded.run()
        facts = {
            "version": loaded.version,
            "scores": scores.ravel().tolist(),
            "load_ms": load_ms,
            "first_ms": (time.perf_counter() - ready) * 1e3,
            "import_bytes": import_bytes,
        }
        for _ in range(WARM_UP):
            loaded.run()
    except Exception as error:  # noqa: BLE001 - an engine may fail in any way, and the record says how
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        return
    print(json.dumps({**facts, "peak_bytes": peak_bytes()}), file=answers, flush=True)
    for line in sys.stdin:
        print(timed_slice(loaded.run, float(line)), file=answers, flush=True)


def timed_slice(run, seconds: float) -> float:
    for _ in range(WARM_UP):
        run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < MIN_RUNS:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
