"""Human3.6M with the annotations of RootNet and PoseNet: COCO-style files, one set per subject.

On disk, below one root:

    annotations/Human36M_subject{N}_data.json        images: subject, action_idx, subaction_idx, cam_idx, frame_idx;
                                                     one annotation each: bbox, keypoints_vis
    annotations/Human36M_subject{N}_camera.json      camera 1 … 4 -> R, t (mm), f, c
    annotations/Human36M_subject{N}_joint_3d.json    action -> sub-action -> frame -> 17 x 3 mm in the world
    images/s_SS_act_AA_subact_BB_ca_CC/*.jpg
    bbox/bbox_human36m_output.json                   optional, a detector's boxes of the test subjects

World frame: millimetres, z up. A sample is one frame of a sequence, with all cameras that have an image and a box.
Cameras have no lens distortion. Joints: `skeleton.HUMAN36M`.

``t`` has two meanings. In RootNet's files it is the translation of ``x_cam = R X + t``. In files by the converter of
the PoseNet repository, and in downloads from before June 2020, it is the camera's centre. The adapter projects people
with both meanings and uses the one that projects them into the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.adapter import Adapter, Stride
from poseboard.datasets.boxes import key_point_box
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.coco_json import (
    COPY,
    Annotation,
    File,
    Flag,
    Focal,
    Image,
    Images,
    LeftOut,
    Pair,
    Triple,
    check_millimetres,
    corners,
    decode,
    parse,
    read_detections,
    used_boxes,
    visible,
)
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.files import files_sha256
from poseboard.datasets.human36m import CAMERAS, Human36M
from poseboard.datasets.human36m_toolbox import ACTIONS, ROWS
from poseboard.datasets.sample import Group, ReadImage, Sample, Truth, View
from poseboard.datasets.skeleton import HUMAN36M

SUBJECTS: dict[int, dict[str, tuple[int, ...]]] = {
    1: {"train": (1, 5, 6, 7, 8, 9), "test": (11,)},
    2: {"train": (1, 5, 6, 7, 8), "test": (9, 11)},
}
"""Subjects of each protocol and split."""

_OBTAIN = (
    "register at vision.imar.ro/human3.6m and download the images (academic use, no redistribution), and download "
    "annotations and boxes from the links in the RootNet README (github.com/mks0601/3DMPPE_ROOTNET_RELEASE)"
)
_MISSING = (11, 2, 2, 1)
"""Subject, action, sub-action and camera of the video that does not exist."""
_PROJECTED = 64
"""Number of frames of a subject that decide the meaning of ``t``."""

_Index = Annotated[int, msgspec.Meta(ge=0, le=999_999)]
_Length = msgspec.Meta(min_length=len(HUMAN36M), max_length=len(HUMAN36M))
_Joints = Annotated[list[Triple], _Length]


class _Image(Image, gc=False):
    action_idx: Annotated[int, msgspec.Meta(ge=2, le=len(ACTIONS) + 1)]
    subaction_idx: Annotated[int, msgspec.Meta(ge=1, le=99)]
    cam_idx: Annotated[int, msgspec.Meta(ge=1, le=len(CAMERAS))]
    frame_idx: _Index


class _Annotation(Annotation, kw_only=True, gc=False):
    keypoints_vis: Annotated[list[Flag], _Length]


class _Camera(msgspec.Struct):
    R: tuple[Triple, Triple, Triple]
    t: Triple
    f: tuple[Focal, Focal]
    c: Pair


def file_name(subject: int, action: int, subaction: int, view: int, frame: int) -> str:
    """Path of an image below ``images/``. Cameras are numbered from 1 and images from 1, views and frames from 0.

    Example:
        >>> file_name(9, 2, 1, 0, 64)
        's_09_act_02_subact_01_ca_01/s_09_act_02_subact_01_ca_01_000065.jpg'
    """
    folder = f"s_{subject:02d}_act_{action:02d}_subact_{subaction:02d}_ca_{view + 1:02d}"
    return f"{folder}/{folder}_{frame + 1:06d}.jpg"


class SubjectAnnotations:
    """Collector of the annotations of one subject, to write them as files.

    Args:
        number: number of the subject.
        cameras: the subject's four cameras. Their lens distortion is not written.
        first_id: number of the first image; numbers are unique over all subjects.
    """

    def __init__(self, number: int, cameras: Sequence[Camera], first_id: int) -> None:
        self._number, self._cameras, self.next_id = number, [camera.undistorted() for camera in cameras], first_id
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._poses: dict[str, dict[str, dict[str, Any]]] = {}

    def add(
        self,
        action: int,
        subaction: int,
        frames: NDArray[np.integer],
        joints_mm: Array,
        shots: Sequence[tuple[int, int]],
        sizes_px: Mapping[int, tuple[int, int]],
    ) -> None:
        """Add the images and poses of one sequence.

        Args:
            action: number of the action, from 2.
            subaction: number of the sub-action, from 1.
            frames: (T,) frame numbers.
            joints_mm: (T, 17, 3) joints, world mm, in the order of `human36m_toolbox.JOINTS`.
            shots: (index of the frame, index of the camera) of each image.
            sizes_px: width and height of the images of each camera.
        """
        joints_px = np.stack([camera.project(joints_mm) for camera in self._cameras])
        for instant, view in shots:
            points, size = joints_px[view, instant], sizes_px[view]
            frame = int(frames[instant])
            self._images.append(
                {
                    "id": self.next_id,
                    "file_name": file_name(self._number, action, subaction, view, frame),
                    "width": size[0],
                    "height": size[1],
                    "subject": self._number,
                    "action_name": ACTIONS[action - 2],
                    "action_idx": action,
                    "subaction_idx": subaction,
                    "cam_idx": view + 1,
                    "frame_idx": frame,
                }
            )
            self._annotations.append(
                {
                    "id": self.next_id,
                    "image_id": self.next_id,
                    "keypoints_vis": ((points >= 0) & (points < np.array(size))).all(axis=-1).tolist(),
                    "bbox": np.round(key_point_box(points), 2).tolist(),
                }
            )
            self.next_id += 1
        of_frames = dict(zip(map(str, frames.tolist()), np.round(joints_mm, 3).tolist(), strict=True))
        self._poses.setdefault(str(action), {})[str(subaction)] = of_frames

    def files(self) -> dict[str, Any]:
        """Compute the annotation files: path below the root -> content to write as JSON."""
        stem = f"annotations/Human36M_subject{self._number}"
        cameras = {
            str(view + 1): {
                "R": camera.R.tolist(),
                "t": camera.t.tolist(),
                "f": [float(camera.K[0, 0]), float(camera.K[1, 1])],
                "c": [float(camera.K[0, 2]), float(camera.K[1, 2])],
            }
            for view, camera in enumerate(self._cameras)
        }
        return {
            f"{stem}_data.json": {"images": self._images, "annotations": self._annotations},
            f"{stem}_joint_3d.json": self._poses,
            f"{stem}_camera.json": cameras,
        }


class Human36MCoco(Adapter):
    """Adapter of RootNet's Human3.6M: every 5th frame for training, every 64th for testing.

    Args:
        root: folder with ``annotations/`` and ``images/``.
        protocol: 1 or 2, the assignment of `SUBJECTS` to the splits.
        boxes: boxes of the test split. "annotated": around the true joints. "detected": from the detector's file.
        every_train: stride over frames for training; the index of a used frame is a multiple of the stride.
        every_test: stride over frames for testing.
        synthetic: see `Adapter`.
    """

    name = "human36m-coco"
    title = "Human3.6M (COCO-style annotations of RootNet)"
    licence = Human36M.licence
    obtain = _OBTAIN
    layout = "human36m_coco"
    skeleton = HUMAN36M
    views = CAMERAS

    def __init__(
        self,
        root: Path,
        protocol: Literal[1, 2] = 2,
        boxes: Literal["annotated", "detected"] = "annotated",
        every_train: Stride = 5,
        every_test: Stride = 64,
        synthetic: bool = False,
    ) -> None:
        super().__init__(root, synthetic)
        self._subjects, self._boxes = SUBJECTS[protocol], boxes
        self._every = {"train": every_train, "test": every_test}
        self._read_subjects: dict[int, _Subject] = {}

    def inspect(self) -> tuple[DataState, str]:
        """Ready if annotations can be read and every sequence and camera has its first and last image."""
        present = [number for number in self._numbers if self._has(number)]
        if not set(present) & set(self._subjects["test"]):
            return "missing", f"no {self._path(self._subjects['test'][0], 'data')}"
        if self._boxes == "detected" and not self._detections_path.is_file():
            return "missing", f"no {self._detections_path}"
        absent = [self._path(number, "data").name for number in self._numbers if number not in present]
        no_image: list[str] = []
        moments, images, left_out, converted = 0, 0, LeftOut(), []
        for number in present:
            subject = self._subject(number)
            moments += len(subject.moments)
            images += len(subject.paths)
            for why, count in subject.left_out.counts.items():
                left_out.counts[why] = left_out.counts.get(why, 0) + count
            if subject.centres:
                converted.append(f"S{number}")
            no_image += [path for path in subject.ends() if not (self.root / "images" / path).is_file()]
        detail = f"{moments} moments, {images} images{left_out}"
        if converted:
            detail += f"; t is the camera's centre in the files of {', '.join(converted)}"
        if absent:
            detail += f"; no {', '.join(absent)}"
        if no_image:
            detail += f"; {len(no_image)} images at the ends of sequences are missing, first {no_image[0]}"
        return "partial" if absent or no_image else "ready", detail

    def facts(self, split: str) -> Facts:
        """Facts of a split. Poses are recorded; boxes enclose the true joints or, for testing, are detected."""
        detected = split == "test" and self._boxes == "detected"
        return Facts(boxes="detected" if detected else "true joints", truth=self.truth_source("motion capture"))

    def content_sha256(self) -> str:
        """SHA-256 of the annotations and the options."""
        paths = [self._path(number, kind) for number in self._numbers for kind in ("data", "camera", "joint_3d")]
        if not any(path.is_file() for path in paths):
            raise InputError(paths[0], "there is no such file", self.obtain)
        detections = [self._detections_path] if self._boxes == "detected" else []
        options = f"{self._subjects} {self._boxes} {self._every}"
        return files_sha256(options, (*paths, *detections), self.obtain)

    def keys(self, split: str) -> Sequence[str]:
        """Keys such as "S9/Walking-1/000128", in the order of subject, action, sub-action and frame index.

        Subjects without files are skipped. If all subjects lack files, InputError is raised.
        """
        self.check_split(split)
        numbers = self._subjects[split]
        if any(self._has(number) for number in self._numbers):
            numbers = tuple(number for number in numbers if self._has(number))
        return tuple(key for number in numbers for key in self._subject(number).moments)

    def sample(self, key: str) -> Sample:
        """Sample of one frame, with the cameras that have an image and a box."""
        subject, number, rows = self._find(key)
        views = []
        for row in rows:
            camera = subject.camera(row)
            image = ReadImage.of(self.root / "images" / subject.paths[row], camera.size)
            score = None if subject.scores is None else subject.scores[row : row + 1]
            views.append(View(CAMERAS[subject.cam[row]], camera, image, subject.boxes_px[row][None], box_scores=score))
        sequence = key.split("/")[1]
        return Sample(key, tuple(views), Group(f"S{number}", sequence.partition("-")[0], sequence))

    def truth(self, key: str) -> Truth:
        """True pose (1, 17, 3), world mm, and the annotated visibility of the joints in each camera."""
        subject, _, rows = self._find(key)
        seen = {CAMERAS[subject.cam[row]]: subject.seen[row][None] for row in rows}
        return Truth(subject.joints_mm[subject.moment[rows[0]]][None], seen)

    def image_id(self, key: str, view: str) -> int:
        """Id of a view's image in the annotation file, used in exchanged prediction files."""
        subject, _, rows = self._find(key)
        for row in rows:
            if CAMERAS[subject.cam[row]] == view:
                return int(subject.ids[row])
        raise InputError(f"{self.name}: key {key!r}", f"the sample has no view {view!r}", "use one of its views")

    @cached_property
    def _numbers(self) -> tuple[int, ...]:
        return (*self._subjects["train"], *self._subjects["test"])

    @property
    def _detections_path(self) -> Path:
        return self.root / "bbox" / "bbox_human36m_output.json"

    def _path(self, number: int, kind: str) -> Path:
        return self.root / "annotations" / f"Human36M_subject{number}_{kind}.json"

    def _has(self, number: int) -> bool:
        return self._path(number, "data").is_file()

    def _subject(self, number: int) -> _Subject:
        if number not in self._read_subjects:
            split = "test" if number in self._subjects["test"] else "train"
            paths = [self._path(number, kind) for kind in ("data", "camera", "joint_3d")]
            detections = self._detections_path if split == "test" and self._boxes == "detected" else None
            self._read_subjects[number] = _read_subject(number, paths, detections, self._every[split])
        return self._read_subjects[number]

    def _find(self, key: str) -> tuple[_Subject, int, list[int]]:
        for number in self._numbers:
            if key.startswith(f"S{number}/") and self._has(number) and key in (s := self._subject(number)).moments:
                return s, number, s.moments[key]
        raise self.unknown_key(key, self.root / "annotations")


@dataclass(frozen=True, eq=False)
class _Subject:
    """Columns of the n used images of a subject, grouped into k frames.

    Args:
        moments: key of a frame -> rows of its images, by camera.
        moment: (n,) index of the frame of each image.
        ids: (n,) ids of the images.
        paths: n paths below the folder of the images.
        cam: (n,) index of the camera in `CAMERAS`.
        sizes: (n, 2) width and height, px.
        boxes_px: (n, 4) left, upper, right, lower.
        scores: (n,) scores of detected boxes; None for annotated boxes.
        seen: (n, 17) visibility of the joints.
        joints_mm: (k, 17, 3) poses in the world frame.
        cameras: cameras of the subject, without image size.
        centres: whether ``t`` in the file is the camera centre.
        left_out: counts of unused images by reason.
    """

    moments: dict[str, list[int]]
    moment: NDArray[np.int64]
    ids: NDArray[np.int64]
    paths: list[str]
    cam: NDArray[np.int64]
    sizes: NDArray[np.int64]
    boxes_px: Array
    scores: Array | None
    seen: NDArray[np.bool_]
    joints_mm: Array
    cameras: dict[int, Camera]
    centres: bool
    left_out: LeftOut

    def camera(self, row: int) -> Camera:
        """Camera of an image, including the image size."""
        K, R, t = (getattr(self.cameras[int(self.cam[row])], part) for part in ("K", "R", "t"))
        width, height = self.sizes[row].tolist()
        return Camera(K, R, t, np.zeros(5), (width, height))

    def ends(self) -> Iterator[str]:
        """Paths of the first and last image of each folder."""
        by_folder: dict[str, list[str]] = {}
        for path in self.paths:
            by_folder.setdefault(path.rpartition("/")[0], []).append(path)
        for paths in by_folder.values():
            yield from {min(paths), max(paths)}


def _read_subject(number: int, paths: Sequence[Path], detections: Path | None, every: int) -> _Subject:
    path, cameras_path, joints_path = paths
    file = decode(path, File[_Image, _Annotation], _OBTAIN)
    images = Images.of(path, file.images)
    annotated = images.rows([a.image_id for a in file.annotations], f"{path}: annotations")
    counts = np.bincount(annotated, minlength=len(images.ids))
    if len(counts) and counts.max() > 1:
        problem = f"image {images.ids[counts.argmax()]} has {counts.max()}, not one"
        raise InputError(f"{path}: annotations", problem, COPY)
    fields = ("action_idx", "subaction_idx", "frame_idx", "cam_idx")
    action, sub, frame, cam = (np.array([getattr(i, f) for i in file.images], dtype=np.int64) for f in fields)

    left_out = LeftOut()
    kept = (frame % every == 0) if len(frame) else np.zeros(0, dtype=np.bool_)
    kept = left_out.keep(counts > 0, kept, "images without annotation")
    lost = np.array([*_MISSING[1:]])
    is_lost = (np.stack([action, sub, cam], axis=1) == lost).all(axis=1) & (number == _MISSING[0])
    kept = left_out.keep(~is_lost, kept, "images of a video that does not exist")
    of_image = np.full(len(images.ids), -1)
    of_image[annotated] = np.arange(len(annotated))
    boxes = np.zeros((len(images.ids), 4))
    scores = None
    if detections is None:
        boxes[annotated] = np.array([a.bbox for a in file.annotations], dtype=np.float64).reshape(-1, 4)
        kept = used_boxes(boxes, images.sizes, kept, left_out)
        boxes = corners(boxes)
    else:
        boxes, scores = _detected(detections, images, kept, left_out)

    rows = np.flatnonzero(kept)
    if not len(rows):
        raise InputError(path, f"holds no image to use{left_out}", COPY)
    order = np.lexsort([cam[rows], frame[rows], sub[rows], action[rows]])
    rows = rows[order]
    moments = np.stack([action[rows], sub[rows], frame[rows]], axis=1)
    unique, moment = np.unique(moments, axis=0, return_inverse=True)
    moment = moment.reshape(-1)
    twice = np.flatnonzero((np.diff(moment) == 0) & (np.diff(cam[rows]) == 0))
    if twice.size:
        raise InputError(
            f"{path}: images", f"{images.names[rows[twice[0]]]} has the action, frame and camera of another image", COPY
        )
    joints_mm = _read_joints(joints_path, unique)
    cameras, centres = _read_cameras(cameras_path, joints_mm[moment], cam[rows] - 1, images.sizes[rows])
    keys = [f"S{number}/{ACTIONS[a - 2]}-{s}/{f:06d}" for a, s, f in unique.tolist()]
    first = np.searchsorted(moment, np.arange(len(keys) + 1))
    flags = np.array([annotation.keypoints_vis for annotation in file.annotations], dtype=np.float64)
    seen = visible(flags, f"{path}: annotations[{{}}].keypoints_vis")[of_image[rows]]
    return _Subject(
        {key: list(range(first[k], first[k + 1])) for k, key in enumerate(keys)},
        moment,
        images.ids[rows],
        [images.names[row] for row in rows.tolist()],
        cam[rows] - 1,
        images.sizes[rows],
        boxes[rows],
        None if scores is None else scores[rows],
        seen[:, ROWS],
        joints_mm[:, ROWS],
        cameras,
        centres,
        left_out,
    )


def _detected(path: Path, images: Images, kept: NDArray[np.bool_], left_out: LeftOut) -> tuple[Array, Array | None]:
    """Detected boxes: corners (n, 4) and scores (n,). InputError unless every used image has exactly one box."""
    detected = read_detections(path, images, _OBTAIN, left_out, partial=True)
    counts = np.bincount(detected.image, minlength=len(images.ids))
    wrong = np.flatnonzero(kept & (counts != 1))
    if wrong.size:
        problem = f"{wrong.size} images do not have exactly one usable box; the first, {images.ids[wrong[0]]},"
        raise InputError(
            path, f"{problem} has {counts[wrong[0]]}", "detect people in every image, or set boxes: annotated"
        )
    boxes, scores = np.zeros((len(images.ids), 4)), np.zeros(len(images.ids))
    boxes[detected.image] = detected.boxes_px
    if detected.scores is None:
        return boxes, None
    scores[detected.image] = detected.scores
    return boxes, scores


def _read_joints(path: Path, moments: NDArray[np.int64]) -> Array:
    """Read poses (k, 17, 3), world mm, in the file's joint order; ``moments`` (k, 3): action, sub-action, frame."""
    content = decode(path, dict[str, dict[str, dict[str, msgspec.Raw]]], _OBTAIN)
    joints = np.empty((len(moments), len(HUMAN36M), 3))
    for row, (action, sub, frame) in enumerate(moments.astype(str).tolist()):
        part = f"[{action}][{sub}][{frame}]"
        try:
            pose = content[action][sub][frame]
        except KeyError:
            raise InputError(f"{path}: {part}", "pose is missing", COPY) from None
        joints[row] = parse(pose, _Joints, path, part)
    return joints


def _read_cameras(
    path: Path, joints_mm: Array, cam: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[dict[int, Camera], bool]:
    """Read the cameras: index in `CAMERAS` -> camera, and whether ``t`` in the file is the camera centre.

    Args:
        path: path of the file.
        joints_mm: (n, 17, 3) pose of each image in the world frame.
        cam: (n,) index of the camera of each image in `CAMERAS`.
        sizes: (n, 2) width and height of the images, px.
    """
    content = decode(path, dict[str, _Camera], _OBTAIN)
    cameras: dict[int, tuple[Camera, Camera]] = {}
    for place in np.unique(cam).tolist():
        where = f"{path}: {place + 1}"
        if str(place + 1) not in content:
            raise InputError(where, "camera is missing", COPY)
        entry = content[str(place + 1)]
        K = np.array([[entry.f[0], 0, entry.c[0]], [0, entry.f[1], entry.c[1]], [0, 0, 1]])
        R, t = np.array(entry.R), np.array(entry.t)
        try:
            cameras[place] = Camera(K, R, t), Camera(K, R, -R @ t)
        except ValueError as error:
            raise InputError(where, str(error), COPY) from None
    step = max(1, len(joints_mm) // _PROJECTED)
    inside = np.zeros(2)
    rows = range(0, len(joints_mm), step)
    for row in rows:
        for kind, camera in enumerate(cameras[int(cam[row])]):
            pixels = camera.project(joints_mm[row])
            inside[kind] += ((pixels >= 0) & (pixels < sizes[row])).all(axis=-1).mean()
    kind = int(inside[1] > inside[0])
    if inside[kind] < len(rows) / 2:
        raise InputError(path, "most people project outside of the images with either meaning of t", COPY)
    of_camera = np.stack([cameras[int(c)][kind].to_camera(j) for c, j in zip(cam, joints_mm, strict=True)])
    check_millimetres(of_camera, 0, f"{path}: t, with the joints of joint_3d.json")
    return {place: pair[kind] for place, pair in cameras.items()}, bool(kind)
