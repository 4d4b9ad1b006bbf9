"""The adapter of the H36M-Toolbox's tree."""

import pickle
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up_toolbox import FILES, records, write_toolbox

from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m_toolbox import JOINTS, Human36MToolbox
from poseboard.datasets.sample import FileState
from poseboard.datasets.skeleton import HUMAN36M

OURS = [JOINTS.index(name) for name in HUMAN36M.joints]


@pytest.fixture
def root(tmp_path):
    write_toolbox(tmp_path)
    return tmp_path


def write(root: Path, made, split="test"):
    (root / FILES[split]).write_bytes(pickle.dumps(made))
    return Human36MToolbox(root)


def test_a_moment(root):
    data = Human36MToolbox(root)
    assert data.status().state == "ready"
    assert data.keys("test") == ("S9/Directions-1/000001", "S9/Directions-1/000006")
    assert data.keys("train")[0] == "S1/Directions-1/000001"
    key = data.keys("test")[0]
    sample = data.sample(key)
    assert (sample.group.subject, sample.group.action, sample.group.sequence) == ("S9", "Directions", "Directions-1")
    for view in sample.views:
        assert view.pixels().shape == (1000, 1000, 3)
        assert not view.camera.dist.any()
        np.testing.assert_allclose(np.diff(view.boxes_px.reshape(2, 2), axis=0), 500)


def test_triangulated_truth_is_that_of_the_recorded_pixels(root):
    made = records(9, 1, seed=2)
    key = "S9/Directions-1/000001"
    true = made[0]["joints_3d"][OURS]
    np.testing.assert_allclose(Human36MToolbox(root).truth(key).joints_mm[0], true, atol=0.2)
    recorded = Human36MToolbox(root, truth="recorded")
    np.testing.assert_allclose(recorded.truth(key).joints_mm[0], true, atol=1e-6)
    for record in made:  # 3D moved, pixels not
        record["joints_3d_camera"] = record["joints_3d_camera"] + 50
    np.testing.assert_allclose(write(root, made).truth(key).joints_mm[0], true, atol=0.2)
    # what is trained on stays the recorded pose
    train = records(1, 2, seed=1)
    np.testing.assert_allclose(
        Human36MToolbox(root).truth("S1/Directions-1/000001").joints_mm[0], train[0]["joints_3d"][OURS], atol=1e-6
    )
    assert Human36MToolbox(root).manifest() != recorded.manifest()
    assert Human36MToolbox(root).facts("train").truth == recorded.facts("test").truth == "motion capture"


def test_recorded_pixels_come_with_the_truth_without_the_lens(root):
    """Of train and test, in every crop: where the release's targets are."""
    for split, subject, seed in (("train", 1, 1), ("test", 9, 2)):
        made = records(subject, 1, seed=seed)
        rng = np.random.default_rng(0)
        for record in made:
            record["joints_2d"] = record["joints_2d"] + rng.normal(0, 5, (17, 2))
        data = write(root, made, split)
        key = data.keys(split)[0]
        sample, truth = data.sample(key), data.truth(key)
        for view, record in zip(sample.views, made, strict=True):
            camera = record["camera"]
            dist = np.concatenate([camera["k"][:2, 0], camera["p"][:, 0], camera["k"][2:, 0]])
            K = view.camera.K
            flat = cv2.undistortPoints(record["joints_2d"][OURS, None], K, dist, P=K)[:, 0]
            (directions,) = truth.annotated[view.name]
            np.testing.assert_allclose(view.camera.image(directions), flat, atol=1e-9)
            crop = view.crop(256, resampling="bilinear")
            A = view.crop_affine(256)
            np.testing.assert_allclose(crop.camera.image(directions), flat @ A[:2, :2].T + A[:2, 2], atol=1e-9)


def test_a_moment_that_a_camera_misses_is_left_out(root):
    made = records(9, 3, seed=2)
    del made[5]
    assert write(root, made).keys("test") == ("S9/Directions-1/000001", "S9/Directions-1/000011")


def test_hidden_joints_are_told_for_each_camera(root):
    made = records(9, 1, seed=2)
    made[2]["joints_vis"] = np.ones((17, 3))
    made[2]["joints_vis"][JOINTS.index("nose")] = 0
    seen = write(root, made).truth("S9/Directions-1/000001").seen
    shown = {name: bool(of_view[0, HUMAN36M.joints.index("nose")]) for name, of_view in seen.items()}
    assert list(shown.values()) == [True, True, False, True]


def test_archives(root):
    data = Human36MToolbox(root)
    key = data.keys("test")[0]
    image = records(9, 1, seed=2)[0]["image"]
    expected = data.sample(key).views[0].pixels()
    file = root / "images" / image
    assert data.sample(key).views[0].image_state() == FileState.of(file)
    for archive, member, images in (
        ("images.zip", f"images/{image}", "original"),
        ("undistoredimages.zip", image, "undistorted"),
    ):
        with zipfile.ZipFile(root / archive, "w") as made:
            made.write(file, member)
        view = Human36MToolbox(root, images=images).sample(key).views[0]
        assert view.image_state() == FileState(file.stat().st_size, checksum=zlib.crc32(file.read_bytes()))
        pixels = view.pixels()
        assert np.array_equal(pixels, expected) == (images == "original")
        (root / archive).write_bytes((root / archive).read_bytes()[:100])
    with pytest.raises(InputError, match=r"undistoredimages\.zip: "):
        Human36MToolbox(root, images="undistorted").sample(key).views[0].pixels()


def test_an_archive_that_is_not_there_or_not_readable_is_told(root):
    data = Human36MToolbox(root, images="undistorted")
    assert "undistoredimages.zip: " in data.status().detail
    image = records(9, 1, seed=2)[0]["image"]
    with zipfile.ZipFile(root / "undistoredimages.zip", "w") as made:
        made.writestr(image, b"encrypted")
    content = bytearray((root / "undistoredimages.zip").read_bytes())
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):  # says that the member needs a password
        content[content.index(mark) + (6 if mark.endswith(b"\x04") else 8)] |= 1
    (root / "undistoredimages.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"undistoredimages\.zip: "):
        Human36MToolbox(root, images="undistorted").sample(data.keys("test")[0]).views[0].pixels()


def test_triangulation_is_that_in_the_pixels_of_the_crops(root):
    made = records(9, 1, seed=2)
    rng = np.random.default_rng(0)
    for record, scale in zip(made, (1.5, 3.5, 2.0, 2.5), strict=True):
        record["joints_2d"] = record["joints_2d"] + rng.normal(0, 2, (17, 2))
        record["scale"] = np.full(2, scale)
    data = write(root, made)
    key = "S9/Directions-1/000001"
    crops = [view.crop(256, resampling="bilinear").camera for view in data.sample(key).views]
    pixels = []
    for record, view, crop in zip(made, data.sample(key).views, crops, strict=True):
        camera = record["camera"]
        dist = np.concatenate([camera["k"][:2, 0], camera["p"][:, 0], camera["k"][2:, 0]])
        flat = cv2.undistortPoints(record["joints_2d"][OURS, None], view.camera.K, dist)[:, 0]
        pixels.append(flat @ crop.K[:2, :2].T + crop.K[:2, 2])
    expected = []
    for joint in range(17):
        rows = [p[joint, i] * c.P[2] - c.P[i] for p, c in zip(pixels, crops, strict=True) for i in range(2)]
        X = np.linalg.svd(np.array(rows))[2][-1]
        expected.append(X[:3] / X[3])
    np.testing.assert_allclose(data.truth(key).joints_mm[0], expected, atol=1e-6)


def test_test_set_alone_will_do(root):
    (root / FILES["train"]).unlink()
    data = Human36MToolbox(root)
    assert data.status().state == "partial"
    assert data.keys("train") == ()
    assert len(data.keys("test")) == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"joints_2d": np.zeros((16, 2))}, "record 1: joints_2d: "),
        ({"center": np.array([np.nan, 1])}, "record 1: center: "),
        ({"scale": np.zeros(2)}, "record 1: scale: "),
        ({"scale": "large"}, "record 1: scale: "),
        ({"image": "../../etc/passwd"}, "record 1: image: "),
        ({"image": 3}, "record 1: image: "),
        ({"camera": None}, "record 1: camera: "),
        ({"camera": {}}, "record 1: camera: R: "),
        ({"camera": {"R": np.ones((3, 3))}}, "record 1: camera: R: "),
        ({"camera": {"fx": 0.0}}, "record 1: camera: fx, fy: "),
        ({"camera_id": 4}, "record 1: .*camera 4"),
        ({"action": 1}, "record 1: .*action 1"),
        ({"camera_id": 0}, "record 1: S9/Directions-1/000001"),
    ],
)
def test_damaged_records_are_named(root, change, problem):
    made = records(9, 1, seed=2)
    if change.get("camera"):
        change = {"camera": {**made[1]["camera"], **change["camera"]}}
    made[1].update(change)
    data = write(root, made)
    with pytest.raises(InputError, match=problem):
        data.keys("test")
    assert data.status().state == "damaged"


def test_other_content_is_told(root):
    for made in ([], {"a": 1}, [1], records(9, 1, seed=2)[:3]):
        with pytest.raises(InputError, match="h36m_validation"):
            write(root, made).keys("test")


def test_a_frame_of_another_size_is_told(root):
    image = records(9, 1, seed=2)[0]["image"]
    cv2.imwrite(str(root / "images" / image), np.zeros((500, 500, 3), np.uint8))
    data = Human36MToolbox(root)
    with pytest.raises(InputError, match="500 x 500"):
        data.sample(data.keys("test")[0]).views[0].pixels()
