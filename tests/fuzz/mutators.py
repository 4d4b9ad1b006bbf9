"""Seeded damage to files: to their bytes, to their kind, and to the values that they hold.

A mutator takes a file and a random generator, and replaces the file; it raises `NotApplicableError` for a file of
another kind. Files are replaced, never changed in place, because the tree of a case has hard links to the clean one.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import socket
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
import torch
import yaml

sys.set_int_max_str_digits(0)  # the mutators write integers that readers must refuse

Mutator = Callable[[Path, np.random.Generator], None]


class NotApplicableError(Exception):
    """The mutator damages files of another kind."""


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


# Bytes.


def truncated(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    _replace(path, content[: int(rng.integers(0, max(len(content), 1)))])


def emptied(path: Path, rng: np.random.Generator) -> None:
    _replace(path, b"")


def bits(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), int(rng.integers(1, 9))):
        content[place] ^= 1 << int(rng.integers(8))
    _replace(path, bytes(content))


def zeroed(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    start = int(rng.integers(0, len(content)))
    content[start : start + 64] = bytes(len(content[start : start + 64]))
    _replace(path, bytes(content))


def inserted(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    place = int(rng.integers(0, len(content) + 1))
    _replace(path, content[:place] + rng.bytes(int(rng.integers(1, 200))) + content[place:])


def other_kind(path: Path, rng: np.random.Generator) -> None:
    starts = (
        b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x89HDF\r\n\x1a\n", b"<html>", b"\x80\x05]", b"PAR1",
        b"version https://git-lfs.github.com/spec/v1\n", b"\xff\xfe", b"\xfd7zXZ\x00", b"\x93NUMPY\x01\x00",
        b"BM", b"GIF89a",
    )  # fmt: skip
    _replace(path, starts[int(rng.integers(len(starts)))] + rng.bytes(int(rng.integers(0, 300))))


# Kinds of files.


def fifo(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


def device(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to(("/dev/zero", "/dev/full", "/dev/tty")[int(rng.integers(3))])


def loop(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to(path.name)


def unix_socket(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as bound:  # by /proc, because addresses are short
        bound.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def sparse(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    _replace(path, content)
    os.truncate(path, 2**35)


def absent(path: Path, rng: np.random.Generator) -> None:
    path.unlink()


# Text.


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        raise NotApplicableError from None
    if not text or "\0" in text:
        raise NotApplicableError
    return text


def deep(path: Path, rng: np.random.Generator) -> None:
    text = _text(path)
    start, end = ((b"[", b"]"), (b'{"a":', b"}"), (b"- ", b""), (b"[", b""), (b"<a>", b"</a>"))[int(rng.integers(5))]
    depth = int(rng.choice([500, 20_000, 200_000]))
    nested = start * depth + end * depth
    place = text.find(":", int(rng.integers(len(text)))) + 1 if rng.random() < 0.5 else 0
    _replace(path, text[:place].encode() + b" " + nested + (text[place:].encode() if place else b""))


def token(path: Path, rng: np.random.Generator) -> None:
    """One number of a text file becomes something else."""
    import re

    text = _text(path)
    numbers = list(re.finditer(r"(?<![\w.])-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?(?![\w.])", text))
    if not numbers:
        raise NotApplicableError
    values = (
        "9" * 5000, "1e400", "-1e400", "NaN", "Infinity", "1e30", "-1e30", "1000000000", "-7", "null", "true",
        "maybe",
        '"text"', "[]", "{}", "2020-01-02", "0x10", "1_000", ".inf", "[[[[1]]]]", '"\\ud800"', '"\\u001b[31m"',
        "*a", "!!python/name:os.system",
    )  # fmt: skip
    match = numbers[int(rng.integers(len(numbers)))]
    _replace(path, (text[: match.start()] + values[int(rng.integers(len(values)))] + text[match.end() :]).encode())


def aliases(path: Path, rng: np.random.Generator) -> None:
    if path.suffix not in (".yaml", ".yml"):
        raise NotApplicableError
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12)]
    _replace(path, ("\n".join(lines) + "\n" + _text(path)).encode())


# Archives and images.


def claimed_size(path: Path, rng: np.random.Generator) -> None:
    """A member of a zip archive, or the shape of an array, that claims to be huge, or is huge."""
    content = path.read_bytes()
    if content.startswith(b"\x93NUMPY"):
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (50000000000000,), }"
        _replace(path, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64))
        return
    if not content.startswith(b"PK"):
        raise NotApplicableError
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = list(members)[int(rng.integers(len(members)))]
    out = io.BytesIO()
    kind, size = ((zipfile.ZIP_DEFLATED, 2**28), (zipfile.ZIP_BZIP2, 2**25))[int(rng.integers(2))]
    with zipfile.ZipFile(out, "w", kind, compresslevel=1) as archive:
        for name, value in members.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(value)
                for _ in range(size >> 22 if name == chosen else 0):
                    member.write(bytes(2**22))
    _replace(path, out.getvalue())


def compression(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if not content.startswith(b"PK"):
        raise NotApplicableError
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset : place + offset + 2] = struct.pack("<H", (8, 12, 14, 93, 99)[int(rng.integers(5))])
            place = content.find(signature, place + 4)
    _replace(path, bytes(content))


def pixels(path: Path, rng: np.random.Generator) -> None:
    """The header of an image claims 60,000 × 60,000, 1 × 1, or another size."""
    content = bytearray(path.read_bytes())
    width, height = ((60_000, 60_000), (1, 1), (50_000, 40), (77, 33))[int(rng.integers(4))]
    if content.startswith(b"\x89PNG"):
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif content.startswith(b"\xff\xd8"):
        place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
        content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    else:
        raise NotApplicableError
    _replace(path, bytes(content))


# Values: the file is decoded, changed and encoded.


def _decode(path: Path) -> Any:  # noqa: PLR0911
    try:
        if path.suffix == ".json":
            return json.loads(path.read_bytes())
        if path.suffix in (".yaml", ".yml"):
            return yaml.safe_load(path.read_bytes())
        if path.suffix in (".pkl", ".pickle"):
            return pickle.loads(path.read_bytes())
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=True)[()]
        if path.suffix == ".mat":
            return {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
        if path.suffix == ".pt":
            return torch.load(path, weights_only=False)
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            return {"columns": table.to_pydict(), "metadata": dict(table.schema.metadata or {}), "schema": table.schema}
    except (ValueError, yaml.YAMLError, pickle.UnpicklingError):
        pass
    raise NotApplicableError


def _encode(path: Path, values: Any) -> None:
    out = io.BytesIO()
    if path.suffix == ".json":
        out.write(json.dumps(values, default=lambda v: v.tolist()).encode())
    elif path.suffix in (".yaml", ".yml"):
        out.write(yaml.safe_dump(values, sort_keys=False).encode())
    elif path.suffix in (".pkl", ".pickle"):
        out.write(pickle.dumps(values, protocol=2))
    elif path.suffix == ".npy":
        np.save(out, np.array(values, dtype=object), allow_pickle=True)
    elif path.suffix == ".mat":
        scipy.io.savemat(out, values)
    elif path.suffix == ".pt":
        torch.save(values, out)
    else:
        schema, columns = values["schema"], values["columns"]
        try:
            table = pa.table(columns, schema=schema)
        except (pa.ArrowException, TypeError, ValueError, KeyError, AttributeError):
            try:
                table = pa.table(columns)
            except (pa.ArrowException, TypeError, ValueError, AttributeError):
                raise NotApplicableError from None
        pq.write_table(table.replace_schema_metadata(values["metadata"]), out)
    _replace(path, out.getvalue())


def _nodes(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all values below a value, at most the first hundred of a list."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:100])
    elif isinstance(value, np.ndarray) and value.dtype.names:
        items = ((name, None) for name in value.dtype.names)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        items = ((index, value[index]) for index in np.ndindex(value.shape))
    else:
        return
    for key, inner in items:
        yield (*place, key)
        yield from _nodes(inner, (*place, key))


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def _put(value: Any, place: tuple[Any, ...], new: Any) -> None:
    holder = _at(value, place[:-1])
    try:
        holder[place[-1]] = new
    except (TypeError, ValueError, RuntimeError, IndexError):
        raise NotApplicableError from None


def _numbers(value: Any) -> np.ndarray | None:
    """Three numbers or more as an array; None for other values."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, list | tuple | np.ndarray):
        try:
            array = np.asarray(value)
        except ValueError:
            return None
        if array.dtype.kind in "fiu" and array.size >= 3:
            return array.astype(np.float64)
    return None


def _choose(rng: np.random.Generator, items: list[Any]) -> Any:
    if not items:
        raise NotApplicableError
    return items[int(rng.integers(len(items)))]


def value(path: Path, rng: np.random.Generator) -> None:
    """One value of any level becomes another type, an extreme, or is deleted."""
    values = _decode(path)
    place = _choose(rng, list(_nodes(values)))
    new = _choose(
        rng,
        [None, True, "maybe", "", -1, 0, 10**18, 10**5000, 1e30, -1e30, math.nan, math.inf, [], {}, [[]], "\x1b[31m",
         "../../x", "a\nb", "x" * 100_000, [1] * 1000, [None], {"a": 1}, "\ud800", np.zeros((0, 3)), b"\xff", deep],
    )  # fmt: skip
    if new is deep:
        holder = _at(values, place[:-1])
        if isinstance(holder, np.ndarray):
            raise NotApplicableError
        del holder[place[-1]]
    else:
        if isinstance(new, np.ndarray | bytes) and path.suffix in (".json", ".yaml", ".yml"):
            new = "0"
        _put(values, place, new)
    try:
        _encode(path, values)
    except (ValueError, TypeError, OverflowError, UnicodeEncodeError, yaml.YAMLError, AttributeError):
        raise NotApplicableError from None


SEMANTIC: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "in metres": lambda a, rng: a / 1000,
    "in micrometres": lambda a, rng: a * 1000,
    "negated": lambda a, rng: -a,
    "zero": lambda a, rng: a * 0,
    "NaN": lambda a, rng: a * np.nan,
    "one infinite": lambda a, rng: np.where(np.arange(a.size).reshape(a.shape) == a.size // 2, np.inf, a),
    "transposed": lambda a, rng: a.swapaxes(-1, -2).reshape(a.shape) if a.ndim > 1 else a[::-1],
    "rolled": lambda a, rng: np.roll(a, 1, axis=-2 if a.ndim > 1 else 0),
    "x and y": lambda a, rng: np.concatenate([a[..., 1::-1], a[..., 2:]], axis=-1),
    "one short": lambda a, rng: a[:-1],
    "one too many": lambda a, rng: np.concatenate([a, a[-1:]]),
    "shifted": lambda a, rng: a + 5000,
}


def _semantic(name: str) -> Mutator:
    def mutate(path: Path, rng: np.random.Generator) -> None:
        values = _decode(path)
        places = [place for place in _nodes(values) if _numbers(_at(values, place)) is not None]
        place = _choose(rng, places)
        alike = [other for other in places if other[-1] == place[-1] and len(other) == len(place)]
        if name == "exchanged":
            a, b = _at(values, place), _at(values, _choose(rng, [other for other in alike if other != place]))
            other = next(p for p in alike if _at(values, p) is b)
            _put(values, place, b)
            _put(values, other, a)
        else:
            for each in alike if rng.random() < 0.5 else [place]:
                old = _at(values, each)
                array = _numbers(old)
                if array is None:
                    continue
                new = SEMANTIC[name](array, rng)
                if isinstance(old, torch.Tensor):
                    _put(values, each, torch.from_numpy(new.copy()).to(old.dtype))
                elif isinstance(old, np.ndarray):
                    kept = new.astype(old.dtype) if old.dtype.kind == "f" else new
                    if isinstance(each[-1], str) and isinstance(_at(values, each[:-1]), np.ndarray):
                        if kept.shape != old.shape:
                            raise NotApplicableError
                        _at(values, each[:-1])[each[-1]][...] = kept
                    else:
                        _put(values, each, kept)
                else:
                    _put(values, each, new.tolist())
        _encode(path, values)

    return mutate


MUTATORS: dict[str, dict[str, Mutator]] = {
    "bytes": {f.__name__: f for f in (truncated, emptied, bits, zeroed, inserted, other_kind)},
    "file": {f.__name__: f for f in (fifo, folder, device, loop, unix_socket, sparse, absent)},
    "text": {f.__name__: f for f in (deep, token, aliases)},
    "sizes": {f.__name__: f for f in (claimed_size, compression, pixels)},
    "value": {"value": value},
    "meaning": {name: _semantic(name) for name in [*SEMANTIC, "exchanged"]},
}
"""Group -> name -> mutator."""
