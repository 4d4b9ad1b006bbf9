"""Files that appear whole or not at all: written beside their places, then renamed into them.

The one way in which results, weights, pages and worlds are written. A kill leaves the old file or the new one, and
``<name>.partial`` at most, which the next run overwrites. Anything that fails, a full disk above all, leaves what was
there before and nothing else.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

Content = bytes | Callable[[BinaryIO], object]
"""What a file is to hold, or what writes it into an open file."""


class WholeFiles:
    """Files that take their places together when the block ends, or none of them if anything in it fails.

    Example:
        >>> with WholeFiles() as files:  # doctest: +SKIP
        ...     files.write(folder / "errors.parquet", table.to_parquet)
        ...     files.write(folder / "scores.json", text.encode())
    """

    def __init__(self) -> None:
        self._waiting: dict[Path, Path] = {}

    def __enter__(self) -> Self:
        return self

    def write(self, path: Path, content: Content, *, durable: bool = False) -> None:
        """Write a file beside its place, where it waits for the end of the block; folders are made.

        Args:
            path: its place.
            content: bytes, or a function that writes them into the file that it is given.
            durable: wait until the disk has it, so that not even a power failure loses it.

        Raises:
            OSError: it cannot be written; names ``path``, whatever a library has made of the error.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        self._waiting[path] = partial
        disk: _Disk | None = None
        try:
            disk = _Disk(str(partial), "w")
            with io.BufferedWriter(disk) as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
        except Exception as error:
            failure = error if disk is None or disk.failure is None else disk.failure
            if not isinstance(failure, OSError) or failure.filename not in (None, str(partial)):
                raise
            reason = failure.strerror or str(failure)
            raise OSError(failure.errno or errno.EIO, reason, str(path)) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for path, partial in self._waiting.items():
                    partial.replace(path)
        finally:
            for partial in self._waiting.values():
                partial.unlink(missing_ok=True)


def write_file(path: Path, content: Content, *, durable: bool = False) -> None:
    """Write one file whole or not at all; see `WholeFiles.write`."""
    with WholeFiles() as files:
        files.write(path, content, durable=durable)


class _Disk(io.FileIO):
    """A file that remembers why it could not be written: libraries tell that in words of their own, or not at all."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise
