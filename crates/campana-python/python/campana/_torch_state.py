"""Constants of a graph back in the parameters and buffers that they were exported from."""

import itertools

import numpy as np
import torch

from ._data import as_array
from .errors import UnsupportedError


def state_of(module):
    """The tensors of floats that a module holds, each once: pairs of all its names and the tensor."""
    names, tensors = {}, {}
    named = itertools.chain(module.named_parameters(remove_duplicate=False),
                            module.named_buffers(remove_duplicate=False))
    for name, tensor in named:
        if tensor.is_floating_point():
            names.setdefault(id(tensor), []).append(name)
            tensors[id(tensor)] = tensor
    return [(names[key], tensor) for key, tensor in tensors.items()]


def put_back(module, before, after, aliases):
    """Gives a module what quantization made of its constants.

    ``before`` and ``after`` are the constants of the graph by name, and ``aliases`` other names that they have.
    """
    changed = {name for name, values in before.items() if not _is_equal(values, after.get(name))}
    state = state_of(module)
    places = _places(state, before, changed, aliases)
    homeless = sorted(changed - {source for sources in places.values() for source, _ in sources})
    if homeless:
        raise UnsupportedError(
            f"quantization changes '{homeless[0]}' of the exported graph, which is neither a parameter nor a buffer of "
            f"the module: keep=['{homeless[0]}'] leaves it as it is, and correct=False what is no weight")
    for (names, tensor), sources in ((state[position], places[position]) for position in sorted(places)):
        if changed.isdisjoint(source for source, _ in sources):
            continue
        first, *others = [after[source].transpose(axes) for source, axes in sources]
        if not all(_is_equal(first, other) for other in others):
            raise UnsupportedError(
                f"'{names[0]}' is several tensors of the exported graph ({', '.join(s for s, _ in sources)}), which "
                f"quantization makes different: keep=['{sources[0][0]}', ..] leaves them as they are")
        with torch.no_grad():
            tensor.copy_(_tensor(first))


def _places(state, before, changed, aliases):
    """Which constants each tensor of the state became, by its position: their names, and the axes that make the tensor
    of the constant. Names count first, then values."""
    places, nameless = {}, {}
    for position, (names, tensor) in enumerate(state):
        array = as_array(tensor)
        sources = {aliases.get(name, name) for name in names}
        found = [(source, tuple(range(array.ndim))) for source in sorted(sources)
                 if source in before and _is_equal(before[source], array)]
        if found:
            places[position] = found
        else:
            nameless[position] = array
    claimed = {source for sources in places.values() for source, _ in sources}
    # Most graphs have names for all.
    for source in sorted(before.keys() - claimed) if changed - claimed else []:
        for position, array in nameless.items():
            axes = axes_between(before[source], array)
            if axes is not None:
                places.setdefault(position, []).append((source, axes))
    return places


def axes_between(source, target):
    """The permutation of axes that makes one array of another, None where there is none."""
    if sorted(source.shape) != sorted(target.shape):
        return None
    for axes in itertools.permutations(range(source.ndim)):
        if tuple(source.shape[axis] for axis in axes) == target.shape and _is_equal(source.transpose(axes), target):
            return axes
    return None


def _is_equal(one, other):
    """Whether arrays have the same values; torch has bfloat16 as float32, which holds all of them."""
    return (other is not None and one.shape == other.shape
            and np.array_equal(one, other.astype(one.dtype, copy=False), equal_nan=True))


def _tensor(array):
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array, order="C"))
