from collections.abc import Iterable
from typing import Optional, Union

from . import Report, _Model, _Path, _Progress

def compare(
    models: Union[_Model, Iterable[_Model]],
    data: _Path,
    *,
    output: Optional[_Path] = None,
    bits: Union[int, Iterable[int]] = (2, 3, 4, 8),
    methods: Union[str, Iterable[str]] = "all",
    calibrate: Optional[_Path] = None,
    samples: int = 256,
    granularity: Union[str, Iterable[str]] = ("tensor", "channel"),
    limit: Optional[int] = None,
    batch: int = 64,
    shards: Optional[int] = None,
    cpus: int = 1,
    retries: int = 3,
    force: bool = False,
    progress: Optional[_Progress] = None,
) -> Union[Report, list[Report]]: ...
