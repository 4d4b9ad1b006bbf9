"""Data sets from users' recordings: write rig.yaml and detections.parquet from a calibration and detections."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.calibrations import PERSON_MM, Calibration, read_calibration
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.keypoints import Keypoints, People, read_keypoints, write_keypoints
from poseboard.datasets.motion import Motion, Up, read_motion
from poseboard.datasets.rig import (
    DETECTIONS_FILE,
    RIG_FILE,
    Rig,
    RigFile,
    RigTruth,
    at_times,
    describe_cameras,
    joints_in_common,
    own_camera,
    rig_text,
)
from poseboard.datasets.video import Video, is_near_size, videos_of
from poseboard.protocols.records import check_name

ASSUMED_FPS = 60.0
"""Frame rate without ``--fps`` and videos."""

_SAMPLED_FRAMES = 200
"""Frames that people are measured in."""
_FEWEST_MEASURED = 10
"""Pairs of views with a person below which people are not measured."""
_LARGEST_GAP = 0.05
"""Distance of the two rays of a joint, relative to the size of the person, above which a pair of views is not used."""
_CHAIN = ("ankle", "knee", "hip", "shoulder")
_HEIGHT_PER_CHAIN = 1.25
"""Height of a person, divided by the way from ankle to shoulder along the bones."""
_FEWEST_BLOCKS = 10
"""Time blocks of a short recording."""
_SEARCHED_S = 2.0
"""Largest shift in time that is tried between detections and truth."""
_SHARED = 0.4
"""Least share of the most points in common at which a shift is considered: a few points fit anything."""
_OUTSIDE = 0.05
"""Share of joints outside the image above which the size is doubted."""


@dataclass(frozen=True)
class NewRig:
    """Options of `poseboard rig new`.

    Args:
        name: name of the data set.
        calibration: calibration file, or a folder with one.
        detections: file or folder of 2D detections.
        videos: folder of videos, named like the cameras; None: no videos.
        unit: unit of the calibration, if its format has no fixed unit.
        format: format of the calibration; None: recognised from the content.
        joints: joint set of detections without joint names; None: inferred from the number of joints.
        confidence: scale of the confidences; None: 0 to 1.
        fps: frame rate; None: rate of the videos, else `ASSUMED_FPS`.
        offsets: camera -> frame of its detections minus frame of the rig.
        cameras: name in the detections -> name in the calibration.
        up: axis that points up; None: estimated from the people.
        truth: file of 3D ground-truth points; None: no ground truth.
        overwrite: whether to replace an existing rig.yaml.
    """

    name: str
    calibration: Path
    detections: Path
    videos: Path | None = None
    unit: str | None = None
    format: str | None = None
    joints: str | None = None
    confidence: Any = None
    fps: float | None = None
    offsets: Mapping[str, int] = field(default_factory=dict)
    cameras: Mapping[str, str] = field(default_factory=dict)
    up: str | None = None
    truth: Path | None = None
    overwrite: bool = False


def new_rig(request: NewRig, home: Path) -> list[str]:
    """Read calibration and detections, and write data/<name>/rig.yaml and detections.parquet.

    Args:
        request: options of the command.
        home: folder of params.yaml.

    Returns:
        Messages for the user: cameras, joints and frames of the rig, and the next command.

    Raises:
        InputError: a file is invalid, names differ, or an option is needed, such as the unit.
    """
    _check_name(request.name)
    folder = home / "data" / request.name
    if (folder / RIG_FILE).exists() and not request.overwrite:
        raise InputError(folder / RIG_FILE, "exists already", "choose another name, or add --overwrite")
    keypoints = read_keypoints(request.detections, joints=request.joints, confidence=request.confidence)
    for option, names in (("--offset", request.offsets), ("--camera", request.cameras)):
        for name in names:
            if name not in keypoints.cameras:
                raise InputError(f"{option} {name}", "no such camera in the detections",
                                 did_you_mean(name, keypoints.cameras))  # fmt: skip
    matches: dict[str, str] = {}

    def matched(cameras: Mapping[str, Camera]) -> dict[str, Camera]:
        if not matches:
            where = f"{request.detections} and {request.calibration}"
            matches.update(match_names(list(keypoints.cameras), list(cameras), request.cameras, where))
        return {name: cameras[of_calibration] for name, of_calibration in matches.items()}

    def extent(cameras: Mapping[str, Camera]) -> float | None:
        measured = measure_people(matched(cameras), keypoints, request.offsets)
        return None if measured is None else measured.height

    calibration = read_calibration(request.calibration, request.unit, request.format, extent)
    cameras = matched(calibration.cameras)
    measured = measure_people(cameras, keypoints, request.offsets)
    videos = _videos(request.videos, list(cameras))
    fps, fps_source = _frame_rate(request.fps, videos)
    cameras = {name: _with_size(camera, name, videos) for name, camera in cameras.items()}
    up, up_line = _up(request.up, measured)
    truth: RigTruth | None = None
    truth_lines: list[str] = []
    if request.truth is not None:
        truth, truth_lines = _truth(request.truth, folder, cameras, keypoints, request.offsets, fps)
    described = describe_cameras(cameras)
    rig = RigFile(
        fps=fps,
        up=up,
        block_s=_block_s(keypoints, fps),
        truth=truth,
        sources={
            "calibration": f"{calibration.path.name}: {calibration.format}, {calibration.convention}, "
            f"{calibration.unit} ({_UNIT_SOURCES[calibration.unit_source]})",
            "detections": request.detections.name,
            "fps": fps_source,
        },
        cameras={
            name: own_camera(
                camera, request.offsets.get(name, 0), False, _relative(videos[name].path, folder) if videos else None
            )
            for name, camera in cameras.items()
        },
    )
    with WholeFiles() as files:
        files.write(folder / RIG_FILE, rig_text(rig, described).encode())
        write_keypoints(folder / DETECTIONS_FILE, keypoints)
    dataset = Rig(folder)
    dataset.name = request.name
    status = dataset.status()
    if status.state != "ready":
        raise InputError(folder, status.detail, "correct the files and repeat the command with --overwrite")
    return [
        *_calibration_lines(calibration, matches),
        *(f"  {line}" for line in described.values()),
        f"Detections: {status.detail}",
        *(f"  {line}" for line in keypoints.summary()),
        *(f"  {remark}" for remark in keypoints.remarks),
        *(f"  {line}" for line in _outside(cameras, keypoints)),
        *(f"  {name}: video {video.path.name}, {video.line}" for name, video in videos.items()),
        *(f"  {line}" for line in _size_lines(cameras, videos)),
        f"Frames per second: {fps:g} ({fps_source})",
        _people_line(measured),
        up_line,
        *truth_lines,
        "",
        f"Written: {folder.relative_to(home)}/{RIG_FILE} and {DETECTIONS_FILE}. Compare the positions with the room.",
        "Add this line to `datasets` in params.yaml:",
        f"  {request.name}: {{kind: rig, root: data/{request.name}}}",
        f"Then: poseboard rig check {request.name}; poseboard rig run {request.name}",
    ]


_UNIT_SOURCES = {
    "format": "fixed by the format",
    "people": "the only unit in which people have a person's size",
    "option": "as --unit says",
}


def _check_name(name: str) -> None:
    check_name("NAME", name)
    if name in catalog():
        raise InputError(f"NAME {name}", "is the name of a published data set or of a kind", "choose another name")


def match_names(
    detections: Sequence[str],
    others: Sequence[str],
    mapping: Mapping[str, str],
    where: str,
    kind: Literal["calibration", "videos"] = "calibration",
) -> dict[str, str]:
    """Match camera names of the detections to names of the calibration or of the videos.

    Names match if they are equal except for case, separators and words such as "json" and "cam".

    Args:
        detections: camera names in the detections.
        others: names of the calibrated cameras, or of the videos.
        mapping: pairs from the user, name in the detections -> other name; they take precedence.
        where: names of both sources, for errors.
        kind: source of ``others``.

    Returns:
        Name in the detections -> other name, in the order of ``detections``.

    Raises:
        InputError: a camera of the detections matches no name or several names; the error lists both sources.

    Example:
        >>> match_names(["cam01_json"], ["cam1", "cam2"], {}, "files")
        {'cam01_json': 'cam1'}
    """
    matches = {}
    for name, target in mapping.items():
        if target not in others:
            raise InputError(f"--camera {name}={target}", f"no such camera in the {kind}",
                             did_you_mean(target, others))  # fmt: skip
    for name in detections:
        if name in mapping:
            matches[name] = mapping[name]
        elif name in others:
            matches[name] = name
        else:
            similar = [other for other in others if _plain(other) == _plain(name)]
            if len(similar) == 1:
                matches[name] = similar[0]
    both = f"detections have {', '.join(detections)}; {kind}: {', '.join(others)}"
    remedy = "name the videos like the cameras of the detections"
    without = [name for name in detections if name not in matches]
    if without:
        if kind == "calibration":
            free = next((other for other in others if other not in matches.values()), others[0])
            remedy = f"say which is which, such as --camera {_shell(f'{without[0]}={free}')}"
        raise InputError(where, f"no camera of the {kind} for {', '.join(without)}: {both}", remedy)
    doubles = [name for name in matches if list(matches.values()).count(matches[name]) > 1]
    if doubles:
        problem = f"{' and '.join(doubles)} are both {matches[doubles[0]]}: {both}"
        if kind == "calibration":
            remedy = "pair the names with --camera DETECTIONS=CALIBRATION"
        raise InputError(where, problem, remedy)
    return matches


def _plain(name: str) -> tuple[object, ...]:
    """Key of a name for matching: without case, separators and words that tools add, and with numbers by value."""
    parts = re.findall(r"[0-9]+|[^\W\d_]+", name.casefold())
    added = {"json", "img", "int", "ext", "cam", "camera", "port", "pose", "video", "mp"}
    return tuple(int(part) if part.isdecimal() else part for part in parts if part not in added)


def _shell(text: str) -> str:
    return f"'{text}'" if re.search(r"[^\w=.+-]", text) else text


@dataclass(frozen=True, eq=False)
class Measured:
    """Measurements of people triangulated from pairs of views.

    Args:
        height: median height, in the unit of the cameras.
        upwards: (3,) median direction from the feet to the shoulders in the world; NaN without these joints.
        count: number of measured people, summed over pairs of views and frames.
    """

    height: float
    upwards: Array
    count: int


def measure_people(cameras: Mapping[str, Camera], keypoints: Keypoints, offsets: Mapping[str, int]) -> Measured | None:
    """Measure height and upward direction of people, triangulated from pairs of views; None if too few rays meet.

    Args:
        cameras: name -> camera, in any unit.
        keypoints: 2D detections; the most confident person of each frame and view is used.
        offsets: camera -> frame of its detections minus frame of the rig.
    """
    _, joints_px = most_confident(cameras, keypoints, offsets, _SAMPLED_FRAMES)
    points, gaps = pairs_of_rays(list(cameras.values()), joints_px)
    points = points.reshape(-1, *points.shape[2:])
    gaps = gaps.reshape(-1, gaps.shape[-1])
    middle = _median(points, 1)
    away = np.linalg.norm(points - middle[:, None], axis=-1)
    sizes = 2 * _quantile(away, 0.9)
    with np.errstate(invalid="ignore"):
        usable = (np.isfinite(away).sum(axis=1) >= 4) & (_quantile(gaps, 0.5) < _LARGEST_GAP * sizes)
    if usable.sum() < _FEWEST_MEASURED:
        return None
    points, sizes = points[usable], sizes[usable]
    index = {joint: i for i, joint in enumerate(keypoints.joints)}
    chains = []
    for side in ("left", "right"):
        names = [f"{side}_{part}" for part in _CHAIN]
        if set(names) <= index.keys():
            chain = points[:, [index[name] for name in names]]
            chains.append(np.linalg.norm(np.diff(chain, axis=1), axis=-1).sum(axis=1))
    heights = np.concatenate(chains) * _HEIGHT_PER_CHAIN if chains else sizes
    heights = heights[np.isfinite(heights)]
    if len(heights) < _FEWEST_MEASURED:
        heights = sizes
    upwards = np.full(3, np.nan)
    if {"left_ankle", "right_ankle", "left_shoulder", "right_shoulder"} <= index.keys():
        feet, shoulders = (
            points[:, [index[f"left_{part}"], index[f"right_{part}"]]].mean(axis=1) for part in ("ankle", "shoulder")
        )
        directions = shoulders - feet
        directions = directions[np.isfinite(directions).all(axis=1)]
        if len(directions):
            upwards = np.median(directions / np.linalg.norm(directions, axis=1, keepdims=True), axis=0)
    return Measured(float(np.median(heights)), upwards, int(usable.sum()))


def most_confident(
    cameras: Mapping[str, Camera], keypoints: Keypoints, offsets: Mapping[str, int], most: int | None = None
) -> tuple[NDArray[np.int64], Array]:
    """Frames of the rig with detections in at least two views, and the most confident person of each view.

    Args:
        cameras: name -> camera.
        keypoints: 2D detections with these camera names.
        offsets: camera -> frame of its detections minus frame of the rig.
        most: maximum number of frames, evenly spaced; None: all.

    Returns:
        Frames (F,), and undistorted joints (V, F, J, 2) in pixels; NaN where missing.
    """
    best = {name: _best(keypoints.cameras[name], offsets.get(name, 0)) for name in cameras}
    numbers, counts = np.unique(np.concatenate([frame for frame, _ in best.values()]), return_counts=True)
    frames = numbers[counts >= 2]
    if most is not None and len(frames) > most:
        frames = frames[np.linspace(0, len(frames) - 1, most).astype(int)]
    joints_px = np.full((len(cameras), len(frames), len(keypoints.joints), 2), np.nan)
    for view, (name, camera) in enumerate(cameras.items()):
        frame, joints = best[name]
        _, rows, places = np.intersect1d(frame, frames, return_indices=True)
        joints_px[view, places] = camera.undistort(joints[rows])
    return frames, joints_px


def _best(people: People, offset: int) -> tuple[NDArray[np.int64], Array]:
    """Frames of the rig (n,), and joints (n, J, 2) in px of the person with the largest sum of confidences."""
    order = np.lexsort((-people.confidence.sum(axis=1), people.frame))
    frames, first = np.unique(people.frame[order], return_index=True)
    return frames - offset, people.xy_px[order[first]]


def pairs_of_rays(cameras: Sequence[Camera], joints_px: Array) -> tuple[Array, Array]:
    """Triangulate each joint from each pair of views as the midpoint of the shortest segment between two rays.

    Args:
        cameras: V cameras.
        joints_px: (V, F, J, 2) undistorted pixels.

    Returns:
        Points (pairs, F, J, 3) and lengths (pairs, F, J) of the segments, in the unit of the cameras; NaN for joints
        behind a camera and for nearly parallel rays.
    """
    directions = []
    for camera, points in zip(cameras, joints_px, strict=True):
        in_camera = np.concatenate([camera.normalised(points), np.ones((*points.shape[:-1], 1))], axis=-1)
        in_world = in_camera @ camera.R
        directions.append(in_world / np.linalg.norm(in_world, axis=-1, keepdims=True))
    points, gaps = [], []
    for a, b in combinations(range(len(cameras)), 2):
        base = cameras[b].centre_mm - cameras[a].centre_mm
        cosine = (directions[a] * directions[b]).sum(axis=-1)
        sine2 = np.where(1 - cosine**2 > 1e-3, 1 - cosine**2, np.nan)
        along_a, along_b = directions[a] @ base, directions[b] @ base
        depth_a = (along_a - cosine * along_b) / sine2
        depth_b = (cosine * along_a - along_b) / sine2
        with np.errstate(invalid="ignore"):
            behind = (depth_a <= 0) | (depth_b <= 0)
        on_a = cameras[a].centre_mm + depth_a[..., None] * directions[a]
        on_b = cameras[b].centre_mm + depth_b[..., None] * directions[b]
        points.append(np.where(behind[..., None], np.nan, (on_a + on_b) / 2))
        gaps.append(np.where(behind, np.nan, np.linalg.norm(on_a - on_b, axis=-1)))
    return np.stack(points), np.stack(gaps)


def _median(values: Array, axis: int) -> Array:
    """Median that ignores NaN; NaN without a warning for slices of NaN."""
    lost = np.isnan(values).all(axis=axis, keepdims=True)
    return np.where(lost, np.nan, np.nanmedian(np.where(lost, 0.0, values), axis=axis, keepdims=True)).squeeze(axis)


def _quantile(values: Array, share: float) -> Array:
    """Quantile of each row that ignores NaN; NaN for rows of NaN."""
    lost = np.asarray(np.isnan(values).all(axis=1))
    return np.where(lost, np.nan, np.nanquantile(np.where(lost[:, None], 0.0, values), share, axis=1))


@dataclass(frozen=True)
class _Video:
    path: Path
    fps: float
    size: tuple[int, int]
    line: str


def _videos(folder: Path | None, cameras: Sequence[str]) -> dict[str, _Video]:
    """Map cameras to their videos; empty without a folder."""
    if folder is None:
        return {}
    files = videos_of(folder)
    matches = match_names(list(cameras), list(files), {}, str(folder), "videos")
    return {camera: _probe(files[stem]) for camera, stem in matches.items()}


def _probe(path: Path) -> _Video:
    with Video(path) as video:
        return _Video(path, video.rate_hz, video.size, video.describe())


def _block_s(keypoints: Keypoints, fps: float) -> float:
    """Length of the bootstrap's time blocks in s: 1 s, or a tenth of a shorter recording."""
    spans = [int(people.frame[-1] - people.frame[0]) + 1 for people in keypoints.cameras.values() if len(people)]
    return round(min(1.0, max(spans, default=1) / fps / _FEWEST_BLOCKS), 4)


def _frame_rate(fps: float | None, videos: Mapping[str, _Video]) -> tuple[float, str]:
    if fps is not None:
        if not (np.isfinite(fps) and fps > 0):
            raise InputError(f"--fps {fps}", "is not a frame rate", "give frames per second, such as 60")
        return fps, "as --fps says"
    rates = {video.fps for video in videos.values() if video.fps > 0}
    if not rates:
        return ASSUMED_FPS, "assumed; correct it in rig.yaml, or give --fps"
    if max(rates) - min(rates) > 0.01 * max(rates):
        each = ", ".join(f"{name} {video.fps:g}" for name, video in videos.items())
        raise InputError(
            "--videos", f"the frame rates differ: {each}", "resample the videos, or set the rate with --fps"
        )
    return float(np.median([video.fps for video in videos.values() if video.fps > 0])), "of the videos"


def _with_size(camera: Camera, name: str, videos: Mapping[str, _Video]) -> Camera:
    """Camera with the image size of its video if the calibration has none; raise InputError if sizes differ much."""
    if name not in videos or camera.size == videos[name].size:
        return camera
    size = videos[name].size
    if min(camera.size) > 0:
        if is_near_size(camera.size, size):
            return camera
        problem = f"is {size[0]} x {size[1]}, the calibration of {name} is for {camera.size[0]} x {camera.size[1]}"
        raise InputError(videos[name].path, problem, "calibrate at the size of the video, or resize the video")
    return Camera(camera.K, camera.R, camera.t, camera.dist, size, camera.distortion)


def _size_lines(cameras: Mapping[str, Camera], videos: Mapping[str, _Video]) -> list[str]:
    """Message for each camera whose video has nearly, but not exactly, the size of the calibration."""
    return [
        f"{name}: the video is {video.size[0]} x {video.size[1]}, the calibration {cameras[name].size[0]} x "
        f"{cameras[name].size[1]}; used as it is, so that joints may be off by the difference"
        for name, video in videos.items()
        if name in cameras and video.size != cameras[name].size
    ]


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))).as_posix()


def _up(option: str | None, measured: Measured | None) -> tuple[Up, str]:
    """Axis that points up, and a message with the reason."""
    axes: dict[str, Up] = {axis: axis for axis in get_args(Up)}
    if option is not None:
        if option not in axes:
            raise InputError(f"--up {option}", "is not an axis", f"use one of {', '.join(axes)}")
        return axes[option], f"Up: {option} (as --up says)"
    if measured is not None and np.isfinite(measured.upwards).all():
        component = int(np.abs(measured.upwards).argmax())
        if abs(measured.upwards[component]) > 0.8:
            axis = ("" if measured.upwards[component] > 0 else "-") + "xyz"[component]
            return axes[axis], f"Up: {axis} (the direction from people's feet to their shoulders)"
    return "z", "Up: z (assumed, because people do not show it; used by exports, correct it in rig.yaml)"


def _truth(
    path: Path,
    folder: Path,
    cameras: Mapping[str, Camera],
    keypoints: Keypoints,
    offsets: Mapping[str, int],
    fps: float,
) -> tuple[RigTruth, list[str]]:
    """Rigid transform and start time of a file of 3D points, fitted to the triangulated detections; and messages."""
    motion = read_motion(path)
    rows, columns = joints_in_common(keypoints.joints, motion, str(path))
    frames, joints_px = most_confident(cameras, keypoints, offsets, 5 * _SAMPLED_FRAMES)
    points, gaps = pairs_of_rays(list(cameras.values()), joints_px[:, :, rows])
    triangulated = _median(np.where(gaps[..., None] < 200, points, np.nan), 0)
    shifts = np.arange(-round(_SEARCHED_S * fps), round(_SEARCHED_S * fps) + 1) / fps
    fits = {float(shift): _fit(motion, columns, frames / fps + shift, triangulated) for shift in shifts}
    most = max((fit[3] for fit in fits.values() if fit is not None), default=0)
    fitted = {shift: fit for shift, fit in fits.items() if fit is not None and fit[3] >= _SHARED * most}
    if not fitted:
        remedy = "use a file of the same recording, and check the offsets of the cameras"
        raise InputError(path, "cannot be aligned: fewer than ten points in common with the detections", remedy)
    start_s = min(fitted, key=lambda shift: fitted[shift][2])
    at_start = fitted.get(0.0)
    if at_start is not None and at_start[2] < 1.1 * fitted[start_s][2]:
        start_s = 0.0
    R, t_mm, residual_mm, _ = fitted[start_s]
    rx, ry, rz = cv2.Rodrigues(R)[0].ravel().tolist()
    tx, ty, tz = t_mm.tolist()
    truth = RigTruth(file=_relative(path, folder), rotation=(rx, ry, rz), t_mm=(tx, ty, tz), start_s=start_s)
    names = ", ".join(keypoints.joints[row] for row in rows)
    line = f"Truth: {path.name}, {len(motion)} frames at {motion.rate_hz:g} Hz, joints {names}"
    aligned = f"  aligned to the detections by a rotation and a translation, median distance {residual_mm:.0f} mm"
    at = f"  frame 0 of the rig is {start_s:.3f} s after its first frame" + (
        "" if at_start is None or start_s == 0 else f" (by the best fit; at 0 s the distance is {at_start[2]:.0f} mm)"
    )
    return truth, [line, aligned, at]


def _fit(
    motion: Motion, columns: Sequence[int], times_s: Array, targets: Array
) -> tuple[Array, Array, float, int] | None:
    """Fit a motion at some times to targets (F, N, 3): rotation, translation, median distance, number of points."""
    source = at_times(motion, times_s)[:, columns].reshape(-1, 3)
    target = targets.reshape(-1, 3)
    whole = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    source, target = source[whole], target[whole]
    used = np.ones(len(source), dtype=bool)
    R, t, distance = np.eye(3), np.zeros(3), np.zeros(len(source))
    for _ in range(5):
        if used.sum() < 10:
            return None
        centre, goal = source[used].mean(axis=0), target[used].mean(axis=0)
        u, _, vt = np.linalg.svd((target[used] - goal).T @ (source[used] - centre))
        R = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        t = goal - R @ centre
        distance = np.linalg.norm(source @ R.T + t - target, axis=1)
        used = distance <= 3 * np.median(distance) + 1e-9
    return R, t, float(np.median(distance)), len(source)


def _calibration_lines(calibration: Calibration, matches: Mapping[str, str]) -> list[str]:
    renamed = [f"{name} is {other} of the calibration" for name, other in matches.items() if name != other]
    unused = [name for name in calibration.cameras if name not in matches.values()]
    return [
        f"Calibration: {calibration.path.name}, format {calibration.format}; {calibration.convention}; "
        f"unit {calibration.unit} ({_UNIT_SOURCES[calibration.unit_source]}); lens: OpenCV's k1 k2 p1 p2 k3",
        *(f"  {line}" for line in (*calibration.remarks, *renamed)),
        *([f"  left out, because they have no detections: {', '.join(unused)}"] if unused else []),
    ]


def _people_line(measured: Measured | None) -> str:
    if measured is None:
        return "People: not measured, because the views do not agree on where joints are; run `poseboard rig check`"
    line = f"People: {measured.height / 1000:.2f} m tall, as {measured.count} pairs of views triangulate them"
    if not PERSON_MM[0] <= measured.height <= PERSON_MM[1]:
        line += "; that is not a person's height: check the unit by `poseboard rig check`"
    return line


def _outside(cameras: Mapping[str, Camera], keypoints: Keypoints) -> list[str]:
    """Message for each camera with many joints outside its image."""
    lines = []
    for name, camera in cameras.items():
        points = keypoints.cameras[name].xy_px.reshape(-1, 2)
        points = points[np.isfinite(points).all(axis=1)]
        if min(camera.size) < 1 or not len(points):
            continue
        share = float(((points < 0) | (points > camera.size)).any(axis=1).mean())
        if share > _OUTSIDE:
            size = f"{camera.size[0]} x {camera.size[1]}"
            lines.append(f"{name}: {100 * share:.0f} % of the joints lie outside its image of {size} px: wrong size?")
    return lines
