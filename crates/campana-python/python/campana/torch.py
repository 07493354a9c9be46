"""Quantization of torch modules; needs torch, and :func:`quantize` what torch exports ONNX with."""

import copy
import json
import os
import tempfile
from typing import NamedTuple

import torch

from ._models import quantize as _quantize
from ._report import Report
from .errors import ArgumentTypeError, UnsupportedError

__all__ = ["Quantized", "quantize", "quantize_"]


class Quantized(NamedTuple):
    """What :func:`quantize` returns: the module and the report on it."""

    module: torch.nn.Module
    report: Report


def quantize(
    module, example_input, *, bits=None, average_bits=None, max_size=None, max_drop=None, data=None, best_effort=False,
    plan=None, method="auto", granularity=None, keep=(), bits_for=None, correct=True, calibrate=None, samples=256,
    input_range=None, sidecar=None, resume=None, effort="full", distill=None, report=None, transform=None, metric=None,
    force=False, dynamo=False, tolerance=None, threads=None, progress=None,
):
    """Quantizes a copy of a module, and corrects what that does to activations.

    Exports the module to ONNX in evaluation mode, quantizes that as :func:`campana.quantize` does with
    ``target="lut"``, and puts what codes decode to, corrected normalizations and corrected biases into a copy of the
    module, which then computes in floats what the quantized ONNX model computes. The module itself stays as it is; the
    copy has its mode (training or evaluation), types and tied parameters.

    ``example_input`` is what the module is called with: a tensor, a tuple of positional arguments or a dict of
    arguments by name. Its shapes are those of the exported graph, where correction happens.

    Returns a named tuple, as torch's own functions with two results do: ``module, report = quantize(..)``. The
    :class:`campana.Report` is that of :func:`campana.quantize`, with sizes of the ONNX models. Its key ``"module"``
    has the names of ``"changed"`` and of ``"unchanged"`` parameters and buffers of floats, and ``"difference"``, the
    largest relative difference of an output from the quantized ONNX model's.

    The options are those of :func:`campana.quantize`; names in ``keep`` and ``bits_for`` are those of
    ``module.named_parameters()``, names of inputs those of the arguments of ``forward``. ``sidecar`` says how images
    are prepared, in the form of ``MODEL.json``; without it and without ``calibrate``, ``input_range`` says what the
    inputs are like. Beside them:

    - ``dynamo``: which of torch's exporters to take: that of ``torch.export``, which needs the package ``onnxscript``,
      or that of TorchScript, whose files are smaller.
    - ``tolerance``: the largest relative difference of an output, the norm of the differences by the norm of the
      output, on the example, of the export and of the result (default: 3e-4, or for float16 16 units in the last
      place); ``math.inf`` leaves the comparison out.

    Raises :class:`UnsupportedError` where torch cannot export the module, where what changed has no place in it, or
    where outputs do not agree; and what :func:`campana.quantize` raises.
    """
    from ._torch_agreement import Agreement
    from ._torch_export import Example, export
    from ._torch_normalizations import Normalizations

    _check(module)
    options = dict(
        bits=bits, average_bits=average_bits, max_size=max_size, max_drop=max_drop, data=data, best_effort=best_effort,
        plan=plan, method=method, granularity=granularity, keep=keep, bits_for=bits_for, correct=correct,
        calibrate=calibrate, samples=samples, input_range=input_range, resume=resume, effort=effort, distill=distill,
        report=report, transform=transform, metric=metric, force=force, threads=threads, progress=progress)
    example = Example(module, example_input)
    result = _copy(module)
    modes = [(part, part.training) for part in result.modules()]
    result.eval()
    normalizations = Normalizations(result)
    example.try_on(result)
    agreement = Agreement(example, tolerance, threads)
    with tempfile.TemporaryDirectory(prefix="campana-") as folder:
        exported, quantized = os.path.join(folder, "model.onnx"), os.path.join(folder, "quantized.onnx")
        export(result, example, exported, bool(dynamo))
        agreement.check(result, exported, "its export to ONNX, before quantization,")
        if sidecar is not None:
            with open(os.path.join(folder, "model.json"), "w", encoding="utf-8") as file:
                json.dump(sidecar, file)
        summary = _quantize(exported, quantized, target="lut", **options)
        _put_back(result, exported, quantized)
        normalizations.restore()
        difference = agreement.check(result, quantized, "the quantized ONNX model")
    for part, training in modes:
        part.training = training
    summary["input"] = summary["output"] = type(module).__name__
    summary["module"] = {**_compared(module, result), "difference": difference}
    return Quantized(result, summary)


def quantize_(
    module, *, bits=None, method="auto", granularity=None, keep=(), bits_for=None, threads=None, progress=None
):
    """Replaces the weights of a module by what codes of ``bits`` bits (default: 4) decode to, and returns the module.

    Weights are parameters of floats on two axes or more, the first that of the output channels. The options are those
    of :func:`campana.quantize`; names are those of ``module.named_parameters()``. No graph is known here, so nothing
    is corrected: at 4 bits and fewer :func:`quantize` loses less.
    """
    parameters = dict(module.named_parameters())
    changed = _quantize(
        parameters, bits=bits, method=method, granularity=granularity, keep=keep, bits_for=bits_for, threads=threads,
        progress=progress)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if changed[name] is not parameter:
                parameter.copy_(changed[name])
    return module


def _check(module):
    """Refuses what is no module, or one whose tensors campana does not take."""
    if not isinstance(module, torch.nn.Module):
        raise ArgumentTypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError("module is a ScriptModule; give the module that it was made of")
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point() and parameter.dtype not in (torch.float32, torch.float16):
            raise UnsupportedError(f"'{name}' is {parameter.dtype}; quantize module.float(), and convert the result")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.device.type != "cpu":
            raise UnsupportedError(
                f"'{name}' is on {tensor.device}; quantize module.cpu(), and move the result to the device")


def _copy(module):
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise UnsupportedError(f"copy.deepcopy cannot copy the module ({type(module).__name__}): {error}") from error


def _put_back(module, exported, quantized):
    """Puts what a quantized model has of a module's parameters and buffers into it."""
    import onnx

    from ._torch_graph import aliases, decoded, float_constants
    from ._torch_state import put_back

    graph = onnx.load(exported)
    before = float_constants(graph)
    put_back(module, before, decoded(onnx.load(quantized), before), aliases(graph))


def _compared(module, result):
    """The names of tensors of floats that have other values in the result, and of those that have not."""
    from ._torch_state import state_of

    names = {"changed": [], "unchanged": []}
    for (own, tensor), (_, other) in zip(state_of(module), state_of(result)):
        names["unchanged" if torch.equal(tensor, other) else "changed"].extend(own)
    return names
