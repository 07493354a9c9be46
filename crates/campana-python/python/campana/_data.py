"""Data in memory, in the forms that Python has it, as models take it."""

import collections.abc
import operator
import os

import numpy as np

from .errors import ArgumentError, ArgumentTypeError

#: Keys of a dict of inputs that hold labels, where the model has no input of that name.
_LABELS = ("label", "labels")


def is_path(value):
    """Whether a value is a path."""
    return isinstance(value, (str, os.PathLike))


def path_of(value, name):
    """A path, None where there is none."""
    if value is None or is_path(value):
        return None if value is None else os.fspath(value)
    raise ArgumentTypeError(f"{name} must be a path, not {type(value).__name__}")


def whole(value, name, least=1):
    """A whole number, None where there is none."""
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(f"{name} must be a whole number, not {type(value).__name__}") from None
    if not least <= number < 2**31:
        raise ArgumentError(f"{name} must be {least} or more, not {number}")
    return number


def is_image(value):
    """Whether a value is an image of PIL, without a need for it."""
    return hasattr(value, "mode") and callable(getattr(value, "convert", None))


def as_array(value):
    """A torch tensor or anything that NumPy takes as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        return value.numpy()
    return np.asarray(value)


def converted(name, array, dtype):
    """An array in the type that an input declares, where nothing but precision is lost."""
    dtype = np.dtype(dtype or array.dtype)
    if array.dtype == dtype or (array.dtype.kind == "f" and dtype.kind == "f"):
        return np.require(array, dtype, ["C", "A"])
    holds = np.can_cast(array.dtype, dtype)
    if not holds and array.dtype.kind in "iu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        holds = not array.size or (limits.min <= int(array.min()) and int(array.max()) <= limits.max)
    elif array.dtype.kind in "iu" and dtype.kind == "f":
        # Such as pixels: exact as far as the float's digits go.
        holds = True
    if not holds:
        raise ArgumentError(f"input '{name}' must be an array of {dtype}, not of {array.dtype}")
    return np.require(array, dtype, ["C", "A"])


class Reader:
    """Reads data for the inputs of a model.

    ``shapes`` and ``types`` are what the model declares of each input by its name; ``prepare`` makes an array of an
    image.
    """

    def __init__(self, shapes, types, prepare, transform=None):
        self.shapes, self.types = shapes, dict(types)
        self._prepare, self._transform = prepare, transform

    def batches(self, data):
        """Pairs of arrays by input, samples along the first axis, and their labels or None."""
        if isinstance(data, tuple) and len(data) == 2 and _are_labels(data[1]):
            data = _Whole(*data)
        elif hasattr(data, "items") or hasattr(data, "__array__") or is_image(data):
            data = _Whole(data, None)
        if isinstance(data, _Whole):
            yield self._item(data.inputs if self._transform is None else self._transform(data.inputs), data.labels)
            return
        if not isinstance(data, collections.abc.Iterable):
            # What has no __iter__ may count on from 0, as torch's datasets do.
            if not hasattr(data, "__getitem__"):
                raise ArgumentTypeError(
                    "data must be a path, arrays, a dict of arrays by input, or an iterable of batches, "
                    f"not {type(data).__name__}")
        elif isinstance(data, (bytes, bytearray)):
            raise ArgumentTypeError("data must be arrays, not bytes")
        for item in data:
            yield self._item(item if self._transform is None else self._transform(item), None)

    def _item(self, item, labels):
        if isinstance(item, (tuple, list)):
            item, labels = self._parted(item, labels)
        if hasattr(item, "items"):
            item = dict(item.items())
            for key in _LABELS:
                if key in item and key not in self.shapes:
                    labels = item.pop(key)
            given = item
        elif len(self.shapes) == 1:
            given = {next(iter(self.shapes)): item}
        else:
            raise ArgumentError(
                f"the model has the inputs {_names(self.shapes)}; give a dict of arrays by these names")
        return self._named(given, labels)

    def _parted(self, item, labels):
        """Inputs and labels of what a DataLoader gives."""
        inputs = list(self.shapes)
        if all(is_image(part) for part in item) and len(inputs) == 1:
            return np.stack([self._image(image) for image in item]), labels
        if len(item) == len(inputs) + 1:
            *item, labels = item
        if len(item) != len(inputs):
            raise ArgumentError(
                f"a batch of {len(item)} parts fits neither the inputs {_names(inputs)} nor these and labels; "
                "transform= makes arrays or dicts of batches")
        return dict(zip(inputs, item)), labels

    def _image(self, image):
        return self._prepare(image)

    def _named(self, given, labels):
        missing = [name for name in self.shapes if name not in given]
        unknown = [name for name in given if name not in self.shapes]
        if missing or unknown:
            raise ArgumentError(
                f"the model has the inputs {_names(self.shapes)}, the data {_names(given)}")
        arrays, is_single = {}, False
        for name, value in given.items():
            value = self._image(value) if is_image(value) else as_array(value)
            array = converted(name, value, self.types.get(name))
            shape = self.shapes[name]
            if shape is not None and array.ndim == len(shape) - 1:
                array, is_single = array[None], True
            arrays[name] = array
        if labels is not None:
            labels = as_array(labels)
            labels = labels[None] if is_single and labels.ndim == 0 else labels
        return arrays, labels

    def gathered(self, data, most=None):
        """All arrays, one for each input, and all labels or None; data that come in batches are read until there are
        ``most`` samples."""
        parts, labels, count = [], [], 0
        for arrays, own in self.batches(data):
            parts.append(arrays)
            labels.append(own)
            count += samples_of(arrays)
            if most is not None and count >= most:
                break
        if not count:
            raise ArgumentError("the data hold no sample")
        joined = {name: _joined(name, [part[name] for part in parts]) for name in self.shapes}
        if any(own is None for own in labels):
            return joined, None
        return joined, _joined("the labels", labels)


class _Whole:
    """Data that are no sequence of batches."""

    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs, labels


def _are_labels(value):
    """Whether a value is labels beside arrays: whole numbers along one axis, or none."""
    if is_image(value) or hasattr(value, "items"):
        return False
    if not (hasattr(value, "__array__") or isinstance(value, (list, tuple))):
        return False
    try:
        array = as_array(value)
    except (ValueError, TypeError):
        return False
    return array.ndim == 1 and array.dtype.kind in "iu"


def samples_of(arrays):
    """The number of samples of arrays by input."""
    counts = {len(array) for array in arrays.values() if array.ndim}
    return max(counts, default=0)


def _joined(name, parts):
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = sorted({part.shape[1:] for part in parts})
        raise ArgumentError(f"batches of {name} have samples of different shapes: {shapes}")
    return np.concatenate(parts)


def _names(values):
    return ", ".join(f"'{name}'" for name in values) or "none"
