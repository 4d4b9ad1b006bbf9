"""Detection in videos: order of the work, progress, and what is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from poseboard.benchmarks.rigs import detect
from poseboard.benchmarks.rigs.detect import detect_videos
from poseboard.datasets.blazepose import Person, Region
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.keypoints import read_keypoints
from poseboard.datasets.rig import RigFile, own_camera, rig_text

SIZE = (64, 48)


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, SIZE)
    for _ in range(frames):
        writer.write(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
    writer.release()


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two videos, and a network that finds one person in every second frame."""

    def follow(network: object, images: Iterable[np.ndarray], people: int) -> Iterator[list[Person | None]]:
        for number, _ in enumerate(images):
            person = Person(np.full((33, 2), 7.0), np.full(33, 0.5), 1.0, Region(10, 10, 64))
            yield [person if number % 2 == 0 else None] + [None] * (people - 1)

    monkeypatch.setattr(detect, "BlazePose", lambda weights: None)
    monkeypatch.setattr(detect, "follow", follow)
    paths = {name: tmp_path / f"{name}.mp4" for name in ("cam1", "cam2")}
    for name, frames in (("cam1", 30), ("cam2", 4)):
        write_video(paths[name], frames)
    return paths


def test_all_frames_of_all_videos(videos: dict[str, Path]) -> None:
    lines: list[str] = []
    keypoints = detect_videos(videos, Path("weights"), say=lines.append)
    np.testing.assert_array_equal(keypoints.cameras["cam1"].frame, range(0, 30, 2))
    np.testing.assert_array_equal(keypoints.cameras["cam2"].frame, [0, 2])
    assert set(keypoints.cameras["cam2"].person) == {-1}
    assert set(detect_videos(videos, Path("weights"), people=2).cameras["cam2"].person) == {0}
    assert lines[:2] == ["cam1: 64 x 48 px, 30 frames at 25 Hz", "cam2: 64 x 48 px, 4 frames at 25 Hz"]
    assert lines[2].startswith("34 frames at ")
    assert "about 0 s" in lines[2]


def test_damaged_videos_stop_before_the_first_frame(videos: dict[str, Path]) -> None:
    content = videos["cam2"].read_bytes()
    videos["cam2"].write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cam2\.mp4: is not a video"):
        detect_videos(videos, Path("weights"))


def test_number_of_people(videos: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="people: is 0; give a number from 1 to 20"):
        detect_videos(videos, Path("weights"), people=0)


def test_a_folder_of_videos(videos: dict[str, Path], tmp_path: Path) -> None:
    lines: list[str] = []
    path = detect.detect(str(tmp_path), tmp_path / "home", say=lines.append)
    assert path == tmp_path / "detections.parquet"
    assert list(read_keypoints(path).cameras) == ["cam1", "cam2"]
    assert lines[-1].endswith(f"--detections {path} --videos {tmp_path}")
    assert any("cam2: 2 people in 2 frames" in line for line in lines)
    with pytest.raises(InputError, match="exists already"):
        detect.detect(str(tmp_path), tmp_path / "home")
    detect.detect(str(tmp_path), tmp_path / "home", overwrite=True)
    with pytest.raises(InputError, match=r"ends in \.parquet"):
        detect.detect(str(tmp_path), tmp_path / "home", out=tmp_path / "a.json")


def test_the_videos_of_a_rig(videos: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "home" / "data" / "lab"
    root.mkdir(parents=True)
    camera = Camera(np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]), np.eye(3), np.zeros(3), np.zeros(5), SIZE)
    names = {"left": "../../../cam1.mp4", "right": "../../../cam2.mp4"}
    rig = RigFile(fps=25.0, cameras={name: own_camera(camera, video=video) for name, video in names.items()})
    (root / "rig.yaml").write_text(rig_text(rig, {}))
    assert detect.detect("lab", tmp_path / "home") == root / "detections.parquet"
    assert list(read_keypoints(root / "detections.parquet").cameras) == ["left", "right"]
    rig = RigFile(fps=25.0, cameras={"left": own_camera(camera, video=names["left"]), "right": own_camera(camera)})
    (root / "rig.yaml").write_text(rig_text(rig, {}))
    with pytest.raises(InputError, match="no video of right"):
        detect.detect("lab", tmp_path / "home", overwrite=True)
    for name in ("labb", "../lab"):
        with pytest.raises(InputError, match="is not a folder of videos or a rig"):
            detect.detect(name, tmp_path / "home")


def test_absent_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="poseboard data fetch blazepose"):
        detect_videos({}, tmp_path / "absent.tflite")
