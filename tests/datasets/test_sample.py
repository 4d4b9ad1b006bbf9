from pathlib import Path

import cv2
import numpy as np
import pytest

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, View, crop_image, read_image
from poseboard.datasets.skeleton import COCO

CAMERA = Camera(np.array([[500.0, 0, 50], [0, 500, 40], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(100, 80))


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)


def test_images_are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((4, 5, 3), (0, 0, 255), dtype=np.uint8))
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "img_000001.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"img_000001\.jpg: "):
        read_image(path)


def test_a_truncated_photograph_and_one_of_billions_of_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "img_000001.jpg"
    cv2.imwrite(str(path), picture())
    whole = path.read_bytes()
    read_image(path)
    path.write_bytes(whole + b"a trailer")
    read_image(path)
    for size in (len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"img_000001\.jpg: file is not a readable image"):
            read_image(path)
    place = whole.find(b"\xff\xc0") + 5
    path.write_bytes(whole[:place] + b"\xf0\xf0\xf0\xf0" + whole[place + 4 :])
    with pytest.raises(InputError, match=r"img_000001\.jpg: image is too large"):
        read_image(path)


def test_a_box_larger_than_any_image_is_refused() -> None:
    view = View("a", CAMERA, picture(), np.array([[0.0, 0, 1e5, 1e5]]))
    with pytest.raises(InputError, match="view a: boxes: box 0 is 100000 x 100000 px"):
        view.crop(64)


def test_a_crop_beyond_the_image_is_black() -> None:
    image = picture()
    crop = crop_image(image, (-10, -10, 30, 30), (40, 40))
    assert not crop[:10].any()
    assert not crop[:, :10].any()
    np.testing.assert_array_equal(crop[10:, 10:], image[:30, :30])
    assert not crop_image(image, (200, 200, 240, 240), (8, 8)).any()


def test_a_view_is_cropped_with_camera_box_and_detections() -> None:
    joints = np.array([[[30.0, 20.0]], [[70.0, 60.0]]])
    boxes = np.array([[10.0, 0, 50, 40], [50, 30, 90, 70]])
    view = View("a", CAMERA, picture(), boxes, joints, np.array([[0.5], [0.25]]))
    crop = view.crop(80, person=1)
    np.testing.assert_allclose(crop.joints_px, [[[40, 60]]])
    assert crop.confidence.tolist() == [[0.25]]
    assert crop.boxes_px.tolist() == [[0, 0, 80, 80]]
    assert crop.pixels().shape == (80, 80, 3)
    np.testing.assert_array_equal(crop.pixels(), crop_image(view.pixels(), (50, 30, 90, 70), (80, 80)))
    point = np.array([10.0, 20.0, 1000.0])
    np.testing.assert_allclose(crop.camera.project(point), (CAMERA.project(point) - (50, 30)) * 2)


def test_a_view_without_image_says_so() -> None:
    view = View("a", CAMERA, None, np.array([[0.0, 0, 10, 10]]))
    assert view.crop(5).image is None
    with pytest.raises(InputError, match="view a: "):
        view.pixels()


def test_poses_of_another_joint_set_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(P, 17, 3\)"):
        Poses(COCO, np.zeros((1, 14, 3)), np.ones(1))
    with pytest.raises(ValueError, match="scores"):
        Poses(COCO, np.zeros((2, 17, 3)), np.ones(1))


def test_a_warped_crop_moves_camera_pixels_and_detections_alike() -> None:
    """A dot at a projected point is where the crop's camera and its detections say, to a fraction of a pixel."""
    camera = Camera(np.array([[200.0, 0, 60], [0, 210, 50], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(120, 100))
    point_mm = np.array([[-10.0, 12, 100]])
    (x, y) = camera.project(point_mm)[0]
    rows, columns = np.mgrid[:100, :120]
    spot = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    image = np.repeat(spot.astype(np.uint8)[..., None], 3, axis=2)
    view = View("a", camera, image, np.array([[20.4, 40.3, 60.9, 80.2]]), np.array([[[x, y]]]), np.ones((1, 1)))
    for scale in (1.0, 1.3):
        crop = view.crop(64, scale, resampling="bilinear")
        expected = crop.camera.project(point_mm)[0]
        np.testing.assert_allclose(crop.joints_px, expected[None, None], atol=1e-9)
        np.testing.assert_allclose(crop.camera.K[0, 0] / 200, 64 / (40.5 * scale))
        found = crop.pixels()[..., 0].astype(float)
        rows, columns = np.mgrid[:64, :64]
        middle = np.array([(found * columns).sum(), (found * rows).sum()]) / found.sum()
        np.testing.assert_allclose(middle, expected, atol=0.1)
        assert crop.camera.size == crop.pixels().shape[:2] == (64, 64)
