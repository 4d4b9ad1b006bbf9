"""Reading, hashing and atomic writing of files.

All results, weights, pages and worlds are first written to a temporary file ``<name>.partial`` in the same folder,
which is then renamed. If the process is killed, the file is the old one or the new one. A temporary file may remain,
and the next run overwrites it. After an error, such as a full disk, only the old file remains.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from poseboard.datasets.errors import InputError

Content = bytes | Callable[[BinaryIO], object]
"""Content of a file, or a function that writes it into an open file."""


class WholeFiles:
    """Context manager that writes several files, and renames all of them at the end of the block or none.

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
        """Write a temporary file, to be renamed at the end of the block. Missing folders are created.

        Args:
            path: final path.
            content: bytes, or a function that writes them into an open file.
            durable: wait until the content is on the disk, so that a power failure does not lose the file.

        Raises:
            OSError: the file cannot be written. The error names ``path`` even if a library raised another error.
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
    """Write one file, completely or not at all; see `WholeFiles.write`."""
    with WholeFiles() as files:
        files.write(path, content, durable=durable)


def read_file(path: Path, remedy: str) -> bytes:
    """Content of a file; InputError with ``remedy`` if the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"file cannot be read ({error.strerror})", remedy) from None


def files_sha256(options: str, paths: Iterable[Path], remedy: str) -> str:
    """SHA-256 of options and of the content of files. Files may be absent.

    Args:
        options: options as text, hashed before the files.
        paths: files in a fixed order.
        remedy: remedy of the error for an unreadable file.

    Raises:
        InputError: a file exists and cannot be read.
    """
    digest = hashlib.sha256(options.encode())
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except FileNotFoundError:
            digest.update(b"absent")
        except OSError as error:
            raise InputError(path, f"file cannot be read ({error.strerror})", remedy) from None
    return digest.hexdigest()


class _Disk(io.FileIO):
    """Open file that stores its first write error, because libraries replace or hide such errors."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise
