"""Files of one camera each: which files of a path belong to a format, and names from file names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file

LONGEST_FRAME = 18
"""Most digits of a frame number, so that it fits into int64."""


def natural(name: str) -> tuple[object, ...]:
    """Sort key for natural order: cam2 before cam10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((int(part), part) if part.isdigit() and part.isascii() else part for part in parts)


def files_of(path: Path, suffixes: Iterable[str]) -> list[Path]:
    """List files with one of the suffixes: the path itself, or the visible files of the folder in natural order."""
    if path.is_file():
        return [path] if path.suffix.lower() in suffixes else []
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and Path(entry.name).suffix.lower() in suffixes
        ]
    return [path / name for name in sorted(names, key=natural)]


def frame_of(name: str, where: object) -> int:
    """Frame number: the last digits of a name without its suffix.

    Example:
        >>> frame_of("cam01_000042_keypoints", "")
        42

    Raises:
        InputError: the name has no digits, or too many.
    """
    digits = re.findall(r"[0-9]+", name)
    if not digits or len(digits[-1].lstrip("0")) > LONGEST_FRAME:
        raise InputError(str(where), "name does not end in a frame number", "rename it, for example cam1_000042")
    return int(digits[-1])


def head(path: Path, size: int = 4096) -> bytes:
    """First bytes of a file; empty if it cannot be read."""
    try:
        with open_file(path) as file:
            return file.read(size)
    except OSError:
        return b""


def whole_frames(values: Iterable[object], where: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Convert a column to frame numbers (n,). Entries are whole numbers, or names that end in the frame number."""
    frames = []
    for row, cell in enumerate(values):
        value = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
        if isinstance(value, str) and not re.fullmatch(r"\s*[0-9]{1,18}(\.0*)?\s*", value):
            frames.append(frame_of(Path(value).stem, f"{where}[{row}]"))
            continue
        try:
            number = float(value)  # type: ignore[arg-type]
            if not (number == int(number) and abs(number) < 2**53):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{where}[{row}]", f"{str(value)[:40]!r} is not a frame number", "write whole numbers"
            ) from None
        frames.append(int(number))
    return np.array(frames, dtype=np.int64)
