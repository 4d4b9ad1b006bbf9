"""What a result says of the code that made it, inside and outside of a git checkout."""

import subprocess
from pathlib import Path

import pytest

from poseboard.benchmarks.layout import Layout
from poseboard.benchmarks.provenance import provenance
from poseboard.protocols.records import Provenance


def made_in(folder: Path) -> Provenance:
    return provenance(Layout(folder, "p"), name="a/score/b", options={}, manifest="m", checkpoints={0: None})


def git(folder: Path, *arguments: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_outside_of_a_checkout_nothing_is_known_and_nothing_called_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    made = made_in(tmp_path)
    assert (made.git_commit, made.git_dirty) == (None, None)
    monkeypatch.setenv("PATH", "")
    assert made_in(tmp_path).git_dirty is None, "there is no git"


def test_in_a_checkout_changes_of_the_rooms_count(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for name in ("pyproject.toml", "notes.txt"):
        (tmp_path / name).write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "First")
    made = made_in(tmp_path)
    assert (made.git_commit, made.git_dirty) == (git(tmp_path, "rev-parse", "HEAD").strip(), False)
    (tmp_path / "notes.txt").write_text("b")
    assert made_in(tmp_path).git_dirty is False, "no part of the code"
    (tmp_path / "pyproject.toml").write_text("b")
    assert made_in(tmp_path).git_dirty is True
