"""Limits of what files may ask for."""

from . import _campana

_size = None


def set_max_memory(size):
    """Memory that reading one file may take, of this process and of the commands it starts: ``--max-memory``.

    ``size`` is a number of bytes or a text with a unit (``"8GB"``). By default it is 64 times the file and 64 MB, at
    most 4 GiB; what asks for more is refused.
    """
    global _size
    _campana.set_max_memory(size)
    _size = size


def arguments():
    """What tells a command the same."""
    if _size is None:
        return []
    return [f"--max-memory={_size if isinstance(_size, str) else f'{_size}B'}"]
