"""Models that run."""

from . import _campana
from ._data import as_array, converted, whole
from ._models import as_file


class Session:
    """A model, float or quantized, that runs in campana's own engine.

    ``model`` is the path of an ONNX model or of a container, or an ``onnx.ModelProto``; ``threads`` the number of
    threads to run on, by default all cores. A session may be used from several threads at once, but not after a fork.
    """

    def __init__(self, model, *, threads=None):
        with as_file(model) as path:
            self._native = _campana.Session(path, whole(threads, "threads", 0))
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

    @property
    def input_types(self):
        """NumPy's names of the inputs' types; None where the model says none, or one that NumPy does not have."""
        return dict(self._types)

    def __repr__(self):
        def text(values):
            return ", ".join(
                f"{name} [{', '.join(str(extent) for extent in shape)}]" if shape is not None else name
                for name, shape in values.items())

        return f"<campana.Session: {text(self.inputs)} -> {text(self.outputs)}, {self.weight_bytes} bytes of weights>"

    def run(self, inputs):
        """The outputs, arrays by name, for inputs that are arrays by name.

        Inputs are converted to the types that the model declares where nothing but precision is lost: floats to
        floats, integers to what holds them. Raises :class:`ArgumentError` where an input is missing, unknown, or of a
        type or shape that the model does not take.
        """
        arrays = [(name, converted(name, as_array(array), self._types.get(name)))
                  for name, array in inputs.items()]
        return {name: flat.reshape(shape) for name, shape, flat in self._native.run(arrays)}
