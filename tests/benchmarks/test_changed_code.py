"""What a change of code makes due, for every file of the suite, in a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks import pipeline, provenance
from poseboard.benchmarks.plan import Plan
from poseboard.benchmarks.provenance import closure, code_name, code_sha256, prediction_code, training_code
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("benchmarks", "datasets", "methods", "protocols", "report")
ROWS = ("backbone", "dlt", "lifting", "rootnet", "volumetric")
SHARED = ("batches", "drawing", "geometry", "nets")
STATEMENT = "_X = 1\n"
EVERYTHING = (
    "benchmarks/handover.py", "benchmarks/harness.py", "benchmarks/perturb.py", "protocols/perturbation.py",
    "methods/base.py", "methods/batches/mixing.py", "datasets/camera.py", "datasets/crops.py", "datasets/sample.py",
)  # fmt: skip
"""Files that all trainings and predictions run."""
NOTHING = (
    "benchmarks/cli.py",
    "benchmarks/pipeline.py",
    "report/differences_page.py",
    "report/pictures.py",
    "report/rig_page.py",
    "report/site_check.py",
)
WITH_SYNC = ("report/__init__.py", "report/formatting.py")
"""Files of the page that the sync with MLflow runs, too: names of pages."""
BASES = {"human36m", "human36m-toolbox", "panoptic", "muco"}
"""Data sets whose adapters are imported by those of others."""

Due = set[tuple[str, ...]]


def copy_rooms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the suite's code, whose files count instead of the installed ones."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOMS_FOLDER", folder)
    monkeypatch.setattr(pipeline, "ROOMS_FOLDER", folder)
    return folder


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copy_rooms(tmp_path / "suite", monkeypatch)


def append(path: Path, text: str = STATEMENT) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def trained_on(settings: Plan, row: str, dataset: str) -> list[str]:
    return [source.name for source in settings.run(row, dataset).training]


def places(settings: Plan) -> list[tuple[str, str]]:
    return [(row, dataset) for row in settings.rows for dataset in settings.may_run(row)]


def code_of(settings: Plan) -> dict[tuple[str, ...], set[str]]:
    """The files of code that trainings, predictions and stages depend on."""
    found: dict[tuple[str, ...], set[str]] = {}
    for row, dataset in places(settings):
        run = settings.run(row, dataset)
        of_training = training_code(run, [source.name for source in run.training])
        found["train", row, dataset] = set(map(code_name, of_training))
        found["predict", row, dataset] = set(map(code_name, prediction_code(run)))
    folder = settings.layout.plan
    for path, content in pipeline.planned(settings).items():
        stage, _, item = path.relative_to(folder).with_suffix("").as_posix().partition("/")
        found[("stage", stage, item) if item else ("stage", stage)] = set(json.loads(content)["code"])
    return found


@pytest.fixture(scope="module")
def due(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, dict[str, Due]]]:
    """The settings, and what a change of each file makes due: that a hash covers the files is tested below."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        rooms = copy_rooms(tmp_path_factory.mktemp("changed") / "suite", monkeypatch)
        params = parse_yaml((ROOT / "params.yaml").read_text())
        methods = {row: {**params["methods"][row], "after": "scratch"} for row in ROWS}
        (rooms / "params.yaml").write_text(yaml.safe_dump({**params, "methods": methods, "colours": {}}))
        settings = Plan.read(rooms / "params.yaml")
        code = code_of(settings)
        files = [file.relative_to(rooms).as_posix() for room in ROOMS for file in (rooms / room).rglob("*.py")]
        yield settings, {name: {entry for entry, of_entry in code.items() if name in of_entry} for name in files}


def test_every_file_makes_due_what_runs_it_and_nothing_else(due: tuple[Plan, dict[str, Due]]) -> None:
    settings, changed = due
    everything = {(kind, *place) for kind in ("train", "predict") for place in places(settings)}
    made = {name: {entry for entry in of_file if entry[0] != "stage"} for name, of_file in changed.items()}
    stage_of = {"train": "train", "predict": "evaluate"}
    for name, of_file in changed.items():
        # What is due is made by a stage that DVC runs for the same file.
        assert {("stage", stage_of[kind], row) for kind, row, _ in made[name]} <= of_file, name
        room, folder, *_ = name.split("/")
        if name in NOTHING:
            continue
        if room == "report":
            stages = {("stage", "report"), ("stage", "sync")} if name in WITH_SYNC else {("stage", "report")}
            assert of_file == stages, name
        elif room == "protocols" and name not in ("protocols/__init__.py", "protocols/perturbation.py"):
            assert not made[name], name
        elif room == "methods" and not folder.endswith(".py") and folder not in SHARED:
            rows = {row for row in settings.rows if settings.entry(row).code == f"methods/{folder}"}
            of_rows = {entry for entry in everything if entry[1] in rows}
            assert made[name] == (set() if name.endswith(("/published.py", "/demo.py")) else of_rows), name
    for name in EVERYTHING:
        assert everything == made[name], name
    assert made["methods/loop.py"] == {entry for entry in everything if entry[0] == "train"}
    for name in NOTHING:
        assert not changed[name], name


def test_an_adapter_makes_due_its_data_sets_alone(due: tuple[Plan, dict[str, Due]]) -> None:
    settings, changed = due
    for name in catalog().keys() - BASES:
        path = f"datasets/{catalog()[name].module.rpartition('.')[2]}.py"
        datasets = {dataset for dataset in settings.params.datasets if settings.params.kind(dataset) == name}
        predicted = {("predict", row, dataset) for row, dataset in places(settings) if dataset in datasets}
        trained = {
            ("train", row, dataset)
            for row, dataset in places(settings)
            if datasets.intersection(trained_on(settings, row, dataset))
        }
        assert {entry for entry in changed[path] if entry[0] != "stage"} == predicted | trained, path
        rows = {row for _, row, _ in predicted | trained}
        stages = {("stage", stage, row) for stage in ("train", "evaluate") for row in rows}
        assert changed[path] - predicted - trained - {("stage", "data")} <= stages | {
            # Rows take the data set of the training of another one.
            ("stage", stage, row) for stage in ("train", "evaluate") for row in settings.rows
            if any(datasets.intersection(trained_on(settings, row, dataset)) for dataset in settings.may_run(row))
        }, path  # fmt: skip


def test_a_protocol_makes_due_the_scores_of_tables_that_use_it_alone(due: tuple[Plan, dict[str, Due]]) -> None:
    settings, changed = due
    for name, datasets in {"pcp3d": {"campus", "shelf"}, "ap_root": {"mupots"}, "mpjpe_true_size": {"rhd"}}.items():
        rows = {row for row in settings.rows if not datasets.isdisjoint(settings.may_run(row))}
        of_file = changed[f"protocols/{name}.py"] - {("stage", "speed")}
        assert of_file == {("stage", "compare"), *(("stage", "evaluate", row) for row in rows)}, name
        assert rows < set(settings.rows)


def test_predictions_and_trainings_are_made_again_where_their_code_changed(workspace: Any, rooms: Path) -> None:
    def remade(command: str, change: Callable[[], None]) -> bool:
        change()
        line, *_ = workspace.must(*command.split()).out.splitlines()
        assert "nothing that it depends on changed" in workspace.must(*command.split()).out
        return "nothing that it depends on changed" not in line

    predict, train = "predict human36m dlt", "train human36m dlt"
    for command in (train, predict):
        workspace.must(*command.split())
        assert not remade(command, lambda: append(rooms / "protocols/mpjpe_relative.py"))
        assert remade(command, lambda: append(rooms / "protocols/perturbation.py"))
        assert not remade(command, lambda: append(rooms / "datasets/rhd.py"))
        assert remade(command, lambda: append(rooms / "datasets/human36m.py"))
        assert not remade(command, lambda: append(rooms / "methods/volumetric/method.py"))
    assert not remade(predict, lambda: append(rooms / "methods/loop.py"))
    assert remade(train, lambda: append(rooms / "methods/loop.py"))


def test_imports_of_all_forms_are_followed(rooms: Path) -> None:
    sources = {
        "start.py": "from poseboard.protocols import perturbation\nfrom poseboard.protocols.new.deep import name\n",
        "new/__init__.py": "",
        "new/deep.py": "def load():\n    import poseboard.protocols.new.lazy\n",
        "new/lazy.py": "from . import beside\nfrom .. import start\nfrom .beside import lower as another\n",
        "new/beside.py": (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import poseboard.protocols.new.typed\n"
            "else:\n    import poseboard.protocols.new.other\n"
        ),
        "new/typed.py": "",
        "new/other.py": "import numpy, poseboard.nowhere\n",
    }
    (rooms / "protocols/new").mkdir()
    for name, text in sources.items():
        (rooms / "protocols" / name).write_text(text)
    folder = rooms / "protocols"
    files = {path for path in closure(["poseboard.protocols.start"]) if path.is_relative_to(folder)}
    assert files == {folder / name for name in {"__init__.py", "perturbation.py", *sources} - {"new/typed.py"}}
    (rooms / "protocols/new/other.py").write_text("import\n")
    with pytest.raises(InputError, match=r"new/other\.py:1: is not Python"):
        closure(["poseboard.protocols.start"])


def test_a_class_of_others_counts_by_its_code(workspace: Any, rooms: Path) -> None:
    theirs = workspace.folder / "theirs"
    theirs.mkdir()
    (theirs / "net.py").write_text("from poseboard.methods.geometry.rotations import x\n")
    (theirs / "method.py").write_text("from .net import Net\n")
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["theirs"] = {"class": "theirs.method:Theirs", "code": "theirs/method.py", "after": "scratch"}
    workspace.write_params(**params)
    settings = Plan.read(workspace.folder / "params.yaml")
    before = code_sha256(files := prediction_code(settings.run("theirs", "human36m")))
    assert {theirs / "net.py", theirs / "method.py", rooms / "methods/geometry/rotations.py"} <= set(files)
    append(theirs / "net.py")
    assert code_sha256(prediction_code(settings.run("theirs", "human36m"))) != before
    (theirs / "method.py").unlink()
    with pytest.raises(InputError, match=r"methods\.theirs\.code: there is no theirs/method\.py"):
        prediction_code(settings.run("theirs", "human36m"))
