"""Plans of recovered rigs: from predictions with cameras to what the page of a row draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from poseboard.datasets.camera import Camera
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Group, Poses, Sample, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.records import RigFile, RigPlan
from poseboard.protocols.rig_plans import centre_covariance, plan_rigs, write_rig_plans

NAMES = ("north", "east", "south")
KEYS = [f"k{i}" for i in range(6)]
FRAMES = 2
"""Samples of each recovered rig, of which there are three."""
TURN = Rotation.from_rotvec([0.4, -0.2, 0.9]).as_matrix()


def cameras(up: np.ndarray) -> list[Camera]:
    """On a ring of 4 m at a height of 1.5 m, with the world's vertical ``up``; they look at its middle."""
    across = np.roll(up, 1), np.roll(up, 2)
    made = []
    for angle in (0.1, 2.0, 4.0):
        centre = 4000 * (np.cos(angle) * across[0] + np.sin(angle) * across[1]) + 1500 * up
        z = (800 * up - centre) / np.linalg.norm(800 * up - centre)
        x = np.cross(z, up) / np.linalg.norm(np.cross(z, up))
        R = np.stack([x, np.cross(z, x), z])
        K = np.array([[500.0, 0, 200], [0, 500, 200], [0, 0, 1]])
        made.append(Camera(K, R, -R @ centre, size=(400, 400)))
    return made


class Ring:
    """One person before three cameras."""

    name, skeleton, synthetic, views, splits = "ring", HUMAN36M, True, NAMES, ("test",)

    def __init__(self, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> None:
        self.cameras = cameras(np.array(up))

    def keys(self, split: str) -> list[str]:
        return KEYS

    def sample(self, key: str) -> Sample:
        boxes = np.array([[0.0, 0, 400, 400]])
        views = [View(name, camera, None, boxes) for name, camera in zip(NAMES, self.cameras, strict=True)]
        return Sample(key, tuple(views), Group("S9", "Walking", "1"))

    def truth(self, key: str) -> Truth:
        rng = np.random.default_rng(int(key[1:]))
        return Truth(rng.uniform(-500, 500, (1, len(HUMAN36M), 3)))

    def manifest(self) -> str:
        return "m"

    def facts(self, split: str) -> None:
        return None


def answered(
    ring: Ring, turns_deg: tuple[float, ...] = (3.0, 1.0, 2.0), scale: float = 0.5, covariance: bool = True
) -> PoseTable:
    """The truth in the frame of the first camera at another scale; in each rig the others are turned by so much."""
    first = ring.cameras[0]
    poses = []
    for number, key in enumerate(KEYS):
        wrong = Rotation.from_rotvec(np.deg2rad(turns_deg[number // FRAMES]) * np.array([0.0, 1, 0])).as_matrix()
        R = np.stack([c.R @ first.R.T if v == 0 else wrong @ c.R @ first.R.T for v, c in enumerate(ring.cameras)])
        t = np.stack([c.t - c.R @ first.R.T @ first.t for c in ring.cameras])
        columns = {"camera_R": R[None], "camera_t_mm": scale * t[None]}
        if covariance:
            columns["camera_covariance"] = np.broadcast_to(np.diag([0, 0, 0, 400.0, 100, 25]), (1, 3, 6, 6))
        joints_mm = scale * first.to_camera(ring.truth(key).joints_mm[0])[None]
        poses.append(Poses(HUMAN36M, joints_mm, np.ones(1), NAMES[0], columns))
    info = PredictionInfo(
        skeleton=HUMAN36M.name, joints=HUMAN36M.joints, dataset="ring", manifest="m", method="guess",
        condition=Condition(cameras=NAMES, frames_per_rig=FRAMES), inputs={"extrinsics": False},
    )  # fmt: skip
    return PoseTable.collect(KEYS, poses, info)


def plans(ring: Ring, table: PoseTable) -> list[RigPlan]:
    return plan_rigs(TruthTable.collect(ring, "test"), table)


def test_the_median_and_the_worst_rig_are_drawn_and_say_their_errors():
    ring = Ring()
    median, worst = plans(ring, answered(ring))
    assert (median.place, worst.place) == ("median", "worst")
    assert (median.key, worst.key) == ("k4", "k0")
    assert {(plan.rigs, plan.frames, plan.frames_per_rig) for plan in (median, worst)} == {(3, FRAMES, FRAMES)}
    assert median.rotation_deg == pytest.approx(2, abs=1e-3)
    assert worst.rotation_deg == pytest.approx(3, abs=1e-3)
    reference, east, south = worst.cameras
    assert (reference.reference, reference.rotation_deg, reference.direction_deg) == (True, None, None)
    for camera in (east, south):
        assert camera.rotation_deg == pytest.approx(3, abs=1e-3)
        assert camera.direction_deg == pytest.approx(0, abs=1e-3)
        assert not camera.reference


def test_one_rig_is_drawn_once():
    ring = Ring()
    (only,) = plans(ring, answered(ring, turns_deg=(1.0, 1.0, 1.0)))
    assert (only.place, only.rigs, only.frames) == ("median", 1, len(KEYS))


@pytest.mark.parametrize(
    ("up", "axes"),
    [((0, 0, 1), ("x", "y")), ((0, 0, -1), ("y", "x")), ((0, -1, 0), ("x", "z")), ((1, 0, 0), ("y", "z"))],
)
def test_a_perfect_answer_lies_on_the_truth_whatever_its_scale_and_frame(up, axes):
    ring = Ring(up)
    (plan,) = plans(ring, answered(ring, turns_deg=(0.0, 0.0, 0.0)))
    assert plan.axes == axes
    assert plan.scale == pytest.approx(2, rel=1e-4)
    places = [["xyz".index(axis) for axis in axes]]
    for camera, true in zip(plan.cameras, ring.cameras, strict=True):
        np.testing.assert_allclose(camera.true_m, true.centre_mm[places[0]] / 1000, atol=1e-4)
        np.testing.assert_allclose(camera.recovered_m, camera.true_m, atol=1e-3)
        np.testing.assert_allclose(camera.true_direction, true.R[2][places[0]], atol=1e-4)
        np.testing.assert_allclose(camera.recovered_direction, camera.true_direction, atol=1e-3)
    np.testing.assert_allclose(plan.recovered_joints_m, plan.true_joints_m, atol=1e-3)
    assert np.mean(np.array(plan.true_joints_m)[:, 2]) == pytest.approx(
        np.mean(ring.truth(plan.key).joints_mm @ np.array(up)) / 1000, abs=1e-4
    ), "heights are upwards"


def test_the_covariance_of_a_centre_is_that_of_draws_of_its_camera():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((6, 6)) * np.repeat([2e-4, 3.0], 3)[:, None]
    R, t_mm, covariance = TURN, np.array([300.0, -2000, 3500]), root @ root.T
    draws = rng.multivariate_normal(np.zeros(6), covariance, size=20_000)
    turned = Rotation.from_rotvec(draws[:, :3]).as_matrix() @ R
    centres = -np.einsum("nji,nj->ni", turned, t_mm + draws[:, 3:])
    expected = centre_covariance(R[None], t_mm[None], covariance[None])[0]
    np.testing.assert_allclose(np.cov(centres.T), expected, atol=0.05 * np.abs(expected).max())


def test_stated_uncertainty_is_in_the_metres_of_the_world():
    ring = Ring()
    (plan,) = plans(ring, answered(ring, turns_deg=(0.0, 0.0, 0.0)))
    for camera, true in zip(plan.cameras, ring.cameras, strict=True):
        in_world = true.R.T @ np.diag([400.0, 100, 25]) @ true.R * 2**2 / 1e6
        xx, xy, yy = camera.covariance_m2
        np.testing.assert_allclose([[xx, xy], [xy, yy]], in_world[:2, :2], rtol=1e-3, atol=1e-8)
    (silent,) = plans(ring, answered(ring, turns_deg=(0.0, 0.0, 0.0), covariance=False))
    assert all(camera.covariance_m2 is None for camera in silent.cameras)


def test_rigs_that_were_not_recovered_are_left_out_and_without_any_no_file_is_left(tmp_path: Path):
    ring = Ring()
    truth, table = TruthTable.collect(ring, "test"), answered(ring)
    table.columns["camera_R"][:FRAMES, 1] = np.nan
    assert [(plan.place, plan.key, plan.rigs) for plan in plan_rigs(truth, table)] == [
        ("median", "k2", 2),
        ("worst", "k4", 2),
    ]
    with WholeFiles() as files:
        written = write_rig_plans([(truth, table)], tmp_path, files)
    assert set(tmp_path.iterdir()) == written
    assert [plan.key for plan in RigFile.read(tmp_path / "rigs.json").plans] == ["k2", "k4"]
    table.columns["camera_R"][:, 1] = np.nan
    with WholeFiles() as files:
        assert write_rig_plans([(truth, table)], tmp_path / "none", files) == set()
