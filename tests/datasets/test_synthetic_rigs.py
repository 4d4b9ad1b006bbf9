"""The world of unseen rigs: cameras of their own, whole people in all of them, everything for testing."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.human36m import LABELS
from poseboard.datasets.human36m_rigs import Human36MRigs
from poseboard.datasets.synthetic.layouts.human36m_rigs import WorldOptions, generate
from poseboard.datasets.synthetic.rigs import DISTANCE_MM, FOCAL_PX, HEIGHT_MM, LEAST_ANGLE_DEG, ROLL_DEG
from poseboard.datasets.synthetic.world import CAMERAS, direct, perform, shots
from poseboard.datasets.synthetic.world import WorldOptions as OneRig

TINY = WorldOptions(seed=5, side_px=96, rigs=3, actions=("Greeting", "Walking"), frames_per_sequence=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rigs")
    generate(TINY, root)
    return root


def test_everything_is_for_testing_and_a_subject_is_a_rig(world: Path) -> None:
    dataset = open_dataset("human36m-rigs", {"root": world})
    assert (dataset.name, dataset.synthetic, dataset.status().state) == ("human36m-rigs", True, "ready")
    assert list(dataset.keys("train")) == []
    keys = list(dataset.keys("test"))
    assert len(keys) == TINY.samples("test") == 3 * 2 * 2
    assert TINY.samples("train") == 0
    groups = [dataset.sample(key).group for key in keys]
    assert {group.subject for group in groups} == set(TINY.subjects) == {"R01", "R02", "R03"}
    assert {group.sequence for group in groups} == {"Greeting-1", "Walking-1"}
    counts = json.loads((world / "manifest.json").read_text())["counts"]
    assert counts == {"sequences": 6, "frames": 12, "images": TINY.extent.shots, "trees": TINY.extent.trees}
    folders = sum(path.is_dir() for path in (world / "processed").rglob("*"))
    assert folders - len(TINY.subjects) == TINY.extent.folders


def test_the_cameras_of_the_labels_are_those_that_were_drawn(world: Path) -> None:
    dataset = Human36MRigs(world)
    for subject in TINY.subjects:
        views = dataset.sample(f"{subject}/Walking-1/000000").views
        assert tuple(view.name for view in views) == CAMERAS
        for view, camera in zip(views, TINY.rig(subject), strict=True):
            np.testing.assert_array_equal(view.camera.K, camera.K)
            np.testing.assert_array_equal(view.camera.R, camera.R)
            np.testing.assert_array_equal(view.camera.t, camera.t)


def test_rigs_differ_in_position_orientation_focal_length_and_order() -> None:
    options = WorldOptions(seed=5, rigs=6, actions=("Posing",), frames_per_sequence=1)
    rigs = [options.rig(subject) for subject in options.subjects]
    cameras = [camera for rig in rigs for camera in rig]
    centres_mm = np.array([camera.centre_mm for camera in cameras])
    along_floor = np.linalg.norm(centres_mm[:, :2], axis=1)
    assert DISTANCE_MM[0] - 1 < along_floor.min()
    assert along_floor.max() < DISTANCE_MM[1] + 1
    assert HEIGHT_MM[0] - 1 < centres_mm[:, 2].min()
    assert centres_mm[:, 2].max() < HEIGHT_MM[1] + 1
    focals = np.array([camera.K[0, 0] for camera in cameras]) / options.side_px * 1000
    assert FOCAL_PX[0] - 1 < focals.min()
    assert focals.max() < FOCAL_PX[1] + 1
    assert np.ptp(focals) > 200
    # A level camera's first row has no part along z; the roll is the rest.
    rolls = np.rad2deg([np.arcsin(camera.R[0, 2]) for camera in cameras])
    assert 1 < np.abs(rolls).max() < ROLL_DEG + 0.1
    for rig in rigs:
        for a, b in combinations(rig, 2):
            cosine = np.dot(a.centre_mm[:2], b.centre_mm[:2]) / np.prod(
                [np.linalg.norm(c.centre_mm[:2]) for c in (a, b)]
            )
            assert np.rad2deg(np.arccos(cosine)) > LEAST_ANGLE_DEG - 0.1
    assert all(
        np.linalg.norm(a.centre_mm - b.centre_mm) > 100
        for one, other in combinations(rigs, 2)
        for a, b in zip(one, other, strict=True)
    )
    azimuths = np.arctan2(*np.moveaxis(centres_mm[:, 1::-1].reshape(6, 4, 2), -1, 0))
    around = {tuple(np.roll(order, -order.tolist().index(0))) for order in np.argsort(azimuths, axis=1)}
    assert len(around) > 1, "the order of the labels does not follow the room"


def test_every_camera_sees_the_whole_actor_in_every_frame() -> None:
    """Whatever hides the actor: the room is rendered without furniture and bystanders."""
    options = TINY.model_copy(update={"occlusion": 0.0, "rigs": 4})
    for subject in options.subjects:
        for name in options.sequences:
            for shot in shots(options, subject, name, direct(options, subject, name)):
                silhouette = shot.picture.silhouette
                assert silhouette.mean() > 0.01
                edges = (silhouette[0], silhouette[-1], silhouette[:, 0], silhouette[:, -1])
                assert not any(edge.any() for edge in edges), (subject, name, shot.instant, shot.view)


def test_the_undistorted_images_hold_the_whole_actor_too(world: Path) -> None:
    dataset = Human36MRigs(world)
    for key in dataset.keys("test"):
        joints_mm = dataset.truth(key).joints_mm[0]
        for view in dataset.sample(key).views:
            points = view.camera.project(joints_mm)
            assert (points > 0.02 * TINY.side_px).all()
            assert (points < 0.98 * TINY.side_px).all()


def test_rigs_do_not_depend_on_how_many_there_are() -> None:
    more = TINY.model_copy(update={"rigs": 5})
    for a, b in zip(TINY.rig("R02"), more.rig("R02"), strict=True):
        np.testing.assert_array_equal(a.P, b.P)


def test_no_rig_is_that_of_the_training_world() -> None:
    known = np.array([camera.centre_mm for camera in OneRig(seed=5).rig("S1")])
    for subject in TINY.subjects:
        centres_mm = np.array([camera.centre_mm for camera in TINY.rig(subject)])
        assert np.linalg.norm(known - centres_mm, axis=1).max() > 500


def test_the_same_people_do_the_same_before_the_rig_of_the_training(tmp_path: Path) -> None:
    options = TINY.model_copy(update={"rigs": 2, "known_rig": 9})
    generate(options, tmp_path)
    dataset = Human36MRigs(tmp_path)
    unseen, known = dataset.keys("test"), dataset.keys("known")
    assert len(known) == options.samples("known") == options.samples("test") == 2 * 2 * 2
    counts = json.loads((tmp_path / "manifest.json").read_text())["counts"]
    assert (counts["images"], counts["trees"]) == (options.extent.shots, options.extent.trees)
    for one, other in zip(unseen, known, strict=True):
        assert (one[0], other[0], one[1:]) == ("R", "K", other[1:])
        np.testing.assert_array_equal(dataset.truth(one).joints_mm, dataset.truth(other).joints_mm)
        subject = dataset.sample(other).group.subject
        training = OneRig(seed=9, side_px=96)
        for a, b, c in zip(dataset.sample(one).views, dataset.sample(other).views, training.rig(subject), strict=True):
            np.testing.assert_array_equal(b.camera.P, c.P)
            assert np.linalg.norm(a.camera.centre_mm - b.camera.centre_mm) > 300
        actor, twin = (perform(options, name, "Walking-1") for name in ("R02", "K02"))
        assert repr(actor.outfit) == repr(twin.outfit)
        lights = [repr(direct(options, name, "Walking-1").light) for name in ("R01", "R02", "K02")]
        assert lights[0] != lights[1] == lights[2]
    without = TINY.model_copy(update={"rigs": 2})
    for subject in without.subjects:
        for a, b in zip(options.rig(subject), without.rig(subject), strict=True):
            np.testing.assert_array_equal(a.P, b.P)
    assert without.samples("known") == 0


def test_it_reads_any_tree_of_the_layout(human36m_tree: Path) -> None:
    """A copy of one's own: subjects of any name, all of them for testing."""
    dataset = Human36MRigs(human36m_tree)
    assert not dataset.synthetic
    assert len(dataset.keys("test")) > 0
    assert len(dataset.keys("train")) == len(dataset.keys("known")) == 0


def test_only_a_k_with_its_r_is_the_control(world: Path, tmp_path: Path) -> None:
    labels = np.load(world / LABELS, allow_pickle=True).item()
    labels["subject_names"] = ["R01", "K01", "Karl"]
    path = tmp_path / "labels.npy"
    np.save(path, np.array(labels, dtype=object), allow_pickle=True)
    dataset = Human36MRigs(world, labels=path)
    assert {key[:3] for key in dataset.keys("known")} == {"K01"}
    assert {key.partition("/")[0] for key in dataset.keys("test")} == {"R01", "Karl"}
