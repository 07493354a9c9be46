from collections.abc import Iterable, Mapping
from typing import Optional, TypeVar, Union

import torch

from . import _Progress

_Module = TypeVar("_Module", bound=torch.nn.Module)

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
