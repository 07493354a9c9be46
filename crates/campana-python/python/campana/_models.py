"""Models in files, in memory and as dicts of weights."""

import contextlib
import json
import os
import tempfile
import warnings

import numpy as np

from . import _campana
from ._arrays import floats, is_float
from .errors import ArgumentError, BoundMissedError


def is_path(value):
    """Whether a value is a path."""
    return isinstance(value, (str, os.PathLike))


def is_model_proto(value):
    """Whether a value is an ``onnx.ModelProto``, without a need for the package ``onnx``."""
    return hasattr(value, "SerializeToString") and hasattr(value, "graph")


@contextlib.contextmanager
def as_file(model, sidecar=None):
    """The path of a model: its own, or that of a copy of a ModelProto while the context lasts."""
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
    model, output=None, *, bits=None, max_size=None, max_drop=None, data=None, best_effort=False, plan=None,
    method="auto", granularity=None, keep=(), bits_for=None, correct=True, calibrate=None, samples=256, resume=None,
    target="lut", activation_ranges="mse", effort="full", report=None, rate=None, sparsity=None, sidecar=None, force=False,
    threads=None, progress=None,
):
    """Makes a model smaller.

    ``model`` is one of

    - a path, of any file that ``campana quantize`` takes. ``output`` is the path of the result; returns the report, a
      dict with the keys of ``campana quantize --json``.
    - an ``onnx.ModelProto``. Returns another.
    - a state dict: names to torch tensors or arrays. Returns a dict of the same names, shapes and types; weights
      (floats on two axes or more, the first that of the output channels) are what their codes decode to, and all else
      is the very object that was given. What bounds or calibrates needs a model that can run, not a state dict.

    The options are those of the command:

    - ``bits``: bits of a weight's code, a whole number from 1 to 8 (default: 4, or 8 for the target ``"int8"``;
      in depthwise networks ``"auto"`` gives small tensors more); or,
      as a float (3.2, 3.0), the average that is stored for a weight, every tensor then getting the bits it needs.
    - ``max_size``: the largest size of the output, in bytes or as ``"3MB"``; every tensor gets the bits it needs.
    - ``max_drop``: the smallest output that loses at most this much top-1 accuracy, as a share below 1 or as ``"1%"``;
      measured on ``data``, a path of labelled images, else estimated.
    - ``best_effort``: whether to write the best that is found where a bound cannot be met, and only warn.
    - ``plan``: a path; with a bound, what became of each tensor is written there; without, read from there and applied.
    - ``method``: how levels are designed: ``"auto"``, ``"ks"``, ``"gaussian"``, ``"laplace"``, ``"ggd"``,
      ``"kmeans"``, ``"ecsq"``, ``"minmax"``, ``"mse"``, ``"aciq"``, ``"pwlq"``, ``"pot"``, ``"apot"`` or ``"nf"``.
    - ``granularity``: what shares a codebook or scale: ``"tensor"``, ``"channel"`` or ``"group=N"`` (default: channel
      for ``"auto"``, tensor for every other method).
    - ``keep``: a pattern of names of weights to leave as they are, or several.
    - ``bits_for``: a dict from patterns of names to bits; the last that matches counts.
    - ``correct``: whether to correct what quantization does to activations.
    - ``calibrate``: a path of images to correct on, rather than on synthetic ones; ``samples`` of them at most.
    - ``resume``: a path; layers that the correction finished are kept there, and taken from there when the call is
      repeated after an interruption.
    - ``target``: ``"lut"``, ``"lut-uint4"``, ``"w4a8"``, ``"int8"``, ``"float"`` or ``"campana"``.
    - ``effort``: ``"full"``, or ``"quick"`` for a correction that leaves codes as they are and looks at few images.
    - ``activation_ranges``: for ``"w4a8"`` and ``"int8"``, ``"minmax"``, ``"percentile"``, ``"mse"`` or ``"entropy"``.
    - ``report``: a path of an HTML page to write.
    - ``rate``: with ``target="campana"``, bits of a weight under the entropy coder, 0.1 to 8.
    - ``sparsity``: with ``target="campana"``, the least share of weights that becomes zero: 0.6 or ``"60%"``.
    - ``force``: whether the files that are written may exist already.

    ``sidecar`` is a dict that says how the images of a ModelProto are prepared, in the form of ``MODEL.json``.

    Raises :class:`BoundMissedError` where a bound cannot be met, and other subclasses of :class:`CampanaError`; then
    no output is left.
    """
    keywords = dict(
        bits=bits, max_size=max_size, max_drop=max_drop, data=_path(data), best_effort=best_effort, plan=_path(plan),
        method=method, granularity=granularity, keep=[keep] if isinstance(keep, str) else list(keep),
        bits_for=list((bits_for or {}).items()), correct=correct, calibrate=_path(calibrate), samples=samples,
        resume=_path(resume), target=target, activation_ranges=activation_ranges, effort=effort, report=_path(report), rate=rate, sparsity=sparsity,
        force=force)

    if is_path(model):
        if output is None:
            raise ArgumentError("name the output: quantize(model, output)")
        with as_file(model, sidecar) as source:
            return _quantize_file(source, os.fspath(output), keywords, threads, progress)
    if output is not None:
        raise ArgumentError("an output goes with the path of a model; otherwise the result is returned")
    if is_model_proto(model):
        if target == "campana":
            raise ArgumentError("target='campana' makes a container, which is a file; give paths")
        with as_file(model, sidecar) as source:
            result = os.path.join(os.path.dirname(source), "smaller.onnx")
            _quantize_file(source, result, keywords, threads, progress)
            smaller = type(model)()
            with open(result, "rb") as file:
                smaller.ParseFromString(file.read())
            return smaller
    if hasattr(model, "items"):
        return _quantize_state_dict(model, keywords, sidecar, threads, progress)
    raise ArgumentError(f"model must be a path, an onnx.ModelProto or a state dict, not {type(model).__name__}")


def _quantize_file(source, result, keywords, threads, progress):
    report = json.loads(_campana.quantize_file(source, result, keywords, threads, progress))
    allocation = report.get("allocation")
    if allocation and not allocation["met"]:
        text = f"the bound ({allocation['bound']}) cannot be met; the best that was found has {report['output_bytes']} "
        text += f"bytes, {report['bits_per_weight']:.2f} bits a weight"
        if not allocation["written"]:
            raise BoundMissedError(f"{text}, and is not written; best_effort=True writes it", report)
        warnings.warn(text, stacklevel=3)
    return report


def _quantize_state_dict(state, keywords, sidecar, threads, progress):
    for name in "max_size", "max_drop", "data", "plan", "calibrate", "resume", "report", "rate", "sparsity":
        if keywords[name] is not None:
            raise ArgumentError(f"{name} needs a model that can run, not a state dict")
    if sidecar is not None or keywords["best_effort"] or isinstance(keywords["bits"], float):
        raise ArgumentError("a sidecar, best_effort and an average of bits need a model that can run, not a state dict")
    if keywords["target"] not in ("lut", "float"):
        raise ArgumentError(f"target='{keywords['target']}' is a form of files; a state dict holds decoded weights")
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
    if is_path(model) or is_model_proto(model):
        with as_file(model) as path:
            text = _campana.inspect_file(path, _path(html), bits, force, threads, progress)
    elif hasattr(model, "items"):
        if html is not None:
            raise ArgumentError("a page is written of files; html goes with a path")
        text = _campana.inspect_arrays(_arrays(model)[1], threads, progress)
    else:
        raise ArgumentError(f"model must be a path, an onnx.ModelProto or a state dict, not {type(model).__name__}")
    return json.loads(text)["tensors"]


def evaluate(models, data, *, reference=None, limit=None, batch=16, threads=None, progress=None):
    """How often models are right on labelled images.

    ``models`` is a path or several, each with its sidecar ``MODEL.json`` beside it (the reference's
    serves those without); ``data`` the path of what
    ``campana evaluate --data`` takes. ``reference`` is a model whose answers the others are compared with, ``limit``
    the number of images to look at, ``batch`` how many go through a network at once.

    Returns a dict with the keys of ``campana evaluate --json``: ``n``, and for each of ``models`` ``top1``, ``top5``
    and ``agreement``, fractions of 1, and ``images_per_s``. Images that cannot be read are skipped with a warning.
    """
    models = [models] if is_path(models) else list(models)
    return json.loads(_campana.evaluate_files(
        [os.fspath(model) for model in models], os.fspath(data), _path(reference), limit, batch, threads, progress))


def _path(value):
    return None if value is None else os.fspath(value)


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
