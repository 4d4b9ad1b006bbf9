"""What a data set of several people, other joints and three splits costs: a file, an entry, a line, and its tables."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from poseboard.benchmarks import plan
from poseboard.benchmarks.plan import Plan
from poseboard.datasets import catalog
from poseboard.protocols.records import ComparisonFile, ScoreFile, TrainingFile

TABLES = {
    "gym": {"split": "test", "headline": True, "parameters": {"cap_px": 100}},
    "gym-held-out": {
        "split": "validate", "groups": [{"leave_out": True}], "parameters": {"judged": "held_out", "cap_px": 100},
    },
}  # fmt: skip
ROWS = {
    name: {"class": "made_up_gym:Mean", "code": "methods", "after": "scratch", "on": ["gym"], "steps": steps}
    for name, steps in (("mean", 60), ("hurried", 1))
}


@pytest.fixture
def gym(workspace_with: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace with the data set, its tables and two rows."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "datasets"))
    entry = catalog.Entry("gym", "made_up_gym")
    monkeypatch.setattr(catalog, "_ENTRIES", (*catalog._ENTRIES, entry))
    monkeypatch.setattr(plan, "TABLES", tmp_path / "tables")
    (tmp_path / "tables").mkdir()
    for name, fields in TABLES.items():
        table = {"id": name, "title": f"Gym, {name}", "dataset": "gym", "protocol": "reprojection", **fields}
        (tmp_path / "tables" / f"{name}.yaml").write_text(yaml.safe_dump(table))
    made = workspace_with(tmp_path, "gym", "gym", "moments", ROWS)
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    made.write_params(**{**params, "datasets": {"gym": params["datasets"]["gym"]}, "methods": ROWS})
    return made


def test_it_is_trained_predicted_scored_compared_and_shown(gym: Any) -> None:
    assert "gym: ready, 16 moments" in gym.must("data", "prepare", "gym").out
    for row in ROWS:
        gym.must("train", "gym", row)
        gym.must("evaluate", row)
    results = gym.folder / "results" / "smoke"
    (run,) = TrainingFile.read(results / "training/mean/gym.json").runs
    total = run.curves["total"].y
    assert total[-1] < 0.1 * total[0]

    by_row = {row: ScoreFile.read(results / f"scores/{row}/gym.json").scores for row in ROWS}
    for scores in by_row.values():
        assert {score.table: score.signature.split for score in scores} == {"gym": "test", "gym-held-out": "validate"}
        seen, held_out = sorted(scores, key=lambda score: score.table)
        # two people in three views, and each view held out once
        assert (seen.n_samples, held_out.n_samples) == (6 * 2 * 3, 4 * 2 * 3)
        assert (seen.n_missing, seen.n_false, seen.n_groups, seen.counted) == (0, 0, 3, "people")
        assert set(seen.breakdown["joint"]) == {"ear", "hip", "paw", "tail", "nose"}
    of_test = {row: next(score for score in scores if score.table == "gym") for row, scores in by_row.items()}
    mean, hurried = (of_test[row].value for row in ROWS)
    assert mean < 0.5 * hurried
    assert of_test["mean"].breakdown["joint"]["hip"] == pytest.approx(0, abs=1e-2), "people are told apart"

    gym.must("compare", "gym")
    compared = ComparisonFile.read(results / "comparisons/gym.json").tables
    (pair,) = next(table for table in compared if table.table == "gym").pairs
    assert {pair.a, pair.b} == set(ROWS)
    assert (pair.n_samples, pair.n_groups) == (6, 3)
    assert abs(pair.difference) == pytest.approx(hurried - mean)
    assert np.sign(pair.difference) == np.sign(pair.ci95[0]) == np.sign(pair.ci95[1])

    gym.must("report")
    page = (results / "leaderboard" / "boards" / "gym.html").read_text()
    assert ">gym<" in page
    assert all(row in page for row in ROWS)


def test_a_split_that_it_does_not_have_is_told_by_its_own_file(gym: Any) -> None:
    assert "gym: split: 'night' is not a split" in gym.run("predict", "gym", "mean", "--split", "night").error


def test_a_row_fits_by_the_splits_that_tables_ask_for(gym: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = importlib.import_module("made_up_gym")
    without_test = {split: frames for split, frames in made_up.FRAMES.items() if split != "test"}
    monkeypatch.setattr(made_up, "FRAMES", without_test)
    (plan.TABLES / "gym.yaml").unlink()
    rows = {"anywhere": {key: value for key, value in ROWS["mean"].items() if key != "on"}}
    gym.write_params(**{**yaml.safe_load((gym.folder / "params.yaml").read_text()), "methods": rows})
    rows_on = Plan.read(gym.folder / "params.yaml")
    (run,) = rows_on.runs("anywhere")
    assert (run.source.name, run.left_out) == ("gym", "")

    sample = made_up.Gym.sample

    def without_points(self: Any, key: str) -> Any:
        seen = sample(self, key)
        return replace(seen, views=tuple(replace(view, joints_px=None) for view in seen.views))

    monkeypatch.setattr(made_up.Gym, "sample", without_points)
    monkeypatch.setattr(made_up.Mean, "inputs", replace(made_up.Mean.inputs, images=True))
    (run,) = rows_on.runs("anywhere")
    assert run.left_out == "it needs images, and there are none"
