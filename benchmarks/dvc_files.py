"""What a kill of ``dvc repro`` leaves in a state that no later run gets past: found before the next one, and removed.

DVC 3 writes two files in place, so that a kill at the wrong moment leaves half of one: ``.dvc/tmp/rwlock``, the JSON
that says which process reads and writes which path, and ``dvc.lock``, the record of what the stages were run with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from dvc.lock import Lock, LockError
from dvc.rwlock import SCHEMA
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

_SLACK_S = 2.0
"""By which a process may seem to have started after it wrote: times of files and of processes have different clocks."""


def remove_damage(home: Path) -> list[str]:
    """Remove what stale or damaged files of DVC would stop a run of a checkout; a line per file.

    Removed are the lock ``.dvc/tmp/rwlock`` if it cannot be parsed or none of its processes is a living DVC, and
    ``dvc.lock`` if it cannot be parsed, which is kept as ``dvc.lock.damaged``: stages whose record is gone run again.
    Nothing is touched while a DVC is at work in this checkout, or while one is editing the lock.

    Args:
        home: folder of dvc.yaml.

    Raises:
        OSError: a file cannot be read or removed.
    """
    folder = home / ".dvc" / "tmp"
    lock, record = folder / "rwlock", home / "dvc.lock"
    if not any(path.is_file() for path in (lock, record)):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # The guard that DVC holds while it edits the lock; it goes with its process, so that a kill frees it.
        with Lock(str(folder / "rwlock.lock")):
            return [*_stale_lock(lock, home), *_damaged_record(record, home)]
    except LockError:
        return []  # a living DVC holds it


def _stale_lock(path: Path, home: Path) -> Iterator[str]:
    if not path.is_file():
        return
    holders = _holders(path)
    if holders is None:
        if at_work(home):
            return
        reason = "it does not parse"
    elif any(_is_alive(holder["pid"], str(holder["cmd"]), home, path.stat().st_mtime) for holder in holders):
        return
    elif holders:
        killed = ", ".join(str(pid) for pid in sorted({holder["pid"] for holder in holders}))
        reason = f"none of the processes that hold it ({killed}) is a living dvc"
    else:
        return
    path.unlink()
    yield f"{path.relative_to(home)}: removed, {reason}; an earlier run was killed"


def _damaged_record(path: Path, home: Path) -> Iterator[str]:
    if not path.is_file() or _is_record(path) or at_work(home):
        return
    kept = path.with_name(path.name + ".damaged")
    path.replace(kept)
    yield f"{path.name}: does not parse, an earlier run was killed; kept as {kept.name}, stages run again as needed"


def _holders(path: Path) -> list[dict[str, Any]] | None:
    """The processes that a lock names, None if it is none that DVC can read."""
    try:
        lock = SCHEMA(json.loads(path.read_bytes()))
    except (ValueError, Invalid):
        return None
    return [*lock["write"].values(), *(holder for readers in lock["read"].values() for holder in readers)]


def _is_record(path: Path) -> bool:
    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, UnicodeDecodeError, Invalid):
        return False
    return True


def at_work(home: Path) -> bool:
    """Whether a DVC is at work in a checkout or in a folder of it."""
    return any(_names_dvc(_command(process)) and _is_in(process, home) for process in psutil.process_iter())


def _is_alive(pid: int, command: str, home: Path, written: float) -> bool:
    """Whether a process is the DVC that wrote a lock, and no later process that was given its number.

    Args:
        pid: its number.
        command: what it was started by, as the lock has it.
        home: folder of the checkout.
        written: when the lock was last written, seconds.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or process.create_time() > written + _SLACK_S:
            return False
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return False
    except psutil.AccessDenied:
        return True
    words = _command(process)
    same = bool(command) and " ".join(words).endswith(command)  # a program that runs DVC by its Python interface
    return (same or _names_dvc(words)) and _is_in(process, home)


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []
    except psutil.AccessDenied:
        return ["dvc"]  # nobody can say: better to wait for it than to take its lock


def _names_dvc(words: Sequence[str]) -> bool:
    """Whether a command is DVC: ``dvc repro``, ``python …/bin/dvc repro`` or ``python -m dvc repro``."""
    return any(Path(word).name in {"dvc", "dvc.exe"} for word in words[:4])


def _is_in(process: psutil.Process, home: Path) -> bool:
    try:
        folder = Path(process.cwd())
    except psutil.NoSuchProcess:
        return False
    except (psutil.AccessDenied, OSError):
        return True
    return process.pid != os.getpid() and (folder == home.resolve() or home.resolve() in folder.parents)
