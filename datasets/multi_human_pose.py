"""Base class of Shelf and Campus, the Multi Human Pose data sets of TUM: several people, calibrated cameras.

On disk, below one root, with the calibration and detections that VoxelPose published:

    calibration_<name>.json                        camera -> R, T (mm), fx, fy, cx, cy, k, p;  x_cam = R (X - T)
    actorsGT.mat                                   actor3D: actors x frames cells of 14 x 3, metres
                                                   actor2D: actors x frames cells of a cell of 14 x 2 px per view
    pred_<name>_maskrcnn_hrnet_coco.pkl or .npz    2D detections of every person, COCO's 17 joints, with scores
    Camera{c}/                                     images, optional

World frame: millimetres, z up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from poseboard.datasets import matlab_process
from poseboard.datasets.adapter import Adapter
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.detections import boxes_about, detections_name, detections_path, read_detections
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.files import files_sha256, parse_json, read_apart, read_file
from poseboard.datasets.sample import Group, Sample, Truth, View
from poseboard.datasets.skeleton import COCO, Skeleton, sides

TUM14 = Skeleton(
    name="tum-14",
    joints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "chin",
        "head_top",
    ),
    edges=(
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("left_hip", "left_knee"),
        ("left_knee", "left_ankle"),
        ("right_hip", "left_hip"),
        ("right_wrist", "right_elbow"),
        ("right_elbow", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_hip", "right_shoulder"),
        ("left_hip", "left_shoulder"),
        ("right_shoulder", "chin"),
        ("left_shoulder", "chin"),
        ("chin", "head_top"),
    ),
    root=None,
    flip_pairs=sides("ankle", "knee", "hip", "wrist", "elbow", "shoulder"),
)
"""The 14 annotated joints of Shelf and Campus."""

_OBTAIN = (
    "download the data set from campar.in.tum.de/Chair/MultiHumanPose (research use), and calibration and detections "
    "from github.com/microsoft/voxelpose-pytorch (MIT)"
)
_ACTORS = "actorsGT.mat"
_FIELDS = ("actor3D", "actor2D")
_COPY = "copy it again from its source"


class MultiHumanPose(Adapter):
    """Adapter of frames with several people and 2D detections.

    Predictions and detections have COCO's 17 joints (``skeleton``). The ground truth has the 14 joints of
    ``truth_skeleton``. Joints are mapped by name, not by index.

    Frames are the union of the frames with detections and with ground truth, numbered from 0. For a complete published
    set, only the evaluated frames are used.

    The ground truth of a frame is the entry of ``actorsGT.mat`` with the same number, one row per actor. In a folder
    with few frames, such as a sample of a test suite, the numbers may not correspond. Then set ``truth`` to "none".

    Args:
        root: folder with the calibration, ``actorsGT.mat`` and detections.
        truth: "actors": true poses of ``actorsGT.mat``. "none": no true poses; frames are those with detections.
    """

    image_size: ClassVar[tuple[int, int]]
    """Width and height of the images, pixels."""
    evaluated: ClassVar[tuple[range, ...]]
    """Frames scored by convention; shorter files are scored completely."""
    published_views: ClassVar[int]
    """Number of published cameras, used if there is no calibration file."""
    image_file: ClassVar[str]
    """Path of an image below the root, with the fields ``camera`` and ``frame``."""

    licence = "research"
    obtain = _OBTAIN
    skeleton = COCO
    truth_skeleton = TUM14

    def __init__(self, root: Path, truth: Literal["actors", "none"] = "actors") -> None:
        super().__init__(root)
        self._has_truth = truth == "actors"

    @property
    def views(self) -> tuple[str, ...]:
        """Names Camera0, Camera1, … of the calibrated cameras, or of the published cameras without a calibration."""
        if not self._calibration.is_file():
            return tuple(f"Camera{c}" for c in range(self.published_views))
        return tuple(self._cameras)

    def inspect(self) -> tuple[DataState, str]:
        """Ready with calibration, annotations and detections; images are optional."""
        needed = self.root / _ACTORS if self._has_truth else self._detections_path or self._detections_file
        for path in (self._calibration, needed):
            if not path.is_file():
                return "missing", f"no {path.name} in {self.root}"
        frames = list(self._frames)
        has_images = all(
            self._image(camera, frame) for camera in range(len(self.views)) for frame in (frames[0], frames[-1])
        )
        images = "images" if has_images else "no images"
        if self._detections:
            annotated = sum(frame < len(self._actors[0]) for frame in frames) if self._has_truth else len(frames)
            of_truth = "" if annotated == len(frames) else f", {annotated} of them in {_ACTORS}"
            return "ready", f"{len(frames)} frames with detections{of_truth}, {images}"
        return "partial", f"{len(frames)} frames, {images}; no {self._detections_file.name}"

    def content_sha256(self) -> str:
        """SHA-256 of calibration, annotations and detections."""
        paths = [self._calibration, self._detections_path or self._detections_file]
        if not self._calibration.is_file():
            raise InputError(self._calibration, "there is no such file", self.obtain)
        if self._has_truth:
            paths.append(self.root / _ACTORS)
        return files_sha256("actors" if self._has_truth else "no truth", paths, self.obtain)

    def facts(self, split: str) -> Facts:
        """Facts of a split. Boxes enclose 2D detections; true poses are triangulated from manual annotations."""
        return Facts(boxes="detected", truth="annotated", associated=False)

    def keys(self, split: str) -> Sequence[str]:
        """Keys of "test", such as "shelf/000300"; "train" is empty, because there are few frames."""
        self.check_split(split)
        return [f"{type(self).name}/{frame:06d}" for frame in self._frames] if split == "test" else []

    def sample(self, key: str) -> Sample:
        """Sample of one frame. Each view has the detections (P, 17, 2) and scores (P, 17) of all people, and boxes.

        Without a file of detections, views have neither detections nor boxes.
        """
        frame = self._frame(key)
        views = []
        for camera, (name, calibration) in enumerate(self._cameras.items()):
            people = self._detections.get((camera, frame), np.zeros((0, len(COCO), 3)))
            joints_px, confidence = (people[..., :2], people[..., 2]) if self._detections else (None, None)
            boxes_px = boxes_about(people[..., :2])
            views.append(View(name, calibration, self._image(camera, frame), boxes_px, joints_px, confidence))
        return Sample(key, tuple(views), Group(type(self).name, type(self).name, type(self).name))

    def truth(self, key: str) -> Truth:
        """True poses (actors, 14, 3) in world mm, one row per actor of the file; NaN without annotation.

        By convention the first three actors are scored. If ``truth`` is "none", there are no actors. 2D annotations are
        those of the file, if it has them.
        """
        frame = self._frame(key)
        if not self._has_truth:
            return Truth(np.empty((0, len(TUM14), 3)))
        joints_mm, points_px = self._actors
        if frame >= len(joints_mm):
            return Truth(np.full_like(joints_mm[0], np.nan))
        annotated = {
            name: camera.normalised(camera.undistort(points))
            for (name, camera), points in zip(self._cameras.items(), points_px[frame], strict=True)
            if np.isfinite(points).any()
        }
        return Truth(joints_mm[frame], annotated=annotated)

    def _frame(self, key: str) -> int:
        match = re.fullmatch(rf"{type(self).name}/([0-9]{{6}})", key)
        if match is None or int(match[1]) not in self._frames:
            raise self.unknown_key(key, self.root)
        return int(match[1])

    def _image(self, camera: int, frame: int) -> Path | None:
        path = self.root / self.image_file.format(camera=camera, frame=frame)
        return path if path.is_file() else None

    @cached_property
    def _frames(self) -> dict[int, None]:
        """Numbers of the frames in ascending order, as keys of a dict for fast lookup."""
        detected = {frame for _, frame in self._detections}
        if not self._has_truth:
            if not detected:
                path = self._detections_path
                problem = "there is no such file" if path is None else "holds no frame"
                raise InputError(
                    path or self._detections_file, f"{problem}, but without truth it defines the frames", self.obtain
                )
            return dict.fromkeys(sorted(detected))
        numbers = sorted(detected | set(range(len(self._actors[0]))))
        if len(self._actors[0]) >= max(part.stop for part in self.evaluated):
            numbers = [frame for part in self.evaluated for frame in part]
        return dict.fromkeys(numbers)

    @property
    def _calibration(self) -> Path:
        return self.root / f"calibration_{type(self).name}.json"

    @property
    def _detections_file(self) -> Path:
        return self.root / f"{detections_name(type(self).name)}.pkl"

    @property
    def _detections_path(self) -> Path | None:
        return detections_path(self.root, type(self).name)

    @cached_property
    def _cameras(self) -> dict[str, Camera]:
        path = self._calibration
        data = read_file(path, self.obtain)
        try:
            content = parse_json(data)
        except ValueError as error:
            raise InputError(path, f"is not JSON ({error})", _COPY) from None
        if not isinstance(content, dict) or sorted(content) != sorted(map(str, range(len(content)))) or not content:
            raise InputError(path, 'is not an object of cameras "0", "1", …', _COPY)
        return {f"Camera{c}": _camera(content[str(c)], self.image_size, f"{path}: {c}") for c in range(len(content))}

    @cached_property
    def _actors(self) -> tuple[Array, Array]:
        """True poses (frames, actors, 14, 3), world mm, and 2D annotations (frames, views, actors, 14, 2), px."""
        path, views = self.root / _ACTORS, len(self.views)
        program = Path(matlab_process.__file__)
        content = json.loads(read_apart(program, path, *_FIELDS, kind="MATLAB", remedy=self.obtain))
        if (actors := content.get(_FIELDS[0])) is None:
            raise InputError(f"{path}: {_FIELDS[0]}", "field is missing", _COPY)
        try:
            joints = np.full((len(actors[0]), len(actors), len(TUM14), 3), np.nan)
            for a, cells in enumerate(actors):
                if len(cells) != len(joints):
                    raise ValueError(f"actor {a} has {len(cells)} frames, actor 0 has {len(joints)}")
                for f, cell in enumerate(cells):
                    if np.size(cell):  # the cell of an absent actor is empty
                        joints[f, a] = _finite(cell, (len(TUM14), 3))
        except (ValueError, TypeError, IndexError) as error:
            raise InputError(f"{path}: {_FIELDS[0]}", f"is not cells of 14 x 3 numbers ({error})", _COPY) from None
        if not len(joints):
            raise InputError(f"{path}: {_FIELDS[0]}", "has no frames", _COPY)
        points = np.full((len(joints), views, len(actors), len(TUM14), 2), np.nan)
        try:
            for a, f, v in np.ndindex(len(actors), len(joints), views) if _FIELDS[1] in content else ():
                of_views = content[_FIELDS[1]][a][f]  # empty, or with empty cells, without this actor
                if len(of_views) and np.size(of_views[v]):
                    points[f, v, a] = _finite(of_views[v], (len(TUM14), 2))
        except (ValueError, TypeError, IndexError) as error:
            problem = f"is not cells of 14 x 2 numbers for each of {views} views ({error})"
            raise InputError(f"{path}: {_FIELDS[1]}", problem, _COPY) from None
        return joints * 1000.0, points

    @cached_property
    def _detections(self) -> dict[tuple[int, int], Array]:
        """2D detections: (camera, frame) -> (people, 17, 3) x px, y px, score."""
        path = self._detections_path
        return {} if path is None else read_detections(path)


def _finite(cell: Any, shape: tuple[int, ...]) -> Array:
    """Numbers of a cell, m or px; ValueError if one is not finite, or above 10⁵."""
    values = np.reshape(np.asarray(cell, dtype=np.float64), shape)
    if not (np.abs(values) < 1e5).all():  # false for NaN
        raise ValueError("a number is not finite, or above 100000")
    return values


def _camera(values: Any, image_size: tuple[int, int], where: str) -> Camera:
    try:
        numbers = {name: np.asarray(values[name], dtype=np.float64).reshape(-1) for name in ("R", "T", "k", "p")}
        fx, fy, cx, cy = (float(values[name]) for name in ("fx", "fy", "cx", "cy"))
        R = numbers["R"].reshape(3, 3)
        k, p = numbers["k"], numbers["p"]
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        return Camera(K, R, -R @ numbers["T"], np.array([k[0], k[1], p[0], p[1], k[2]]), image_size)
    except KeyError as error:
        raise InputError(f"{where}.{error.args[0]}", "field is missing", _COPY) from None
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(where, f"is not a camera ({error})", _COPY) from None
