"""What a killed DVC leaves is removed and said, and never what a living one holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.lock import Lock

from poseboard.benchmarks import dvc_files, pipeline

RECORD = "schema: '2.0'\nstages:\n  a:\n    cmd: 'true'\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / ".dvc" / "tmp").mkdir(parents=True)
    return folder


@pytest.fixture
def process(home: Path) -> Iterator[Callable[..., int]]:
    """Starts a process that waits, under a name and in a folder, and gives its number."""
    started = []

    def start(*words: str, folder: Path = home) -> int:
        program = "import sys; print('there', flush=True); sys.stdin.read()"
        waiting = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(waiting)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "there\n"
        return waiting.pid

    yield start
    for waiting in started:
        waiting.communicate("")


def dead() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def hold(home: Path, *pids: int, command: str = "/venv/bin/dvc repro") -> Path:
    path = home / ".dvc" / "tmp" / "rwlock"
    holders = [{"pid": pid, "cmd": command} for pid in pids]
    path.write_text(json.dumps({"write": {"results/a": holders[0]}, "read": {"dvc.yaml": holders}}))
    return path


@pytest.mark.parametrize(
    "content", [b"", b'{"write": {"a": {"pi', b"\xff\xfe", b"[]", b'{"write": {"a": {"pid": "one"}}}', b"\x00" * 64]
)
def test_a_lock_that_does_not_parse_is_removed_and_said(home: Path, content: bytes) -> None:
    path = home / ".dvc" / "tmp" / "rwlock"
    path.write_bytes(content)
    assert dvc_files.remove_damage(home) == [
        ".dvc/tmp/rwlock: removed, it does not parse; an earlier run was killed",
    ]
    assert not path.exists()
    assert dvc_files.remove_damage(home) == []


def test_a_lock_of_dead_processes_is_removed_and_said(home: Path) -> None:
    pid = dead()
    path = hold(home, pid)
    (line,) = dvc_files.remove_damage(home)
    assert f"({pid}) is a living dvc" in line
    assert not path.exists()


def test_a_number_that_another_process_was_given_holds_nothing(home: Path, process: Callable[..., int]) -> None:
    path = hold(home, process("sleep"))
    assert dvc_files.remove_damage(home)
    assert not path.exists()
    # A DVC that started after the lock was written is not the one that wrote it.
    path = hold(home, process("dvc", "repro"))
    os.utime(path, (0, 0))
    assert dvc_files.remove_damage(home)
    assert not path.exists()
    # Nor is one of another checkout.
    path = hold(home, process("dvc", "repro", folder=home.parent))
    assert dvc_files.remove_damage(home)
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "command"),
    [(("/venv/bin/dvc", "repro"), "/venv/bin/dvc repro"), (("our_runner.py", "--all"), "our_runner.py --all")],
    ids=["dvc", "its-python-interface"],
)
def test_a_lock_that_a_living_process_holds_stays(
    home: Path, process: Callable[..., int], words: tuple[str, ...], command: str
) -> None:
    path = hold(home, dead(), process(*words), command=command)
    before = path.read_bytes()
    assert dvc_files.remove_damage(home) == []
    assert path.read_bytes() == before


def test_nothing_is_touched_while_a_dvc_is_at_work_or_edits(home: Path, process: Callable[..., int]) -> None:
    path, record = home / ".dvc" / "tmp" / "rwlock", home / "dvc.lock"
    path.write_bytes(b"")
    record.write_bytes(b"")
    with Lock(str(path.with_name("rwlock.lock"))):
        assert dvc_files.remove_damage(home) == []
    inside = home / "folder"
    inside.mkdir()
    process("dvc", "repro", folder=inside)
    assert dvc_files.remove_damage(home) == []
    assert path.exists()
    assert record.exists()


@pytest.mark.parametrize("content", [b"", b"schema: '2.0'\nstages:\n  a:\n", b"stages: [", b"\xff\xfe"])
def test_a_record_that_does_not_parse_is_kept_aside_and_said(home: Path, content: bytes) -> None:
    path = home / "dvc.lock"
    path.write_bytes(content)
    (line,) = dvc_files.remove_damage(home)
    assert line.startswith("dvc.lock: does not parse")
    assert not path.exists()
    assert (home / "dvc.lock.damaged").read_bytes() == content


def test_what_is_whole_stays(home: Path) -> None:
    assert dvc_files.remove_damage(home) == []
    (home / "dvc.lock").write_text(RECORD)
    (home / ".dvc" / "tmp" / "rwlock").write_text("{}")
    assert dvc_files.remove_damage(home) == []
    assert (home / "dvc.lock").read_text() == RECORD


def test_repro_says_what_it_removes_before_it_runs(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = workspace.folder / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(parents=True)
    lock.write_bytes(b"")
    seen = []
    monkeypatch.setattr(pipeline, "run_pipeline", lambda _: seen.append(lock.exists()))
    done = workspace.must("repro")
    assert seen == [False]
    assert "poseboard: .dvc/tmp/rwlock: removed, it does not parse" in done.err
