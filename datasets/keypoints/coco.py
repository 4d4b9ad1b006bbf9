"""COCO results: one JSON file per camera, a list of detected people; also written by AlphaPose.

    [{"image_id": 42, "category_id": 1, "keypoints": [x, y, c, …], "score": 0.9, "track_id": 1}, …]

The camera is the file name, the frame is `image_id` or the last digits of an `image_id` that is a file name.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_file
from poseboard.datasets.keypoints.files import files_of, head, whole_frames
from poseboard.datasets.keypoints.joint_sets import joint_set_of
from poseboard.datasets.keypoints.json_text import decode
from poseboard.datasets.keypoints.people import Cleaner, Keypoints, Options

_COPY = "write the file again with the detector"


class _Result(msgspec.Struct, gc=False):
    image_id: int | str
    keypoints: list[float | None]
    category_id: int = 1
    track_id: int | None = None


def recognise(path: Path) -> bool:
    """Whether the first JSON file starts with a list of objects with `image_id` or `keypoints`, or is an empty list."""
    files = files_of(path, (".json",))
    start = head(files[0], 2**16).lstrip(b"\xef\xbb\xbf \t\r\n") if files else b""
    rest = start[1:].lstrip()
    return start.startswith(b"[") and (rest[:1] == b"]" or (b'"image_id"' in rest or b'"keypoints"' in rest))


def read(path: Path, options: Options) -> Keypoints:
    """Read the detections of all cameras; the module docstring describes the layout.

    Raises:
        InputError: a file is damaged, or people have different numbers of joints.
    """
    cleaner = Cleaner(options.confidence)
    decoder = msgspec.json.Decoder(list[_Result])
    results = {file: decode(read_file(file, _COPY), decoder, file, _COPY) for file in files_of(path, (".json",))}
    size = next((len(entry.keypoints) for entries in results.values() for entry in entries), 0)
    if not size:
        raise InputError(path, "no person in any file", "correct the path, or run the detector again")
    for file, entries in results.items():
        for row, entry in enumerate(entries):
            if len(entry.keypoints) != size or size % 3:
                problem = f"has {len(entry.keypoints)} numbers, not x, y, confidence of {size // 3} joints"
                raise InputError(f"{file}: [{row}].keypoints", problem, _COPY)
    skeleton, remark = joint_set_of(size // 3, options.joints, str(path))
    cameras = {}
    for file, entries in results.items():
        people = [entry for entry in entries if entry.category_id == 1]
        if len(people) < len(entries):
            cleaner.remarks.append(
                f"{file.name}: {len(entries) - len(people)} objects of other categories are left out"
            )
        joints = np.array([entry.keypoints for entry in people], dtype=np.float64).reshape(-1, size // 3, 3)
        joints = joints[:, : len(skeleton)]
        frame = whole_frames([entry.image_id for entry in people], f"{file}: image_id")
        tracks = [-1 if entry.track_id is None else max(-1, min(entry.track_id, 2**62)) for entry in people]
        cameras[file.stem] = cleaner.people(frame, joints[..., :2], joints[..., 2], tracks, file.name)
    return Keypoints(skeleton.joints, cameras, (remark, *cleaner.remarks))
