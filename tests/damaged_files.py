"""Damage that any file can have, for tests that no file makes a command hang or end with a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from poseboard.datasets.files import LARGEST_BYTES

LEVELS = 100_000


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _oversize(path: Path) -> None:
    path.touch()
    os.truncate(path, LARGEST_BYTES + 1)


NOT_REGULAR: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "device": _device,
    "loop": _loop,
    "folder": Path.mkdir,
    "oversize": _oversize,
}
"""Kind of file -> function that creates one. Reading it blocks, does not end, or needs more memory than there is."""

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "not UTF-8": b"\xff",
    "UTF-16": b"\xff\xfe",
    "half a surrogate pair": b'["\\ud800"]',
    "deep": b"[" * LEVELS + b"]" * LEVELS,
    "deep objects": b'{"a":' * LEVELS + b"1" + b"}" * LEVELS,
    "5000 digits": b"1" * 5000,
    "null": b"null",
}
"""Damage -> content of a JSON or YAML file."""

DAMAGES = NOT_REGULAR | {name: (lambda path, text=text: path.write_bytes(text)) for name, text in TEXTS.items()}
