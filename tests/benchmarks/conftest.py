"""A miniature workspace: its own params.yaml, a rendered world, one trained row, all run through the command line."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from poseboard.benchmarks import cli, pictures, plan
from poseboard.protocols.records import ScoreFile

ROOT = Path(__file__).resolve().parents[2]
PARAMS: dict[str, Any] = {
    "profile": "smoke",
    "datasets": {"human36m": {"root": None}},
    "methods": {
        "backbone": {
            "code": "methods/backbone",
            "after": "scratch",
            "architecture": "small",
            "image_px": 64,
            "steps": 3,
            "batch_size": 2,
        },
        "dlt": {"code": "methods/dlt", "after": "backbone", "weighting": "peak"},
        "algebraic": {"code": "methods/algebraic", "after": "backbone", "steps": 2, "batch_size": 2},
    },
    "profiles": {
        "smoke": {
            "seeds": [0],
            "processes": 1,
            "worlds": {
                "human36m": {
                    "seed": 3,
                    "side_px": 96,
                    "train_subjects": ["S1"],
                    "test_subjects": ["S9"],
                    "actions": ["Greeting", "SittingDown", "Waiting"],  # which tables exclude some of
                    "train_frames": 1,
                    "test_frames": 1,
                },
            },
        }
    },
}


@pytest.fixture(scope="module", autouse=True)
def samples_drawn() -> Iterator[None]:
    """Pictures are drawn of one sample, where tests are not about them: it takes longer than small networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "DRAWN_SAMPLES", 1)
        yield


@dataclass(frozen=True)
class Done:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error."""
        lines = [line for line in self.err.splitlines() if line.startswith("poseboard: ")]
        assert self.code == 2, (self.code, self.out, self.err)
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


class Workspace:
    """A folder with a params.yaml, and the command line run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "methods").symlink_to(ROOT / "methods")
        self.write_params(**PARAMS)

    @classmethod
    def of(cls, folder: Path) -> Workspace:
        """The workspace that is there."""
        workspace = cls.__new__(cls)
        workspace.folder = folder
        return workspace

    def write_params(self, **values: Any) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values))

    def run(self, *arguments: str | Path) -> Done:
        before = Path.cwd(), sys.argv
        out, err = io.StringIO(), io.StringIO()
        try:
            os.chdir(self.folder)
            sys.argv = ["poseboard", *map(str, arguments)]
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    cli.main()
                    code = 0
                except SystemExit as stop:
                    code = int(stop.code or 0)
        finally:
            os.chdir(before[0])
            sys.argv = before[1]
            for variable in ("POSEBOARD_PROFILE", "POSEBOARD_CLUSTER"):  # which options set
                os.environ.pop(variable, None)
        return Done(code, out.getvalue(), err.getvalue())

    def must(self, *arguments: str | Path) -> Done:
        done = self.run(*arguments)
        assert done.code == 0, done.err
        return done

    def error_mm(self, method: str, table: str = "T1") -> float:
        """Train, predict and score a row; its number in a table."""
        for stage in ("train", "predict", "score"):
            self.must(stage, "human36m", method)
        scores = ScoreFile.read(self.folder / f"results/smoke/scores/{method}/human36m.json").scores
        value = next(score.value for score in scores if score.table == table)
        assert value is not None
        return value

    @property
    def world(self) -> Path:
        return next(path for path in (self.folder / "data").glob("synthetic-human36m-*") if path.is_dir())

    def snapshot(self) -> dict[str, bytes]:
        """Every file under results/ and its content."""
        files = sorted((self.folder / "results").rglob("*"))
        return {str(p): p.read_bytes() for p in files if p.is_file() and p.suffix != ".lock"}


@pytest.fixture(scope="session")
def ready_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Data rendered, backbone trained, ``dlt`` predicted and scored. Do not write into it: all workers share it.

    The first worker that needs it makes it, and compiles what this needs, while the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ready-workspace"
    finished = folder.with_suffix(".finished")
    with FileLock(folder.with_suffix(".lock")):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a worker left in which a command failed
            folder.mkdir()
            workspace = Workspace(folder)
            commands = "data prepare human36m", "train human36m backbone", "train human36m dlt", "predict human36m dlt"
            for command in (*commands, "score human36m dlt"):
                workspace.must(*command.split())
            finished.touch()
    return Workspace.of(folder)


def write_made_up(name: str, root: Path, /, **options: Any) -> None:
    """A made-up copy of a real data set, written by the data sets' own tests."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "datasets" / f"made_up_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root.mkdir(parents=True, exist_ok=True)
    getattr(module, f"write_{name}")(root, **options)


@pytest.fixture(scope="session")
def made_up() -> Callable[..., None]:
    """Writes a made-up copy of a real data set: name, folder, options."""
    return write_made_up


@pytest.fixture(scope="session")
def workspace_with() -> Callable[..., Workspace]:
    """Makes a workspace that holds a made-up copy of a real data set."""

    def make(folder: Path, dataset: str, made_up: str, root: str, methods: dict[str, Any], **options: Any) -> Workspace:
        write_made_up(made_up, folder / root, **options)
        workspace = Workspace(folder)
        datasets = {**PARAMS["datasets"], dataset: {"root": root}}
        rows = {"backbone": PARAMS["methods"]["backbone"], **methods}
        workspace.write_params(**{**PARAMS, "datasets": datasets, "methods": rows})
        return workspace

    return make


@pytest.fixture(scope="session")
def copied_into(ready_workspace: Workspace) -> Callable[[Path], Workspace]:
    """Makes a copy of the ready workspace, to spoil, in a folder."""

    def copy(folder: Path) -> Workspace:
        shutil.copytree(ready_workspace.folder, folder / "copy", symlinks=True)
        return Workspace.of(folder / "copy")

    return copy


@pytest.fixture(scope="session")
def workspace_of() -> Callable[[Path], Workspace]:
    """The command line in a folder that has a params.yaml."""
    return Workspace.of


@pytest.fixture
def only_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Restricts commands to the tables of these files: fewer conditions to predict, fewer numbers to compare."""

    def only(*files: str) -> None:
        folder = tmp_path / "tables"
        folder.mkdir()
        for file in files:
            shutil.copy(plan.TABLES / f"{file}.yaml", folder)
        monkeypatch.setattr(plan, "TABLES", folder)

    return only


@pytest.fixture
def workspace(copied_into: Callable[[Path], Workspace], tmp_path: Path) -> Workspace:
    """A copy to spoil."""
    return copied_into(tmp_path)


@pytest.fixture
def spoil(workspace: Workspace) -> Callable[..., Done]:
    """Run a command that must fail, and check that nothing in results/ was lost or changed by it."""

    def fail(*arguments: str | Path) -> Done:
        before = workspace.snapshot()
        done = workspace.run(*arguments)
        assert workspace.snapshot() == before
        return done

    return fail
