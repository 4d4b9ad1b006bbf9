"""A made-up folder of Shelf or Campus in the published form, written without our own code."""

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.io

# Right ankle, knee, hip, left hip, knee, ankle; right wrist, elbow, shoulder, left shoulder, elbow, wrist; chin, head
# top. Metres, z up, facing y.
BODY = np.array(
    [
        *([0.11, -0.02, 0.08], [0.1, 0.02, 0.5], [0.1, 0, 0.92], [-0.1, 0, 0.92], [-0.1, 0.02, 0.5]),
        *([-0.11, -0.02, 0.08], [0.24, 0.06, 0.92], [0.22, -0.02, 1.16], [0.17, 0, 1.43], [-0.17, 0, 1.43]),
        *([-0.22, -0.02, 1.16], [-0.24, 0.06, 0.92], [0, 0.08, 1.5], [0, 0, 1.72]),
    ]
)
COCO_ROWS = [12, 12, 12, 12, 12, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0]
"""Row of `BODY` of each of COCO's joints."""


def _project(camera: dict[str, Any], joints_m: np.ndarray) -> np.ndarray:
    """Pixels (J, 2) without distortion."""
    x, y, z = np.array(camera["R"]) @ (1000 * joints_m.T - np.array(camera["T"]))
    return np.stack([camera["fx"] * x / z + camera["cx"], camera["fy"] * y / z + camera["cy"]], axis=-1)


def _distorted(camera: dict[str, Any], joints_m: np.ndarray) -> np.ndarray:
    """Pixels (J, 2) with distortion."""
    R = np.array(camera["R"])
    K = np.array([[camera["fx"], 0, camera["cx"]], [0, camera["fy"], camera["cy"]], [0, 0, 1]])
    (k1, k2, k3), p = np.ravel(camera["k"]), np.ravel(camera["p"])
    lens = np.array([k1, k2, *p, k3])
    return cv2.projectPoints(1000 * joints_m, cv2.Rodrigues(R)[0], -R @ np.array(camera["T"]), K, lens)[0][:, 0]


def _facing_the_middle(c: int, cameras: int) -> tuple[list[list[float]], list[list[float]]]:
    """R and T (mm) of one of several cameras in a ring."""
    angle = 2 * np.pi * c / cameras + 0.3
    forward = np.array([-np.cos(angle), -np.sin(angle), 0])
    R = np.array([[forward[1], -forward[0], 0], [0, 0, -1], forward])
    return R.tolist(), (-5000 * forward[:, None] + [[0], [0], [1000 + 10 * c]]).tolist()


def write_shelf(
    root: Path, frames: int, cameras: int = 2, name: str = "shelf", all_detected: bool = False
) -> np.ndarray:
    """A made-up data set in the published form; returns (frames, 2, 14, 3) m, the second actor seen in odd frames."""
    rng = np.random.default_rng(5)
    rigs = [_facing_the_middle(c, cameras) for c in range(cameras)]
    calibration = {
        str(c): {
            "R": rigs[c][0],
            "T": rigs[c][1],
            **(
                {"fx": 1000.0, "fy": 1001.0, "cx": 516.0, "cy": 388.0}
                if name == "shelf"
                else {"fx": 400.0, "fy": 401.0, "cx": 180.0, "cy": 144.0}
            ),
            "k": [[0.1], [0.01], [0.001]],
            "p": [[0.002], [0.003]],
        }
        for c in range(cameras)
    }
    (root / f"calibration_{name}.json").write_text(json.dumps(calibration))
    joints = BODY + rng.normal(0, 0.03, (frames, 2, 14, 3)) + rng.uniform((-1, -1, 0), (1, 1, 0), (frames, 2, 1, 3))
    joints[::2, 1] = np.nan
    actors, annotated = np.empty((1, 2), dtype=object), np.empty((1, 2), dtype=object)
    for a in range(2):
        actors[0, a], annotated[0, a] = np.empty((frames, 1), dtype=object), np.empty((frames, 1), dtype=object)
        for f in range(frames):
            is_absent = np.isnan(joints[f, a]).any()
            actors[0, a][f, 0] = np.zeros((1, 0)) if is_absent else joints[f, a]
            annotated[0, a][f, 0] = np.empty((1, cameras), dtype=object)
            for c in range(cameras):
                points = _distorted(calibration[str(c)], joints[f, a])
                annotated[0, a][f, 0][0, c] = np.zeros((1, 0)) if is_absent else points
    scipy.io.savemat(root / "actorsGT.mat", {"actor3D": actors, "actor2D": annotated})
    # Of the present actors and a bystander, some in each view; the face of COCO's joints is the chin.
    scene = np.concatenate([joints, BODY + np.tile([[2.0, 0.5, 0]], (frames, 1, 1, 1))], axis=1)
    people = {
        f"{c}_{f}": [
            {"pred": np.column_stack([_project(calibration[str(c)], of_person), rng.uniform(0.5, 1, 17)])}
            for of_person in scene[f, ~np.isnan(scene[f]).any(axis=(1, 2))][
                : 3 if all_detected else (c + f) % 3, COCO_ROWS
            ]
        ]
        for c in range(cameras)
        for f in range(frames)
    }
    (root / f"pred_{name}_maskrcnn_hrnet_coco.pkl").write_bytes(pickle.dumps(people))
    return joints
