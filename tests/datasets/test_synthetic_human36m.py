import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from joblib import parallel_config

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import LABELS, TREES, Human36M
from poseboard.datasets.sample import read_image
from poseboard.datasets.synthetic.layouts import human36m
from poseboard.datasets.synthetic.layouts.human36m import WorldOptions, generate
from poseboard.datasets.synthetic.renderer import backdrop, render
from poseboard.datasets.synthetic.scene import assemble, make_room, visible_joints
from poseboard.datasets.synthetic.world import CAMERAS, SEQUENCES, _studio, direct, rig, subject_body

TINY = WorldOptions(
    seed=7, side_px=120, train_subjects=("S1",), test_subjects=("S9",), train_frames=2, test_frames=1,
    actions=("Sitting", "Walking"), jpeg_quality=95,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    calls = []
    digest = generate(TINY, root, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (48, 48)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    return root, digest


@pytest.fixture(scope="module")
def labels(world):
    return np.load(world[0] / LABELS, allow_pickle=True).item()


def _images(root: Path):
    return {path.relative_to(root): path.read_bytes() for path in sorted((root / "processed").rglob("*.jpg"))}


def test_labels_have_the_published_fields_types_and_orders(labels):
    assert list(labels) == ["subject_names", "camera_names", "action_names", "cameras", "table"]
    assert labels["subject_names"] == ["S1", "S9"]
    assert labels["camera_names"] == ["54138969", "55011271", "58860488", "60457274"]
    assert labels["action_names"][:4] == ["Directions-1", "Directions-2", "Discussion-1", "Discussion-2"]
    assert labels["action_names"][20:] == [
        "TakingPhoto-1", "TakingPhoto-2", "Waiting-1", "Waiting-2", "Walking-1", "Walking-2", "WalkingDog-1",
        "WalkingDog-2", "WalkingTogether-1", "WalkingTogether-2",
    ]  # fmt: skip
    assert labels["cameras"].shape == (2, 4)
    described = {name: (kind.base, kind.shape) for name, (kind, _) in labels["cameras"].dtype.fields.items()}
    f32 = np.dtype(np.float32)
    assert described == {"R": (f32, (3, 3)), "t": (f32, (3, 1)), "K": (f32, (3, 3)), "dist": (f32, (5,))}
    described = {name: (kind.base, kind.shape) for name, (kind, _) in labels["table"].dtype.fields.items()}
    assert described == {
        "subject_idx": (np.dtype(np.int8), ()),
        "action_idx": (np.dtype(np.int8), ()),
        "frame_idx": (np.dtype(np.int16), ()),
        "keypoints": (f32, (17, 3)),
        "bbox_by_camera_tlbr": (np.dtype(np.int16), (4, 4)),
    }
    assert len(labels["table"]) == 2 * 2 * 2 + 2 * 2 * 1


def _cameras(labels, row):
    stored = labels["cameras"][row["subject_idx"]]
    return [
        Camera(K=c["K"], R=c["R"], t=c["t"], dist=c["dist"], size=(120, 120), distortion="human36m") for c in stored
    ]


def test_joints_lie_in_their_boxes_which_are_square(labels):
    for row in labels["table"]:
        for camera, (top, left, bottom, right) in zip(
            _cameras(labels, row), row["bbox_by_camera_tlbr"].astype(int), strict=True
        ):
            assert bottom - top == right - left > 20
            for seen_by in (camera, camera.undistorted()):
                points = seen_by.project(row["keypoints"])
                assert (points >= np.array([left, top]) - 0.5).all()
                assert (points <= np.array([right, bottom]) - 0.5).all()


def test_every_row_has_its_images_in_both_trees(world, labels):
    expected = set()
    for row in labels["table"]:
        folder = Path("processed", labels["subject_names"][row["subject_idx"]], SEQUENCES[row["action_idx"]])
        for tree in ("imageSequence", "imageSequence-undistorted"):
            expected |= {folder / tree / name / f"img_{row['frame_idx'] + 1:06d}.jpg" for name in CAMERAS}
    images = _images(world[0])
    assert set(images) == expected
    for path in list(images)[:3]:
        assert read_image(world[0] / path).shape == (120, 120, 3)


def test_projected_joints_fall_on_the_persons_silhouette(labels):
    row = labels["table"][2]
    name = SEQUENCES[row["action_idx"]]
    take = direct(TINY, "S1", name)
    instant = int(row["frame_idx"]) // TINY.frame_step
    solids = assemble(take.people, take.furniture)[instant]
    np.testing.assert_array_equal(take.people[0].figure.joints_mm[instant].astype(np.float32), row["keypoints"])
    room = make_room(np.random.default_rng(0))
    for camera in _cameras(labels, row):
        picture = render(solids, backdrop(room, camera), take.light, 0)
        points = np.rint(camera.project(row["keypoints"])).astype(int)
        grown = cv2.dilate(picture.silhouette.astype(np.uint8), np.ones((3, 3), np.uint8))
        assert grown[points[:, 1], points[:, 0]].all()
        assert 0.01 < picture.silhouette.mean() < 0.3
        # A joint called visible is seen through pixels of its own person, as far as a pixel's rounding goes.
        visible = visible_joints(solids, take.people[0], 0, instant, camera)
        own = np.zeros(picture.ids.shape, np.uint8)
        cones = (picture.ids >= 0) & (picture.ids < len(solids.owner))
        own[cones] = solids.owner[picture.ids[cones]] == 0
        near = cv2.dilate(own, np.ones((3, 3), np.uint8))
        assert near[points[visible, 1], points[visible, 0]].all()


def test_undistorted_tree_agrees_with_the_camera_without_its_lens(world, labels):
    row = labels["table"][0]
    take = direct(TINY, "S1", SEQUENCES[row["action_idx"]])
    solids = assemble(take.people, take.furniture)[0]
    room = _studio(TINY)
    for v, camera in enumerate(_cameras(labels, row)[:2]):
        pinhole = render(solids, backdrop(room, camera.undistorted()), take.light, 0).image.astype(float)
        errors = {}
        for tree in TREES:
            path = world[0] / "processed" / "S1" / SEQUENCES[row["action_idx"]] / tree / CAMERAS[v] / "img_000001.jpg"
            picture = read_image(path).astype(float)
            gain = pinhole.mean((0, 1)) / picture.mean((0, 1))  # cameras differ a little in tint
            errors[tree] = cv2.blur(np.abs(picture * gain - pinhole), (5, 5))[8:-8, 8:-8].mean()
        assert errors["imageSequence-undistorted"] < 0.8 * errors["imageSequence"]


def test_bytes_do_not_depend_on_the_number_of_processes(world, tmp_path):
    with parallel_config("loky", n_jobs=2):
        assert generate(TINY, tmp_path) == world[1]
    assert _images(tmp_path) == _images(world[0])


def test_manifest_tells_options_and_follows_seed_and_pixels(world, tmp_path):
    manifest = json.loads((world[0] / "manifest.json").read_text())
    assert manifest["sha256"] == world[1]
    assert WorldOptions(**manifest["options"]) == TINY
    assert manifest["counts"] == {"sequences": 8, "frames": 12, "images": 48, "trees": 2}
    assert 0.3 < manifest["mean_joint_visibility"] < 1
    assert (world[0] / "contact_sheet.png").stat().st_size > 10000
    one = {"train_subjects": ("S1",), "test_subjects": (), "train_frames": 1, "actions": ("Posing",), "side_px": 64}
    digests, hashes = [], []
    for change in ({}, {"seed": 1}, {"jpeg_quality": 80}, {"occlusion": 0.0}, {}):
        digests.append(generate(WorldOptions(**{**one, **change}), tmp_path))
        hashes.append(Human36M(tmp_path).manifest())
    assert digests[0] == digests[-1]
    assert len(set(digests)) == 4
    assert hashes[0] == hashes[2] == hashes[4] != hashes[1], "the data set's hash follows labels and not pixels"


def test_whole_world_is_kept_and_an_unfinished_one_is_made_anew(world, tmp_path):
    root, digest = world
    path = sorted((root / "processed").rglob("*.jpg"))[0]
    os.utime(path, (1, 1))
    assert generate(TINY, root) == digest
    assert path.stat().st_mtime == 1
    options = TINY.model_copy(update={"train_frames": 0})
    generate(options, tmp_path)
    first = _images(tmp_path)
    (tmp_path / "manifest.json").rename(tmp_path / "generation.json")  # as a kill leaves it
    stale = tmp_path / "processed" / "S1" / "stale.jpg"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_bytes(b"half")
    generate(options, tmp_path)
    assert _images(tmp_path) == first


@pytest.fixture
def copied(world, tmp_path):
    """A world to spoil, with the times of its files."""
    return Path(shutil.copytree(world[0], tmp_path / "copy"))


def _move_everybody(root):
    labels = np.load(root / LABELS, allow_pickle=True).item()
    labels["table"]["keypoints"] += 500
    np.save(root / LABELS, np.array(labels, dtype=object), allow_pickle=True)


def _flip_a_byte(root):
    path = sorted((root / "processed/S9/Walking-1" / TREES[1]).rglob("*.jpg"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _edit_the_manifest(root):
    path = root / "manifest.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["sha256"], "ab" * 32))


@pytest.mark.parametrize(
    ("change", "named"), [(_move_everybody, "labels"), (_flip_a_byte, "S9/Walking-1"), (_edit_the_manifest, "")]
)
def test_a_world_that_was_changed_is_neither_used_nor_rendered_over(copied, change, named):
    change(copied)
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    asked = (Human36M(copied).manifest, lambda: generate(TINY, copied))
    for ask in (*asked, lambda: generate(TINY.model_copy(update={"seed": 8}), copied)):
        with pytest.raises(InputError, match=rf"^{re.escape(str(copied))}: .*{named}"):
            ask()
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
    (copied / "manifest.json").unlink()  # from here on it is the user's own
    assert not Human36M(copied).synthetic
    assert len(Human36M(copied).manifest()) == 64


def test_a_flipped_byte_is_found_whatever_the_time_of_the_file(copied):
    _flip_a_byte(copied)
    for path in copied.rglob("*.jpg"):
        os.utime(path, (1, 1))
    Human36M(copied).manifest()  # sizes and times are as they were
    with pytest.raises(InputError, match="S9/Walking-1"):
        generate(TINY, copied)


def test_a_whole_world_is_taken_wherever_it_lies_and_however_old_it_is(world, copied):
    for path in copied.rglob("*"):
        os.utime(path)
    os.utime(copied / "manifest.json", (1, 1))
    assert Human36M(copied).manifest() == Human36M(world[0]).manifest()
    path = copied / "manifest.json"
    earlier = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("labels", "images")}
    path.write_text(json.dumps(earlier))
    assert Human36M(copied).manifest() == Human36M(world[0]).manifest()
    assert generate(TINY, copied) == world[1]
    assert json.loads(path.read_text()) == json.loads((world[0] / "manifest.json").read_text())
    _move_everybody(copied)
    path.write_text(json.dumps(earlier))
    with pytest.raises(InputError, match=re.escape(str(copied))):
        Human36M(copied).manifest()


def test_a_tree_of_somebody_else_is_left_alone(tmp_path):
    theirs = tmp_path / "processed" / "S1" / "real.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"real")
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        generate(TINY, tmp_path)
    assert theirs.read_bytes() == b"real"
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"manifest\.json"):
        generate(TINY, tmp_path)
    assert theirs.exists()


def test_subjects_share_intrinsics_and_differ_by_centimetres():
    options = WorldOptions()
    assert options.subjects == ("S1", "S5", "S6", "S7", "S8", "S9", "S11", "S2", "S3", "S4")
    for a, b in zip(rig(options, "S1"), rig(options, "S9"), strict=True):
        np.testing.assert_array_equal(a.K, b.K)
        np.testing.assert_array_equal(a.dist, b.dist)
        assert 1 < np.linalg.norm(a.centre_mm - b.centre_mm) < 140
    bodies = {subject_body(options, subject).height for subject in options.subjects}
    assert len(bodies) == len(options.subjects)


def test_square_box_follows_the_published_rounding():
    mask = np.zeros((60, 60), bool)
    mask[10:31, 20:30] = True
    assert human36m.square_tlbr(mask, margin=0.0) == (8, 12, 33, 37)
    assert human36m.square_tlbr(np.zeros((4, 4), bool)) == (0, 0, 0, 0)
