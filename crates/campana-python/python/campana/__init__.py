"""Makes trained convolutional networks small and fast without retraining.

Names and defaults are those of the ``campana`` command; arrays are NumPy's. Long work releases the interpreter's
lock, hears Ctrl-C, and calls ``progress(done, total)`` where that is given: weights for ``quantize`` and ``inspect``,
images for ``evaluate``. An exception that ``progress`` raises stops the work. ``threads`` is the number of threads to
use, by default all cores.
"""

from ._campana import __version__
from ._arrays import Codebook, design, fit
from .errors import (
    ArgumentError,
    BoundMissedError,
    CampanaError,
    FileError,
    FormatError,
    InterruptedJobError,
    LimitError,
    OutputExistsError,
    UnsupportedError,
)
from ._models import evaluate, inspect, quantize
from ._session import Session

__all__ = [
    "ArgumentError",
    "BoundMissedError",
    "CampanaError",
    "Codebook",
    "FileError",
    "FormatError",
    "InterruptedJobError",
    "LimitError",
    "OutputExistsError",
    "Session",
    "UnsupportedError",
    "__version__",
    "design",
    "evaluate",
    "fit",
    "inspect",
    "quantize",
]
