"""Whether a module and an ONNX model compute the same."""

import math

import numpy as np
import torch

from ._session import Session
from .errors import ArgumentError, CampanaError, UnsupportedError
from ._torch_state import state_of

#: The largest relative difference of outputs in float32. Other orders of sums make up to 2e-5 in torchvision's
#: networks; one layer of 8 bits that is not put back makes 1e-3.
_TOLERANCE = 3e-4
#: Units in the last place of floats that are smaller than float32.
_TOLERANCE_ULPS = 16
#: The share of integers, such as classes, that may differ: ties may fall either way.
_DIFFERENT_INTEGERS = 0.01


class Agreement:
    """Compares outputs on an example."""

    def __init__(self, example, tolerance, threads):
        if tolerance is not None and not tolerance > 0:
            raise ArgumentError(f"tolerance must be greater than 0, not {tolerance}")
        self._example, self._tolerance, self._threads = example, tolerance, threads

    def check(self, module, path, title):
        """The largest relative difference of an output of the module from that of the model at a path; None where an
        infinite tolerance asks for no comparison."""
        tolerance = self._tolerance
        if tolerance is None:
            tolerance = _tolerance_of(module)
        if math.isinf(tolerance):
            return None
        expected = self._outputs_of_model(path, title)
        found = self._example.outputs_of(module)
        if len(found) != len(expected):
            raise UnsupportedError(f"the module returns {len(found)} tensors, {title} {len(expected)}")
        differences = [difference_of(one, other) for one, other in zip(expected, found)]
        for position, difference in enumerate(differences):
            if not difference <= tolerance:
                raise UnsupportedError(
                    f"output {position} of the module differs from that of {title} by {difference:.2g} of its norm on "
                    f"example_input, more than tolerance={tolerance:.2g}: the two do not compute the same")
        return max(differences, default=0.0)

    def _outputs_of_model(self, path, title):
        try:
            session = Session(path, threads=self._threads)
            return list(session.run(self._example.arrays(session.inputs)).values())
        except CampanaError as error:
            raise UnsupportedError(
                f"{title} cannot be compared with the module: {error} (torch's other exporter, by dynamo, may "
                "write what can; tolerance=math.inf leaves the comparison out)") from error


def _tolerance_of(module):
    """What the coarsest floats of a module allow."""
    coarsest = max((torch.finfo(tensor.dtype).eps for _, tensor in state_of(module)), default=0.0)
    return max(_TOLERANCE, _TOLERANCE_ULPS * coarsest) if coarsest > torch.finfo(torch.float32).eps else _TOLERANCE


def difference_of(expected, found):
    """The norm of the differences of two arrays by the norm of the first; infinite for other shapes and where one alone
    is not finite. Of integers, 0 where so few differ that ties explain them, else infinite."""
    if expected.shape != found.shape:
        return math.inf
    if expected.dtype.kind != "f":
        return 0.0 if np.mean(expected != found) <= _DIFFERENT_INTEGERS or not expected.size else math.inf
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return math.inf
    size = np.linalg.norm(expected[finite])
    difference = np.linalg.norm(expected[finite] - found[finite])
    return float(difference / size) if size else (math.inf if difference else 0.0)
