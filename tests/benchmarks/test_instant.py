"""`poseboard demo --calibration`: one person in views of one instant. A made-up detector knows the projections."""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
from made_up_calibrations import made_up_rig, write_own
from made_up_rig import NAMES

from poseboard.benchmarks.rigs import instant
from poseboard.datasets.blazepose import Person, Region
from poseboard.datasets.errors import InputError

POSE_MM = np.random.default_rng(0).uniform([-300, -300, 200], [300, 300, 1700], (33, 3))
CAMERAS = made_up_rig(NAMES[:3])


class Detector:
    """Finds the made-up person in every image, whose upper left pixel names the camera; none in black images."""

    def __init__(self, weights: Path) -> None:
        del weights

    def find(self, image: np.ndarray) -> list[Person]:
        if image[0, 0, 0] < 20:
            return []
        camera = list(CAMERAS.values())[round(image[0, 0, 0] / 50) - 1]
        return [Person(camera.project(POSE_MM), np.ones(33), 1.0, Region(0, 0, 1))]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], Path]:
    monkeypatch.setattr(instant, "BlazePose", Detector)
    images = []
    for number, (name, camera) in enumerate(CAMERAS.items(), start=1):
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), np.full((camera.size[1], camera.size[0], 3), 50 * number, dtype=np.uint8))
        images.append(path)
    return images, write_own(tmp_path, CAMERAS)


def test_one_person_is_triangulated_and_drawn(scene: tuple[list[Path], Path], tmp_path: Path) -> None:
    images, calibration = scene
    picture, lines = instant.instant(images, calibration, Path("weights"), tmp_path / "out")
    assert lines[-1] == "median distance of joints from their detections: 0.0 px"
    drawn = cv2.imread(str(picture))
    assert min(drawn.shape[:2]) > 300
    assert drawn.std() > 10


def test_what_is_missing_is_said_in_a_line(scene: tuple[list[Path], Path], tmp_path: Path) -> None:
    images, calibration = scene

    def error(paths: list[Path]) -> str:
        with pytest.raises(InputError) as raised:
            instant.instant(paths, calibration, Path("weights"), tmp_path / "out")
        return str(raised.value)

    other = images[0].rename(tmp_path / "elsewhere.png")
    assert "elsewhere is not a camera of" in error([other, *images[1:]])
    other.rename(images[0])
    cv2.imwrite(str(images[0]), np.zeros((10, 12, 3), np.uint8))
    assert "is 12 x 10, its calibration is for" in error(images)
    for path, camera in zip(images[:2], CAMERAS.values(), strict=False):
        cv2.imwrite(str(path), np.zeros((camera.size[1], camera.size[0], 3), np.uint8))
    assert "fewer than two views have a person" in error(images)


def test_skeletons_are_drawn_into_boxes() -> None:
    class Network:
        def detect(self, image: Any, region: Region) -> Person:
            xy = np.random.default_rng(1).uniform(20, 80, (33, 2))
            return Person(xy, np.ones(33), 1.0, region)

    image = np.zeros((100, 100, 3), dtype=np.uint8)
    drawn = instant.with_skeletons(image, np.array([[20.0, 20, 80, 80]]), Network())  # type: ignore[arg-type]
    assert not image.any(), "the image itself stays"
    assert drawn[20:80, 20:80].any()
    assert not instant.with_skeletons(image, np.empty((0, 4)), Network()).any()  # type: ignore[arg-type]
