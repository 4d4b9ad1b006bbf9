"""Files appear whole or not at all, together or not at all, and errors name the file that was to be written."""

from __future__ import annotations

import errno
import io
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest
import torch
from full_disk import no_room_beyond
from matplotlib.figure import Figure

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import LARGEST_BYTES, WholeFiles, check_yaml, read_file, read_npz, write_file

SMALL, LARGE = 1000, 1_000_000


def draw(file: BinaryIO) -> None:
    figure = Figure()
    figure.add_subplot().plot([1, 2])
    figure.savefig(file, format="png")


WRITERS: dict[str, Callable[[BinaryIO], object]] = {
    "plain": lambda file: file.write(bytes(LARGE)),
    "torch": lambda file: torch.save({"w": torch.ones(LARGE)}, file),
    "numpy": lambda file: np.save(file, np.ones(LARGE)),
    "archive": lambda file: np.savez_compressed(file, a=np.random.default_rng(0).random(LARGE // 8)),
    "parquet": lambda file: pd.DataFrame({"a": np.random.default_rng(0).random(LARGE // 8)}).to_parquet(file),
    "figure": draw,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / "folder" / "seed0.pt"
    write_file(path, b"before")
    with no_room_beyond(SMALL), pytest.raises(OSError, match=r"too large|requested") as caught:
        write_file(path, WRITERS[name])
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]
    write_file(path, WRITERS[name])
    assert path.stat().st_size > SMALL
    assert list(path.parent.iterdir()) == [path]


def test_a_device_without_room(tmp_path: Path) -> None:
    partial = tmp_path / "scores.json.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_file(tmp_path / "scores.json", b"text")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "scores.json"))
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_opened_is_named_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "scores.json.partial").symlink_to(tmp_path / "absent" / "file")
    with pytest.raises(FileNotFoundError) as caught:
        write_file(tmp_path / "scores.json", b"text")
    assert caught.value.filename == str(tmp_path / "scores.json")
    assert not list(tmp_path.iterdir())


def fail(file: BinaryIO) -> None:
    file.write(b"half")
    raise KeyError("a mistake of ours")


def read_another(file: BinaryIO) -> None:
    Path("/nowhere/at/all").read_bytes()


@pytest.mark.parametrize(
    ("last", "kind", "named"),
    [(fail, KeyError, None), (read_another, FileNotFoundError, "/nowhere/at/all")],
    ids=["mistake", "reading"],
)
def test_files_take_their_places_together_or_not_at_all(
    tmp_path: Path, last: Callable[[BinaryIO], Any], kind: type[Exception], named: str | None
) -> None:
    names = ["errors.parquet", "examples.npz", "scores.json"]

    def write(content: bytes, then: Callable[[BinaryIO], Any] | bytes) -> None:
        with WholeFiles() as files:
            for name in names:
                files.write(tmp_path / name, then if name == names[-1] else content)
                assert not any((tmp_path / other).exists() for other in names) or content != b"first"

    def there() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(kind) as caught:
        write(b"first", last)
    assert getattr(caught.value, "filename", None) == named
    assert there() == {}
    write(b"first", b"first")
    assert there() == dict.fromkeys(names, b"first")
    with pytest.raises(kind):
        write(b"second", last)
    assert there() == dict.fromkeys(names, b"first")
    write(b"second", b"second")
    assert there() == dict.fromkeys(names, b"second")


def test_content_is_what_a_plain_file_would_hold(tmp_path: Path) -> None:
    table, plain = pd.DataFrame({"a": np.arange(50.0)}), io.BytesIO()
    table.to_parquet(plain)
    write_file(tmp_path / "a", table.to_parquet, durable=True)
    assert (tmp_path / "a").read_bytes() == plain.getvalue()


def test_only_regular_files_of_a_limited_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")
    Path("zero").symlink_to("/dev/zero")
    Path("huge").touch()
    os.truncate("huge", LARGEST_BYTES + 1)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    for name, problem in {"fifo": "regular", "loop": "links", "zero": "regular", "huge": "8 GiB", "socket": ""}.items():
        with pytest.raises(InputError) as caught:
            read_file(Path(name), "copy it")
        assert str(caught.value).startswith(f"{name}: file cannot be read (")
        assert problem in str(caught.value)
    Path("link").symlink_to("plain")
    Path("plain").write_bytes(b"text")
    assert read_file(Path("link"), "copy it") == b"text"


def test_yaml_that_is_deep_or_grows_by_aliases_is_refused() -> None:
    growing = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    growing += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 9)]
    for text in ("\n".join(growing), "[" * 200_000, "- " * 200_000, '{"a":' * 200_000):
        with pytest.raises(ValueError, match=r"deeper|aliases"):
            check_yaml(text)
    check_yaml("a: &a [1, 2]\nb: [*a, *a]\n" + "c: " + "[" * 90 + "]" * 90)


def test_arrays_that_claim_another_size_are_refused_before_they_are_inflated(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros((5, 2)), b=np.array("text"))
    assert {name: values.shape for name, values in read_npz(path).items()} == {"a": (5, 2), "b": ()}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": (50_000_000_000_000,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", buffer.getvalue() + bytes(80))
    with pytest.raises(ValueError, match=r"a.npy claims an array of \(50000000000000,\)"):
        read_npz(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="not a zip file"):
        read_npz(path)
    np.savez(path, a=np.array([None]))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_npz(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_arrays_of_any_compression_are_refused(tmp_path: Path, compression: int) -> None:
    """Each decompressor raises an error of another type."""
    path, array = tmp_path / "a.npz", io.BytesIO()
    np.save(array, np.random.default_rng(0).random(100))
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.npy", array.getvalue())
    whole = path.read_bytes()
    assert read_npz(path)["a"].shape == (100,)
    for place in range(30, whole.index(b"PK\x01\x02"), 7):
        path.write_bytes(whole[:place] + bytes(255 - value for value in whole[place : place + 6]) + whole[place + 6 :])
        with pytest.raises(ValueError, match=r"\S"):
            read_npz(path)


@pytest.mark.parametrize(
    ("offset", "value", "problem"), [(8, 99, "compression method is not supported"), (6, 1, "is encrypted")]
)
def test_arrays_of_an_unknown_compression_or_encrypted_are_refused(
    tmp_path: Path, offset: int, value: int, problem: str
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(5))
    content = bytearray(path.read_bytes())
    content[offset] = value
    content[content.index(b"PK\x01\x02") + offset + 2] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        read_npz(path)
