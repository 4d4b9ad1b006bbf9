"""CMU Panoptic: people in a dome of cameras, in the layout that its toolbox downloads and extracts.

On disk, below one root, for each sequence:

    <sequence>/calibration_<sequence>.json                     cameras: name, resolution, K, distCoef, R, t (cm)
    <sequence>/hdPose3d_stage1_coco19/body3DScene_%08d.json    bodies: joints19 = 19 x (x, y, z in cm, confidence)
    <sequence>/hdImgs/<camera>/<camera>_%08d.jpg               equal numbers are the same instant
    <sequence>/mrcnn-detections/<camera>.json                  optional, for one person: left, top, right, bottom,
                                                               confidence per frame, from frame 0

World frame: millimetres (files: centimetres, x_cam = R X + t), y down. Images and cameras have lens distortion. Joints:
`skeleton.COCO`, the 19 without neck and body centre; the root is the middle of the hips.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.adapter import Adapter, Scale, Stride
from poseboard.datasets.calibrations.panoptic import camera_of, entries_of, numbers_below_a_million
from poseboard.datasets.camera import Array, Box, Camera, scale_box, square_box
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import BoxSource, DataState, Facts
from poseboard.datasets.files import parse_json, read_file
from poseboard.datasets.sample import Group, ReadImage, Sample, Truth, View
from poseboard.datasets.skeleton import COCO

Split = Literal["train", "test"]

RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "171026_pose1": ((380, 7300), (7900, 14500), (15400, 22400)),
    "171026_pose2": ((1000, 7500), (8000, 14000)),
    "171026_pose3": ((1000, 3000),),
    "171204_pose1": ((300, 4100), (4800, 8900), (10000, 13600), (14000, 18200), (18500, 22900), (23500, 27600)),
    "171204_pose2": (
        *((350, 4300), (5000, 8800), (9600, 13600), (14300, 18500)),
        *((19600, 23500), (24200, 28200), (28800, 32800), (33500, 37700)),
    ),
    "171204_pose3": ((500, 4400), (5400, 9000)),
    "171204_pose4": (
        *((500, 4300), (4900, 8800), (9400, 13200), (14200, 17800)),
        *((18700, 22500), (23050, 27050), (28000, 31600)),
    ),
    "171204_pose5": ((400, 4300), (5000, 8500), (9500, 13400), (14200, 18000), (19000, 22600), (23500, 27100)),
    "171204_pose6": ((1000, 4500), (5150, 9100), (9830, 13800), (14370, 18300), (19000, 22900)),
}
"""Sequence -> ranges (start, end) of frames with one person; the end is excluded.

The ranges are from a public fork of learnable triangulation (Samleo8). Each range is one sequence of the bootstrap.
"""

SEQUENCES: dict[Split, tuple[str, ...]] = {
    "train": tuple(name for name in RANGES if name not in ("171204_pose5", "171204_pose6")),
    "test": ("171204_pose5", "171204_pose6"),
}
"""Learnable triangulation's split of the sequences with one person."""

HD_CAMERAS = tuple(f"00_{number:02d}" for number in range(31))
"""Names of all 31 HD cameras."""

CAMERAS = ("00_01", "00_02", "00_10", "00_13")
"""AdaFuse's four HD cameras on these sequences; the cameras of learnable triangulation are not published."""

JOINTS19 = (
    *("neck", "nose", "body_centre"),
    *("left_shoulder", "left_elbow", "left_wrist", "left_hip", "left_knee", "left_ankle"),
    *("right_shoulder", "right_elbow", "right_wrist", "right_hip", "right_knee", "right_ankle"),
    *("left_eye", "left_ear", "right_eye", "right_ear"),
)
"""Joints of the files, in their order. (A table in circulation has wrong names for the last four.)"""

_OBTAIN = (
    "download sequences, HD videos, calibration and poses with the scripts of "
    "github.com/CMU-Perceptual-Computing-Lab/panoptic-toolbox (non-commercial research), and extract the images with "
    "its hdImgsExtractor"
)

_LEAST_CONFIDENCE = 0.1
_LEAST_DETECTION = 0.01
_LARGEST_BOX_PX = 10_000
_MM = 10.0
_ROWS = [JOINTS19.index(name) for name in COCO.joints]
_COPY = "download or extract it again"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_CAMERA = re.compile(r"[0-9]{2}_[0-9]{2}")


class Panoptic(Adapter):
    """Adapter of CMU Panoptic's HD cameras. Reading the labels of the default split takes about ten seconds.

    Args:
        root: folder of the sequences.
        sequences: sequences of "train" and of "test"; None: `SEQUENCES`. Sequences in `RANGES` are restricted to these
            ranges; other sequences have all labelled frames. ``{"test": ["171204_pose5", "171204_pose6"]}`` needs no
            training sequences.
        cameras: names of the cameras of both splits, in order; "all": `HD_CAMERAS`.
        every: stride over the labelled frames of a sequence.
        people: "one": frames with exactly one annotated person. "all": frames with at least one annotated person;
            people are in the order of the file. A joint is annotated if its confidence is above 0.1. A person is
            annotated if any joint is.
        boxes: "detections": boxes of ``mrcnn-detections``; views with a confidence below 0.01 are left out. "joints":
            boxes around the true joints in the image. A person with fewer than two such joints has a box of NaN.
            Views with only such people are left out. None: "detections" if all sequences and cameras have
            detections, else "joints".
        box_scale: factor on the square boxes; None: 1 for detections, as published, and 1.3 for joints, because the
            joints end at the eyes and the ankles.
        synthetic: see `Adapter`.

    Raises:
        InputError: options contradict each other, or a name is invalid.
    """

    name = "panoptic"
    title = "CMU Panoptic"
    licence = "non-commercial research"
    obtain = _OBTAIN
    layout = "panoptic"
    skeleton = COCO
    centre_annotated = False
    """Whether only people with an annotated body centre are used."""

    def __init__(
        self,
        root: Path,
        sequences: dict[Split, tuple[str, ...]] | None = None,
        cameras: tuple[str, ...] | Literal["all"] = CAMERAS,
        every: Stride = 1,
        people: Literal["one", "all"] = "one",
        boxes: Literal["detections", "joints"] | None = None,
        box_scale: Scale | None = None,
        synthetic: bool = False,
    ) -> None:
        by_split = SEQUENCES if sequences is None else sequences
        cameras = HD_CAMERAS if cameras == "all" else cameras
        self._sequences: dict[str, tuple[str, ...]] = {
            split: tuple(by_split.get(split, ())) for split in ("train", "test")
        }
        named = [name for names in self._sequences.values() for name in names]
        for field, names, form in (("sequences", named, _NAME), ("cameras", list(cameras), _CAMERA)):
            wrong = [name for name in names if not form.fullmatch(name)]
            if wrong or not names or len(set(names)) < len(names):
                problem = f"{wrong[0]!r} is not a name" if wrong else "is empty" if not names else "repeats a name"
                raise InputError(
                    f"{self.name}: {field}",
                    problem,
                    f"name each once, such as {', '.join((*SEQUENCES['test'], *CAMERAS))}",
                )
        if boxes == "detections" and people == "all":
            raise InputError(f"{self.name}: boxes", "detections are of one person", "set boxes: joints, or people: one")
        super().__init__(root, synthetic)
        self._cameras, self._every, self._people = tuple(cameras), every, people
        self._boxes_option, self._scale_option = boxes, box_scale
        self._scenes: dict[str, _Scene] = {}
        self._calibrations: dict[str, dict[str, Camera]] = {}
        self._detections: dict[tuple[str, str], Array] = {}
        self._seen: dict[str, list[int]] = {}

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return self._cameras

    def inspect(self) -> tuple[DataState, str]:
        """Ready if labels, calibrations and detections can be read and each camera has its first and last image."""
        present = self._present
        if not present:
            return self._missing()
        absent = [f"sequence {name}" for name in self._named() if name not in present]
        frames = left_out = unseen = 0
        for name in present:
            scene, cameras = self._scene(name), self._calibration(name)
            used = self._used(name)
            frames, left_out = frames + len(used), left_out + scene.left_out
            unseen += len(scene.frames) - len(used)
            if not used:
                absent.append(f"labelled frames of {name}")
            for camera in cameras:
                if self._boxes == "detections":
                    if not (path := self._detections_path(name, camera)).is_file():
                        return "missing", f"no {path}"
                    self._detected(name, camera)
                ends = dict.fromkeys(used[i] for i in (0, -1) if used)
                images = (self._image_path(name, camera, frame) for frame in ends)
                absent += [str(path.relative_to(self.root)) for path in images if not path.is_file()]
        people = "one person" if self._people == "one" else "people"
        unused = "no or several people" if self._people == "one" else "no people"
        boxes = "detected boxes" if self._boxes == "detections" else "boxes about the true joints"
        hidden = f", {unseen} of training that no camera shows" if unseen else ""
        detail = (
            f"{frames} frames of {people} in {len(self.views)} cameras "
            f"({left_out} with {unused}{hidden} left out), {boxes}"
        )
        return self._state(absent, detail)

    def content_sha256(self) -> str:
        """SHA-256 of the options and of the calibrations, labels and detections."""
        options = [self._sequences, self._cameras, self._every, self._people, self._boxes, self._box_scale]
        digest = hashlib.sha256(json.dumps(options).encode())
        for name in self._named():
            if name not in self._present:
                digest.update(f"{name} absent".encode())
                continue
            files = [self._calibration_path(name)]
            if self._boxes == "detections":
                files += [self._detections_path(name, camera) for camera in self._cameras]
            for path in files:
                digest.update(hashlib.sha256(read_file(path, _OBTAIN)).digest())
            digest.update(self._scene(name).digest)
        return digest.hexdigest()

    def facts(self, split: str) -> Facts:
        """Facts of a split. The option ``boxes`` chooses the boxes; true poses are triangulated in the dome."""
        boxes: BoxSource = "detected" if self._boxes == "detections" else "true joints"
        return Facts(boxes=boxes, truth=self.truth_source("triangulated"))

    def keys(self, split: str) -> Sequence[str]:
        """Keys such as "171204_pose5/00000400", in the order of sequence and frame number.

        Frames without any view are left out of "train". They are kept in "test" and count as missing predictions.

        Raises:
            InputError: the split is unknown, or one of its sequences is absent.
        """
        self.check_split(split)
        return [f"{name}/{frame:08d}" for name in self._sequences[split] for frame in self._used(name)]

    def sample(self, key: str) -> Sample:
        """Sample of one frame. Each view has one box per true person, in the order of the ground truth.

        A person outside the view has a box of NaN. Views without people are left out.
        """
        name, frame = self._frame(key)
        scene = self._scene(name)
        views = []
        for camera_name, camera in self._calibration(name).items():
            if self._boxes == "detections":
                boxes = [self._detected_box(name, camera_name, frame)]
            else:
                boxes = _boxes_about(camera, scene.people[frame])
            if any(boxes):
                image = ReadImage.of(self._image_path(name, camera_name, frame), camera.size)
                squares = [scale_box(square_box(box), self._box_scale) if box else [np.nan] * 4 for box in boxes]
                views.append(View(camera_name, camera, image, np.array(squares, dtype=np.float64)))
        take = next((f"{name}/{a}-{b}" for a, b in RANGES.get(name, ()) if a <= frame < b), name)
        return Sample(key, tuple(views), Group(name, name, take))

    def truth(self, key: str) -> Truth:
        """True poses (P, 17, 3), world mm; NaN for joints without annotation. The annotations are noisy."""
        name, frame = self._frame(key)
        return Truth(self._scene(name).people[frame].copy())

    def _missing(self) -> tuple[DataState, str]:
        first = self._calibration_path(next(self._named()))
        return "missing", f"no {first}, nor any other of {len(list(self._named()))} sequences"

    def _state(self, absent: Sequence[str], detail: str) -> tuple[DataState, str]:
        if absent:
            return "partial", f"{detail}; {len(absent)} things missing, first {absent[0]}"
        return "ready", detail

    def _named(self) -> Iterator[str]:
        return (name for names in self._sequences.values() for name in names)

    def _calibration_path(self, name: str) -> Path:
        return self.root / name / f"calibration_{name}.json"

    def _detections_path(self, name: str, camera: str) -> Path:
        return self.root / name / "mrcnn-detections" / f"{camera}.json"

    def _image_path(self, name: str, camera: str, frame: int) -> Path:
        return self.root / name / "hdImgs" / camera / f"{camera}_{frame:08d}.jpg"

    @cached_property
    def _present(self) -> tuple[str, ...]:
        return tuple(name for name in self._named() if self._calibration_path(name).is_file())

    @cached_property
    def _boxes(self) -> str:
        if self._boxes_option is not None:
            return self._boxes_option
        files = [self._detections_path(name, camera) for name in self._present for camera in self._cameras]
        return "detections" if self._people == "one" and all(path.is_file() for path in files) else "joints"

    @property
    def _box_scale(self) -> float:
        if self._scale_option is not None:
            return self._scale_option
        return 1.0 if self._boxes == "detections" else 1.3

    def _frame(self, key: str) -> tuple[str, int]:
        match = re.fullmatch(rf"({_NAME.pattern})/([0-9]{{8}})", key)
        if match is None or match[1] not in self._named() or int(match[2]) not in self._scene(match[1]).people:
            raise self.unknown_key(key, self.root)
        return match[1], int(match[2])

    def _scene(self, name: str) -> _Scene:
        if name not in self._scenes:
            if name not in self._present:
                remedy = f"download it, or list only your sequences under datasets.{self.name}.sequences"
                raise InputError(self._calibration_path(name), f"sequence {name} is missing", remedy)
            self._scenes[name] = _read_scene(
                self.root / name, RANGES.get(name), self._every, self._people == "all", self.centre_annotated
            )
        return self._scenes[name]

    def _used(self, name: str) -> list[int]:
        """Numbers of the used frames of a sequence. Training frames without any view are left out."""
        frames = self._scene(name).frames
        if name in self._sequences["test"] or not frames:
            return frames
        if name not in self._seen:
            shows = np.any([self._shows(name, camera) for camera in self._cameras], axis=0)
            self._seen[name] = np.array(frames)[shows].tolist()
        return self._seen[name]

    def _shows(self, name: str, camera: str) -> NDArray[np.bool_]:
        """Mask of the labelled frames of a sequence with a person in the camera's view."""
        people = self._scene(name).people
        if self._boxes == "detections":
            detected, frames = self._detected(name, camera), np.array(list(people))
            beyond = frames >= len(detected)  # an error in `sample`
            return np.asarray(beyond | (detected[np.where(beyond, 0, frames), 4] >= _LEAST_DETECTION))
        _, inside = _seen_joints(self._calibration(name)[camera], np.concatenate(list(people.values())))
        first = np.cumsum([0, *(len(of_frame) for of_frame in people.values())])[:-1]
        return np.logical_or.reduceat(inside.sum(axis=-1) > 1, first)

    def _calibration(self, name: str) -> dict[str, Camera]:
        if name not in self._calibrations:
            self._calibrations[name] = _read_calibration(
                self._calibration_path(name), self._cameras, f"datasets.{self.name}.cameras"
            )
        return self._calibrations[name]

    def _detected(self, name: str, camera: str) -> Array:
        if (name, camera) not in self._detections:
            self._detections[name, camera] = _read_detections(self._detections_path(name, camera))
        return self._detections[name, camera]

    def _detected_box(self, name: str, camera: str, frame: int) -> Box | None:
        detected, path = self._detected(name, camera), self._detections_path(name, camera)
        if frame >= len(detected):
            problem = f"holds frames 0 to {len(detected) - 1}, frame {frame} is used"
            raise InputError(path, problem, "detect people in every frame, or set boxes: joints")
        if detected[frame, 4] < _LEAST_DETECTION:
            return None
        left, top, right, bottom = (round(value) for value in detected[frame, :4].tolist())
        side = max(right - left, bottom - top)
        if right <= left or bottom <= top or side > _LARGEST_BOX_PX:
            problem = f"is not a box, {right - left} x {bottom - top} px"
            raise InputError(f"{path}: {frame}", problem, "detect people again, or set boxes: joints")
        return left, top, right, bottom


@dataclass(frozen=True)
class _Scene:
    """Labels of one sequence.

    Args:
        people: frame number -> poses (P, 17, 3), world mm; numbers ascend.
        left_out: count of the frames that are left out because of their number of people.
        digest: digest of the label files.
    """

    people: Mapping[int, Array]
    left_out: int
    digest: bytes

    @cached_property
    def frames(self) -> list[int]:
        """Numbers of the used frames."""
        return list(self.people)


def _read_scene(
    folder: Path, ranges: Sequence[tuple[int, int]] | None, every: int, crowds: bool, centre: bool
) -> _Scene:
    labels = folder / "hdPose3d_stage1_coco19"
    try:
        files = os.listdir(labels)
    except OSError as error:
        raise InputError(labels, f"labels cannot be read ({error.strerror})", _COPY) from None
    numbers = sorted(int(m[1]) for file in files if (m := re.fullmatch(r"body3DScene_([0-9]{8})\.json", file)))
    if ranges is not None:
        numbers = [number for number in numbers if any(first <= number < end for first, end in ranges)]
    people, digest = {}, hashlib.sha256()
    numbers = numbers[::every]
    for number in numbers:
        path = labels / f"body3DScene_{number:08d}.json"
        content = read_file(path, _OBTAIN)
        digest.update(path.name.encode() + hashlib.sha256(content).digest())
        bodies = _bodies(_parsed(content, path), path, centre)
        if len(bodies) == 1 or (crowds and len(bodies)):
            people[number] = bodies
    return _Scene(people, len(numbers) - len(people), digest.digest())


def _bodies(content: Any, path: Path, centre: bool) -> Array:
    """Read the poses (P, 17, 3), mm, of bodies with an annotated joint, or with an annotated body centre."""
    bodies = content.get("bodies") if isinstance(content, dict) else None
    if not isinstance(bodies, list):
        raise InputError(f"{path}: bodies", "is missing or not a list", _COPY)
    joints = np.empty((len(bodies), len(JOINTS19), 4))
    for row, body in enumerate(bodies):
        values = numbers_below_a_million(body.get("joints19") if isinstance(body, dict) else None)
        if values is None or values.shape != (4 * len(JOINTS19),):
            raise InputError(f"{path}: bodies[{row}].joints19", f"is not {4 * len(JOINTS19)} numbers", _COPY)
        joints[row] = values.reshape(-1, 4)
        if not joints[row].any():
            raise InputError(f"{path}: bodies[{row}].joints19", "is all zeros", _COPY)
        confidence = joints[row, :, 3]
        if ((confidence < 0) & (confidence != -1)).any():  # a joint without a label has -1
            problem = f"has a confidence of {confidence.min():.4g}, below 0"
            raise InputError(f"{path}: bodies[{row}].joints19", problem, _COPY)
    coco = joints[:, _ROWS]
    annotated = coco[..., 3:] > _LEAST_CONFIDENCE
    counted = annotated.any(axis=(1, 2))
    if centre:
        counted &= joints[:, JOINTS19.index("body_centre"), 3] > _LEAST_CONFIDENCE
    return np.where(annotated, coco[..., :3] * _MM, np.nan)[counted]


def _read_calibration(path: Path, names: Sequence[str], option: str) -> dict[str, Camera]:
    by_name = entries_of(_parsed(read_file(path, _OBTAIN), path), str(path), _COPY)
    cameras = {}
    for name in names:
        where = f"{path}: {name}"
        if name not in by_name:
            raise InputError(where, "there is no such camera", f"remove the camera from {option}")
        cameras[name] = camera_of(by_name[name], _MM, where, _COPY)
    return cameras


def _read_detections(path: Path) -> Array:
    """Read a detector's file: (frames, 5) left, top, right, bottom, confidence."""
    values = numbers_below_a_million(_parsed(read_file(path, _OBTAIN), path))
    if values is None or values.ndim != 2 or values.shape[1] != 5:
        problem = "is not a list of [left, top, right, bottom, confidence]"
        raise InputError(path, problem, "detect people again, or set boxes: joints")
    return values


def _boxes_about(camera: Camera, people: Array) -> list[Box | None]:
    """Box around each person's joints in the image; None for a person with fewer than two such joints."""
    boxes: list[Box | None] = []
    for points, inside in zip(*_seen_joints(camera, people), strict=True):
        visible = points[inside]
        if len(visible) < 2:
            boxes.append(None)
            continue
        (left, upper), (right, lower) = np.floor(visible.min(axis=0)), np.floor(visible.max(axis=0)) + 1
        boxes.append((int(left), int(upper), int(right), int(lower)))
    return boxes


def _seen_joints(camera: Camera, people: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Project people (P, 17, 3) mm to pixels (P, 17, 2); also the mask (P, 17) of the joints inside the image."""
    points, in_camera = camera.project(people), camera.to_camera(people)
    off_axis = np.arctan2(np.hypot(in_camera[..., 0], in_camera[..., 1]), in_camera[..., 2])
    widest = _widest(tuple(camera.dist.tolist()))
    inside = np.all((points >= 0) & (points < camera.size), axis=-1) & (off_axis < widest)
    return points, inside  # false for NaN


@lru_cache(maxsize=1024)
def _widest(dist: tuple[float, ...]) -> float:
    """Largest angle from the optical axis, in radians, up to which the lens model ``dist`` is monotonic.

    The polynomial r (1 + k1 r^2 + k2 r^4 + k3 r^6) was fitted inside the image. Beyond this angle it decreases, so
    points outside the view would appear in the image.
    """
    k1, k2, _, _, k3 = dist
    squares = np.roots([7 * k3, 5 * k2, 3 * k1, 1])  # where its derivative is zero
    turns = squares.real[(np.abs(squares.imag) < 1e-9) & (squares.real > 0)]
    return float(np.arctan(np.sqrt(turns.min(initial=np.inf))))


def _parsed(content: bytes, path: Path) -> Any:
    try:
        return parse_json(content)
    except ValueError as error:
        raise InputError(path, f"is not JSON ({str(error)[:80]})", _COPY) from None
