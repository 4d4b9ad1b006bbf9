"""Reading of HDF5 files from outside: only data inside the file, and no more than fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file

_COPY = "export or copy the file again from its source"
_LARGEST_RATIO, _ALLOWED_BYTES = 2000, 2**28


def is_hdf5(path: Path) -> bool:
    """Whether a file starts with HDF5's signature."""
    try:
        with open_file(path) as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; raise InputError instead of the library's errors."""
    try:
        open_file(path).close()  # refuses devices
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # the library raises almost any type for damaged files
        first = (str(error).splitlines() or [""])[0][:100]
        raise InputError(path, f"is not a readable HDF5 file ({first})", _COPY) from None


def names(group: h5py.Group) -> list[str]:
    """Names in a group, without links to other places and files."""
    return [name for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)]


def array(group: h5py.Group, name: str, path: Path) -> NDArray[Any]:
    """Content of a data set.

    Raises:
        InputError: the data set is missing, is a link, or has a shape that is too large for the file.
    """
    item = group[name] if name in names(group) else None
    where = f"{path}: {name}"
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise InputError(where, "array is missing", _COPY)
    if item.size * max(item.dtype.itemsize, 1) > max(_ALLOWED_BYTES, _LARGEST_RATIO * path.stat().st_size):
        raise InputError(where, f"claims shape {item.shape}, which is too large for the file", _COPY)
    if item.external:
        raise InputError(where, "is stored in another file", "write all arrays into one file")
    return np.asarray(item[()])


def texts(group: h5py.Group, name: str, path: Path) -> list[str]:
    """Strings of a data set (n,)."""
    return [text(value, f"{path}: {name}") for value in array(group, name, path).ravel().tolist()]


def text(value: Any, where: str) -> str:
    """Convert bytes or a string to text; raise InputError for another type or encoding."""
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise InputError(where, "is not UTF-8 text", _COPY) from None
