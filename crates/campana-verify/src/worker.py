"""Runs one model in one runtime, as `campana verify` asks line by line.

usage: worker.py RUNTIME MODEL INPUTS OUTPUTS THREADS SHAPE

INPUTS are float32 values, one input of SHAPE (1x3x32x32) after another; OUTPUTS
is written in the same form. Questions come on standard input, answers go to
standard output, one JSON object a line:

    load     {"version", "load_ms"}, {"missing"} or {"error"}
    outputs  {"values"}: number of values of each output
    time N   {"ms"}: the time of one run on input N
    memory   {"memory_bytes", "peak_bytes"}: growth since before loading, or null
"""

import json
import os
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
            name = session.get_inputs()[0].name
            output = session.get_outputs()[0].name
            return lambda values: session.run([output], {name: values})[0]

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
            return lambda values: request.infer([values])[0]

        return openvino.__version__.split("-")[0], load
    if runtime == "tflite":
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError:
            from tflite_runtime import interpreter as litert

        def load():
            interpreter = litert.Interpreter(model_path=path, num_threads=threads)
            interpreter.allocate_tensors()
            taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
            shape = tuple(taken["shape"])

            def run(values):
                if values.shape != shape and values.ndim == 4:
                    # Converters to TFLite put channels last.
                    values = values.transpose(0, 2, 3, 1)
                interpreter.set_tensor(taken["index"], values.copy(order="C"))
                interpreter.invoke()
                return interpreter.get_tensor(given["index"])

            return run

        return getattr(litert, "__version__", "unknown"), load
    raise ValueError(f"unknown runtime {runtime}")


def memory():
    """Resident memory now and its peak, in bytes; None where the system does not tell."""
    try:
        with open("/proc/self/status") as status:
            lines = dict(line.split(":", 1) for line in status if ":" in line)
        return [int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")]
    except (OSError, KeyError, ValueError):
        return None


def main():
    runtime, path, inputs, outputs, threads, shape = sys.argv[1:]
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
                    import numpy

                    version, load = prepare(runtime, path, int(threads))
                except ImportError as error:
                    answer(missing=str(error))
                    continue
                extents = [int(extent) for extent in shape.split("x")]
                values = numpy.fromfile(inputs, dtype="<f4").reshape([-1] + extents)
                before = memory()
                start = time.perf_counter()
                run = load()
                elapsed = time.perf_counter() - start
                answer(version=version, load_ms=1e3 * elapsed)
            elif question[0] == "outputs":
                rows = [numpy.asarray(run(value)).astype("<f4").ravel() for value in values]
                numpy.concatenate(rows).tofile(outputs)
                answer(values=int(rows[0].size))
            elif question[0] == "time":
                value = values[int(question[1])]
                start = time.perf_counter()
                run(value)
                answer(ms=1e3 * (time.perf_counter() - start))
            elif question[0] == "memory":
                after = memory()
                if before is None or after is None:
                    answer(memory_bytes=None, peak_bytes=None)
                else:
                    answer(memory_bytes=max(after[0] - before[0], 0), peak_bytes=max(after[1] - before[0], 0))
        except Exception as error:  # Whatever a runtime throws is its answer.
            answer(error=f"{type(error).__name__}: {error}".split("\n")[0])


main()
