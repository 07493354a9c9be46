"""Modules of torch as ONNX files whose initializers are the module's parameters and buffers."""

import contextlib
import importlib.util
import inspect
import warnings

import torch
from torch.utils import _pytree

from ._data import as_array
from .errors import ArgumentError, ArgumentTypeError, UnsupportedError

#: Bytes of parameters from which the data go into files of their own: a protobuf holds 2 GB.
_LARGE_BYTES = 1_500_000_000
#: Characters of what torch says of a failed export that an error repeats.
_CAUSE_CHARS = 500


class Example:
    """The arguments that a module is called with.

    ``example_input`` is a tensor, a tuple of positional arguments or a dict of arguments by name.
    """

    def __init__(self, module, example_input):
        args, kwargs = (example_input,), {}
        if isinstance(example_input, (tuple, list)):
            args = tuple(example_input)
        elif hasattr(example_input, "items"):
            args, kwargs = (), dict(example_input.items())
        self._leaves, self._structure = _pytree.tree_flatten((args, kwargs))
        self._places = _places(module, self._leaves, self._structure)
        if not self._places:
            raise ArgumentTypeError(
                "example_input must be a tensor, a tuple of arguments or a dict of them by name, with a tensor among "
                f"them, not {type(example_input).__name__}")
        for name, tensor in zip(self._places, self.tensors()):
            if tensor.device.type != "cpu":
                raise UnsupportedError(f"example_input '{name}' is on {tensor.device}; give it on the CPU")

    @property
    def names(self):
        """The names of the tensors among the arguments, in the order of the module's signature."""
        return list(self._places)

    def tensors(self):
        """The tensors themselves."""
        return [self._leaves[place] for place in self._places.values()]

    def arrays(self, names):
        """The tensors of some of the names, as arrays: a graph need not have inputs for those that it does not read."""
        return {name: as_array(self._leaves[self._places[name]]) for name in names}

    def call(self, forward, tensors):
        """The tensors that a function returns for these in place of those among the arguments, however deep inside."""
        leaves = list(self._leaves)
        for place, tensor in zip(self._places.values(), tensors):
            leaves[place] = tensor
        args, kwargs = _pytree.tree_unflatten(leaves, self._structure)
        outputs = forward(*args, **kwargs)
        return tuple(value for value in _pytree.tree_leaves(outputs) if isinstance(value, torch.Tensor))

    def try_on(self, module):
        """Refuses an example that a module does not take."""
        try:
            self.outputs_of(module)
        except Exception as error:
            raise ArgumentError(f"the module cannot be called with example_input: {_said(error)}") from error

    def outputs_of(self, module):
        """The tensors that a module returns for the arguments, as arrays."""
        with torch.no_grad():
            return [as_array(value) for value in self.call(module, [tensor.clone() for tensor in self.tensors()])]


def _places(module, leaves, structure):
    """Which leaves of the arguments are tensors, by the name of the argument, and behind it a number if that has
    several, in the order of the signature."""
    args, kwargs = _pytree.tree_unflatten(list(range(len(leaves))), structure)
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"example_input does not fit the module's forward: {error}") from None
    places = {}
    for argument, value in bound.arguments.items():
        own = [place for place in _pytree.tree_leaves(value) if isinstance(leaves[place], torch.Tensor)]
        for position, place in enumerate(own):
            places[argument if len(own) == 1 else f"{argument}_{position}"] = place
    return places


def export(module, example, path, dynamo):
    """Writes a module, in the mode that it is in, so that nothing is folded into another: what parameters and buffers
    hold is what initializers of their names hold, and normalizations stay."""
    for package in ["onnx", "onnxscript"] if dynamo else ["onnx"]:
        if importlib.util.find_spec(package) is None:
            raise UnsupportedError(f"torch's exporter with dynamo={dynamo} needs {package}: pip install {package}"
                                   + (", or give dynamo=False" if package == "onnxscript" else ""))
    if dynamo:
        # The optimizer would fold normalizations into convolutions and transposes into weights.
        options = dict(optimize=False, verbose=False, external_data=_state_bytes(module) > _LARGE_BYTES)
    else:
        options = dict(do_constant_folding=False, training=torch.onnx.TrainingMode.EVAL)
    with warnings.catch_warnings(), _tensors_alone(module, example):
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            torch.onnx.export(
                module, tuple(example.tensors()), path, dynamo=dynamo, input_names=example.names, **options)
        except Exception as error:
            raise UnsupportedError(
                f"torch cannot export the module ({type(module).__name__}) with dynamo={dynamo}: {_said(error)} "
                f"(dynamo={not dynamo} takes its other exporter)") from error


@contextlib.contextmanager
def _tensors_alone(module, example):
    """Lets a module take and return nothing but tensors for a while: exporters differ in what they make of numbers,
    dicts, None and arguments by name. Names of parameters would change in a module around it."""
    forward = module.forward
    was_own = "forward" in vars(module)
    module.forward = lambda *tensors: example.call(forward, tensors)
    try:
        yield
    finally:
        if was_own:
            module.forward = forward
        else:
            del module.forward


def _state_bytes(module):
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()
               if isinstance(tensor, torch.Tensor))


def _said(error):
    """What torch says went wrong, in a line: the innermost cause, since exporters wrap it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _CAUSE_CHARS else f"{text[:_CAUSE_CHARS]} ..."
