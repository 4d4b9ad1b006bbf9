"""OpenPose JSON: a folder per camera with one file per frame; also written by RTMLib and Pose2Sim.

    <path>/<camera>_json/<anything>_<frame>.json     or <path>/<camera>/…, or the files of one camera in <path>
    {"people": [{"person_id": [-1], "pose_keypoints_2d": [x, y, c, x, y, c, …]}]}

The camera is the folder name without `_json`, the frame the last digits of the file name. Joints have no names: the
joint set follows from their number. Pose2Sim writes `{}` or NaN for a person who was not found.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_file
from poseboard.datasets.keypoints.files import files_of, frame_of, head, natural
from poseboard.datasets.keypoints.joint_sets import joint_set_of
from poseboard.datasets.keypoints.json_text import decode
from poseboard.datasets.keypoints.people import Cleaner, Keypoints, Options

_COPY = "write the file again with the detector, or delete it"


class _Person(msgspec.Struct, gc=False):
    pose_keypoints_2d: list[float | None] = []
    person_id: Any = -1


class _Frame(msgspec.Struct, gc=False):
    people: list[_Person]


def recognise(path: Path) -> bool:
    """Whether the first JSON file of a camera's folder has OpenPose's field `people`."""
    for files in islice(_folders(path).values(), 3):
        start = head(files[0])
        return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"people"' in start
    return False


def read(path: Path, options: Options) -> Keypoints:
    """Read the detections of all cameras; the module docstring describes the layout.

    Raises:
        InputError: a file is damaged, has another number of joints, or repeats the frame of another file.
    """
    cleaner = Cleaner(options.confidence)
    folders = _folders(path)
    tables = {name: _camera(files) for name, files in folders.items()}
    for name, (_, joints, _) in tables.items():
        cleaner.remarks += _remarks(name, [frame_of(file.stem, file) for file in folders[name]], joints.reshape(-1, 3))
        if zeros := int((len(joints) > 0) and (joints == 0).all(axis=(1, 2)).sum()):
            cleaner.remarks.append(f"{name}: {zeros} people have no joint: OpenPose leaves them out")
    counts = {joints.shape[1]: name for name, (_, joints, _) in tables.items() if len(joints)}
    if not counts:
        raise InputError(path, "no person in any file", "correct the path, or run the detector again")
    if len(counts) > 1:
        (first, camera), (second, other), *_ = counts.items()
        raise InputError(path, f"{camera} has {first} joints, {other} {second}", "use one detector for all cameras")
    (count,) = counts
    skeleton, remark = joint_set_of(count, options.joints, str(path))
    cameras = {}
    for name, (frame, joints, person) in tables.items():
        kept = joints.reshape(-1, count, 3)[:, : len(skeleton)]
        cameras[name] = cleaner.people(frame, kept[..., :2], kept[..., 2], person, folders[name][0].parent.name)
    return Keypoints(skeleton.joints, cameras, (remark, *cleaner.remarks))


def _remarks(camera: str, frames: list[int], joints: Array) -> list[str]:
    """Remarks on what OpenPose does not write: gaps between files, and joints (n, 3) with a position or score only."""
    absent = sorted(set(range(min(frames), max(frames) + 1)) - set(frames))
    remarks = [f"{camera}: {len(absent)} frames have no file, first {absent[0]}"] if absent else []
    x, y, score = joints.T
    partly = np.isnan(joints).any(axis=-1) & ~np.isnan(joints).all(axis=-1)
    half = int((partly | (np.minimum(x, y) < 0) & (score > 0) | (np.maximum(x, y) > 0) & (score == 0)).sum())
    if half:
        remarks.append(f"{camera}: {half} joints have only a position or a confidence, or a negative position")
    return remarks


def _folders(path: Path) -> dict[str, list[Path]]:
    """JSON files of each camera, in natural order of the folders."""
    if not path.is_dir():
        return {}
    if files := files_of(path, (".json",)):
        return {_camera_name(path.resolve().name): files}
    with os.scandir(path) as entries:
        names = sorted((e.name for e in entries if e.is_dir() and not e.name.startswith(".")), key=natural)
    folders: dict[str, list[Path]] = {}
    for name in names:
        if files := files_of(path / name, (".json",)):
            camera = _camera_name(name)
            if camera in folders:
                raise InputError(path, f"folders {name} and {folders[camera][0].parent.name} have one camera name",
                                 "remove one of them")  # fmt: skip
            folders[camera] = files
    return folders


def _camera_name(folder: str) -> str:
    return folder.removesuffix("_json") or folder


def _camera(files: list[Path]) -> tuple[list[int], Array, list[int]]:
    """Frames (n,), joints (n, J, 3) and identities (n,) of the people in the files of a camera."""
    frames: list[int] = []
    joints: list[Array] = []
    people: list[int] = []
    file_of: dict[int, Path] = {}
    decoder = msgspec.json.Decoder(_Frame)
    for file in files:
        frame = frame_of(file.stem, file)
        if frame in file_of:
            raise InputError(file, f"has frame number {frame}, like {file_of[frame].name}", "keep one file per frame")
        file_of[frame] = file
        for index, person in enumerate(decode(read_file(file, _COPY), decoder, file, _COPY).people):
            values = person.pose_keypoints_2d
            if not values:
                continue
            size = 3 * joints[0].shape[0] if joints else len(values)
            if len(values) % 3 or len(values) != size:
                expected = f"not {size}" if len(values) % 3 == 0 else "not x, y, confidence for each joint"
                raise InputError(f"{file}: people[{index}].pose_keypoints_2d", f"has {len(values)} numbers, {expected}",
                                 _COPY)  # fmt: skip
            joints.append(np.array(values, dtype=np.float64).reshape(-1, 3))
            frames.append(frame)
            people.append(_identity(person.person_id))
    return frames, np.array(joints) if joints else np.zeros((0, 0, 3)), people


def _identity(person_id: Any) -> int:
    """Identity of a person from `[3]` or `3`; -1 for anything else."""
    value = person_id[0] if isinstance(person_id, list) and len(person_id) == 1 else person_id
    return int(value) if isinstance(value, int) and 0 <= value < 2**62 else -1
