"""Fits, designs and codes of arrays."""

import json

import numpy as np

from . import _campana
from ._data import whole
from .errors import ArgumentError, ArgumentTypeError


def is_float(dtype):
    """Whether a type is one of floats; NumPy itself does not know ``bfloat16``."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def floats(array, name="array"):
    """The array as row-major float32, copied only where it is not that already."""
    array = np.asarray(array)
    if not is_float(array.dtype):
        raise ArgumentError(f"{name} must hold floats, not {array.dtype}; convert it with .astype('float32')")
    with np.errstate(over="ignore"):
        return np.require(array, np.float32, ["C", "A"])


def fit(array, *, threads=None):
    """How an array of floats, of any shape, is distributed.

    Returns a dict with the keys that ``campana inspect --json`` has for a tensor: ``count``, ``shape``, ``mean``,
    ``std``, ``kurtosis``, ``min``, ``max``, ``outliers``; ``d_gaussian``, ``d_laplace`` and ``d_ggd``, the
    Kolmogorov-Smirnov distances (0 to 1) of the fits of each family; ``family``, the nearer of Gaussian and Laplace;
    ``gaussian`` and ``laplace`` (location, scale) and ``ggd`` (location, scale, shape); and ``predicted_sqnr_db``, by
    bits.

    Raises :class:`ArgumentError` for an array that is empty, does not hold floats, or holds NaN or infinity.
    """
    array = floats(array)
    return json.loads(_campana.fit(array.reshape(-1), list(array.shape), whole(threads, "threads", 0)))


class Codebook:
    """The ordered levels of a scalar quantizer.

    ``levels`` are 1 to 256 finite floats, ascending.
    """

    def __init__(self, levels):
        self._native = _campana.Codebook(floats(levels, "levels").reshape(-1))

    @classmethod
    def _of(cls, native):
        codebook = cls.__new__(cls)
        codebook._native = native
        return codebook

    @property
    def levels(self):
        """The levels, ascending: float32, shape ``[levels]``."""
        return self._native.levels

    @property
    def thresholds(self):
        """The decision thresholds between the levels: float32, shape ``[levels - 1]``."""
        return self._native.thresholds

    def assign(self, array):
        """The code of the level that is nearest to each value, on a tie the lower; NaN gets code 0.

        Takes floats of any shape; returns uint8 of that shape.
        """
        array = floats(array)
        return self._native.assign(array.reshape(-1)).reshape(array.shape)

    def dequantize(self, codes):
        """The level of each code.

        Takes uint8 of any shape; returns float32 of that shape. Raises :class:`ArgumentError` for a code that has no
        level.
        """
        codes = np.asarray(codes)
        if codes.dtype != np.uint8:
            raise ArgumentError(f"codes must be uint8, as assign gives them, not {codes.dtype}")
        codes = np.require(codes, requirements=["C", "A"])
        return self._native.dequantize(codes.reshape(-1)).reshape(codes.shape)

    def __len__(self):
        return len(self._native)

    def __repr__(self):
        return f"Codebook({self.levels.tolist()})"

    def __reduce__(self):
        return _codebook, (self.levels, self.thresholds)


def _codebook(levels, thresholds):
    return Codebook._of(_campana.Codebook.with_thresholds(levels, thresholds))


def design(array, bits=4, method="kmeans", *, threads=None):
    """The codebook that a method designs for an array of floats, of any shape.

    ``bits`` is 1 to 8, and the codebook has ``2 ** bits`` levels at most. ``method`` is any that ``campana quantize``
    has but ``auto`` and ``vq``: ``"kmeans"`` is the least squared error that there is. For ``"ecsq"`` it is the entropy of the
    codes that is at most ``bits``: there are up to 256 levels, and the thresholds are not the midpoints between them.

    Raises :class:`ArgumentError` for an array that is empty, does not hold floats, or holds NaN or infinity.
    """
    if not isinstance(method, str):
        raise ArgumentTypeError(f"method must be a name, not {type(method).__name__}")
    bits, threads = whole(bits, "bits", 0), whole(threads, "threads", 0)
    return Codebook._of(_campana.design(floats(array).reshape(-1), bits, method, threads))
