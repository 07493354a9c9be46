from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Any, Optional, Protocol, TypeVar, Union, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ArgumentError as ArgumentError
from .errors import BoundMissedError as BoundMissedError
from .errors import CampanaError as CampanaError
from .errors import FileError as FileError
from .errors import FormatError as FormatError
from .errors import InterruptedJobError as InterruptedJobError
from .errors import LimitError as LimitError
from .errors import OutputExistsError as OutputExistsError
from .errors import UnsupportedError as UnsupportedError

__version__: str
__all__: list[str]

_Path = Union[str, PathLike[str]]
_Progress = Callable[[int, int], object]

class _ModelProto(Protocol):
    """An ``onnx.ModelProto``."""

    @property
    def graph(self) -> Any: ...
    def SerializeToString(self) -> bytes: ...

_Proto = TypeVar("_Proto", bound=_ModelProto)

@overload
def quantize(
    model: _Path,
    output: _Path,
    *,
    bits: Union[int, float, None] = None,
    max_size: Union[int, str, None] = None,
    max_drop: Union[float, str, None] = None,
    data: Optional[_Path] = None,
    best_effort: bool = False,
    plan: Optional[_Path] = None,
    method: str = "auto",
    granularity: Optional[str] = None,
    keep: Union[str, Iterable[str]] = (),
    bits_for: Optional[Mapping[str, int]] = None,
    correct: bool = True,
    calibrate: Optional[_Path] = None,
    samples: int = 256,
    resume: Optional[_Path] = None,
    target: str = "lut",
    activation_ranges: str = "mse",
    effort: str = "full",
    report: Optional[_Path] = None,
    rate: Optional[float] = None,
    sparsity: Union[float, str, None] = None,
    sidecar: None = None,
    force: bool = False,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> dict[str, Any]: ...
@overload
def quantize(
    model: _Proto,
    output: None = None,
    *,
    bits: Union[int, float, None] = None,
    max_size: Union[int, str, None] = None,
    max_drop: Union[float, str, None] = None,
    data: Optional[_Path] = None,
    best_effort: bool = False,
    plan: Optional[_Path] = None,
    method: str = "auto",
    granularity: Optional[str] = None,
    keep: Union[str, Iterable[str]] = (),
    bits_for: Optional[Mapping[str, int]] = None,
    correct: bool = True,
    calibrate: Optional[_Path] = None,
    samples: int = 256,
    resume: Optional[_Path] = None,
    target: str = "lut",
    activation_ranges: str = "mse",
    effort: str = "full",
    report: Optional[_Path] = None,
    rate: Optional[float] = None,
    sparsity: Union[float, str, None] = None,
    sidecar: Optional[Mapping[str, Any]] = None,
    force: bool = False,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> _Proto: ...
@overload
def quantize(
    model: Mapping[str, Any],
    output: None = None,
    *,
    bits: Optional[int] = None,
    max_size: None = None,
    max_drop: None = None,
    data: None = None,
    best_effort: bool = False,
    plan: None = None,
    method: str = "auto",
    granularity: Optional[str] = None,
    keep: Union[str, Iterable[str]] = (),
    bits_for: Optional[Mapping[str, int]] = None,
    correct: bool = True,
    calibrate: None = None,
    samples: int = 256,
    resume: None = None,
    target: str = "lut",
    activation_ranges: str = "mse",
    effort: str = "full",
    report: None = None,
    rate: None = None,
    sparsity: None = None,
    sidecar: None = None,
    force: bool = False,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> dict[str, Any]: ...
def inspect(
    model: Union[_Path, _ModelProto, Mapping[str, Any]],
    *,
    html: Optional[_Path] = None,
    bits: int = 4,
    force: bool = False,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> list[dict[str, Any]]: ...
def evaluate(
    models: Union[_Path, Iterable[_Path]],
    data: _Path,
    *,
    reference: Optional[_Path] = None,
    limit: Optional[int] = None,
    batch: int = 16,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> dict[str, Any]: ...
def fit(array: ArrayLike, *, threads: Optional[int] = None) -> dict[str, Any]: ...
def design(
    array: ArrayLike, bits: int = 4, method: str = "kmeans", *, threads: Optional[int] = None
) -> Codebook: ...

class Codebook:
    def __init__(self, levels: ArrayLike) -> None: ...
    @property
    def levels(self) -> NDArray[np.float32]: ...
    @property
    def thresholds(self) -> NDArray[np.float32]: ...
    def assign(self, array: ArrayLike) -> NDArray[np.uint8]: ...
    def dequantize(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]: ...
    def __len__(self) -> int: ...

class Session:
    def __init__(self, model: Union[_Path, _ModelProto], *, threads: Optional[int] = None) -> None: ...
    @property
    def inputs(self) -> dict[str, Optional[list[Union[int, str]]]]: ...
    @property
    def outputs(self) -> dict[str, Optional[list[Union[int, str]]]]: ...
    @property
    def weight_bytes(self) -> int: ...
    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]: ...
