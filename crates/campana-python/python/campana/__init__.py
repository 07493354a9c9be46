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
    ArgumentTypeError,
    BoundMissedError,
    CampanaError,
    CommandError,
    FileError,
    FormatError,
    InternalError,
    InterruptedJobError,
    LimitError,
    OutputExistsError,
    UnsupportedError,
)
from ._command import bench, compare, merge, pack, unpack, verify
from ._evaluate import evaluate
from ._images import preprocess
from ._limits import set_max_memory
from ._models import inspect, quantize
from ._report import Report
from ._session import Session

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "BoundMissedError",
    "CampanaError",
    "Codebook",
    "CommandError",
    "FileError",
    "FormatError",
    "InternalError",
    "InterruptedJobError",
    "LimitError",
    "OutputExistsError",
    "Report",
    "Session",
    "UnsupportedError",
    "__version__",
    "bench",
    "compare",
    "design",
    "evaluate",
    "fit",
    "inspect",
    "merge",
    "pack",
    "preprocess",
    "quantize",
    "set_max_memory",
    "unpack",
    "verify",
]
