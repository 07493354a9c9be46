from collections.abc import Iterable, Mapping
from typing import Any, Generic, NamedTuple, Optional, TypeVar, Union

import torch

from . import Report, _Data, _Effort, _Method, _Metric, _Path, _Progress, _Transform

__all__: list[str]

_Module = TypeVar("_Module", bound=torch.nn.Module)

class Quantized(NamedTuple, Generic[_Module]):
    module: _Module
    report: Report

def quantize(
    module: _Module,
    example_input: Union[torch.Tensor, tuple[Any, ...], list[Any], Mapping[str, Any]],
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
    sidecar: Optional[Mapping[str, Any]] = None,
    resume: Optional[_Path] = None,
    effort: _Effort = "full",
    distill: Union[int, str, None] = None,
    report: Optional[_Path] = None,
    transform: Optional[_Transform] = None,
    metric: Optional[_Metric] = None,
    force: bool = False,
    dynamo: bool = False,
    tolerance: Optional[float] = None,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> Quantized[_Module]: ...
def quantize_(
    module: _Module,
    *,
    bits: Optional[int] = None,
    method: str = "auto",
    granularity: Optional[str] = None,
    keep: Union[str, Iterable[str]] = (),
    bits_for: Optional[Mapping[str, int]] = None,
    threads: Optional[int] = None,
    progress: Optional[_Progress] = None,
) -> _Module: ...
