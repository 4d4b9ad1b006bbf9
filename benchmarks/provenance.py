"""Where a result comes from: commit, parameters, versions, hardware."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2

import poseboard.methods.base
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.protocols.records import Provenance, TrainingFile, Weights, row_path

ROOMS = ("benchmarks", "datasets", "methods", "protocols", "report", "pyproject.toml", "constraints.txt", "dvc.yaml")
_OF_DATASETS = re.compile(r"^\s*from poseboard\.datasets\.([\w.]+) import", re.MULTILINE)
_PACKAGES = ("torch", "numpy", "numba", "scipy", "lightning-fabric", "pandas", "pyarrow")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(settings: Settings, weights: Path) -> str:
    """SHA-256 of a file of weights, verified where a training of this checkout recorded it.

    That is for checkpoints where `Settings.checkpoint` puts them, of any profile; a file elsewhere has no record, and
    its own checksums alone speak for it (`Checkpoint.read`).

    Raises:
        InputError: the file is another than the one that its training left.
        ResultError: the record of the training cannot be read.
        OSError: the file cannot be read.
    """
    digest = file_sha256(weights)
    if (path := training_path(settings, weights)) is None or not path.is_file():
        return digest
    recorded = TrainingFile.read(path).provenance.checkpoint_sha256.get(weights.stem)
    if recorded not in (None, digest):
        raise InputError(
            weights,
            f"its hash {digest[:12]}… is not {recorded[:12]}…, which {path} recorded",
            f"run `poseboard train {path.stem} {path.parent.name}` again; other weights are a row of their own, "
            "`weights: FILE`",
        )
    return digest


def training_path(settings: Settings, weights: Path) -> Path | None:
    """The record of the training that left a checkpoint where `Settings.checkpoint` puts it; None elsewhere."""
    results = (settings.home / "results").resolve()
    path = weights.resolve()
    match path.relative_to(results).parts if path.is_relative_to(results) else ():
        case (profile, "checkpoints", row, dataset, _):
            return row_path(results / profile, "training", row, dataset)
        case _:
            return None


def weights_source(settings: Settings, dataset: str, method: str) -> Weights | None:
    """Where the checkpoints of a row come from, as its training recorded; None where nothing is recorded."""
    path = settings.row_path("training", method, dataset)
    return TrainingFile.read(path).provenance.weights if path.is_file() else None


def code_sha256(paths: Sequence[Path]) -> str:
    """SHA-256 over the Python sources of files and folders, names included."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            digest.update(str(file.relative_to(path.parent)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


ROOMS_FOLDER = Path(poseboard.methods.base.__file__).parent.parent
"""Where the rooms of the suite are installed."""

CODE_OF_ROWS = tuple(
    ROOMS_FOLDER / "methods" / name for name in ("base.py", "checkpoint.py", "batches", "geometry", "nets")
)
"""What every row runs, beside its own code."""

CODE_OF_DATA = tuple(ROOMS_FOLDER / "datasets" / f"{name}.py" for name in ("camera", "crops", "sample", "skeleton"))
"""What every data set goes through, beside its adapter."""


def row_code_sha256(settings: Settings, dataset: str, method: str, *more: Path) -> str:
    """SHA-256 of `row_code`, and of the files and folders ``more`` of the stage that asks."""
    return code_sha256([*row_code(settings, dataset, method), *more])


def row_code(settings: Settings, dataset: str, method: str) -> list[Path]:
    """The files and folders that a row's work on a data set depends on: other rows and other adapters do not count.

    Args:
        settings: params.yaml in one profile.
        dataset: whose adapter counts.
        method: a row: its own code, and what all rows share.

    Raises:
        InputError: the code that the row names is not there.
    """
    named = settings.entry(method).code
    # Beside params.yaml, or where the suite itself is installed.
    own = next((path for path in (settings.home / named, ROOMS_FOLDER / named) if path.exists()), None)
    if own is None:
        raise InputError(f"methods.{method}.code", f"there is no {named}", "name the method's file or folder")
    return [own, *CODE_OF_ROWS, *CODE_OF_DATA, *adapter_code(dataset)]


def adapter_code(dataset: str) -> list[Path]:
    """The files of datasets/ that the adapter of a data set consists of: its own, and those that it imports."""
    entry = catalog().get(dataset)
    own = None if entry is None else inspect.getsourcefile(entry.adapter)
    waiting, files = [] if own is None else [Path(own)], set[Path]()
    while waiting:
        path = waiting.pop()
        if path not in files and path.is_file():
            files.add(path)
            imported = _OF_DATASETS.findall(path.read_text(encoding="utf-8"))
            waiting += [ROOMS_FOLDER / "datasets" / f"{name.replace('.', '/')}.py" for name in imported]
    return sorted(files)


@lru_cache(maxsize=1)
def hardware() -> str:
    """One line: processor, cores, GPU if there is one."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    text = f"{name}, {os.cpu_count()} cores"
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout.split("\n")
        text += "".join(f", {gpu}" for gpu in gpus if gpu)
    except (OSError, subprocess.SubprocessError):
        pass
    return text


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on; of OpenCV, which several packages hold, its own."""
    found = {"python": platform.python_version(), "poseboard": metadata.version("poseboard"), "opencv": cv2.__version__}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def provenance(
    settings: Settings,
    *,
    run: str,
    options: Mapping[str, Any],
    manifest: str,
    checkpoints: Mapping[int, str | None],
    weights: Weights | None = None,
) -> Provenance:
    """The provenance of a result made now.

    Args:
        settings: params.yaml in one profile.
        run: method/kind/dataset; with profile and moment it becomes the name of the MLflow run.
        options: of the method, that this result depends on.
        manifest: hash of the data set.
        checkpoints: seed -> hash of its checkpoint file, None where there is none; all seeds of the result.
        weights: where the checkpoints come from.
    """
    plain = json.loads(json.dumps(dict(options), sort_keys=True, default=str))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Provenance(
        git_commit=_git(settings.home, "rev-parse", "HEAD"),
        git_dirty=None
        if (changes := _git(settings.home, "status", "--porcelain", "--", *ROOMS)) is None
        else bool(changes),
        options=plain,
        params_sha256=hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest(),
        data_manifest=manifest,
        checkpoint_sha256={f"seed{seed}": digest for seed, digest in checkpoints.items() if digest is not None},
        weights=weights,
        seeds=sorted(checkpoints),
        versions=versions(),
        hardware=hardware(),
        created=created,
        mlflow_run=f"{run}/{settings.params.profile}/{created}",
    )


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git, or no checkout."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
