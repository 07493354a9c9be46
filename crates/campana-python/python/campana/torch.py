"""Quantization of torch modules in place; needs torch."""

import torch

from ._models import quantize


def quantize_(
    module, *, bits=None, method="auto", granularity=None, keep=(), bits_for=None, threads=None, progress=None
):
    """Replaces the weights of a module by what codes of ``bits`` bits (default: 4) decode to, and returns the module.

    Weights are parameters of floats on two axes or more, the first that of the output channels. The options are those
    of :func:`campana.quantize`; names are those of ``module.named_parameters()``. No graph is known here, so nothing
    is corrected: at 4 bits and fewer the way by ONNX loses less.
    """
    parameters = dict(module.named_parameters())
    changed = quantize(
        parameters, bits=bits, method=method, granularity=granularity, keep=keep, bits_for=bits_for, threads=threads,
        progress=progress)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if changed[name] is not parameter:
                parameter.copy_(changed[name])
    return module
