"""Videos: frames by index, rotation, and damaged files."""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from poseboard.datasets.errors import InputError
from poseboard.datasets.video import Video, videos_of

FRAMES, SIZE = 150, (96, 64)


def write_video(path: Path, frames: int = FRAMES) -> None:
    """Video with a bright left edge; eight vertical bars are the bits of the frame number."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, SIZE)
    assert writer.isOpened()
    for frame in range(frames):
        image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        image[:, :16] = 255
        for bit in range(8):
            image[:, 32 + 8 * bit : 40 + 8 * bit] = 255 * (frame >> bit & 1)
        writer.write(image)
    writer.release()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "Kamera ü 1.mp4"
    write_video(path)
    return path


def number(image: np.ndarray) -> int:
    """Frame number that a picture shows."""
    return sum(int(image[:, 34 + 8 * bit : 38 + 8 * bit].mean() > 128) << bit for bit in range(8))


def test_frames_by_index_in_any_order(video: Path) -> None:
    with Video(video) as opened:
        assert (opened.frames, opened.rate_hz, opened.size, opened.rotation_deg) == (FRAMES, 25.0, SIZE, 0)
        assert opened.describe() == "96 x 64 px, 150 frames at 25 Hz"
        for index in (0, 7, 3, 149, 80, 81, 1, 148, 0):
            image = opened.read(index)
            assert image.shape == (64, 96, 3)
            assert number(image) == index
        assert [number(image) for image in opened.images()] == list(range(FRAMES))


def test_threads_read_from_one_video(video: Path) -> None:
    wanted = [3, 17, 0, 8, 9, 21, 4, 1] * 8
    with Video(video) as opened, ThreadPoolExecutor(4) as pool:
        assert [number(image) for image in pool.map(opened.read, wanted)] == wanted


def test_channels_are_rgb(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, SIZE)
    for _ in range(5):
        writer.write(np.full((64, 96, 3), (0, 0, 250), np.uint8))  # red, as OpenCV has it
    writer.release()
    with Video(tmp_path / "a.mp4") as opened:
        red, green, blue = opened.read(0)[30, 50]
    assert red > 200
    assert max(green, blue) < 60


def test_rotation_flags_are_honoured_and_said(video: Path, tmp_path: Path) -> None:
    content = bytearray(video.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path = tmp_path / "phone.mp4"
    path.write_bytes(content)
    with Video(path) as opened:
        assert opened.rotation_deg == 90
        assert opened.size == (64, 96)
        image = opened.read(0)
        assert "rotated by 90°" in opened.describe()
    assert image.shape == (96, 64, 3)
    assert image[:8].mean() > 200 > image[-8:].mean(), "the left edge is now the upper one"


def test_damaged_videos(video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = video.read_bytes()
    for name, damaged, problem in (
        ("empty.mp4", b"", "video is empty"),
        ("text.mp4", b"no video" * 100, "is not a video"),
        ("truncated.mp4", content[: len(content) // 2], "is not a video"),
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=problem) as error:
            Video(tmp_path / name)
        assert error.value.remedy
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="No such file"):
        Video(tmp_path / "absent.mp4")
    renamed = tmp_path / os.fsdecode(b"a\xff.mp4")
    renamed.write_bytes(content)
    with pytest.raises(InputError, match=r"a\\udcff\.mp4: has a name that is not UTF-8 text"):
        Video(renamed)
    assert capfd.readouterr().err == ""


def test_frames_beyond_the_end(video: Path) -> None:
    with Video(video) as opened:
        for index in (150, 10_000):
            with pytest.raises(InputError, match=f"frame {index}: video ends at frame"):
                opened.read(index)
        with pytest.raises(InputError, match="count frames from 0"):
            opened.read(-1)
        assert number(opened.read(5)) == 5


def test_videos_of_a_folder(video: Path, tmp_path: Path) -> None:
    assert videos_of(video.parent) == {"Kamera ü 1": video}
    with pytest.raises(InputError, match="has no videos"):
        videos_of(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        videos_of(video)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.avi").touch()
    with pytest.raises(InputError, match=r"is camera a, like a\.avi"):
        videos_of(tmp_path)
