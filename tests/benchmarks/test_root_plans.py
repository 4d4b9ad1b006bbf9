"""Plans with true and predicted roots: from scored predictions to the page of a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poseboard.benchmarks import pictures
from poseboard.benchmarks.pictures import write_plans
from poseboard.datasets.camera import Camera
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Group, Poses, Sample, Truth, View
from poseboard.datasets.skeleton import HUMAN36M, ROOT
from poseboard.methods.drawing import root_plan
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.records import PictureFile

SIZE, GREEN = (160, 120), (20, 230, 60)
TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
CAMERA = Camera(np.array([[150.0, 0, 80], [0, 150, 60], [0, 0, 1]]), TURN, np.array([0.0, 0, 500]), size=SIZE)
TRUE = np.array([[-600.0, 0, 4000], [700.0, 100, 6000]])


class Street:
    """Five photographs of two people."""

    name, skeleton = "street", HUMAN36M

    def __init__(self, synthetic: bool, labelled: bool = True) -> None:
        self.synthetic, self.labelled = synthetic, labelled

    def sample(self, key: str) -> Sample:
        boxes = np.array([[20.0, 20, 40, 100], [90, 30, 110, 90]])
        image = np.full((SIZE[1], SIZE[0], 3), GREEN, dtype=np.uint8)
        return Sample(key, (View("camera", CAMERA, image, boxes),), Group(key, key, key))

    def truth(self, key: str) -> Truth:
        world = (TRUE - CAMERA.t) @ TURN
        joints = np.repeat(world[:, None], len(HUMAN36M), axis=1)
        return Truth(joints if self.labelled else joints * np.nan)


def answered(skeleton=ROOT, people: int = 2) -> PoseTable:
    keys = [f"k{i}" for i in range(5)]
    roots = (TRUE + 300.0)[:people]
    joints = np.repeat(roots[:, None], len(skeleton), axis=1)
    info = PredictionInfo(
        skeleton=skeleton.name, joints=skeleton.joints, dataset="street", condition=Condition(cameras=("camera",)),
        manifest="m", method="guess",
    )  # fmt: skip
    return PoseTable.collect(keys, [Poses(skeleton, joints, np.ones(people), "camera") for _ in keys], info)


def drawn(folder: Path, dataset: Street, table: PoseTable, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What is drawn: (roots, true roots) of each plan."""
    calls = []
    draw = root_plan.draw_plan

    def draw_plan(photograph, roots_mm, true_mm):
        calls.append((photograph, roots_mm, true_mm))
        return draw(photograph, roots_mm, true_mm)

    monkeypatch.setattr(root_plan, "draw_plan", draw_plan)
    monkeypatch.setattr(pictures, "DRAWN_SAMPLES", 3)
    with WholeFiles() as files:
        written = write_plans(table, dataset, folder, files)
    assert set(folder.glob("*")) == written
    return calls


def test_true_and_predicted_people_are_in_the_cameras_frame(tmp_path, monkeypatch):
    calls = drawn(tmp_path, Street(synthetic=True), answered(), monkeypatch)
    assert len(calls) == 3
    for photograph, roots_mm, true_mm in calls:
        np.testing.assert_allclose(true_mm, TRUE, atol=1e-6)
        np.testing.assert_allclose(roots_mm, TRUE + 300, atol=1e-2)
        assert photograph.boxes_px.shape == (2, 4)
    index = PictureFile.read(tmp_path / "pictures.json")
    assert [picture.key for picture in index.pictures] == ["k0", "k2", "k4"]
    with Image.open(tmp_path / index.pictures[0].file) as picture:
        assert (np.array(picture) == GREEN).all(axis=2).sum() > 10_000


def test_photographs_of_real_people_are_not_shown(tmp_path, monkeypatch):
    calls = drawn(tmp_path, Street(synthetic=False), answered(), monkeypatch)
    assert all(photograph.image is None for photograph, _, _ in calls)


def test_without_true_roots_the_predicted_ones_are_drawn(tmp_path, monkeypatch):
    calls = drawn(tmp_path, Street(synthetic=True, labelled=False), answered(), monkeypatch)
    assert len(calls) == 3
    assert all(true_mm is None for _, _, true_mm in calls)


@pytest.mark.parametrize("table", [answered(HUMAN36M), answered(people=0)], ids=["whole poses", "nobody"])
def test_nothing_is_drawn_of_poses_and_of_nobody(tmp_path, monkeypatch, table):
    assert drawn(tmp_path, Street(synthetic=True), table, monkeypatch) == []
    assert not list(tmp_path.iterdir())
