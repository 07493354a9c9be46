"""Batch normalizations of torch, to which the correction does more than change values.

It merges statistics into scale and bias, which leaves a mean of 0 and a variance of 1::

    y = scale * x / sqrt(1 + e) + bias

That is the same function in evaluation. But in training, where batches have the statistics, the scale would miss them,
and a normalization that has no scale and no bias has nothing to merge into.
"""

import torch


class Normalizations:
    """The batch normalizations of a module that have statistics, as they are before the correction.

    Those without scale and bias get some for as long as the correction lasts.
    """

    def __init__(self, module):
        self._plain, self._affine = [], []
        for part in module.modules():
            if not isinstance(part, torch.nn.modules.batchnorm._BatchNorm) or part.running_mean is None:
                continue
            if part.weight is None and part.bias is None:
                part.weight = torch.nn.Parameter(torch.ones_like(part.running_var))
                part.bias = torch.nn.Parameter(torch.zeros_like(part.running_mean))
                self._plain.append(part)
            elif part.weight is not None and part.bias is not None:
                self._affine.append((part, part.running_mean.double().clone(), part.running_var.double().clone()))

    def restore(self):
        """Gives each the parameters that it had, with values for the same function.

        In training the scale then is what it was before the correction, but for what this changed.
        """
        with torch.no_grad():
            for part, mean, variance in self._affine:
                if _is_merged(part) and not _is_standard(mean, variance):
                    gain, offset = _function(part)
                    part.bias.copy_(offset + mean * gain)
                    part.weight.copy_(gain * torch.sqrt(variance + part.eps))
                    part.running_mean.copy_(mean)
                    part.running_var.copy_(variance)
            for part in self._plain:
                gain, offset = _function(part)
                if not _is_standard(part.bias, part.weight):
                    part.running_mean.copy_(-offset / gain)
                    part.running_var.copy_((gain**-2 - part.eps).clamp(min=0))
                part.weight = part.bias = None


def _is_standard(zeros, ones):
    return bool((zeros == 0).all() and (ones == 1).all())


def _is_merged(part):
    return _is_standard(part.running_mean, part.running_var)


def _function(part):
    """What a normalization multiplies with and adds."""
    gain = part.weight.double() / torch.sqrt(part.running_var.double() + part.eps)
    return gain, part.bias.double() - part.running_mean.double() * gain
