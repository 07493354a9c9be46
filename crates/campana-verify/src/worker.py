"""Runs one model in one runtime, as `campana verify` asks line by line.

usage: worker.py RUNTIME MODEL INPUTS OUTPUTS THREADS

INPUTS holds the values of all inputs of all runs, one after another, and
INPUTS.json, for each run a list, their names, types and shapes. OUTPUTS and
OUTPUTS.json are written alike, all values as float32. Questions come on standard
input, answers go to standard output, one JSON object a line:

    load     {"version", "load_ms"}, {"missing"} or {"error"}
    outputs  {"runs"}: how many; what they gave is in OUTPUTS
    time N   {"ms"}: the time of one run on input N
    memory   {"memory_bytes", "peak_bytes"}: growth since before loading, or null
"""

import json
import os
import re
import sys
import time


def prepare(runtime, path, threads):
    """Imports the runtime; returns its version and a function that loads."""
    if runtime == "onnxruntime":
        import onnxruntime

        def load():
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            names = [given.name for given in session.get_outputs()]

            def run(feed):
                feed = by_name(feed, [taken.name for taken in session.get_inputs()])
                return list(zip(names, session.run(names, feed)))

            return run

        return onnxruntime.__version__, load
    if runtime == "openvino":
        import openvino

        def load():
            core = openvino.Core()
            model = core.read_model(path)
            settings = {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                # On some processors the default is bfloat16.
                "INFERENCE_PRECISION_HINT": "f32",
            }
            compiled = core.compile_model(model, "CPU", settings)
            request = compiled.create_infer_request()
            names = [min(taken.names) if taken.names else str(at) for at, taken in enumerate(compiled.inputs)]
            outputs = [min(given.names) if given.names else str(at) for at, given in enumerate(compiled.outputs)]

            def run(feed):
                feed = by_name(feed, names, [taken.names for taken in compiled.inputs])
                found = request.infer([feed[name] for name in names])
                return [(name, found[at]) for at, name in enumerate(outputs)]

            return run

        return openvino.__version__.split("-")[0], load
    if runtime == "tflite":
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError:
            from tflite_runtime import interpreter as litert

        def load():
            interpreter = litert.Interpreter(model_path=path, num_threads=threads)
            interpreter.allocate_tensors()
            taken, given = interpreter.get_input_details(), interpreter.get_output_details()

            def run(feed):
                feed = by_name(feed, [one["name"] for one in taken])
                for one in taken:
                    values = channels_last(feed[one["name"]], tuple(one["shape"]))
                    interpreter.set_tensor(one["index"], values)
                interpreter.invoke()
                return [(one["name"], interpreter.get_tensor(one["index"])) for one in given]

            return run

        return getattr(litert, "__version__", "unknown"), load
    if runtime == "tflm":
        from importlib.metadata import version

        from tflite_micro import runtime as tflm

        def load():
            with open(path, "rb") as file:
                data = file.read()
            interpreter = tflm.Interpreter.from_bytes(data, arena_size=ARENA_BYTES + 10 * len(data))
            tensors, taken, given = described(tflm.convert_bytearray_to_object(data).subgraphs[0])

            def run(feed):
                feed = by_name(feed, taken)
                for at, name in enumerate(taken):
                    interpreter.set_input(channels_last(feed[name], tensors[name]), at)
                interpreter.invoke()
                return [(name, interpreter.get_output(at)) for at, name in enumerate(given)]

            return run

        return version("tflite-micro"), load
    raise ValueError(f"unknown runtime {runtime}")


def channels_last(values, shape):
    """An input as TFLite has it, in its own memory: channels last where the model says so."""
    import numpy

    if values.shape != shape and values.ndim > 2:
        values = numpy.moveaxis(values, 1, -1)
    return values.copy(order="C")


# Of activations; only what is used becomes memory.
ARENA_BYTES = 1 << 28


def described(graph):
    """The shapes of the tensors of a TFLite graph by their names, and the names of its inputs and outputs."""
    names = [(tensor.name or b"").decode() for tensor in graph.tensors]
    shapes = [tuple(() if tensor.shape is None else tensor.shape) for tensor in graph.tensors]
    return dict(zip(names, shapes)), [names[at] for at in graph.inputs], [names[at] for at in graph.outputs]


def in_one_line(error):
    """What an error says, without the places in a runtime's sources that some begin with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not re.match(r"(Exception from|Check '.*' failed at) .*:\d+:?$", line)]
    return (telling or lines or ["no reason given"])[0]


def by_name(feed, names, other_names=None):
    """The values of the inputs that a runtime names, by their names or else in their order."""
    found = {}
    for at, name in enumerate(names):
        spellings = [name, *(other_names[at] if other_names else ())]
        match = next((feed[spelling] for spelling in spellings if spelling in feed), None)
        if match is None:
            if len(names) != len(feed):
                raise ValueError(f"there is no value for the input '{name}'")
            match = list(feed.values())[at]
        found[name] = match
    return found


def read_inputs(path):
    """The feed of each run: names and arrays."""
    import numpy

    with open(os.path.splitext(path)[0] + ".json") as described:
        runs = json.load(described)
    with open(path, "rb") as file:
        data = file.read()
    feeds, start = [], 0
    for run in runs:
        feed = {}
        for one in run:
            count = int(numpy.prod(one["shape"], dtype=numpy.int64))
            array = numpy.frombuffer(data, numpy.dtype(one["type"]).newbyteorder("<"), count, start)
            feed[one["name"]] = array.reshape(one["shape"])
            start += array.nbytes
        feeds.append(feed)
    return feeds


def write_outputs(path, runs):
    """The outputs of all runs, lists of names and arrays."""
    import numpy

    described = []
    with open(path, "wb") as file:
        for run in runs:
            outputs = [(name, numpy.asarray(value)) for name, value in run]
            described.append([dict(name=n, type=str(value.dtype), shape=value.shape) for n, value in outputs])
            for _, value in outputs:
                file.write(value.astype("<f4").tobytes())
    with open(os.path.splitext(path)[0] + ".json", "w") as file:
        json.dump(described, file)


def memory():
    """Resident memory now and its peak, in bytes; None where the system does not tell."""
    try:
        with open("/proc/self/status") as status:
            lines = dict(line.split(":", 1) for line in status if ":" in line)
        return [int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")]
    except (OSError, KeyError, ValueError):
        return None


def main():
    runtime, path, inputs, outputs, threads = sys.argv[1:]
    # What runtimes print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    run = before = None
    for line in sys.stdin:
        question = line.split()
        try:
            if question[0] == "load":
                try:
                    version, load = prepare(runtime, path, int(threads))
                except ImportError as error:
                    answer(missing=str(error))
                    continue
                feeds = read_inputs(inputs)
                before = memory()
                start = time.perf_counter()
                run = load()
                elapsed = time.perf_counter() - start
                answer(version=version, load_ms=1e3 * elapsed)
            elif question[0] == "outputs":
                write_outputs(outputs, (run(feed) for feed in feeds))
                answer(runs=len(feeds))
            elif question[0] == "time":
                feed = feeds[int(question[1])]
                start = time.perf_counter()
                run(feed)
                answer(ms=1e3 * (time.perf_counter() - start))
            elif question[0] == "memory":
                after = memory()
                if before is None or after is None:
                    answer(memory_bytes=None, peak_bytes=None)
                else:
                    answer(memory_bytes=max(after[0] - before[0], 0), peak_bytes=max(after[1] - before[0], 0))
        except Exception as error:  # Whatever a runtime throws is its answer.
            answer(error=f"{type(error).__name__}: {in_one_line(error)}")


main()
