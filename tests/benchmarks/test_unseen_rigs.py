"""Rows on rigs that they were not trained on: the weights are those of human36m, which is trained once."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks import plan
from poseboard.benchmarks.plan import Plan
from poseboard.datasets.errors import InputError
from poseboard.protocols import predictions
from poseboard.protocols.records import ComparisonFile, ScoreFile, TrainingFile

ROOT = Path(__file__).resolve().parents[2]
RIGS = "human36m-rigs"
UNSEEN = {RIGS: ["human36m"]}
VOLUMETRIC = {"code": "methods/volumetric", "after": "algebraic", "voxels": 16, "steps": 1, "batch_size": 2}


@pytest.fixture
def rigs(workspace: Any) -> Any:
    """The ready workspace, with two rigs, and rows that are trained for them on human36m."""
    params = copy.deepcopy(yaml.safe_load((workspace.folder / "params.yaml").read_text()))
    params["datasets"][RIGS] = {"root": None}
    params["methods"]["volumetric"] = VOLUMETRIC
    for row in params["methods"].values():
        row |= {"train_on": UNSEEN, "on": ["human36m", RIGS]}
    params["profiles"]["smoke"]["worlds"][RIGS] = {
        "seed": 4, "side_px": 64, "rigs": 2, "actions": ["Posing"], "frames_per_sequence": 2, "known_rig": "human36m",
    }  # fmt: skip
    workspace.write_params(**params)
    workspace.must("data", "prepare", RIGS)
    return workspace


def _training(workspace: Any, row: str, dataset: str) -> TrainingFile:
    return TrainingFile.read(workspace.folder / f"results/smoke/training/{row}/{dataset}.json")


def _weights(workspace: Any, row: str, dataset: str) -> bytes:
    return (workspace.folder / f"results/smoke/checkpoints/{row}/{dataset}/seed0.pt").read_bytes()


def test_weights_are_taken_over_and_nothing_is_trained_twice(rigs: Any) -> None:
    before = {row: (_training(rigs, row, "human36m"), _weights(rigs, row, "human36m")) for row in ("backbone", "dlt")}
    for row, of_human36m in before.items():
        said = rigs.must("train", row).out
        assert f"human36m/{row}: nothing that it depends on changed" in said
        assert f"{RIGS}/{row}: trained as for human36m, whose weights it takes over" in said
        assert (_training(rigs, row, "human36m"), _weights(rigs, row, "human36m")) == of_human36m
        taken = _training(rigs, row, RIGS)
        assert (taken.same_as, taken.runs, list(taken.training_manifests)) == ("human36m", [], ["human36m"])
        assert taken.provenance.weights.trained_on == ("human36m",)
        assert _weights(rigs, row, RIGS) == of_human36m[1]
        assert f"{RIGS}/{row}: nothing that it depends on changed" in rigs.must("train", row).out

    # A damaged copy is made again, and a copy never outlives what it was made of.
    path = rigs.folder / f"results/smoke/checkpoints/dlt/{RIGS}/seed0.pt"
    path.write_bytes(b"half")
    assert "whose weights it takes over" in rigs.must("train", RIGS, "dlt").out
    assert _weights(rigs, "dlt", RIGS) == before["dlt"][1]


def test_a_row_that_is_handed_roots_is_the_same_training_too(rigs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From training to the worst rig; asked for the rigs alone, it trains for human36m first."""
    for row in ("backbone", "algebraic", "volumetric"):
        rigs.must("train", RIGS, row)
        assert len(_training(rigs, row, "human36m").runs) == 1
        assert _weights(rigs, row, "human36m") == _weights(rigs, row, RIGS)
    for row in ("algebraic", "volumetric"):
        rigs.must("predict", RIGS, row)
        said = rigs.must("score", RIGS, row).err
        assert f"`poseboard predict {RIGS} {row} --split known` does that" in said
    scores = ScoreFile.read(rigs.folder / f"results/smoke/scores/volumetric/{RIGS}.json").scores
    by_table = {score.table: score for score in scores}
    assert set(by_table) >= {"rigs", "rigs-worst", "rigs-absolute", "rigs-pa-mpjpe"}
    assert all(score.signature.trained_on == ("human36m",) for score in scores)
    of_rigs = by_table["rigs"].breakdown["subject"]
    assert set(of_rigs) == {"R01", "R02"}
    assert by_table["rigs-worst"].value == pytest.approx(max(of_rigs.values()))
    assert (by_table["rigs"].n_samples, by_table["rigs"].n_groups) == (4, 2)
    rigs.must("compare")
    compared = ComparisonFile.read(rigs.folder / f"results/smoke/comparisons/{RIGS}.json").tables
    assert {"rigs", "rigs-worst"} <= {table.table for table in compared}

    # The control: the same people before the rig of the training.
    assert not any(table.startswith("rigs-known") for table in by_table)
    for row in ("algebraic", "volumetric"):
        assert "known-" in rigs.must("evaluate", row).out
    scores = ScoreFile.read(rigs.folder / f"results/smoke/scores/volumetric/{RIGS}.json").scores
    control = {score.table: score for score in scores if score.signature.split == "known"}
    assert set(control) == {"rigs-known", "rigs-known-frames-per-rig"}
    assert set(control["rigs-known"].breakdown["subject"]) == {"K01", "K02"}
    assert control["rigs-known"].n_samples == 4
    rigs.must("compare")
    controls = ComparisonFile.read(rigs.folder / f"results/smoke/comparisons/{RIGS}.json").controls
    assert {(one.table, one.control) for one in controls} == {
        ("rigs", "rigs-known"), ("rigs-frames-per-rig", "rigs-known-frames-per-rig"),
    }  # fmt: skip
    found = {increase.method: increase for one in controls if one.table == "rigs" for increase in one.increases}
    assert set(found) == {"algebraic", "volumetric"}
    expected = 100 * (by_table["rigs"].value / control["rigs-known"].value - 1)
    assert (found["volumetric"].value, found["volumetric"].n_people) == (pytest.approx(expected), 2)

    # A control that is none is found before anything is predicted.
    for other, why in (("rigs-worst", "control: rigs-worst: is of the same split"), ("rigs-knwon", "'rigs-knwon'")):
        tables = [
            table.model_copy(update={"control": other}) if table.id == "rigs" else table for table in plan._tables()
        ]
        with monkeypatch.context() as patched:
            patched.setattr(plan, "_tables", lambda tables=tables: tables)
            error = rigs.run("predict", RIGS, "algebraic").error
        assert "table rigs: control" in error
        assert why in error

    # Of both splits the same training: else the score would be of none.
    of_known = next((rigs.folder / f"results/smoke/predictions/algebraic/{RIGS}").glob("known-*.parquet"))
    table = predictions.read(of_known)
    info = table.info.model_copy(update={"checkpoint_sha256": "0" * 64})
    predictions.write(of_known, replace(table, info=info))
    assert "metadata.checkpoint_sha256: differs from that of" in rigs.run("score", RIGS, "algebraic").error


def test_rigs_of_ones_own_need_no_control(rigs: Any) -> None:
    params = yaml.safe_load((rigs.folder / "params.yaml").read_text())
    del params["profiles"]["smoke"]["worlds"][RIGS]["known_rig"]
    rigs.write_params(**params)
    rigs.must("data", "prepare", RIGS)
    for row in ("backbone", "algebraic"):
        rigs.must("train", RIGS, row)
    assert "known-" not in rigs.must("evaluate", "algebraic").out
    scores = ScoreFile.read(rigs.folder / f"results/smoke/scores/algebraic/{RIGS}.json").scores
    assert {score.signature.split for score in scores} == {"test"}


def test_without_human36m_there_is_nothing_to_take_over(rigs: Any) -> None:
    params = yaml.safe_load((rigs.folder / "params.yaml").read_text())
    del params["profiles"]["smoke"]["worlds"]["human36m"]
    rigs.write_params(**params)
    rigs.must("data", "prepare", RIGS)  # nobody before a known rig
    said = rigs.must("train", "backbone").out
    assert f"{RIGS}/backbone: left out, it is trained on human36m, of which there is no copy" in said


def test_which_training_is_another_ones(rigs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rigs.folder)
    of_rigs, own = (Plan.read().run("dlt", name) for name in (RIGS, "human36m"))
    assert of_rigs.same_as is not None
    assert of_rigs.same_as.source.name == "human36m"
    assert own.same_as is None
    assert [source.name for source in own.training] == ["human36m"]
    assert of_rigs.seeds == own.seeds
    params = yaml.safe_load((rigs.folder / "params.yaml").read_text())
    params["methods"]["algebraic"]["train_on"] = {RIGS: ["human"]}
    rigs.write_params(**params)
    with pytest.raises(InputError, match=r"train_on: no data set 'human'"):
        Plan.read()
