"""Commands that measure models in processes of their own."""

import contextlib
import json
import os
import subprocess
import sys
import warnings

from . import _campana, _limits
from ._data import is_path, path_of, whole
from ._models import as_file, shapes_of
from ._report import Report
from .errors import ArgumentError, CommandError

#: What starts the command as another process.
PROGRAM = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "_alone.py")]

#: Seconds that an interrupted command gets to end by itself.
_GRACE_S = 2


def compare(
    model, data, *, bits=(2, 3, 4, 8), methods="all", calibrate=None, samples=256, granularity=("tensor", "channel"),
    limit=None, batch=64, csv=None, html=None, markdown=None, resume=None, shard=None, force=False, threads=None,
):
    """Measures methods at widths on labelled images, without writing models: ``campana compare``.

    ``bits``, ``methods`` and ``granularity`` are one or several; ``data``, ``calibrate``, ``csv``, ``html``,
    ``markdown`` and ``resume`` are paths. ``shard="2/7"`` measures the second of seven shares of the rows into the
    journal ``resume``, for :func:`merge`. Returns the command's report: ``n``, ``reference_top1`` and ``rows``.
    """
    return _run(
        "compare", model, data=path_of(data, "data"), bits=_list(bits), methods=_list(methods),
        calibrate=path_of(calibrate, "calibrate"), samples=whole(samples, "samples") if calibrate is not None else None,
        granularity=_list(granularity), limit=whole(limit, "limit"), batch=whole(batch, "batch"),
        csv=path_of(csv, "csv"), html=path_of(html, "html"), markdown=path_of(markdown, "markdown"),
        resume=path_of(resume, "resume"), shard=shard, force=force, threads=threads)


def merge(rows, *, csv=None, html=None, markdown=None, force=False):
    """Makes one table of the journals that :func:`compare` left, of all shares: ``campana merge``.

    ``rows`` are paths, ``csv``, ``html`` and ``markdown`` those of files to write. Returns what :func:`compare`
    without shares returns.
    """
    rows = [path_of(path, "rows") for path in ([rows] if is_path(rows) else rows)]
    options = dict(csv=path_of(csv, "csv"), html=path_of(html, "html"), markdown=path_of(markdown, "markdown"))
    return _report("merge", rows, dict(options, force=force))


def bench(
    model, *, reference=None, batch=1, layers=False, html=None, shape=None, runs=50, force=False, threads=None,
):
    """Latency and memory on this machine, a model in turn with its reference: ``campana bench``.

    ``model`` and ``reference`` are paths or ModelProtos, ``html`` is the path of a page to write, ``shape`` as
    :func:`quantize` takes it. Returns the command's report: ``threads``, and of each of ``models`` ``median_ms``,
    ``p95_ms``, ``min_ms``, ``peak_rss_bytes`` and ``weight_bytes``; with ``layers``, the time of each layer. Memory is
    that of a process with an interpreter in it: some 10 MB more than the command itself reports.
    """
    return _run(
        "bench", model, reference=reference, batch=whole(batch, "batch"), layers=layers, html=path_of(html, "html"),
        shape=_shape(shape), runs=whole(runs, "runs"), force=force, threads=threads)


def verify(
    model, *, reference=None, runtimes=None, python=sys.executable, data=None,
    samples=64, random=16, shape=None, runs=30, threads=None,
):
    """The answers, latency and memory of a model in every runtime of this machine: ``campana verify``.

    ``model`` and ``reference`` are paths or ModelProtos; ``runtimes`` (of ``"onnxruntime"``, ``"openvino"``, ``"tflite"`` and
    ``"tflm"``, by default those that the model is meant for) are looked for in ``python``, by default this one. Returns the command's report: ``rows``, one a runtime and model, ``verdicts`` and ``missing``.
    """
    return _run(
        "verify", model, reference=reference, runtimes=None if runtimes is None else _list(runtimes), python=path_of(python, "python"),
        data=path_of(data, "data"), samples=whole(samples, "samples") if data is not None else None,
        random=whole(random, "random", 0), shape=_shape(shape), runs=whole(runs, "runs"), threads=threads)


def pack(model, output, *, force=False):
    """Puts an ONNX model, a path or a ModelProto, into a container at the path ``output``: ``campana pack``.

    Returns the command's report: ``input``, ``output``, ``input_bytes``, ``output_bytes`` and ``elapsed_s``.
    """
    with as_file(model) as path:
        return Report(json.loads(_campana.pack_file(path, _needed(output), bool(force))))


def unpack(container, output, *, force=False):
    """Takes the ONNX model out of the container at a path, byte for byte, and writes it to the path ``output``:
    ``campana unpack``. Returns a report as :func:`pack` does."""
    return Report(json.loads(_campana.unpack_file(path_of(container, "container"), _needed(output), bool(force))))


def _needed(output):
    if output is None:
        raise ArgumentError("name the output")
    return path_of(output, "output")


def _list(value):
    """One value or several as the command line has them."""
    values = [value] if isinstance(value, (str, int)) else list(value)
    return ",".join(str(value) for value in values)


def _shape(shape):
    texts = []
    for name, extents in shapes_of(shape):
        text = ",".join("?" if extent is None else str(extent) for extent in extents)
        texts.append(text if name is None else f"{name}={text}")
    return texts


def _run(command, model, reference=None, **options):
    with contextlib.ExitStack() as files:
        model = files.enter_context(as_file(model))
        if reference is not None:
            options["reference"] = reference if is_path(reference) else files.enter_context(as_file(reference))
        options["threads"] = whole(options["threads"], "threads")
        return _report(command, [model], options)


def _report(command, paths, options):
    """The report of a command on files."""
    arguments = [command, "--json", *_limits.arguments()]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        for value in values:
            if value is True:
                arguments.append(f"--{name}")
            elif value is not None and value is not False:
                arguments.append(f"--{name}={os.fspath(value) if is_path(value) else value}")
    return Report(json.loads(_output_of([*arguments, "--", *paths])))


def _output_of(arguments):
    """What the command prints; what it notes beside that becomes warnings, and its error an exception."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding="utf-8", errors="replace")
    try:
        output, notes = process.communicate()
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        text = notes.strip().removeprefix("error: ")
        kind = ArgumentError if "--help" in text else CommandError
        raise kind(text or f"the command ended with status {process.returncode}")
    for note in notes.splitlines():
        warnings.warn(note, stacklevel=5)
    return output


def _end(process):
    """Ends a command in good order: what is not finished is removed."""
    # A terminal interrupts all processes; elsewhere only this one heard.
    for end in process.terminate, process.kill:
        try:
            process.communicate(timeout=_GRACE_S)
            return
        except subprocess.TimeoutExpired:
            end()
    process.communicate()
