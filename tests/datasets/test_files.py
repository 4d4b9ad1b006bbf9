"""Files appear whole or not at all, together or not at all, and errors name the file that was to be written."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest
import torch
from full_disk import no_room_beyond
from matplotlib.figure import Figure

from poseboard.datasets.files import WholeFiles, write_file

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
