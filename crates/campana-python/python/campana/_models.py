"""Models in files, in memory and as dicts of weights."""

import contextlib
import json
import os
import tempfile
import warnings

import numpy as np

from . import _campana
from ._arrays import floats, is_float
from ._data import Reader, is_path, path_of, whole
from ._images import preparation, prepared
from ._report import Report
from .errors import ArgumentError, ArgumentTypeError, BoundMissedError


def is_model_proto(value):
    """Whether a value is an ``onnx.ModelProto``, without a need for the package ``onnx``."""
    return hasattr(value, "SerializeToString") and hasattr(value, "graph")


def check_model(model):
    """Refuses what is neither a path nor a ModelProto."""
    if not (is_path(model) or is_model_proto(model)):
        raise ArgumentTypeError(f"model must be a path or an onnx.ModelProto, not {type(model).__name__}")


def json_of(text):
    """A report from the native side's text."""
    return Report(json.loads(text))


@contextlib.contextmanager
def as_file(model, sidecar=None):
    """The path of a model: its own, or that of a copy of a ModelProto while the context lasts."""
    check_model(model)
    if is_path(model):
        if sidecar is not None:
            raise ArgumentError("a model in a file has its sidecar beside it; sidecar is for a ModelProto")
        yield os.fspath(model)
        return
    if any(tensor.data_location == tensor.EXTERNAL for tensor in model.graph.initializer):
        raise ArgumentError(
            "the model's weights are in files beside it, and a ModelProto does not say where: "
            "call onnx.load with load_external_data=True, or give the path")
    with tempfile.TemporaryDirectory(prefix="campana-") as folder:
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
        if sidecar is not None:
            with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
                json.dump(sidecar, file)
        yield path


def quantize(
    model, output=None, *, bits=None, average_bits=None, max_size=None, max_drop=None, data=None, best_effort=False,
    plan=None, method="auto", granularity=None, keep=(), bits_for=None, correct=True, calibrate=None, samples=256,
    input_range=None, shape=None, resume=None, target=None, activation_ranges="auto", round_all_activations=False, effort="full",
    distill=None,
    report=None, rate=None, sparsity=None, sidecar=None, transform=None, metric=None, force=False, threads=None,
    progress=None,
):
    """Makes a model smaller.

    ``model`` is one of

    - a path, of any file that ``campana quantize`` takes. ``output`` is the path of the result; returns the
      :class:`Report`, a dict with the keys of ``campana quantize --json``.
    - an ``onnx.ModelProto``. Returns another.
    - a state dict: names to torch tensors or arrays. Returns a dict of the same names, shapes and types; weights
      (floats on two axes or more, the first that of the output channels) are what their codes decode to, and all else
      is the very object that was given. What bounds or calibrates needs a model that can run, not a state dict.

    The options are those of the command:

    - ``bits``: bits of a weight's code, a whole number from 1 to 8 (default: 4, or 8 for the targets ``"int8"`` and
      ``"tflite"``; in depthwise networks ``"auto"`` gives small tensors more); 4.0 is 4, and another fraction is
      ``average_bits``.
    - ``average_bits``: the average that is stored for a weight, 1 to 8, every tensor then getting the bits it needs.
    - ``max_size``: the largest size of the output, in bytes or as ``"3MB"``; every tensor gets the bits it needs.
    - ``max_drop``: the smallest output that loses at most this much top-1 accuracy: 0.01 or ``"1%"`` for one point of
      a hundred, never 1 or more; measured on ``data``, else estimated. ``data`` is a path of labelled images, or in
      memory as :func:`evaluate` takes it. With ``metric(outputs, labels)``, as of :func:`evaluate` and better where
      greater, it is what the metric loses at most.
    - ``best_effort``: whether to write the best that is found where a bound cannot be met, and only warn.
    - ``plan``: a path; with a bound, what became of each tensor is written there; without, read from there and applied.
    - ``method``: how levels are designed: ``"auto"``, ``"vq"``, ``"ks"``, ``"gaussian"``, ``"laplace"``, ``"ggd"``,
      ``"kmeans"``, ``"ecsq"``, ``"minmax"``, ``"mse"``, ``"aciq"``, ``"pwlq"``, ``"pot"``, ``"apot"`` or ``"nf"``.
    - ``granularity``: what shares a codebook or scale: ``"tensor"``, ``"channel"`` or ``"group=N"`` (default: channel
      for ``"auto"``, tensor for every other method).
    - ``keep``: a pattern of names of weights to leave as they are, or several.
    - ``bits_for``: a dict from patterns of names to bits; the last that matches counts.
    - ``correct``: whether to correct what quantization does to activations.
    - ``calibrate``: what to correct on, rather than on synthetic images; ``samples`` of them at most. A path of images
      or of arrays (``.npy``, ``.npz``), or data in memory: an array of samples as the model takes them; a dict of
      arrays by input; or an iterable of such, as a torch DataLoader, or of images of PIL, which are prepared as the
      sidecar says. Batches may be ``(inputs, labels)``; labels are not looked at. Arrays are taken from evenly, of an
      iterable the first samples. ``transform`` is called with what ``calibrate`` and ``data`` yield, batch by batch,
      and returns what is taken in its place.
    - ``input_range``: least and greatest value of the network's float inputs, where neither data nor a sidecar tell
      them: ``(0, 255)`` for bytes.
    - ``shape``: of inputs that the model leaves open, a tuple for the only one, ``(1, 3, 224, 224)``, or a dict from
      names to tuples; ``None`` or a name leaves an extent open.
    - ``resume``: a path; layers that the correction finished are kept there, and taken from there when the call is
      repeated after an interruption.
    - ``target``: ``"lut"``, ``"lut-uint4"``, ``"w4a8"``, ``"int8"``, ``"float"``, ``"campana"``, ``"tflite"``,
      ``"tflite-float"``, ``"tflm"``, ``"coreml"`` or ``"coreml-float32"`` (default: ``"campana"``, ``"tflite"`` or, of
      ``.mlpackage``, ``"coreml"`` for an output of that name, else ``"lut"``).
    - ``effort``: ``"full"``, or ``"quick"`` for a correction that leaves codes as they are and looks at few images.
    - ``distill``: how long to learn from the float network's answers after the correction, without labels: a number of
      steps, or a time such as ``"90s"`` or ``"5m"`` (default: not at all).
    - ``activation_ranges``: for ``"w4a8"`` and ``"int8"``, ``"minmax"``, ``"percentile"``, ``"mse"``, ``"entropy"``, or
      ``"auto"``: of the first three the one with the least error of the outputs, for sets of activations.
    - ``round_all_activations``: also the few whose rounding makes up most of the error of the outputs, and that stay
      floats otherwise.
    - ``report``: a path of an HTML page to write.
    - ``rate``: with ``target="campana"``, bits of a weight under the entropy coder, 0.1 to 8.
    - ``sparsity``: with ``target="campana"``, the least share of weights that becomes zero: 0.6 or ``"60%"``.
    - ``force``: whether the files that are written may exist already.

    ``sidecar`` is a dict that says how the images of a ModelProto are prepared, in the form of ``MODEL.json``.

    Raises :class:`BoundMissedError` where a bound cannot be met, and other subclasses of :class:`CampanaError`; then
    no output is left.
    """
    bits, average_bits = _widths(bits, average_bits)
    target = target or _target_of(output)
    samples, threads = whole(samples, "samples", 0), whole(threads, "threads", 0)
    keywords = dict(
        bits=bits, average_bits=average_bits, max_size=max_size, max_drop=max_drop, data=data, best_effort=best_effort,
        plan=path_of(plan, "plan"), method=method, granularity=granularity,
        keep=[keep] if isinstance(keep, str) else list(keep), bits_for=list((bits_for or {}).items()), correct=correct,
        calibrate=calibrate, samples=samples, input_range=input_range, shape=shapes_of(shape),
        resume=path_of(resume, "resume"), target=target, activation_ranges=activation_ranges,
        round_all_activations=round_all_activations, effort=effort,
        distill=None if distill is None else str(distill), report=path_of(report, "report"), rate=rate, sparsity=sparsity, force=force)
    in_memory = dict(metric=metric, transform=transform)

    if is_path(model):
        if output is None:
            raise ArgumentError("name the output: quantize(model, output)")
        with as_file(model, sidecar) as source:
            return _quantize_file(source, path_of(output, "output"), keywords, in_memory, threads, progress)
    if output is not None:
        raise ArgumentError("an output goes with the path of a model; otherwise the result is returned")
    if is_model_proto(model):
        if target == "campana":
            raise ArgumentError("target='campana' makes a container, which is a file; give paths")
        if target in ("tflite", "tflite-float", "tflm"):
            raise ArgumentError(f"target='{target}' makes a TFLite model, which is a file; give paths")
        if target in ("coreml", "coreml-float32"):
            raise ArgumentError(f"target='{target}' makes a Core ML package, which is a folder; give paths")
        with as_file(model, sidecar) as source:
            result = os.path.join(os.path.dirname(source), "smaller.onnx")
            _quantize_file(source, result, keywords, in_memory, threads, progress)
            smaller = type(model)()
            with open(result, "rb") as file:
                smaller.ParseFromString(file.read())
            return smaller
    if hasattr(model, "items"):
        return _quantize_state_dict(model, {**keywords, **in_memory}, sidecar, threads, progress)
    raise ArgumentTypeError(f"model must be a path, an onnx.ModelProto or a state dict, not {type(model).__name__}")


def _quantize_file(source, result, keywords, in_memory, threads, progress):
    keywords, metric = _with_data(source, keywords, **in_memory)
    report = json_of(_campana.quantize_file(source, result, keywords, metric, threads, progress))
    allocation = report.get("allocation")
    if allocation and not allocation["met"]:
        text = f"the bound ({allocation['bound']}) cannot be met; the best that was found has {report['output_bytes']} "
        text += f"bytes, {report['bits_per_weight']:.2f} bits a weight"
        if not allocation["written"]:
            raise BoundMissedError(f"{text}, and is not written; best_effort=True writes it", report)
        warnings.warn(text, stacklevel=3)
    return report


def _with_data(source, keywords, metric, transform):
    """The keywords with the arrays of data in memory, and what measures a drop on such."""
    calibrate, data = keywords["calibrate"], keywords["data"]
    reads = [value for value in (calibrate, data) if value is not None and not is_path(value)]
    if transform is not None and not reads:
        raise ArgumentError("transform is for data in memory: add calibrate or data")
    if metric is not None and (data is None or is_path(data) or keywords["max_drop"] is None):
        raise ArgumentError("metric is what max_drop is measured by on data in memory: add max_drop and data")
    keywords = {name: path_of(value, name) if is_path(value) and name in ("calibrate", "data") else value
                for name, value in keywords.items()}
    if not reads:
        return keywords, None
    types, shapes = _campana.model_inputs(source, keywords["shape"])
    reader = Reader(shapes, types, lambda image: prepared(image, preparation(source)), transform)
    if calibrate is not None and not is_path(calibrate):
        if keywords["samples"] == 0:
            raise ArgumentError("samples must be 1 or more")
        keywords["calibrate"] = list(reader.gathered(calibrate, keywords["samples"])[0].items())
    if data is None or is_path(data):
        return keywords, None
    if keywords["max_drop"] is None:
        raise ArgumentError("data is what max_drop is measured on: add max_drop")
    from ._evaluate import measure

    return {**keywords, "data": None}, measure(reader, shapes, data, metric)


def _quantize_state_dict(state, keywords, sidecar, threads, progress):
    for name in ("average_bits", "max_size", "max_drop", "data", "plan", "calibrate", "input_range", "shape", "resume",
                 "distill", "report", "rate", "sparsity", "metric", "transform"):
        if keywords[name] is not None and not (name == "shape" and keywords[name] == []):
            raise ArgumentError(f"{name} needs a model that can run, not a state dict")
    if sidecar is not None or keywords["best_effort"]:
        raise ArgumentError("a sidecar and best_effort need a model that can run, not a state dict")
    if keywords["target"] not in ("lut", "float"):
        raise ArgumentError(f"target='{keywords['target']}' is a form of files; a state dict holds decoded weights")
    for name in "metric", "transform":
        del keywords[name]
    names, given = _arrays(state)
    changed = _campana.quantize_arrays(given, {**keywords, "target": "float"}, threads, progress)
    result = dict(state)
    for name, (_, shape, _, _), values in zip(names, given, changed):
        if values is not None:
            result[name] = _like(values.reshape(shape), state[name])
    return result


def inspect(model, *, html=None, bits=4, force=False, threads=None, progress=None):
    """How the weights of a model are distributed.

    ``model`` is a path, an ``onnx.ModelProto`` or a state dict, as :func:`quantize` takes them. Returns a list with a
    dict for each weight tensor, as ``pandas.DataFrame`` takes it; the keys are those of ``campana inspect --json``,
    with ``name``, ``op`` and ``shape`` beside those of :func:`fit`.

    ``html`` is the path of a page to write with the histograms, densities and levels at ``bits`` bits; ``force`` lets
    it be overwritten.
    """
    bits, threads = whole(bits, "bits", 0), whole(threads, "threads", 0)
    if is_path(model) or is_model_proto(model):
        with as_file(model) as path:
            text = _campana.inspect_file(path, path_of(html, "html"), bits, bool(force), threads, progress)
    elif hasattr(model, "items"):
        if html is not None:
            raise ArgumentError("a page is written of files; html goes with a path")
        text = _campana.inspect_arrays(_arrays(model)[1], threads, progress)
    else:
        raise ArgumentTypeError(f"model must be a path, an onnx.ModelProto or a state dict, not {type(model).__name__}")
    return json.loads(text)["tensors"]


def _widths(bits, average):
    """One width for every tensor, and the average of widths; a fraction of bits is such an average."""
    if not isinstance(bits, int) and hasattr(bits, "is_integer"):
        if bits.is_integer():
            return int(bits), average
        if average is None:
            return None, float(bits)
    return bits, average


def shapes_of(shape):
    """Pairs of an input's name, None for the only one, and its extents."""
    if shape is None:
        return []
    if hasattr(shape, "items"):
        return [(name, list(extents)) for name, extents in shape.items()]
    return [(None, list(shape))]


def _target_of(output):
    """The form that the name of an output asks for."""
    ending = os.path.splitext(os.fsdecode(output))[1].lower() if is_path(output) else ""
    return {".campana": "campana", ".tflite": "tflite", ".mlpackage": "coreml"}.get(ending, "lut")


def _arrays(state):
    """Of the floats of a state dict: the keys, and what the native side takes."""
    keys, given = [], []
    for key, value in state.items():
        array, element_bytes = _array(value)
        if array is not None:
            keys.append(key)
            given.append((str(key), list(array.shape), element_bytes, floats(array, key).reshape(-1)))
    return keys, given


def _array(value):
    """A torch tensor or array of floats as an array, and the bytes of its elements; None for all else."""
    if isinstance(value, np.ndarray) and is_float(value.dtype):
        return value, value.itemsize
    if hasattr(value, "detach") and value.is_floating_point():
        return value.detach().cpu().float().numpy(), value.element_size()
    return None, 0


def _like(array, original):
    """The array with the type, and if it is a tensor the place, of another."""
    if isinstance(original, np.ndarray):
        return array.astype(original.dtype, copy=False)
    import torch

    return torch.from_numpy(array).to(dtype=original.dtype, device=original.device)
