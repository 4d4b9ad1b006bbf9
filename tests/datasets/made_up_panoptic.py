"""A made-up CMU Panoptic folder in the official form, written without our own code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

FRAMES = {
    **{f"171026_pose{k}": (1000 + k,) for k in (1, 2, 3)},
    **{f"171204_pose{k}": (1000 + k,) for k in (1, 2, 3, 4)},
    **{f"171204_pose{k}": (1500, 1501, 15000) for k in (5, 6)},
}
"""Labelled frames of the nine sequences of one person, inside the published ranges."""
CAMERAS = ("00_01", "00_02", "00_10", "00_13")
SIZE = (160, 90)

# neck, nose, body centre, left arm, left leg, right arm, right leg, left eye, left ear, right eye, right ear;
# centimetres, y down, the left side at positive x
BODY = np.array(
    [
        *([0, -145, 0], [0, -155, -9], [0, -92, 0]),
        *([17, -143, 0], [22, -116, 2], [24, -92, -4], [9, -92, 0], [10, -50, -2], [11, -9, 2]),
        *([-17, -143, 0], [-22, -116, 2], [-24, -92, -4], [-9, -92, 0], [-10, -50, -2], [-11, -9, 2]),
        *([3, -158, -8], [7, -157, 0], [-3, -158, -8], [-7, -157, 0]),
    ],
    dtype=np.float64,
)


def make_calibration(cameras: Sequence[str] = CAMERAS) -> dict[str, Any]:
    """HD cameras in a ring that look at the middle, and one of the others that the dome has."""
    rng = np.random.default_rng(3)
    entries = []
    for c, name in enumerate(("01_07", *cameras)):
        angle = 2 * np.pi * c / (len(cameras) + 1) + 0.3
        centre = np.array([300 * np.cos(angle), -rng.uniform(120, 250), 300 * np.sin(angle)])
        z = np.array([0, -85, 0]) - centre
        z /= np.linalg.norm(z)
        x = np.cross([0, 1, 0], z)
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        K = [[rng.uniform(105, 115), 0, 80], [0, rng.uniform(105, 115), 45], [0, 0, 1]]
        entries.append(
            {
                "name": name,
                "type": "hd" if name.startswith("00") else "vga",
                "resolution": list(SIZE),
                "panel": int(name[:2]),
                "node": int(name[3:]),
                "K": K,
                "distCoef": (rng.uniform(-1, 1, 5) * (0.2, 0.1, 0.001, 0.001, 0.02)).tolist(),
                "R": R.tolist(),
                "t": (-R @ centre)[:, None].tolist(),
            }
        )
    return {"calibDataSource": "made up", "cameras": entries}


def make_body(seed: int) -> np.ndarray:
    """(19, 4): somebody near the middle, turned about the vertical; centimetres and confidences above 0.1."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    joints = (BODY + rng.normal(0, 2, BODY.shape)) @ turn.T + rng.uniform([-20, 0, -20], [20, 0, 20])
    return np.column_stack([joints, rng.uniform(0.15, 0.75, len(BODY))])


def write_label(root: Path, sequence: str, frame: int, bodies: Sequence[np.ndarray]) -> Path:
    path = root / sequence / "hdPose3d_stage1_coco19" / f"body3DScene_{frame:08d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"id": k, "joints19": np.asarray(body).reshape(-1).tolist()} for k, body in enumerate(bodies)]
    content = {"version": 0.7, "univTime": 47896.6, "fpsType": "hd_29_97", "bodies": listed}
    path.write_text(json.dumps(content))
    return path


def write_image(root: Path, sequence: str, camera: str, frame: int) -> Path:
    path = root / sequence / "hdImgs" / camera / f"{camera}_{frame:08d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(frame).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def write_panoptic(
    root: Path, frames: Mapping[str, Sequence[int]] = FRAMES, cameras: Sequence[str] = CAMERAS
) -> dict[tuple[str, int], np.ndarray]:
    """Every sequence with one person a frame; returns (sequence, frame) -> (19, 4) as in the files."""
    written = {}
    for sequence, numbers in frames.items():
        for frame in numbers:
            written[sequence, frame] = make_body(len(written))
            write_label(root, sequence, frame, [written[sequence, frame]])
            for camera in cameras:
                write_image(root, sequence, camera, frame)
        (root / sequence / f"calibration_{sequence}.json").write_text(json.dumps(make_calibration(cameras)))
    return written
