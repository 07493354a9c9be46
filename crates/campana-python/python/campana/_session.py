"""Models that run."""

import numpy as np

from . import _campana
from .errors import ArgumentError
from ._models import as_file, is_model_proto, is_path


class Session:
    """A model, float or quantized, that runs in campana's own engine.

    ``model`` is the path of an ONNX model or of a container, or an ``onnx.ModelProto``; ``threads`` the number of
    threads to run on, by default all cores. A session may be used from several threads at once, but not after a fork.
    """

    def __init__(self, model, *, threads=None):
        if not (is_path(model) or is_model_proto(model)):
            raise ArgumentError(f"model must be a path or an onnx.ModelProto, not {type(model).__name__}")
        with as_file(model) as path:
            self._native = _campana.Session(path, threads)
        self._types = dict(self._native.input_types)

    @property
    def inputs(self):
        """Shapes of the inputs, lists by name; an extent that is not fixed is a name. None where none is declared."""
        return self._native.inputs

    @property
    def outputs(self):
        """Shapes of the outputs, as those of the inputs."""
        return self._native.outputs

    @property
    def weight_bytes(self):
        """Bytes of weights in memory."""
        return self._native.weight_bytes

    def run(self, inputs):
        """The outputs, arrays by name, for inputs that are arrays by name.

        Inputs are converted to the types that the model declares where nothing but precision is lost: floats to
        floats, integers to what holds them. Raises :class:`ArgumentError` where an input is missing, unknown, or of a
        type or shape that the model does not take.
        """
        arrays = [(name, _converted(name, np.asarray(array), self._types.get(name)))
                  for name, array in inputs.items()]
        return {name: flat.reshape(shape) for name, shape, flat in self._native.run(arrays)}


def _converted(name, array, dtype):
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
