"""Weights of one data set on another: two trees of different joints and worlds, from training to scores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from poseboard.benchmarks import plan as planning
from poseboard.benchmarks.handover import Handover, Transfer, transfer, turn_between, up_axis
from poseboard.benchmarks.harness import predict
from poseboard.benchmarks.plan import Plan, check_trainings, tables_on
from poseboard.benchmarks.predict import no_transfer, read_roots, roots_basis
from poseboard.benchmarks.provenance import file_sha256
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import CAMERAS
from poseboard.datasets.sample import Poses, Sample
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.methods.base import Inputs
from poseboard.protocols import predictions
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import ScoreFile, Signature
from poseboard.protocols.scoring import score
from poseboard.protocols.table import Group

STEPS = {"steps": 1, "batch_size": 2}
ROWS = {
    "dlt": {"code": "methods/dlt", "after": "backbone"},
    "algebraic": {"code": "methods/algebraic", "after": "backbone", **STEPS},
    "volumetric": {"code": "methods/volumetric", "after": "algebraic", "voxels": 16, **STEPS},
    "one_world": {"code": "methods/dlt", "after": "backbone", "on": ["human36m"]},
}
ON = ("human36m", "panoptic")
TABLES = ("transfer-human36m", "transfer-human36m-common", "transfer-panoptic", "transfer-panoptic-common")
ELSEWHERE = Condition(cameras=CAMERAS, trained_on="panoptic")
AXES = [sign * axis for sign in (1.0, -1.0) for axis in np.eye(3)]


@pytest.fixture(scope="module")
def two_worlds(workspace_with: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """All rows trained on both trees and evaluated in a few tables: some seconds, once."""
    tables = tmp_path_factory.mktemp("tables")
    for name in ("T1", "T4", "transfer-human36m", "transfer-panoptic"):
        shutil.copy(planning.TABLES / f"{name}.yaml", tables)
    workspace = workspace_with(tmp_path_factory.mktemp("two"), "panoptic", "panoptic", "dome", ROWS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(planning, "TABLES", tables)
        for dataset in ON:
            workspace.must("data", "prepare", dataset)
        for row in ("backbone", *ROWS):
            workspace.must("train", row)
        for row in ROWS:
            workspace.must("evaluate", row)
        yield workspace


@pytest.fixture
def plan(two_worlds: Any, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(two_worlds.folder)
    return Plan.read()


def _scores(plan: Plan, row: str, dataset: str) -> dict[tuple[str, tuple[str, ...] | None], float]:
    file = ScoreFile.read(plan.layout.row_path("scores", row, dataset))
    return {(one.table, one.signature.trained_on): one.value for one in file.scores if one.value is not None}


def _answers(plan: Plan, row: str, dataset: str, trained_on: str) -> PoseTable:
    files = [predictions.read(path) for path in plan.layout.row_path("predictions", row, dataset).glob("*.parquet")]
    (file,) = [file for file in files if file.info.condition.trained_on == trained_on]
    return file


@pytest.mark.parametrize("row", ["dlt", "algebraic", "volumetric"])
def test_each_row_has_a_number_of_its_own_training_and_of_the_other(plan: Plan, row: str) -> None:
    for dataset, other in (ON, ON[::-1]):
        values = _scores(plan, row, dataset)
        for table in (name for name in TABLES if name.startswith(f"transfer-{dataset}")):
            assert values[table, None] != values[table, (other,)]
        assert {table for table, training in values if training} == {
            name for name in TABLES if name.startswith(f"transfer-{dataset}")
        }, "no other table has weights of other data"
        file = _answers(plan, row, dataset, other)
        assert file.info.joints == {"human36m": HUMAN36M, "panoptic": COCO}[other].joints
        assert file.info.trained_on == (other,)
        assert file.info.weights is not None
        own = plan.layout.checkpoint(other, row, 0)
        assert file.info.checkpoint_sha256 == file_sha256(own)


def test_the_number_is_that_of_the_release_by_index(plan: Plan) -> None:
    """The indices are those by which the release compares COCO's joints with those of Human3.6M."""
    dataset, file = plan.source("human36m").dataset, _answers(plan, "dlt", "human36m", "panoptic")
    left_out = ("S9/Greeting-2/", "S9/SittingDown-2/", "S9/Waiting-1/")
    errors = [
        np.linalg.norm(
            file.joints_mm[place][[10, 8, 9, 7, 14, 13]] - dataset.truth(key).joints_mm[0][[10, 11, 15, 14, 1, 4]],
            axis=-1,
        ).mean()
        for place, key in enumerate(file.keys)
        if not key.startswith(left_out)
    ]
    value = _scores(plan, "dlt", "human36m")["transfer-human36m", ("panoptic",)]
    assert value == pytest.approx(np.mean(errors), rel=1e-5)


def test_joints_are_mapped_by_name_alone(plan: Plan) -> None:
    dataset, file = plan.source("human36m").dataset, _answers(plan, "algebraic", "human36m", "panoptic")
    truth = TruthTable.collect(dataset, "test")
    order = np.random.default_rng(0).permutation(len(COCO))
    joints = tuple(np.array(file.info.joints)[order].tolist())
    permuted = replace(file, joints_mm=file.joints_mm[:, order], info=file.info.model_copy(update={"joints": joints}))
    for table in tables_on("human36m", "smoke"):
        if table.id in TABLES:
            plain, other = (
                score(table, {one.info.condition: {0: one}}, truth, 10).scores[0] for one in (file, permuted)
            )
            assert plain == other


def test_a_root_that_is_handed_on_is_of_the_same_training(plan: Plan) -> None:
    """The middle of the hips that algebraic answers, in the world of the data set that is tested."""
    file = _answers(plan, "algebraic", "human36m", "panoptic")
    asked = _answers(plan, "volumetric", "human36m", "panoptic").info.condition.of_root
    (path,) = [
        path
        for path in plan.layout.row_path("predictions", "algebraic", "human36m").glob("*.roots.npz")
        if path.name.startswith(asked.slug)
    ]
    roots_mm = read_roots(path, list(file.keys), roots_basis(plan.run("algebraic", "human36m"), 0, asked))
    assert roots_mm is not None
    of_answers = COCO.root_of(file.joints_mm.astype(np.float64))
    np.testing.assert_allclose(np.concatenate(list(roots_mm.values())), of_answers, atol=0.01)


def test_nothing_is_predicted_again(two_worlds: Any, plan: Plan) -> None:
    for row in ("algebraic", "volumetric"):
        before = _answers(plan, row, "human36m", "panoptic").info
        said = two_worlds.must("predict", "human36m", row).out
        kept = [line for line in said.splitlines() if ELSEWHERE.slug.rsplit("-", 1)[0] in line and "nothing" in line]
        assert len(kept) >= 2
        assert _answers(plan, row, "human36m", "panoptic").info == before


def test_a_row_without_such_weights_says_so_and_stands_in_no_table_of_transfer(two_worlds: Any, plan: Plan) -> None:
    assert "left out, it does not run on panoptic" in two_worlds.must("predict", "human36m", "one_world").out
    assert not any(table in TABLES for table, _ in _scores(plan, "one_world", "human36m"))
    assert no_transfer(plan.run("dlt", "human36m"), "panoptic") == ""
    assert no_transfer(plan.run("dlt", "human36m"), "rhd") == "there is no copy of rhd"
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["methods"]["late"] = {"code": "methods/dlt", "after": "backbone"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert no_transfer(Plan.read().run("late", "human36m"), "panoptic") == "it has no weights of panoptic"


@pytest.mark.parametrize(
    ("trained_on", "problem"),
    [("rhd", "rhd and human36m have no joint in common"), ("human36m", "of the table"), ("panoptics", "no data set")],
)
def test_weights_that_cannot_answer_a_table_are_one_line(trained_on: str, problem: str) -> None:
    (table, *_) = [table for table in tables_on("human36m", "smoke") if table.id in TABLES]
    check_trainings(table)
    with pytest.raises(InputError, match=rf"table transfer-human36m\S*: groups\.trained_on.*{problem}"):
        check_trainings(table.model_copy(update={"groups": (Group(trained_on=trained_on),)}))


def test_predictions_state_one_training() -> None:
    info = {"skeleton": "coco-17", "joints": COCO.joints, "dataset": "human36m", "manifest": "m", "method": "x"}
    of_condition = {"cameras": ["a"], "trained_on": "panoptic"}
    predictions.PredictionInfo.model_validate({**info, "condition": of_condition, "trained_on": "panoptic"})
    for stated in (None, ["rhd"], []):
        with pytest.raises(ValueError, match=r"trained_on is .*, that of the condition panoptic"):
            predictions.PredictionInfo.model_validate({**info, "condition": of_condition, "trained_on": stated})


def test_up_is_read_off_the_cameras(plan: Plan) -> None:
    human36m, panoptic = (plan.source(name).dataset for name in ON)
    np.testing.assert_array_equal(up_axis(human36m), [0, 0, 1])
    differs = transfer(human36m, panoptic)
    assert differs.skeleton == COCO
    np.testing.assert_array_equal(differs.turn @ up_axis(human36m), up_axis(panoptic))


@pytest.mark.parametrize("a", AXES)
@pytest.mark.parametrize("b", AXES)
def test_a_turn_is_a_rotation_between_axes(a: Any, b: Any) -> None:
    turn = turn_between(a, b)
    np.testing.assert_array_equal(turn @ a, b)
    np.testing.assert_array_equal(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)


class Echo:
    """Answers where its first camera stands and where it is told that the root is."""

    inputs = Inputs(root="predicted", images=False)

    def __init__(self) -> None:
        self.seen: list[Sample] = []

    def predict(self, samples: list[Sample]) -> list[Poses]:
        self.seen += samples
        joints_mm = np.zeros((len(samples), 1, len(COCO), 3))
        for place, sample in enumerate(samples):
            joints_mm[place, 0, 0], joints_mm[place, 0, 1] = sample.views[0].camera.centre_mm, sample.root_mm
        columns = [{"camera_R": np.stack([view.camera.R for view in sample.views])[None]} for sample in samples]
        pairs = zip(joints_mm, columns, strict=True)
        return [Poses(COCO, of_sample, np.ones(1), columns=further) for of_sample, further in pairs]


def test_a_world_is_turned_for_the_method_and_its_answers_back(plan: Plan, tmp_path: Path) -> None:
    dataset = plan.source("human36m").dataset
    (key, *_) = dataset.keys("test")
    root_mm = np.array([[100.0, 200.0, 900.0]])
    turn = turn_between(np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0]))
    handover = Handover(dataset, Echo.inputs, tmp_path, roots_mm={key: root_mm}, transfer=Transfer(COCO, turn))
    (answer,) = predict(method := Echo(), handover, [key])  # type: ignore[arg-type]
    whole, (seen,) = dataset.sample(key), method.seen
    np.testing.assert_allclose(answer.joints_mm[0, 0], whole.views[0].camera.centre_mm, atol=1e-6)
    np.testing.assert_allclose(answer.joints_mm[0, 1], root_mm[0], atol=1e-9)
    np.testing.assert_allclose(answer.columns["camera_R"][0], [view.camera.R for view in whole.views], atol=1e-12)
    np.testing.assert_allclose(seen.root_mm, [[100, -900, 200]], atol=1e-9)
    point = np.array([50.0, -30.0, 1200.0])
    for before, after in zip(whole.views, seen.views, strict=True):
        np.testing.assert_allclose(after.camera.project(turn @ point), before.camera.project(point), atol=1e-6)


def test_a_signature_says_which_training(plan: Plan) -> None:
    file = ScoreFile.read(plan.layout.row_path("scores", "dlt", "human36m"))
    own, other = (one.signature for one in file.scores if one.table == "transfer-human36m")
    assert isinstance(own, Signature)
    assert own == other.model_copy(update={"trained_on": None})
    assert file.provenance.checkpoint_sha256 == {"seed0": file_sha256(plan.layout.checkpoint("human36m", "dlt", 0))}
