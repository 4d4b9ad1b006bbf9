"""Reading, hashing and atomic writing of files.

All results, weights, pages and worlds are first written to a temporary file ``<name>.partial`` in the same folder,
which is then renamed. If the process is killed, the file is the old one or the new one. A temporary file may remain,
and the next run overwrites it. After an error, such as a full disk, only the old file remains.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import lzma
import math
import os
import re
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
import yaml
from numpy.lib import format as npy
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from poseboard.datasets.errors import InputError

Content = bytes | Callable[[BinaryIO], object]
"""Content of a file, or a function that writes it into an open file."""

LARGEST_BYTES = 2**33
"""Size of the largest file that is read; the largest published annotations have 1 GB."""

_DEEPEST_YAML, _LARGEST_YAML = 100, 10**6
_SECONDS, _COPY = 120, "copy it again from its source"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# bz2 raises OSError for damaged data, and zipfile RuntimeError for encrypted or unknown compression.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, KeyError, RuntimeError, SyntaxError,
)  # fmt: skip


class WholeFiles:
    """Context manager that writes several files atomically: after an error in the block, all old files remain.

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
    """Write one file atomically; see `WholeFiles.write`."""
    with WholeFiles() as files:
        files.write(path, content, durable=durable)


def open_file(path: Path) -> io.BufferedReader:
    """Open a regular file for reading.

    A FIFO or a device would block or never end, and a sparse file can be larger than the memory.

    Args:
        path: path of the file; links are followed.

    Raises:
        OSError: the file cannot be opened, is not a regular file, or is larger than `LARGEST_BYTES`.

    Example:
        >>> open_file(Path("/dev/zero"))
        Traceback (most recent call last):
        OSError: [Errno 22] is not a regular file: '/dev/zero'
    """
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # a null character in the path
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    state = os.fstat(descriptor)
    if stat.S_ISREG(state.st_mode) and state.st_size <= LARGEST_BYTES:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(state.st_mode):
        raise OSError(errno.EFBIG, f"is larger than {LARGEST_BYTES >> 30} GiB", str(path))
    raise OSError(errno.EINVAL, "is not a regular file", str(path))


def read_bytes(path: Path) -> bytes:
    """Read a regular file; raises the errors of `open_file`."""
    with open_file(path) as file:
        return file.read()


def read_file(path: Path, remedy: str) -> bytes:
    """Read a file; raise InputError with ``remedy`` if the file cannot be read."""
    try:
        return read_bytes(path)
    except OSError as error:
        raise InputError(path, f"file cannot be read ({error.strerror})", remedy) from None


def read_apart(program: Path, path: Path, *arguments: str, kind: str, remedy: str) -> bytes:
    """Run a Python program that reads a file, and return its standard output.

    For libraries that a damaged file can crash: only the separate process crashes.

    Args:
        program: file of the program.
        path: path of the file to read, the first argument of the program.
        *arguments: further arguments of the program.
        kind: kind of the file for errors, such as "C3D".
        remedy: remedy of the error if `open_file` refuses the file.

    Raises:
        InputError: `open_file` refuses the file, or the program fails, crashes or takes more than two minutes.

    Example:
        >>> read_apart(Path("c3d_process.py"), Path("walk.c3d"), kind="C3D", remedy="export it again")  # doctest: +SKIP
    """
    try:
        open_file(path).close()
    except OSError as error:
        raise InputError(path, f"file cannot be read ({error.strerror})", remedy) from None
    command = [sys.executable, "-P", str(program), str(path.resolve()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(path, f"cannot be read in {_SECONDS} s", _COPY) from None
    if done.returncode:
        reason = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["the reader crashed"])[-1]
        raise InputError(path, f"is not a readable {kind} file ({reason[:80]})", _COPY)
    return done.stdout


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a ``.npz`` file by name. The claimed sizes are checked before decompression.

    Raises:
        OSError: the file cannot be opened; see `open_file`.
        ValueError: the file is damaged, an array claims another size than its member, or holds objects.
    """
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > LARGEST_BYTES:
                    raise ValueError(f"arrays are larger than {LARGEST_BYTES >> 30} GiB")
                for entry in archive.infolist():
                    with archive.open(entry) as member:
                        _check_size(cast(BinaryIO, member), entry)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except _DAMAGE as error:
            raise ValueError(str(error)) from None


def _check_size(member: BinaryIO, entry: zipfile.ZipInfo) -> None:
    version = npy.read_magic(member)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"{entry.filename} has version {version} of the npy format")
    shape, _, dtype = read(member)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize + member.tell() != entry.file_size:
        raise ValueError(f"{entry.filename} claims an array of {shape} in {entry.file_size} bytes")


def check_yaml(text: str) -> None:
    """Raise ValueError for YAML that would overflow a parser's stack, contain itself, or grow too large by aliases.

    Raises:
        ValueError: the text is nested too deeply, is too large with its aliases, or has a value that contains itself.
        yaml.YAMLError: the text is not YAML.

    Example:
        >>> check_yaml("[" * 200 + "]" * 200)
        Traceback (most recent call last):
        ValueError: is nested deeper than 100 levels
    """
    sizes: dict[str, int] = {}  # number of values of each anchor, with aliases expanded
    open_nodes: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > _DEEPEST_YAML:
                raise ValueError(f"is nested deeper than {_DEEPEST_YAML} levels")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            if anchor:
                sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _ in open_nodes):
                raise ValueError(f"has a value {event.anchor!r} that contains itself")
            size = sizes.get(str(event.anchor), 1)
        else:
            size = int(isinstance(event, yaml.ScalarEvent))
        if open_nodes:
            anchor, before = open_nodes[-1]
            open_nodes[-1] = anchor, before + size
            if before + size > _LARGEST_YAML:
                raise ValueError(f"has more than {_LARGEST_YAML} values with its aliases")


def parse_yaml(text: str) -> Any:
    """Parse a text as YAML 1.2, like DVC: `on` is a string. A repeated key is an error.

    Raises:
        ValueError: the text is not YAML, repeats a key, is nested too deeply, has many aliases, or has a value that
            Python cannot represent. The message names the line of a syntax error.

    Example:
        >>> parse_yaml("{on: [a], true_cameras: true}")
        {'on': ['a'], 'true_cameras': True}
    """
    with contextlib.suppress(yaml.YAMLError):  # the next parser names the line
        check_yaml(text)
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())[:160]
        raise ValueError(problem if mark is None else f"line {mark.line + 1}: {problem}") from None
    except (LookupError, RecursionError) as error:  # ruamel.yaml looks up the value of `!!bool maybe`
        raise ValueError(f"cannot be parsed: {error}") from None


def parse_json(text: str | bytes, parse_int: Callable[[str], int] | None = None) -> Any:
    """Parse a text as JSON.

    Args:
        text: text, or its bytes.
        parse_int: function that makes integers of their digits.

    Raises:
        ValueError: the text is not JSON, not Unicode, nested too deeply, or escapes half of a surrogate pair.

    Example:
        >>> parse_json("[" * 10**5)
        Traceback (most recent call last):
        ValueError: is nested too deeply
    """
    try:
        value = json.loads(text, parse_int=parse_int)
        if _SURROGATE.search(text.encode() if isinstance(text, str) else text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("has half of a surrogate pair, which is not Unicode") from None
    return value


def files_sha256(options: str, paths: Iterable[Path], remedy: str) -> str:
    """SHA-256 of options and of the contents of files. Absent files are allowed.

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
            with open_file(path) as file:
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
