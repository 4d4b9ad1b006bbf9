"""The dome world: 31 cameras all round, and the layout of CMU Panoptic read back as it was rendered."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.panoptic import HD_CAMERAS, JOINTS19, RANGES, SEQUENCES, Panoptic
from poseboard.datasets.sample import Dataset, View
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.synthetic.dome import CENTRE_HEIGHT_MM, HEIGHT_MM, RADIUS_MM, dome_rig
from poseboard.datasets.synthetic.layouts.panoptic import FROM_STUDIO, PanopticLayout, WorldOptions, generate
from poseboard.datasets.synthetic.motion import ACTIONS
from poseboard.datasets.synthetic.renderer import Backdrop, backdrop, render
from poseboard.datasets.synthetic.scene import assemble
from poseboard.datasets.synthetic.world import direct, perform

TINY = WorldOptions(seed=5, width_px=96, train_frames=1, test_frames=2, takes=1)
TEST = SEQUENCES["test"]
LAYOUT = PanopticLayout(partial(Panoptic, synthetic=True))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dome")
    generate(TINY, root)
    return root


def opened(world: Path) -> Dataset:
    return open_dataset("panoptic", {"root": world, "cameras": "all"})


def test_the_adapter_finds_a_whole_tree_with_its_default_options(world: Path) -> None:
    dataset = open_dataset("panoptic", {"root": world})
    assert (dataset.synthetic, dataset.status().state) == (True, "ready"), dataset.status().detail
    assert dataset.facts("test").truth == "synthetic"
    keys = {split: list(dataset.keys(split)) for split in ("train", "test")}
    assert keys["test"] == [f"{name}/{RANGES[name][0][0] + 20 * i:08d}" for name in TEST for i in range(2)]
    assert [len(keys[split]) for split in keys] == [TINY.samples(split) for split in keys] == [7, 4]
    # what the bootstrap resamples: another actor per sequence, another take per range
    assert len({dataset.sample(key).group for key in keys["test"]}) == 2
    counts = json.loads((world / "manifest.json").read_text())["counts"]
    assert counts == {"sequences": 9, "frames": 11, "images": TINY.extent.shots, "trees": 1}
    assert sum(1 for _ in world.rglob("*.jpg")) == TINY.extent.shots
    assert sum(path.is_dir() for path in world.rglob("*")) == TINY.extent.folders
    assert (world / "contact_sheet.png").stat().st_size > 10_000


def test_the_files_have_the_fields_of_the_toolbox(world: Path) -> None:
    content = json.loads((world / TEST[0] / f"calibration_{TEST[0]}.json").read_text())
    assert list(content) == ["calibDataSource", "cameras"]
    assert tuple(camera["name"] for camera in content["cameras"]) == HD_CAMERAS
    for camera in content["cameras"]:
        assert list(camera) == ["name", "type", "resolution", "panel", "node", "K", "distCoef", "R", "t"]
        assert (camera["type"], camera["resolution"], np.shape(camera["t"])) == ("hd", [96, 54], (3, 1))
    first = RANGES[TEST[0]][0][0]
    pose = json.loads((world / TEST[0] / "hdPose3d_stage1_coco19" / f"body3DScene_{first:08d}.json").read_text())
    assert list(pose) == ["version", "univTime", "fpsType", "bodies"]
    (body,) = pose["bodies"]
    joints19 = np.reshape(body["joints19"], (len(JOINTS19), 4))
    by_name = dict(zip(JOINTS19, joints19, strict=True))
    # centimetres, y down, feet near 0; the body's centre is the middle of the hips
    assert -250 < by_name["nose"][1] < by_name["body_centre"][1] < by_name["left_ankle"][1] < 5
    middle = (by_name["left_hip"] + by_name["right_hip"]) / 2
    np.testing.assert_allclose(by_name["body_centre"][:3], middle[:3], atol=1e-5)
    assert ((joints19[:, 3] == -1) | ((joints19[:, 3] > 0.1) & (joints19[:, 3] <= 0.75))).all()


def test_poses_are_read_back_as_they_were_rendered(world: Path) -> None:
    dataset, joints = opened(world), 0
    for subject in (*SEQUENCES["train"], *TEST):
        for name in TINY.takes_of(subject):
            (actor,) = direct(TINY, subject, name).people
            rendered_mm = actor.figure.landmarks_mm(COCO.joints) @ FROM_STUDIO.T
            for i, number in enumerate(TINY.numbers(subject, name)):
                (joints_mm,) = dataset.truth(f"{subject}/{number:08d}").joints_mm
                known = np.isfinite(joints_mm).all(axis=1)
                np.testing.assert_allclose(joints_mm[known], rendered_mm[i][known], atol=1e-4)
                joints += int(known.sum())
    assert joints > 0.95 * 11 * 17, "31 cameras see almost every joint from somewhere"


def test_cameras_are_read_back_as_they_were_rendered(world: Path) -> None:
    dataset = opened(world)
    for subject in RANGES:
        for view, camera in zip(views(dataset, subject), TINY.rig(subject), strict=True):
            np.testing.assert_array_equal(view.camera.K, camera.K)
            np.testing.assert_array_equal(view.camera.dist, camera.dist)
            np.testing.assert_allclose(view.camera.t, camera.t, atol=1e-9)
            points_mm = np.random.default_rng(0).uniform([-300, -300, 600], [300, 300, 1200], (20, 3))
            read_px = view.camera.project(points_mm @ FROM_STUDIO.T)
            np.testing.assert_allclose(read_px, camera.project(points_mm), atol=1e-6)


def views(dataset: Dataset, subject: str) -> tuple[View, ...]:
    key = next(key for split in dataset.splits for key in dataset.keys(split) if key.startswith(f"{subject}/"))
    return dataset.sample(key).views


def test_the_actor_is_in_the_image_where_the_labels_say(world: Path) -> None:
    """Joints read back, projected through the lens read back, fall on the actor; without the lens some do not."""
    dataset, subject = opened(world), TEST[0]
    (name,) = TINY.takes_of(subject)
    take = direct(TINY, subject, name)
    solids = assemble(take.people, take.furniture)[0]
    key = next(iter(dataset.keys("test")))
    (joints_mm,) = dataset.truth(key).joints_mm
    room, inside, moved = TINY.room(), 0, []
    for view, camera in zip(dataset.sample(key).views, TINY.rig(subject), strict=True):
        bare: Backdrop = backdrop(room, camera)
        picture = render(solids, bare, take.light, 0)
        assert view.pixels().shape == picture.image.shape
        # The stored image is this one but for noise, light and JPEG: both show the same person.
        lit = np.abs(view.pixels().astype(float) - picture.image).mean()
        assert lit < 25, view.name
        grown = cv2.dilate(picture.silhouette.astype(np.uint8), np.ones((3, 3), np.uint8))
        points = view.camera.project(joints_mm)
        within = ((points >= 0) & (points <= np.array(view.camera.size) - 1)).all(axis=1)
        pixels = np.rint(points[within]).astype(int)
        assert grown[pixels[:, 1], pixels[:, 0]].all(), view.name
        inside += int(within.sum())
        moved.append(np.linalg.norm(points - view.camera.undistorted().project(joints_mm), axis=1)[within])
    assert inside > 0.8 * 31 * 17
    assert np.concatenate(moved).max() > 1, "the lens counts"


def test_cameras_stand_all_round_on_the_sphere_and_the_days_differ() -> None:
    days = [TINY.rig(name) for name in ("171026_pose1", TEST[0])]
    assert TINY.rig("171026_pose2") is days[0], "one calibration per day"
    for rig in days:
        centres = np.array([camera.centre_mm for camera in rig])
        assert (np.abs(np.linalg.norm(centres - (0, 0, CENTRE_HEIGHT_MM), axis=1) - RADIUS_MM) < 60).all()
        assert HEIGHT_MM[0] - 40 < centres[:, 2].min() < HEIGHT_MM[0] + 40
        assert HEIGHT_MM[1] - 40 < centres[:, 2].max() < HEIGHT_MM[1] + 40
        apart = np.linalg.norm(centres[:, None] - centres, axis=2) + 1e6 * np.eye(31)
        assert apart.min() > 500
        azimuths = np.sort(np.arctan2(centres[:, 1], centres[:, 0]))
        assert np.rad2deg(np.diff(azimuths, append=azimuths[0] + 2 * np.pi)).max() < 20
        four = np.sort(np.arctan2(*centres[[1, 2, 10, 13], 1::-1].T))
        assert np.rad2deg(np.diff(four, append=four[0] + 2 * np.pi)).max() < 150, "of the table of four cameras"
        assert all(camera.dist.all() for camera in rig)
    for a, b in zip(*days, strict=True):
        np.testing.assert_array_equal(a.K, b.K)
        assert 1 < np.linalg.norm(a.centre_mm - b.centre_mm) < 120


def test_each_sequence_has_another_actor_and_all_actions_are_shown() -> None:
    options = WorldOptions()
    assert {name.rsplit("-", 1)[0] for subject in RANGES for name in options.takes_of(subject)} == set(ACTIONS)
    heights = {perform(options, subject, options.takes_of(subject)[0]).body.height for subject in RANGES}
    assert len(heights) == len(RANGES)
    for subject, ranges in RANGES.items():
        assert len(options.takes_of(subject)) == len(ranges)
        for name, (first, end) in zip(options.takes_of(subject), ranges, strict=True):
            assert all(first <= number < end for number in options.numbers(subject, name))


def test_a_whole_world_is_kept_and_a_take_follows_from_the_options_alone(world: Path, tmp_path: Path) -> None:
    manifest = json.loads((world / "manifest.json").read_text())
    assert generate(TINY, world) == manifest["sha256"]
    dome_rig.cache_clear()
    perform.cache_clear()
    job = (TEST[1], TINY.takes_of(TEST[1])[0])
    assert LAYOUT.write_sequence(tmp_path, TINY, job).sha256 == manifest["images"]["/".join(job)]["sha256"]


def test_a_joint_that_fewer_than_two_cameras_see_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = WorldOptions(seed=5, width_px=96, train_frames=1, test_frames=1, takes=1)
    monkeypatch.setattr(WorldOptions, "cameras", HD_CAMERAS[:1])
    monkeypatch.setattr(WorldOptions, "rig", lambda self, subject: dome_rig(self, "171204")[:1])
    clip = LAYOUT.write_sequence(tmp_path, one, (TEST[0], one.takes_of(TEST[0])[0]))
    np.testing.assert_array_equal(clip.joints19, np.broadcast_to((0, 0, 0, -1), (1, 19, 4)))
