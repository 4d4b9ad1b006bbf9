"""Human3.6M with annotations made by the H36M-Toolbox, as used in the release of epipolar transformers.

On disk, below one root:

    annot/h36m_train.pkl, annot/h36m_validation.pkl     a pickled list of records, one per image
    images/<path>, or images.zip with images/<path>     frames of 1000 x 1000 or 1000 x 1002, distorted
    undistoredimages.zip                                undistorted frames (spelling of the release)

World frame: millimetres, z up. A sample is one frame of a sequence with the images of all four cameras. Images are
cropped to 1000 rows and undistorted. Boxes are squares of ``200 x scale`` at the undistorted ``center``. Joints:
`skeleton.HUMAN36M`.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.adapter import Adapter
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.files import files_sha256, open_file
from poseboard.datasets.human36m import CAMERAS, TEST_SUBJECTS, Human36M
from poseboard.datasets.sample import (
    FileState,
    Group,
    Image,
    ReadImage,
    Sample,
    Truth,
    View,
    decode_image,
    read_image,
)
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.datasets.unpickle import read_pickle

JOINTS = (
    *("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("spine", "thorax", "nose", "head_top"),
    *("left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"),
)
"""Names of the 17 joints of a record, in the order of the file."""

OF_20 = (*range(8), 9, 11, 12, *range(14, 20))
"""Indices of `JOINTS` in the release's union of 20 joints for several data sets."""

ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting", "SittingDown"),
    *("Smoking", "TakingPhoto", "Waiting", "Walking", "WalkingDog", "WalkingTogether"),
)
"""Actions 2 to 16, named as in RootNet's loader; epipolar transformers swaps the names of 14 and 15."""

ROWS = [JOINTS.index(name) for name in HUMAN36M.joints]
"""Indices of the joints of `skeleton.HUMAN36M` in `JOINTS`."""

FILES = {"train": Path("annot") / "h36m_train.pkl", "test": Path("annot") / "h36m_validation.pkl"}

SIDE_PX = 1000
_REMEDY = "make it again with the H36M-Toolbox"
_ARCHIVES = {"original": "images.zip", "undistorted": "undistoredimages.zip"}


class Human36MToolbox(Adapter):
    """Adapter of the H36M-Toolbox's layout, with the samples of epipolar transformers' release.

    Reading the annotations of a split takes one second per 10,000 images.

    Args:
        root: folder with ``annot/`` and the images.
        images: "original": frames of ``images/`` or ``images.zip``, undistorted after reading. "undistorted": frames of
            ``undistoredimages.zip``.
        truth: true poses of the test split. "triangulated": linear triangulation of the recorded 2D joints, as in the
            release except for its baseline. "recorded": the recorded 3D joints.
    """

    name = "human36m-toolbox"
    title = "Human3.6M (H36M-Toolbox annotations, as epipolar transformers)"
    licence = Human36M.licence
    obtain = (
        "register at vision.imar.ro/human3.6m and download the archives (academic use, no redistribution), then make "
        "annotations and frames with github.com/CHUNYUWANG/H36M-Toolbox"
    )
    skeleton = HUMAN36M
    views = CAMERAS

    def __init__(
        self,
        root: Path,
        images: Literal["original", "undistorted"] = "original",
        truth: Literal["triangulated", "recorded"] = "triangulated",
    ) -> None:
        super().__init__(root)
        self._images, self._truth = images, truth

    def inspect(self) -> tuple[DataState, str]:
        """Ready if the annotations can be read and each split has its first and last image."""
        annotated = [split for split, path in FILES.items() if (self.root / path).is_file()]
        if "test" not in annotated:
            return "missing", f"no {self.root / FILES['test']}"
        records = {split: self._records(split) for split in annotated}
        absent = [str(FILES[split]) for split in FILES if split not in annotated]
        for of_split in records.values():
            for path in (of_split.images[0], of_split.images[-1]):
                try:
                    _read(self.root, self._images, path)
                except InputError as error:
                    absent.append(str(error))
        if absent:
            return "partial", f"incomplete, first {absent[0]}"
        count = sum(len(of_split.moments) for of_split in records.values())
        partly = sum(len(of_split.images) - len(CAMERAS) * len(of_split.moments) for of_split in records.values())
        left_out = f"; left out: {partly} images of moments that not all cameras show" if partly else ""
        return "ready", f"{count} moments of four cameras; truth of the test split is {self._truth}{left_out}"

    def content_sha256(self) -> str:
        """SHA-256 of the annotations and the options."""
        paths = [self.root / path for path in FILES.values()]
        return files_sha256(f"{self._images} {self._truth}", paths, self.obtain)

    def facts(self, split: str) -> Facts:
        """Facts of a split. Boxes are 2 x 2 m around the true pelvis; the option ``truth`` chooses the true poses."""
        triangulated = split == "test" and self._truth == "triangulated"
        return Facts(boxes="true joints", truth="triangulated" if triangulated else "motion capture")

    def keys(self, split: str) -> Sequence[str]:
        """Keys such as "S9/Greeting-2/000123" (number of the image), in the order of the records."""
        self.check_split(split)
        if not (self.root / FILES[split]).is_file() and split == "train":
            return ()
        return tuple(self._records(split).moments)

    def sample(self, key: str) -> Sample:
        """Sample of one frame: four undistorted views."""
        records, rows = self._rows(key)
        subject, sequence, _ = key.split("/")
        views = tuple(
            View(
                name,
                records.camera(row).undistorted(),
                ReadImage(
                    partial(_frame, self.root, self._images, records.images[row], records.camera(row)),
                    partial(_state, self.root, self._images, records.images[row]),
                ),
                records.box(row)[None],
            )
            for name, row in zip(self.views, rows, strict=True)
        )
        return Sample(key, views, Group(subject, sequence.partition("-")[0], sequence))

    def truth(self, key: str) -> Truth:
        """True pose (1, 17, 3), world mm, with visibility and 2D annotation of the joints per camera."""
        records, rows = self._rows(key)
        if self._truth == "triangulated" and records.split == "test":
            cameras = [records.camera(row) for row in rows]
            joints = _triangulated(cameras, records.joints_px[rows], records.side_px[rows])
        else:
            first = records.camera(rows[0])
            joints = (records.joints_camera_mm[rows[0]] - first.t) @ first.R
        seen = {name: records.seen[row][None, ROWS] for name, row in zip(self.views, rows, strict=True)}
        annotated = {
            name: camera.normalised(_undistorted(camera, records.joints_px[row]))[None, ROWS]
            for name, row in zip(self.views, rows, strict=True)
            for camera in (records.camera(row),)
        }
        return Truth(joints[None, ROWS], seen, annotated)

    @cached_property
    def _read_splits(self) -> dict[str, _Records]:
        return {}

    def _records(self, split: str) -> _Records:
        if split not in self._read_splits:
            self._read_splits[split] = _read_records(self.root / FILES[split], split)
        return self._read_splits[split]

    def _rows(self, key: str) -> tuple[_Records, list[int]]:
        # The likely file first, because reading the other one takes long.
        likely = "test" if key.partition("/")[0] in TEST_SUBJECTS else "train"
        for split in sorted(FILES, key=lambda name: name != likely):
            if (self.root / FILES[split]).is_file() and key in (records := self._records(split)).moments:
                return records, records.moments[key]
        raise self.unknown_key(key, self.root / "annot")


@dataclass(frozen=True, eq=False)
class _Records:
    """Columns of the n records of one file.

    Args:
        split: "train" or "test".
        images: n paths below the folder of the images.
        moments: key of a frame -> rows of the four cameras.
        joints_px: (n, 17, 2) in the distorted image.
        joints_camera_mm: (n, 17, 3) in the camera frame.
        seen: (n, 17) whether a joint is annotated as visible.
        centre_px: (n, 2) centre of the box in the distorted image.
        side_px: (n,) side of the box.
        cameras: (n, 21) calibration: R, camera centre in world mm, fx, fy, cx, cy, k1, k2, k3, p1, p2.
    """

    split: str
    images: list[str]
    moments: dict[str, list[int]]
    joints_px: Array
    joints_camera_mm: Array
    seen: NDArray[np.bool_]
    centre_px: Array
    side_px: Array
    cameras: Array

    def camera(self, row: int) -> Camera:
        """Camera of a record, with lens distortion."""
        values = self.cameras[row]
        R, (fx, fy, cx, cy), (k1, k2, k3, p1, p2) = values[:9].reshape(3, 3), values[12:16], values[16:]
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        return Camera(K, R, -R @ values[9:12], np.array([k1, k2, p1, p2, k3]), (SIDE_PX, SIDE_PX))

    def box(self, row: int) -> Array:
        """Box (4,) of a record: left, upper, right, lower in the undistorted image, px."""
        centre = _undistorted(self.camera(row), self.centre_px[row])
        half = self.side_px[row] / 2
        return np.concatenate([centre - half, centre + half])


def _read_records(path: Path, split: str) -> _Records:
    """Read the records of a split; InputError names the record and its missing or wrong field."""
    content = read_pickle(path)
    if not isinstance(content, list | tuple) or not content:
        raise InputError(path, f"holds a {type(content).__name__}, not a list of records", _REMEDY)
    sizes = {"joints_2d": 34, "joints_3d_camera": 51, "joints_vis": 51, "center": 2}
    of_camera = {"R": 9, "T": 3, "fx": 1, "fy": 1, "cx": 1, "cy": 1, "k": 3, "p": 2}
    count = len(content)
    columns = {name: np.empty((count, size)) for name, size in sizes.items()}
    side, cameras = np.empty(count), np.empty((count, sum(of_camera.values())))
    images: list[str] = []
    of_key: dict[str, list[int]] = {}
    for row, record in enumerate(content):
        where = f"{path}: record {row}"
        if not isinstance(record, dict):
            raise InputError(where, f"is a {type(record).__name__}, not a dict", _REMEDY)
        numbers = [int(_values(record, name, 1, where)[0]) for name in ("subject", "action", "subaction", "image_id")]
        subject, action, subaction, number = numbers
        camera = int(_values(record, "camera_id", 1, where)[0])
        image = record.get("image")
        # A path must not lead out of the folder of the images.
        if not isinstance(image, str) or not image or ".." in Path(image).parts or Path(image).is_absolute():
            raise InputError(f"{where}: image", f"{str(image)[:80]!r} is not a path below the images", _REMEDY)
        if not 2 <= action <= len(ACTIONS) + 1 or not 0 <= camera < len(CAMERAS):
            raise InputError(where, f"has action {action}, camera {camera}, not 2 … 16 and 0 … 3", _REMEDY)
        key = f"S{subject}/{ACTIONS[action - 2]}-{subaction}/{number:06d}"
        rows = of_key.setdefault(key, [-1] * len(CAMERAS))
        if rows[camera] >= 0:
            raise InputError(where, f"{key}, camera {camera} occurs twice", _REMEDY)
        rows[camera] = row
        images.append(image)
        for name, size in sizes.items():
            columns[name][row] = _values(record, name, size, where)
        side[row] = 200 * _values(record, "scale", None, where)[0]
        of_record = record.get("camera")
        if not isinstance(of_record, dict):
            raise InputError(f"{where}: camera", f"is a {type(of_record).__name__}, not a dict", _REMEDY)
        cameras[row] = np.concatenate(
            [_values(of_record, name, size, f"{where}: camera") for name, size in of_camera.items()]
        )
        if not side[row] > 0:
            raise InputError(f"{where}: scale", f"is {side[row] / 200:g}, not above 0", _REMEDY)
    R = cameras[:, :9].reshape(count, 3, 3)
    flags = columns["joints_vis"].reshape(count, 17, 3)
    bad = (np.abs(R @ R.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2)) > 1e-3) | (np.linalg.det(R) < 0)
    for field, wrong, problem in (
        ("camera: R", bad, "is not a rotation"),
        ("camera: fx, fy", (cameras[:, 12:14] <= 0).any(axis=1), "are not above 0"),
        ("joints_vis", ~(flags == (flags[..., :1] > 0)).all(axis=(1, 2)), "is not 0 0 0 or 1 1 1 for a joint"),
    ):
        if wrong.any():
            raise InputError(f"{path}: record {int(wrong.argmax())}: {field}", problem, _REMEDY)
    joints_camera_mm = columns["joints_3d_camera"].reshape(count, 17, 3)
    moments = {key: rows for key, rows in of_key.items() if min(rows) >= 0}
    if not moments:
        raise InputError(path, "has no frame with records of all four cameras", _REMEDY)
    return _Records(
        split,
        images,
        moments,
        columns["joints_2d"].reshape(count, 17, 2),
        joints_camera_mm,
        flags[..., 0] > 0,
        columns["center"],
        side,
        cameras,
    )


def _values(record: dict[str, Any], name: str, size: int | None, where: str) -> Array:
    """Read a field of a record as ``size`` finite numbers; None: one or more."""
    if name not in record:
        raise InputError(f"{where}: {name}", "field is missing", _REMEDY)
    try:
        values = np.asarray(record[name], dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: {name}", "is not an array of numbers", _REMEDY) from None
    if values.size != size if size is not None else not values.size:
        raise InputError(f"{where}: {name}", f"has {values.size} numbers, not {size or 'one or more'}", _REMEDY)
    if not np.isfinite(values).all():
        raise InputError(f"{where}: {name}", "is not finite", _REMEDY)
    return values


def _frame(root: Path, images: str, path: str, camera: Camera) -> Image:
    """Read a frame and undistort it; (1000, 1000, 3) uint8 RGB."""
    frame = _read(root, images, path)[:SIDE_PX]
    if frame.shape[:2] != (SIDE_PX, SIDE_PX):
        raise InputError(
            root / "images" / path, f"frame is {frame.shape[1]} x {frame.shape[0]} px, not 1000 x 1000", _REMEDY
        )
    return frame if images == "undistorted" else np.asarray(cv2.undistort(frame, camera.K, camera.dist), dtype=np.uint8)


def _read(root: Path, images: str, path: str) -> Image:
    archive = root / _ARCHIVES[images]
    if images == "original" and not archive.is_file():
        return read_image(root / "images" / path)
    try:
        members = _archive(archive, os.getpid())
        return decode_image(members.read(_member(members, archive, path)), archive / path)
    except FileNotFoundError:
        raise InputError(archive, "there is no such file", Human36MToolbox.obtain) from None
    except (OSError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(
            archive, f"{path} cannot be read ({str(error)[:80] or 'it ends too early'})", "copy the archive again"
        ) from None


def _state(root: Path, images: str, path: str) -> FileState:
    """State of a frame's file. In an archive: size and checksum from the index of the archive."""
    archive = root / _ARCHIVES[images]
    if images == "original" and not archive.is_file():
        return FileState.of(root / "images" / path)
    try:
        members = _archive(archive, os.getpid())
        member = members.getinfo(_member(members, archive, path))
    except (OSError, KeyError, zipfile.BadZipFile):
        return FileState(-1)
    return FileState(member.file_size, checksum=member.CRC)


def _member(members: zipfile.ZipFile, archive: Path, path: str) -> str:
    # The archive of undistorted frames may have a folder with its own name.
    names = [f"images/{path}", f"{archive.stem}/{path}", path]
    return next(filter(members.NameToInfo.__contains__, names), names[0])


@lru_cache(maxsize=4)
def _archive(path: Path, process: int) -> zipfile.ZipFile:
    """Open an archive, once per process: its index takes seconds to read, and forks would share a file handle."""
    return zipfile.ZipFile(open_file(path))


def _undistorted(camera: Camera, points_px: Array) -> Array:
    """Undistort points (..., 2) with OpenCV. Its few iterations influence the release's numbers."""
    undistorted_px = cv2.undistortPoints(points_px.reshape(-1, 1, 2), camera.K, camera.dist, P=camera.K)
    return np.asarray(undistorted_px, dtype=np.float64).reshape(points_px.shape)


def _triangulated(cameras: Sequence[Camera], points_px: Array, side_px: Array) -> Array:
    """Triangulate distorted points (V, J, 2) to (J, 3) mm by homogeneous linear triangulation in crop pixels.

    All crops have the same size, so the equations of a view are divided by the side (V,) of its box. The position of a
    crop has no influence.
    """
    points = np.stack([_undistorted(camera, seen) for camera, seen in zip(cameras, points_px, strict=True)], axis=1)
    P = np.stack([camera.P for camera in cameras])
    equations = (points[..., None] * P[:, None, 2] - P[:, :2]) / side_px[:, None, None]
    X = np.linalg.svd(equations.reshape(len(points), -1, 4))[2][:, -1]
    return np.asarray(X[:, :3] / X[:, 3:])
