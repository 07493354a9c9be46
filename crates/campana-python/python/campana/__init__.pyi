from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Optional, Protocol, TypeVar, Union, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ArgumentError as ArgumentError
from .errors import ArgumentTypeError as ArgumentTypeError
from .errors import BoundMissedError as BoundMissedError
from .errors import CampanaError as CampanaError
from .errors import CommandError as CommandError
from .errors import FileError as FileError
from .errors import FormatError as FormatError
from .errors import InternalError as InternalError
from .errors import InterruptedJobError as InterruptedJobError
from .errors import LimitError as LimitError
from .errors import OutputExistsError as OutputExistsError
from .errors import UnsupportedError as UnsupportedError

__version__: str
__all__: list[str]

_Path = Union[str, PathLike[str]]
_Extents = Sequence[Union[int, str, None]]
_Shape = Union[_Extents, Mapping[str, _Extents]]
_Method = Literal[
    "auto", "vq", "ks", "gaussian", "laplace", "ggd", "kmeans", "ecsq", "minmax", "mse", "aciq", "pwlq", "pot", "apot", "nf"
]
_FixedMethod = Literal[
    "ks", "gaussian", "laplace", "ggd", "kmeans", "ecsq", "minmax", "mse", "aciq", "pwlq", "pot", "apot", "nf"
]
_Target = Literal[
    "lut", "lut-uint4", "w4a8", "int8", "float", "campana", "tflite", "tflite-float", "tflm", "coreml", "coreml-float32"
]
_Ranges = Literal["auto", "minmax", "percentile", "mse", "entropy"]
_Effort = Literal["full", "quick"]
_Progress = Callable[[int, int], object]

class _ModelProto(Protocol):
    """An ``onnx.ModelProto``."""

    @property
    def graph(self) -> Any: ...
    def SerializeToString(self) -> bytes: ...

_Model = Union[_Path, _ModelProto]
#: One batch or sample: arrays or tensors, dicts of them, images of PIL, or these and labels in a tuple or list.
_Batch = Any
#: Data in memory: arrays, dicts of arrays by input, (arrays, labels), or an iterable of batches.
_Data = Union[ArrayLike, Mapping[str, Any], Iterable[_Batch]]
_Transform = Callable[[Any], _Batch]
_Metric = Callable[[Any, Any], float]
_Image = Any
_Proto = TypeVar("_Proto", bound=_ModelProto)

@overload
def quantize(
    model: _Path,
    output: _Path,
    *,
    bits: Union[int, float, None] = None,
    average_bits: Optional[float] = None,
    max_size: Union[int, str, None] = None,
    max_drop: Union[float, str, None] = None,
    data: Union[_Path, _Data, None] = None,
    best_effort: bool = False,
    plan: Optional[_Path] = None,
    method: _Method = "auto",
    granularity: Optional[str] = None,
    keep: Union[str, Iterable[str]] = (),
    bits_for: Optional[Mapping[str, int]] = None,
    correct: bool = True,
    calibrate: Union[_Path, _Data, None] = None,
    samples: int = 256,
    input_range: Optional[tuple[float, float]] = None,
    shape: Optional[_Shape] = None,
    resume: Optional[_Path] = None,
    target: Optional[_Target] = None,
    activation_ranges: _Ranges = "auto",
    round_all_activations: bool = False,
    effort: _Effort = "full",
    distill: Union[int, str, None] = None,
    report: Optional[_Path] = None,
    rate: Optional[float] = None,
    sparsity: Union[float, str, None] = None,
    sidecar: None = None,
    transform: Optional[_Transform] = None,
    metric: Optional[_Metric] = None,
    force: bool = False,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> Report: ...
@overload
def quantize(
    model: _Proto,
    output: None = None,
    *,
    bits: Union[int, float, None] = None,
    average_bits: Optional[float] = None,
    max_size: Union[int, str, None] = None,
    max_drop: Union[float, str, None] = None,
    data: Union[_Path, _Data, None] = None,
    best_effort: bool = False,
    plan: Optional[_Path] = None,
    method: _Method = "auto",
    granularity: Optional[str] = None,
    keep: Union[str, Iterable[str]] = (),
    bits_for: Optional[Mapping[str, int]] = None,
    correct: bool = True,
    calibrate: Union[_Path, _Data, None] = None,
    samples: int = 256,
    input_range: Optional[tuple[float, float]] = None,
    shape: Optional[_Shape] = None,
    resume: Optional[_Path] = None,
    target: Optional[_Target] = None,
    activation_ranges: _Ranges = "auto",
    round_all_activations: bool = False,
    effort: _Effort = "full",
    distill: Union[int, str, None] = None,
    report: Optional[_Path] = None,
    rate: Optional[float] = None,
    sparsity: Union[float, str, None] = None,
    sidecar: Optional[Mapping[str, Any]] = None,
    transform: Optional[_Transform] = None,
    metric: Optional[_Metric] = None,
    force: bool = False,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> _Proto: ...
@overload
def quantize(
    model: Mapping[str, Any],
    output: None = None,
    *,
    bits: Union[int, float, None] = None,
    average_bits: None = None,
    max_size: None = None,
    max_drop: None = None,
    data: None = None,
    best_effort: bool = False,
    plan: None = None,
    method: _Method = "auto",
    granularity: Optional[str] = None,
    keep: Union[str, Iterable[str]] = (),
    bits_for: Optional[Mapping[str, int]] = None,
    correct: bool = True,
    calibrate: None = None,
    samples: int = 256,
    input_range: None = None,
    shape: None = None,
    resume: None = None,
    target: Optional[_Target] = None,
    activation_ranges: _Ranges = "auto",
    round_all_activations: bool = False,
    effort: _Effort = "full",
    distill: None = None,
    report: None = None,
    rate: None = None,
    sparsity: None = None,
    sidecar: None = None,
    transform: None = None,
    metric: None = None,
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
def set_max_memory(size: Union[int, str]) -> None: ...
def evaluate(
    models: Union[_Model, Iterable[_Model]],
    data: Union[_Path, _Data],
    *,
    reference: Optional[_Model] = None,
    limit: Optional[int] = None,
    batch: int = 16,
    metric: Optional[_Metric] = None,
    transform: Optional[_Transform] = None,
    sidecar: Optional[Mapping[str, Any]] = None,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> Report: ...
def preprocess(
    image: Union[_Image, Sequence[_Image]], model: Union[_Path, Mapping[str, Any]]
) -> NDArray[np.float32]: ...
def compare(
    model: _Model,
    data: _Path,
    *,
    bits: Union[int, Iterable[int]] = (2, 3, 4, 8),
    methods: Union[str, Iterable[str]] = "all",
    calibrate: Optional[_Path] = None,
    samples: int = 256,
    granularity: Union[str, Iterable[str]] = ("tensor", "channel"),
    limit: Optional[int] = None,
    batch: int = 64,
    csv: Optional[_Path] = None,
    html: Optional[_Path] = None,
    markdown: Optional[_Path] = None,
    resume: Optional[_Path] = None,
    shard: Optional[str] = None,
    force: bool = False,
    threads: Optional[int] = None,
) -> Report: ...
def merge(
    rows: Union[_Path, Iterable[_Path]],
    *,
    csv: Optional[_Path] = None,
    html: Optional[_Path] = None,
    markdown: Optional[_Path] = None,
    force: bool = False,
) -> Report: ...
def bench(
    model: _Model,
    *,
    reference: Optional[_Model] = None,
    batch: int = 1,
    layers: bool = False,
    html: Optional[_Path] = None,
    shape: Optional[_Shape] = None,
    runs: int = 50,
    force: bool = False,
    threads: Optional[int] = None,
) -> Report: ...
def verify(
    model: _Model,
    *,
    reference: Optional[_Model] = None,
    runtimes: Union[str, Iterable[str], None] = None,
    python: Optional[_Path] = ...,
    data: Optional[_Path] = None,
    samples: int = 64,
    random: int = 16,
    shape: Optional[_Shape] = None,
    runs: int = 30,
    threads: Optional[int] = None,
) -> Report: ...
def pack(model: _Model, output: _Path, *, force: bool = False) -> Report: ...
def unpack(container: _Path, output: _Path, *, force: bool = False) -> Report: ...
def fit(array: ArrayLike, *, threads: Optional[int] = None) -> dict[str, Any]: ...
def design(
    array: ArrayLike, bits: int = 4, method: _FixedMethod = "kmeans", *, threads: Optional[int] = None
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

class Report(dict[str, Any]):
    @property
    def tensors(self) -> list[dict[str, Any]]: ...
    def to_pandas(self) -> Any: ...

class Session:
    def __init__(self, model: Union[_Path, _ModelProto], *, threads: Optional[int] = None) -> None: ...
    @property
    def inputs(self) -> dict[str, Optional[list[Union[int, str]]]]: ...
    @property
    def outputs(self) -> dict[str, Optional[list[Union[int, str]]]]: ...
    @property
    def input_types(self) -> dict[str, Optional[str]]: ...
    @property
    def weight_bytes(self) -> int: ...
    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]: ...
