"""A rig of the user's own: calibrated cameras and 2D detections, written by `poseboard rig new` and edited by hand.

On disk, below one root:

    rig.yaml              cameras in our form (:mod:`poseboard.datasets.calibrations.own`), frame rate, joints, files
    detections.parquet    2D detections (:mod:`poseboard.datasets.keypoints.own`), in pixels of the distorted images

Frame n of the rig is frame n + offset_frames of a camera's detections. Used are the frames from 0 on in which at least
two cameras were recording, that is, from their first to their last detection.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from poseboard.datasets.adapter import Adapter
from poseboard.datasets.calibrations.own import Number, OwnCamera, own_cameras
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError, validated
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.files import files_sha256, parse_yaml, read_file
from poseboard.datasets.keypoints import People, read_keypoints
from poseboard.datasets.keypoints.joint_sets import canonical_name, skeleton_of
from poseboard.datasets.keypoints.own import joints_of
from poseboard.datasets.motion import Motion, Up, read_motion
from poseboard.datasets.sample import FileState, Group, Image, ReadImage, Sample, Truth, View
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.video import Video, is_near_size

RIG_FILE = "rig.yaml"
DETECTIONS_FILE = "detections.parquet"

_OBTAIN = (
    "make it of your recording with `poseboard rig new NAME --calibration FILE --detections PATH`, see docs/rig.md"
)
_EDIT = "correct the line, or write the file again with `poseboard rig new`"
_MOST_FRAMES = 10_000_000


class RigTruth(BaseModel):
    """Ground truth of a rig: a file with 3D points of one person, and its transform to the world of the cameras.

    A point X of the file is at ``R X + t_mm`` in the world of the cameras, with R of ``rotation``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: StrictStr = Field(description="TRC, C3D, CSV or Parquet, relative to rig.yaml")
    rotation: tuple[Number, Number, Number] = Field(default=(0.0, 0.0, 0.0), description="rotation vector, radians")
    t_mm: tuple[Number, Number, Number] = Field(default=(0.0, 0.0, 0.0))
    start_s: Number = Field(default=0.0, description="time of the rig's frame 0 after the first frame of the file")


class RigFile(BaseModel):
    """Content of rig.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fps: Annotated[Number, Field(gt=0)] = Field(description="frames per second of the detections")
    up: Up = Field(default="z", description="axis of the world that points up, for exports")
    block_s: Annotated[Number, Field(gt=0)] = Field(
        default=1.0, description="length of the time blocks that intervals resample, seconds"
    )
    detections: StrictStr = DETECTIONS_FILE
    truth: RigTruth | None = None
    sources: dict[StrictStr, StrictStr] = Field(default_factory=dict, description="notes on the origin of the numbers")
    cameras: dict[StrictStr, OwnCamera]


def read_rig(path: Path) -> RigFile:
    """Read rig.yaml.

    Raises:
        InputError: the file cannot be read, or a field is unknown, missing or wrong.
    """
    content = read_file(path, _OBTAIN)
    try:
        values = parse_yaml(content.decode("utf-8"))
    except ValueError as error:
        raise InputError(path, f"is not YAML ({error})", _EDIT) from None
    if not isinstance(values, dict):
        raise InputError(path, "holds no mapping of fields", _EDIT)
    if "cameras" in values:
        values = {**values, "cameras": own_cameras(values["cameras"], f"{path}: cameras")}
    return validated(RigFile, values, path)


def rig_text(rig: RigFile, lines: Mapping[str, str]) -> str:
    """Write the content of a rig as the text of rig.yaml.

    Args:
        rig: content of the file.
        lines: name of a camera -> description in one line, written as a comment above the camera.
    """
    text = [
        "# A rig for `poseboard rig check` and `poseboard rig run`. Every field may be edited; see docs/rig.md.",
        f"fps: {rig.fps!r}",
        f"up: {rig.up}  # axis of the world that points up",
        f"block_s: {rig.block_s!r}  # confidence intervals resample time blocks of this length",
        f"detections: {_quoted(rig.detections)}",
    ]
    if rig.truth is None:
        text.append("truth: null  # {file: walk.trc} for ground truth, see docs/rig.md")
    else:
        fields = rig.truth.model_dump()
        text += ["truth:", *(f"  {key}: {_value(value)}" for key, value in fields.items())]
    text.append("sources:" if rig.sources else "sources: {}")
    text += [f"  {_quoted(key)}: {_quoted(value)}" for key, value in rig.sources.items()]
    text += ["# World frame in mm; x_cam = R X + t_mm. rotation: rotation vector of R, radians.", "cameras:"]
    for name, camera in rig.cameras.items():
        text += [f"  # {_printable(lines[name])}" if name in lines else "", f"  {_quoted(name)}:"]
        # All fields of a camera, in the order of `OwnCamera`, without the unused form of intrinsics and rotation.
        unused = {key for key in ("f", "c", "K", "rotation", "R") if getattr(camera, key) is None}
        fields = camera.model_dump(exclude=unused)
        text += [f"    {key}: {_value(value)}" for key, value in fields.items()]
    return "\n".join(line for line in text if line) + "\n"


def _quoted(text: str) -> str:
    """Quote a text for JSON and YAML, with line breaks and control characters escaped."""
    return json.dumps(text, ensure_ascii=not text.isprintable()).replace("\x7f", "\\u007f")


def _printable(text: str) -> str:
    """Replace control characters, including line breaks, by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _value(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def own_camera(camera: Camera, offset_frames: int = 0, swap_sides: bool = False, video: str | None = None) -> OwnCamera:
    """Convert a camera with OpenCV's lens model to the fields of rig.yaml."""
    K, dist = camera.K.tolist(), camera.dist.tolist()
    rx, ry, rz = cv2.Rodrigues(camera.R)[0].ravel().tolist()
    tx, ty, tz = camera.t.tolist()
    pinhole: dict[str, Any] = {"f": (K[0][0], K[1][1]), "c": (K[0][2], K[1][2])} if K[0][1] == 0 else {"K": K}
    return OwnCamera(
        **pinhole,
        size=camera.size if min(camera.size) > 0 else None,
        dist=dist,
        rotation=(rx, ry, rz),
        t_mm=(tx, ty, tz),
        offset_frames=offset_frames,
        swap_sides=swap_sides,
        video=video,
    )


def focus_mm(cameras: Sequence[Camera]) -> Array:
    """Point (3,) nearest to all optical axes in the least-squares sense, mm; NaN if the axes are almost parallel."""
    axes = np.stack([camera.R[2] for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    normal = across.sum(axis=0)
    if np.linalg.eigvalsh(normal)[0] < 1e-2 * len(cameras):
        return np.full(3, np.nan)
    return np.linalg.solve(normal, np.einsum("vij,vj->i", across, np.stack([camera.centre_mm for camera in cameras])))


def describe_cameras(cameras: Mapping[str, Camera]) -> dict[str, str]:
    """Describe each camera so that users can check it in the room: position, viewing target, field of view.

    Example:
        >>> K = np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]])
        >>> print(describe_cameras({"left": Camera(K, np.eye(3), [0, 0, 2000.0], size=(1000, 1000))})["left"])
        left: at (0.00, 0.00, -2.00) m, looks along (0.00, 0.00, 1.00), field of view 53° x 53°
    """
    focus = focus_mm(list(cameras.values()))
    return {name: f"{name}: {_description(camera, focus)}" for name, camera in cameras.items()}


def _description(camera: Camera, focus: Array) -> str:
    centre, axis = camera.centre_mm, camera.R[2]
    depth = float((focus - centre) @ axis)
    looks = f"looks along {_point(axis)}"
    if np.isfinite(depth) and depth > 0:
        looks = f"looks at {_point((centre + depth * axis) / 1000)} m in {depth / 1000:.2f} m distance"
    elif np.isfinite(depth):
        looks += ", away from the point that the other cameras look at"
    parts = [f"at {_point(centre / 1000)} m", looks]
    if min(camera.size) > 0:
        parts.append(f"field of view {_field_of_view(camera)}")
    else:
        parts.append("image size not known")
    return ", ".join(parts)


def _field_of_view(camera: Camera) -> str:
    """Angles between opposite edges of the image, through the principal point."""
    (cx, cy), (width, height) = camera.K[:2, 2], camera.size
    with np.errstate(all="ignore"):
        edges = camera.normalised(camera.undistort([[0, cy], [width, cy], [cx, 0], [cx, height]]))
    left, right, top, bottom = np.degrees(np.arctan([*edges[:2, 0], *edges[2:, 1]]))
    angles = [right - left, bottom - top]
    if not np.isfinite(angles).all():
        return "not known: the lens model has no inverse at the edges of the image"
    return " x ".join(f"{angle:.0f}°" for angle in angles)


def _point(values: Array) -> str:
    return "(" + ", ".join(f"{value + 0.0:.2f}" for value in np.round(values, 2)) + ")"


class Rig(Adapter):
    """Adapter of a user's own rig. Joints are those of the detections.

    Without ground truth, the true poses of a sample are empty. With several people in any view, people are not
    associated between views. With one person, each view has one row; it is NaN where the person is not detected.

    Args:
        root: folder with rig.yaml and the detections.
    """

    name = "rig"
    title = "Own rig"
    licence = "yours"
    obtain = _OBTAIN
    is_published = False
    skeleton = COCO

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        # Read here, because the joints depend on them. An error is raised again where the content is used.
        if (self.root / RIG_FILE).is_file():
            with contextlib.suppress(InputError):
                self.skeleton = skeleton_of(joints_of(self.root / self._rig.detections))

    @property
    def views(self) -> tuple[str, ...]:
        """Camera names in the order of rig.yaml."""
        return tuple(self.cameras)

    @property
    def rig(self) -> RigFile:
        """Content of rig.yaml."""
        return self._rig

    @cached_property
    def cameras(self) -> dict[str, Camera]:
        """Camera name -> camera, world mm."""
        where = f"{self.root / RIG_FILE}: cameras"
        return {name: camera.camera(f"{where}.{name}") for name, camera in self._rig.cameras.items()}

    @cached_property
    def people(self) -> dict[str, People]:
        """Camera name -> detections in frames of the rig, with sides swapped where rig.yaml says so."""
        flip = self.skeleton.flip_order
        people = {}
        for name, camera in self._rig.cameras.items():
            of_file = self._keypoints.cameras[name]
            order = flip if camera.swap_sides else slice(None)
            people[name] = People(
                of_file.frame - camera.offset_frames,
                of_file.xy_px[:, order],
                of_file.confidence[:, order],
                of_file.person,
            )
        return people

    @cached_property
    def frames(self) -> range:
        """Frames of the rig in which at least two cameras were recording.

        Raises:
            InputError: no two cameras have detections at the same time.
        """
        spans = [(int(people.frame[0]), int(people.frame[-1])) for people in self.people.values() if len(people)]
        where = f"{self.root / RIG_FILE}: cameras"
        if len(spans) < 2:
            raise InputError(where, "fewer than two cameras have detections", "name at least two cameras of one scene")
        first = max(sorted(start for start, _ in spans)[1], 0)
        last = sorted(end for _, end in spans)[-2]
        if last < first:
            remedy = "correct offset_frames, or the frame numbers of the detections"
            raise InputError(where, "no two cameras have detections at the same time", remedy)
        if last - first >= _MOST_FRAMES:
            raise InputError(
                where,
                f"detections span {last - first + 1} frames, more than {_MOST_FRAMES}",
                "count the frames of each video from 0",
            )
        return range(first, last + 1)

    def inspect(self) -> tuple[DataState, str]:
        """Ready if rig.yaml and the detections can be read."""
        if not (self.root / RIG_FILE).is_file():
            return "missing", f"no {RIG_FILE} in {self.root}"
        frames, unused = self.frames, sorted(set(self._keypoints.cameras) - set(self.views))
        if self._rig.truth is not None:
            self._true_joints  # noqa: B018
        self._video_frames  # noqa: B018
        most = self._most_people
        detail = (
            f"{len(frames)} frames ({frames[0]} to {frames[-1]}, {len(frames) / self._rig.fps:.1f} s) in "
            f"{len(self.views)} cameras, {len(self.skeleton)} joints, "
            + ("one person" if most == 1 else f"up to {most} people per view")
            + (f", truth from {self._rig.truth.file}" if self._rig.truth else ", no truth")
            + (f"; unused cameras of the detections: {', '.join(unused)}" if unused else "")
        )
        return "ready", detail

    def content_sha256(self) -> str:
        """SHA-256 of the fields of rig.yaml, the detections and the ground truth, without comments and source paths."""
        options = self._rig.model_dump_json(exclude={"sources", "up"})
        paths = [self.root / self._rig.detections]
        if self._rig.truth is not None:
            paths.append(self.root / self._rig.truth.file)
        return files_sha256(options, paths, _OBTAIN)

    def facts(self, split: str) -> Facts:
        """Facts of a split. Boxes enclose 2D detections; true poses come from motion capture, if there are any."""
        truth = self.truth_source("motion capture") if self._rig.truth is not None else "none"
        return Facts(boxes="detected", truth=truth, associated=self._most_people == 1, rate_hz=self._rig.fps)

    def keys(self, split: str) -> Sequence[str]:
        """Keys of "test", such as "myrig/000123"; "train" is empty."""
        self.check_split(split)
        return [f"{self.name}/{frame:06d}" for frame in self.frames] if split == "test" else []

    def sample(self, key: str) -> Sample:
        """Sample of one frame with the detections of all people in all cameras, in its time block."""
        frame = self._frame(key)
        views = tuple(self._view(name, camera, frame) for name, camera in self.cameras.items())
        block = int(frame / (self._rig.fps * self._rig.block_s))
        return Sample(key, views, Group(self.name, self.name, f"block {block:04d}"))

    def truth(self, key: str) -> Truth:
        """Ground-truth pose (1, J, 3), world frame, mm; (0, J, 3) without a ground-truth file.

        Joints that the file lacks are NaN.
        """
        frame = self._frame(key)
        if self._rig.truth is None:
            return Truth(np.empty((0, len(self.skeleton), 3)))
        return Truth(self._true_joints[frame - self.frames[0]][None])

    @cached_property
    def _rig(self) -> RigFile:
        return read_rig(self.root / RIG_FILE)

    @cached_property
    def _keypoints(self) -> Any:
        """Detections of the file; InputError if a camera of rig.yaml is not in it."""
        path = self.root / self._rig.detections
        keypoints = read_keypoints(path, "parquet")
        if keypoints.joints != self.skeleton.joints:
            raise InputError(f"{path}: joint", "has joints that its metadata does not name", "write the file again")
        for name in self._rig.cameras:
            if name not in keypoints.cameras:
                remedy = (
                    f"delete the camera, or give it the name of one of the detections: {', '.join(keypoints.cameras)}"
                )
                raise InputError(f"{self.root / RIG_FILE}: cameras.{name}", f"{path.name} has no such camera", remedy)
        return keypoints

    @cached_property
    def _most_people(self) -> int:
        return max(
            (
                int(np.unique(people.frame, return_counts=True)[1].max())
                for people in self.people.values()
                if len(people)
            ),
            default=1,
        )

    @cached_property
    def _true_joints(self) -> Array:
        """True poses (F, J, 3) of the frames of the rig, world mm."""
        settings = self._rig.truth
        assert settings is not None
        motion = read_motion(self.root / settings.file)
        rows, columns = joints_in_common(self.skeleton.joints, motion, str(self.root / settings.file))
        times_s = np.array(self.frames) / self._rig.fps + settings.start_s
        joints = np.full((len(times_s), len(self.skeleton), 3), np.nan)
        joints[:, rows] = at_times(motion, times_s)[:, columns]
        R = cv2.Rodrigues(np.array(settings.rotation))[0]
        return np.asarray(joints @ R.T + np.array(settings.t_mm))

    def _frame(self, key: str) -> int:
        match = re.fullmatch(rf"{re.escape(self.name)}/([0-9]{{6,}})", key)
        if match is None or int(match[1]) not in self.frames or key != f"{self.name}/{int(match[1]):06d}":
            raise self.unknown_key(key, self.root / RIG_FILE)
        return int(match[1])

    def _view(self, name: str, camera: Camera, frame: int) -> View:
        people = self.people[name]
        start, stop = np.searchsorted(people.frame, [frame, frame + 1])
        joints, confidence = people.xy_px[start:stop], people.confidence[start:stop]
        if self._most_people == 1 and start == stop:
            joints, confidence = np.full((1, len(self.skeleton), 2), np.nan), np.zeros((1, len(self.skeleton)))
        return View(name, camera, self._image(name, frame), _boxes(joints), joints.copy(), confidence.copy())

    def _image(self, name: str, frame: int) -> ReadImage | None:
        """Image of a frame of the rig; None without a video, or if the video lacks the frame."""
        video, index = self._rig.cameras[name].video, frame + self._rig.cameras[name].offset_frames
        if video is None or not 0 <= index < self._video_frames[name]:
            return None
        path = self.root / video
        return ReadImage(partial(_read_frame, path, index), partial(FileState.of, path))

    @cached_property
    def _video_frames(self) -> dict[str, int]:
        """Camera name -> number of frames of its video, for cameras with a video.

        Raises:
            InputError: a video cannot be read, or has another resolution than its camera.
        """
        frames = {}
        for name, entry in self._rig.cameras.items():
            if entry.video is None:
                continue
            where = f"{self.root / RIG_FILE}: cameras.{name}.video"
            path = self.root / entry.video
            if not path.is_file():
                raise InputError(where, f"there is no file {path}", "correct the path, or write null")
            video = _open_video(path, FileState.of(path))
            if entry.size is not None and not is_near_size(entry.size, video.size):
                size = f"{video.size[0]} x {video.size[1]}"
                raise InputError(
                    where,
                    f"{path.name} is {size} px, but size is {list(entry.size)}",
                    "name the video of this camera, or correct its size",
                )
            frames[name] = video.frames
        return frames


@lru_cache(maxsize=16)
def _open_video(path: Path, state: FileState) -> Video:
    """Video that stays open, because frames are mostly read in order."""
    return Video(path)


def _read_frame(path: Path, index: int) -> Image:
    return _open_video(path, FileState.of(path)).read(index)


def _boxes(joints_px: Array) -> Array:
    """Boxes (P, 4) around the detected joints (P, J, 2); NaN without any."""
    missing = np.isnan(joints_px)
    lower = np.where(missing, np.inf, joints_px).min(axis=1, initial=np.inf)
    upper = np.where(missing, -np.inf, joints_px).max(axis=1, initial=-np.inf)
    boxes = np.concatenate([lower, upper], axis=1)
    return np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, np.nan)


def joints_in_common(joints: Sequence[str], motion: Motion, where: str) -> tuple[list[int], list[int]]:
    """Indices of ``joints`` that a motion has, and indices of its points; InputError for fewer than three."""
    columns = {canonical_name(name) or name: column for column, name in enumerate(motion.names)}
    rows = [row for row, joint in enumerate(joints) if joint in columns]
    if len(rows) < 3:
        names = ", ".join(motion.names[:12])
        problem = f"only {len(rows)} points match joints of the detections (points: {names})"
        raise InputError(where, problem, f"rename three or more points to joint names, such as {', '.join(joints[:6])}")
    return rows, [columns[joints[row]] for row in rows]


def at_times(motion: Motion, times_s: Array) -> Array:
    """Interpolate a motion linearly at times (F,) in seconds after its first frame: points (F, N, 3), NaN in gaps."""
    position = np.asarray(times_s) * motion.rate_hz
    below = np.floor(position + 1e-9).astype(np.int64)
    share = np.maximum(position - below, 0.0)
    share = np.where(share < 1e-6, 0.0, share)
    above = np.where(share > 0, below + 1, below)
    inside = (below >= 0) & (above < len(motion))
    last = max(len(motion) - 1, 0)
    lower, upper = (motion.points_mm[np.clip(index, 0, last)] for index in (below, above))
    points = np.where(share[:, None, None] > 0, lower + share[:, None, None] * (upper - lower), lower)
    return np.where(inside[:, None, None], points, np.nan)
