"""Provenance of a result: commit, parameters, versions, hardware."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

import poseboard.methods.base
from poseboard.benchmarks.layout import Layout
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file, read_bytes
from poseboard.datasets.sample import FileState
from poseboard.methods.base import module_and_class
from poseboard.protocols.records import Provenance, TrainingFile, Weights, row_path

if TYPE_CHECKING:
    from poseboard.benchmarks.plan import Run

ROOMS = ("benchmarks", "datasets", "methods", "protocols", "report", "pyproject.toml", "constraints.txt", "dvc.yaml")
_PACKAGES = ("torch", "numpy", "numba", "scipy", "lightning-fabric", "pandas", "pyarrow")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(layout: Layout, weights: Path) -> str:
    """SHA-256 of a checkpoint, compared with the record of its training.

    Only a checkpoint at a path of `Layout.checkpoint`, in any profile, has such a record. Other files are verified only
    by their internal checksums (`Checkpoint.read`).

    Raises:
        InputError: the file differs from the checkpoint that the training recorded.
        ResultError: the record of the training cannot be read.
        OSError: the file cannot be read.
    """
    digest = file_sha256(weights)
    if (path := training_path(layout, weights)) is None or not path.is_file():
        return digest
    recorded = TrainingFile.read(path).provenance.checkpoint_sha256.get(weights.stem)
    if recorded not in (None, digest):
        raise InputError(
            weights,
            f"its hash {digest[:12]}… is not {recorded[:12]}…, which {path} recorded",
            f"run `poseboard train {path.stem} {path.parent.name}` again, or add a row with `weights: FILE` for other "
            "weights",
        )
    return digest


def training_path(layout: Layout, weights: Path) -> Path | None:
    """Path of the training record of a checkpoint; None if the checkpoint is not at a path of `Layout.checkpoint`."""
    results = (layout.home / "results").resolve()
    path = Path(os.path.realpath(weights))
    match path.relative_to(results).parts if path.is_relative_to(results) else ():
        case (profile, "checkpoints", row, dataset, _):
            return row_path(results / profile, "training", row, dataset)
        case _:
            return None


def check_weights(run: Run) -> None:
    """Reject weights that were trained on another version of a data set.

    Weights from a file (``weights: FILE``) are not checked, because the file itself names its training data.

    Raises:
        InputError: the weights have no record of their training, or were trained on other data.
        ResultError: the record cannot be read.
    """
    remedy = f"run `poseboard train {run.row}`, or add a row with `weights: FILE` or `train_on` for other weights"
    path = run.path("training")
    if not path.is_file():
        lacking = run.layout.portable(str(path))
        problem = f"its weights for {run.source.name} have no record of their training ({lacking})"
        raise InputError(f"row {run.row}", problem, remedy)
    record = TrainingFile.read(path)
    if record.provenance.weights is not None and record.provenance.weights.origin == "imported":
        return
    manifests = record.training_manifests or {run.source.name: record.provenance.data_manifest}
    for source in {run.source.name: run.source, **{source.name: source for source in run.training}}.values():
        if source.name in manifests and not source.is_absent:
            then, now = manifests[source.name], source.dataset.manifest()
            if then != now:
                problem = (
                    f"its weights were trained on another state of {source.name} ({then[:12]}… is now {now[:12]}…)"
                )
                raise InputError(f"row {run.row}", problem, remedy)


def weights_source(run: Run) -> Weights | None:
    """Origin of the checkpoints of a row, from the record of its training; None: not recorded."""
    path = run.path("training")
    return TrainingFile.read(path).provenance.weights if path.is_file() else None


ROOMS_FOLDER = Path(poseboard.methods.base.__file__).resolve().parents[1]
"""Where the rooms of the suite are installed."""

_HARNESS = "poseboard.benchmarks.harness"
"""Lets a row predict, and makes the samples of its training."""
_LOOP = "poseboard.methods.loop"


def prediction_code(run: Run) -> list[Path]:
    """Code files that the predictions of a row on a data set depend on.

    Raises:
        InputError: the ``code`` of the row does not exist.
    """
    return closure([*row_code(run), *adapter_code([run.source.kind or run.source.name]), _HARNESS])


def training_code(run: Run, datasets: Iterable[str]) -> list[Path]:
    """Code files that a training of a row on some data sets depends on.

    Args:
        run: run of the row.
        datasets: names of data sets in params.yaml.

    Raises:
        InputError: the ``code`` of the row does not exist.
    """
    kinds = {source.name: source.kind for source in (run.source, *run.training)}
    return closure([*row_code(run), *adapter_code(kinds.get(name) or name for name in datasets), _HARNESS, _LOOP])


def row_code(run: Run) -> list[str | Path]:
    """Entry point of a row's code for `closure`: the module of its class, or ``code`` outside the suite.

    Raises:
        InputError: the ``code`` of the row does not exist.
    """
    # Beside params.yaml, or where the suite itself is installed.
    folders = (run.layout.home / run.code, ROOMS_FOLDER / run.code)
    own = next((path.resolve() for path in folders if path.exists()), None)
    if own is None:
        raise InputError(f"methods.{run.row}.code", f"there is no {run.code}", "name the method's file or folder")
    module, _ = module_and_class(run.spec)
    return [module] if _module_files(module) else [own]


def adapter_code(kinds: Iterable[str]) -> list[str]:
    """Modules of adapters, by their names in the catalogue; unknown adapters are skipped."""
    known = catalog()
    return [known[kind].module for kind in kinds if kind in known]


def closure(starts: Iterable[str | Path]) -> list[Path]:
    """Sorted files of the suite that some code imports, directly or indirectly, including the code itself.

    Imports inside functions count; imports for type checkers do not. Modules that are imported by a computed name, such
    as methods, adapters and protocols, must be among ``starts``.

    Args:
        starts: names of modules of the suite, and files or folders of Python files. Other modules are ignored.

    Example:
        >>> [path.name for path in closure(["poseboard.datasets.camera"])]
        ['__init__.py', 'camera.py']
    """
    waiting: list[Path] = []
    for start in starts:
        if isinstance(start, str):
            waiting += _module_files(start)
        else:
            waiting += start.rglob("*.py") if start.is_dir() else [start]
    files: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting += _imports(path, FileState.of(path))
    return sorted(files)


def _module_files(name: str) -> list[Path]:
    """Files that an import of a module of the suite runs: the module and its parent packages."""
    room, *parts = name.split(".")
    if room != "poseboard" or not parts:
        return []
    inits = [ROOMS_FOLDER.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    own = ROOMS_FOLDER.joinpath(*parts[:-1], f"{parts[-1]}.py")
    return [path for path in (*inits, own) if path.is_file()]


@lru_cache(maxsize=4096)
def _imports(path: Path, state: FileState) -> tuple[Path, ...]:
    """Files that a Python file imports from the suite, or from its own folder outside the suite.

    Raises:
        InputError: the file is not valid Python.
    """
    if path.suffix != ".py":
        return ()
    try:
        waiting: list[ast.AST] = [ast.parse(read_bytes(path))]
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}", f"is not Python ({error.msg})", "correct this line") from None
    files: list[Path] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            files += [file for alias in node.names for file in _module_files(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            files += _imported_from(node, path)
    return tuple(dict.fromkeys(files))


def _imported_from(node: ast.ImportFrom, path: Path) -> list[Path]:
    """Files that ``from module import names`` runs. A name can be a submodule."""
    names = [".".join(filter(None, (node.module, name))) for name in ("", *(alias.name for alias in node.names))]
    if not node.level:
        return [file for name in names for file in _module_files(name)]
    folder = path.parents[node.level - 1]
    places = [folder.joinpath(*name.split(".")) for name in names]
    files = [file for place in places for file in (place / "__init__.py", place.parent / f"{place.name}.py")]
    return [file for file in files if file.is_file()]


def code_sha256(files: Iterable[Path]) -> str:
    """SHA-256 of code files, including their names."""
    digest = hashlib.sha256()
    for path in sorted(files, key=code_name):
        digest.update(f"{code_name(path)} {_file_sha256(path, FileState.of(path))}\n".encode())
    return digest.hexdigest()


def code_name(path: Path) -> str:
    """Unique name of a code file in results/: its path relative to the suite."""
    return Path(os.path.relpath(path, ROOMS_FOLDER)).as_posix()


@lru_cache(maxsize=4096)
def _file_sha256(path: Path, state: FileState) -> str:
    return file_sha256(path)


@lru_cache(maxsize=1)
def hardware() -> str:
    """Hardware in one line: processor, cores and, if any, GPU."""
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
    """Versions of Python and of the packages that scores depend on; OpenCV reports its own version."""
    found = {"python": platform.python_version(), "poseboard": metadata.version("poseboard"), "opencv": cv2.__version__}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def provenance(
    layout: Layout,
    *,
    name: str,
    options: Mapping[str, Any],
    manifest: str,
    checkpoints: Mapping[int, str | None],
    weights: Weights | None = None,
) -> Provenance:
    """Provenance of a new result.

    Args:
        layout: paths of the results.
        name: method/kind/dataset; together with profile and time it becomes the name of the MLflow run.
        options: options of the method that the result depends on.
        manifest: hash of the data set's manifest.
        checkpoints: seed -> hash of the checkpoint (None: no checkpoint), for all seeds of the result.
        weights: origin of the checkpoints; None: not recorded.
    """
    plain = json.loads(json.dumps(dict(options), sort_keys=True, default=str))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Provenance(
        git_commit=git_output(layout.home, "rev-parse", "HEAD"),
        git_dirty=None
        if (changes := git_output(layout.home, "status", "--porcelain", "--", *ROOMS)) is None
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
        mlflow_run=f"{name}/{layout.profile}/{created}",
    )


def changed_code(run: Run, commit: str) -> list[str] | None:
    """Code files that the predictions of a run depend on and that changed since a commit.

    Args:
        run: a row on a data set.
        commit: hash of a commit of this checkout.

    Returns:
        Sorted names, relative to the suite; None if this is not a checkout, or the commit is unknown.

    Example:
        >>> changed_code(run, "0123456789abcdef0123456789abcdef01234567") is None  # doctest: +SKIP
        True
    """
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit):
        return None
    files = [str(path) for path in prediction_code(run)]
    changed = git_output(ROOMS_FOLDER, "diff", "--name-only", commit, "--", *files)
    return None if changed is None else sorted(changed.splitlines())


def git_output(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None if git is missing or the folder is not in a checkout."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
