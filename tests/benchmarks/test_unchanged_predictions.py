"""Predictions that depend on nothing that changed are left as they are; whatever they depend on makes them anew."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from predicted import file_name

from poseboard.datasets.human36m import CAMERAS
from poseboard.protocols import predictions

FOLDER = Path("results/smoke/predictions/dlt/human36m")


def states(workspace: Any) -> dict[str, int]:
    """File -> when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (workspace.folder / FOLDER).glob("*.parquet")}


def made_anew(workspace: Any, do: Callable[[], object]) -> set[str]:
    before = states(workspace)
    do()
    out = workspace.must("predict", "human36m", "dlt").out
    anew = {name for name, state in states(workspace).items() if before.get(name) != state}
    assert out.count("nothing that it depends on changed") == len(states(workspace)) - len(anew)
    return anew


@pytest.fixture
def predicted(workspace: Any) -> Any:
    workspace.must("predict", "human36m", "dlt")
    assert len(states(workspace)) == 4, "2, 3 and 4 cameras, and 4 with noise on images"
    return workspace


def test_a_second_run_makes_none(predicted: Any) -> None:
    assert made_anew(predicted, lambda: None) == set()
    assert predicted.must("score", "human36m", "dlt").out


def test_only_what_is_gone_or_damaged_or_edited_is_made_again(predicted: Any) -> None:
    folder = predicted.folder / FOLDER
    whole = predictions.read(folder / file_name())
    (folder / file_name()).unlink()
    assert made_anew(predicted, lambda: None) == {file_name()}
    again = predictions.read(folder / file_name())
    np.testing.assert_array_equal(again.joints_mm, whole.joints_mm)
    pair = folder / file_name(*CAMERAS[:2])
    assert made_anew(predicted, lambda: pair.write_bytes(pair.read_bytes()[:-100])) == {pair.name}

    def edit() -> None:
        table = predictions.read(pair)
        table.joints_mm[0, 0] += 1
        predictions.write(pair, table)

    assert made_anew(predicted, edit) == {pair.name}, "an answer that somebody wrote in does not stay"


def test_options_weights_and_images_count(predicted: Any) -> None:
    everything = set(states(predicted))

    def option() -> None:
        params = yaml.safe_load((predicted.folder / "params.yaml").read_text())
        params["methods"]["dlt"]["weighting"] = "uniform"
        predicted.write_params(**params)

    assert made_anew(predicted, option) == everything
    picture = next(predicted.world.glob("processed/S9/*/imageSequence-undistorted/*/*.jpg"))
    # Another content would be refused: this is a generated world. Another time of modification may be another content.
    assert made_anew(predicted, picture.touch) == everything


def test_a_note_of_a_table_costs_nothing_and_a_further_condition_only_its_own(
    predicted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from poseboard.benchmarks import plan

    tables = tmp_path / "tables"
    shutil.copytree(plan.TABLES, tables)
    monkeypatch.setattr(plan, "TABLES", tables)
    path = tables / "T1.yaml"
    assert made_anew(predicted, lambda: path.write_text(path.read_text() + "  - Another note.\n")) == set()
    further = path.read_text().replace("id: T1\n", "id: further\n").replace("published: T1\n", "")
    groups = f"groups: [{{cameras: ['{CAMERAS[2]}', '{CAMERAS[3]}']}}]\n"
    assert made_anew(predicted, lambda: (tables / "further.yaml").write_text(further + groups)) == {
        file_name(*CAMERAS[2:])
    }


def test_a_further_severity_costs_its_own_predictions_and_a_further_metric_none(
    predicted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from poseboard.benchmarks import plan

    tables = tmp_path / "tables"
    shutil.copytree(plan.TABLES, tables)
    monkeypatch.setattr(plan, "TABLES", tables)
    path = tables / "human36m-robustness.yaml"
    content = yaml.safe_load(path.read_text())

    def perturb(**severities: list[int]) -> None:
        path.write_text(yaml.safe_dump({**content, "perturbed_in": {"smoke": severities}}))

    def spoiled(anew: set[str]) -> list[str]:
        infos = [predictions.read(predicted.folder / FOLDER / name).info.condition for name in anew]
        return sorted(f"{one.perturbation.kind} {one.perturbation.severity}" for one in infos if one.perturbation)

    assert spoiled(made_anew(predicted, lambda: perturb(image_noise=[2, 4]))) == ["image_noise 2"]
    more = {"image_noise": [2, 4], "missing_cameras": [1], "detections": [5]}
    assert spoiled(made_anew(predicted, lambda: perturb(**more))) == ["missing_cameras 1"], "no detections are given"
    further = {**yaml.safe_load(path.read_text()), "id": "further", "protocol": "pck", "parameters": {}}
    (tables / "further.yaml").write_text(yaml.safe_dump(further))
    assert made_anew(predicted, lambda: None) == set(), "another metric judges what was predicted"
    assert "further" in predicted.must("score", "human36m", "dlt").out
