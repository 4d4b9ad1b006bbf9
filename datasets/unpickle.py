"""Safe reading of published pickles, without executing code from the file.

Published labels, detections and precalculated poses are pickles, and a pickle is a program. This reader admits plain
containers, strings, numbers, and numpy arrays, dtypes and scalars. It never passes values of the file to numpy's own
constructors. Arrays are rebuilt from validated sizes, so numpy cannot read beyond the data or allocate more memory than
the length of the file.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_bytes

_TYPES = re.compile(r"[<>|=]?[?bBhHiIlLqQefdgFDGSUVO][0-9]{0,9}")
_LONG, _LARGEST_INTEGER = {"INT", "LONG", "LONG1", "LONG4"}, 2**64
_MEMO = {"BINPUT", "LONG_BINPUT", "PUT"}


def read_pickle(path: Path) -> Any:
    """Read a ``.pkl`` file, or the object array of a ``.npy`` file, without executing code.

    Args:
        path: path of a pickle of any protocol (including Python 2), or of a ``.npy`` file of dtype object. A
            0-dimensional array is replaced by its only element.

    Returns:
        Content made of dict, list, tuple, set, str, bytes, int, float, bool, None, read-only numpy arrays and scalars.

    Raises:
        InputError: the file is absent, truncated or damaged, or refers to objects other than numpy's data types. No
            code of the file is executed.

    Example:
        >>> labels = read_pickle(Path("human36m-multiview-labels-GTbboxes.npy"))
        >>> labels["camera_names"]
        ['54138969', '55011271', '58860488', '60457274']
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise InputError(path, f"file cannot be read ({error.strerror})", "correct the path") from None
    is_npy = data.startswith(npy.MAGIC_PREFIX)
    value = _decoded(lambda: _npy_payload(data) if is_npy else data, path)
    if is_npy and isinstance(value, np.ndarray) and value.shape == () and value.dtype == object:
        return value.item()
    return value


def decode_pickle(data: bytes, where: str) -> Any:
    """Decode a pickle inside another file, see `read_pickle`.

    Args:
        data: bytes of the pickle.
        where: file and field, for errors.
    """
    return _decoded(lambda: data, where)


def _decoded(payload: Callable[[], bytes], where: str | Path) -> Any:
    try:
        return _load(payload())
    except _ForbiddenError as error:
        remedy = "take the file from its published source"
        raise InputError(where, f"pickle names {error}, which is not numpy data; nothing was run", remedy) from None
    except Exception as error:  # damaged pickles raise almost any type
        first = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise InputError(where, f"file is damaged or truncated ({first})", "copy it again from its source") from None


class _ForbiddenError(Exception):
    """The pickle refers to a forbidden global."""


def _npy_payload(data: bytes) -> bytes:
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"npy format {version} is not supported")
    _, _, dtype = read(stream)
    if dtype.kind != "O":
        raise ValueError(f"npy array is of dtype {dtype}, not object")
    return data[stream.tell() :]


def _load(data: bytes) -> Any:
    # A first pass over the opcodes detects truncation, and memo indices that would cost gigabytes of memory.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name in _MEMO and int(str(argument)) > count:
            raise ValueError("memo index beyond the file")
        if opcode.name in _LONG and abs(cast(int, argument)) >= _LARGEST_INTEGER:
            raise ValueError("an integer of more than 64 bits")
    return _Finish().value(_Unpickler(io.BytesIO(data), encoding="latin1").load())


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise _ForbiddenError(f"{module}.{name}"[:80].encode("unicode_escape").decode())
        return admitted


class _Call:
    """Wrapper of a function. Without it, a pickle could set attributes of the function."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise ValueError("state set on a function")


class _DType:
    """Placeholder for ``numpy.dtype`` while the pickle is read."""

    __slots__ = ("_dtype",)

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(code, str) or not _TYPES.fullmatch(code):
            raise ValueError(f"dtype {str(code)[:40]!r}")
        self._dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, base, names, fields, size = state[:6]
        if base is not None:
            self._dtype = np.dtype((base[0].resolve(), _shape(base[1])))
        elif names is not None:
            # This constructor checks offsets against the size; numpy's own __setstate__ does not.
            formats = [fields[name][0].resolve() for name in names]
            offsets = [int(fields[name][1]) for name in names]
            self._dtype = np.dtype(
                {"names": list(names), "formats": formats, "offsets": offsets, "itemsize": int(size)}
            )
        elif order in ("<", ">"):
            self._dtype = self._dtype.newbyteorder(order)

    def resolve(self) -> np.dtype[Any]:
        return self._dtype


class _Array:
    """Placeholder for ``numpy.ndarray`` while the pickle is read; object arrays stay lists until the end."""

    __slots__ = ("array", "items", "shape")

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None
        self.items: list[Any] = []
        self.shape: tuple[int, ...] = (0,)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, data = state[-4:]
        self.shape = _shape(shape)
        if dtype.resolve().kind == "O":
            if fortran or not isinstance(data, list):
                raise ValueError("object array without its objects in order")
            self.items = data
        else:
            self.array = _from_bytes(data, dtype, self.shape, "F" if fortran else "C")


class _Finish:
    """Replace placeholders by arrays, once per object. Shared parts stay shared; a cycle is an error."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._keep: list[Any] = []

    def value(self, item: Any) -> Any:
        if type(item) in _LEAVES:  # first, because there are millions of them
            return item
        if not isinstance(item, _PARTS) and item is not _NDARRAY:
            return item
        identity = id(item)
        if identity not in self._done:
            self._done[identity] = _PENDING
            self._keep.append(item)  # so that the identity is not used again
            self._done[identity] = self._build(item)
        if self._done[identity] is _PENDING:
            raise ValueError("pickle contains itself")
        return self._done[identity]

    def _build(self, item: Any) -> Any:
        if isinstance(item, dict):
            return {self.value(key): self.value(value) for key, value in item.items()}
        if isinstance(item, list | tuple | set):
            value = self.value
            return type(item)([part if type(part) in _LEAVES else value(part) for part in item])
        if isinstance(item, _DType):
            return item.resolve()
        if not isinstance(item, _Array):
            raise ValueError("a function where data should be")
        if item.array is not None:
            return item.array
        array = np.empty(len(item.items), dtype=object)
        for i, value in enumerate(item.items):
            array[i] = self.value(value)
        array = array.reshape(item.shape)
        array.flags.writeable = False
        return array


_LEAVES = frozenset((float, int, str, bytes, bool, type(None)))
_PARTS = (dict, list, tuple, set, _Array, _DType, _Call)
_PENDING = object()
_NDARRAY = object()


def _shape(shape: Any) -> tuple[int, ...]:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if len(shape) > 16 or not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape):
        raise ValueError(f"shape {str(shape)[:40]}")
    return shape


def _from_bytes(data: Any, dtype: _DType, shape: Any, order: str = "C") -> NDArray[Any]:
    kind, shape = dtype.resolve(), _shape(shape)
    if kind.hasobject:
        raise ValueError("objects in raw data")
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{len(raw)} bytes do not fill {shape} of {kind.itemsize} bytes")
    if not raw:
        return np.empty(shape, kind)
    return np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _NDARRAY or _shape(shape) != (0,):
        raise ValueError("array is not built as numpy builds it")
    return _Array()


def _scalar(dtype: _DType, data: Any) -> Any:
    return _from_bytes(data, dtype, (1,))[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Call(_DType),
    ("_codecs", "encode"): _Call(_encode),
    **{
        (f"numpy.{core}.{module}", name): _Call(function)
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_bytes),
        )
    },
    # Protocols 0 to 2 write b"" as a call of bytes. With a size it would allocate memory, so it accepts no argument.
    **{(module, "bytes"): _Call(lambda: b"") for module in ("builtins", "__builtin__")},
}
