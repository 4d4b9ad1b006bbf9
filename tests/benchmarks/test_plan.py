"""What a run will do, and how long it took the last time."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from poseboard.benchmarks.pipeline import planned, stage_names, stage_times
from poseboard.benchmarks.plan import Plan
from poseboard.datasets.files import parse_yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The repository's params.yaml and pipeline in a folder of the test's own."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_every_stage_of_every_row_has_a_name(home: Path) -> None:
    plan = Plan.read(home / "params.yaml")
    names = stage_names(plan)
    stages = parse_yaml((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(dict.fromkeys(name.partition("@")[0] for name in names)) == list(stages)
    assert len(names) == 2 * len(plan.rows) + len(stages) - 2


def test_an_edit_changes_what_the_stages_of_its_row_depend_on(home: Path) -> None:
    path = home / "params.yaml"
    text = path.read_text()

    def changed(edited: str) -> set[str]:
        path.write_text(text)
        before = planned(plan := Plan.read(path))
        path.write_text(edited)
        after = planned(Plan.read(path))
        folder = plan.layout.plan
        return {file.relative_to(folder).with_suffix("").as_posix() for file in after if after[file] != before[file]}

    of_backbone = {"train/backbone", "evaluate/backbone"}
    assert changed(text.replace("default: 8000,", "default: 9,", 1)) == of_backbone
    assert changed(text.replace("steps: {panoptic: {smoke: 12", "steps: {panoptic: {smoke: 13", 1)) == set(), (
        "smoke only"
    )
    assert changed(text.replace("rhd: {root: null}", "rhd: {root: elsewhere}")) == {"data"}
    assert changed(text.replace("  dlt: grey", "  dlt: blue", 1)) == {"report"}
    assert changed("# Nothing that a stage depends on.\n" + text) == set()


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_damaged_stage_times_are_none(home: Path, content: str) -> None:
    plan = Plan.read(home / "params.yaml")
    plan.layout.stage_times.parent.mkdir(parents=True)
    plan.layout.stage_times.write_text(content)
    assert stage_times(plan) == {}


def test_a_plan_lists_what_is_due(workspace: Any) -> None:
    shutil.copy(ROOT / "dvc.yaml", workspace.folder)
    (workspace.folder / ".dvc").mkdir()
    (workspace.folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    lines = workspace.must("plan").out.splitlines()
    assert {"plan", "data", "train@dlt", "evaluate@algebraic"} <= {line.split()[0] for line in lines}
    assert "13 of 13 stages are due in profile smoke" in lines
