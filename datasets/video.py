"""Videos by OpenCV: frames by index, with the rotation that the file asks for.

A frame is found by decoding up to it, or from the start of the file where the decoder cannot jump exactly. The number
of frames in the file's header may be wrong; `Video.images` ends where the pictures end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file

# FFmpeg writes its errors to the terminal; ours name the file.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

Image = NDArray[np.uint8]
SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".webm", ".mts")
"""Suffixes of videos in a folder."""

_CONVERT = "convert it with ffmpeg to H.264 in .mp4"
_ENCODER_MARGIN = 0.02
_FARTHEST_GRAB = 64
"""Frames that are decoded and dropped before a jump is tried."""


class Video:
    """An open video; a context manager. Threads may read from it at the same time.

    Args:
        path: path of the file.

    Attributes:
        frames: number of frames in the file's header.
        rate_hz: frames per second, the mean where the rate varies.
        size: width and height of the pictures after rotation, px.
        rotation_deg: clockwise rotation that the file asks for; the pictures are rotated by it.

    Raises:
        InputError: the file is absent, empty, no video, or has no picture.

    Example:
        >>> with Video(Path("cam1.mp4")) as video:  # doctest: +SKIP
        ...     video.read(10).shape == (video.size[1], video.size[0], 3)
        True
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            open_file(path).close()  # refuses devices
        except OSError as error:
            raise InputError(path, f"cannot be read ({error.strerror})", "correct the path of the video") from None
        try:
            str(path).encode()  # OpenCV crashes on other names
        except UnicodeEncodeError:
            raise InputError(path, "has a name that is not UTF-8 text", "rename the file or its folder") from None
        if not path.stat().st_size:
            raise InputError(path, "video is empty", "record or copy it again")
        self._lock = Lock()  # two threads in one decoder damage the memory of the process
        self._next = 0
        self._capture = self._open()
        self.rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.rotation_deg = int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
        first = self._decode()
        if first is None:
            self.close()
            raise InputError(path, "video has no picture that can be decoded", _CONVERT)
        self.size = (first.shape[1], first.shape[0])
        if not (np.isfinite(self.rate_hz) and 0 < self.rate_hz < 1e5 and 0 < self.frames < 1e9):
            self.close()
            raise InputError(path, f"header states {self.frames} frames at {self.rate_hz:g} Hz", _CONVERT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def read(self, index: int) -> Image:
        """Read a frame by its index from 0, as an image (H, W, 3) uint8 RGB.

        Raises:
            InputError: the video ends before this frame, or is damaged there.
        """
        if index < 0:
            raise InputError(f"{self.path}: frame {index}", "is before the first frame", "count frames from 0")
        with self._lock:
            if not self._next <= index <= self._next + _FARTHEST_GRAB:
                self._jump(index)
            while self._next < index and self._capture.grab():
                self._next += 1
            image = self._decode() if self._next == index else None
            last = self._next - 1
        if image is None:
            problem = f"video ends at frame {last} of {self.frames} in its header"
            raise InputError(f"{self.path}: frame {index}", problem, "use earlier frames, or copy the video again")
        return image

    def images(self) -> Iterator[Image]:
        """Iterate over all decoded frames, in order."""
        if self._next:
            self._reopen()
        while (image := self._decode()) is not None:
            yield image

    def describe(self) -> str:
        """Describe size, number of frames, rate and rotation in one line."""
        turned = f", rotated by {self.rotation_deg}° as the file asks" if self.rotation_deg else ""
        return f"{self.size[0]} x {self.size[1]} px, {self.frames} frames at {self.rate_hz:.6g} Hz{turned}"

    def _open(self) -> cv2.VideoCapture:
        logged = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        finally:
            cv2.utils.logging.setLogLevel(logged)
        if not capture.isOpened():
            raise InputError(self.path, "is not a video that OpenCV can open, or is damaged", _CONVERT)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture

    def _reopen(self) -> None:
        self._capture.release()
        self._capture, self._next = self._open(), 0

    def _jump(self, index: int) -> None:
        """Move to a frame; from the start of the file if the decoder lands elsewhere."""
        moved = self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        if moved and int(self._capture.get(cv2.CAP_PROP_POS_FRAMES)) == index:
            self._next = index
        else:
            self._reopen()

    def _decode(self) -> Image | None:
        """Next picture; None at the end."""
        read, image = self._capture.read()
        if not read or image is None:
            return None
        self._next += 1
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def is_near_size(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two image sizes differ only by a margin that encoders add or cut, and not by a resolution.

    Example:
        >>> is_near_size((1088, 1920), (1080, 1920)), is_near_size((1920, 1080), (1280, 720))
        (True, False)
    """
    return all(abs(a - b) <= _ENCODER_MARGIN * a for a, b in zip(size, other, strict=True))


def videos_of(folder: Path) -> dict[str, Path]:
    """List the videos of a folder by camera name, which is the file name without its suffix.

    Raises:
        InputError: the folder is absent or has no videos, or two videos have the same name.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", "name the folder with one video per camera")
    videos: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            if path.stem in videos:
                raise InputError(path, f"is camera {path.stem}, like {videos[path.stem].name}", "keep one per camera")
            videos[path.stem] = path
    if not videos:
        raise InputError(folder, "has no videos", f"add one video per camera ({', '.join(SUFFIXES)})")
    return videos
