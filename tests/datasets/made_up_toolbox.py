"""A tree in the layout of the H36M-Toolbox, of no real person."""

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np

K_LENS, P_LENS = np.array([[-0.2], [0.25], [-0.01]]), np.array([[-0.001], [-0.0015]])
FILES = {"train": "annot/h36m_train.pkl", "test": "annot/h36m_validation.pkl"}
# Pelvis, right hip, knee, ankle, left hip, knee, ankle; spine, thorax, nose, head top; left shoulder, elbow, wrist,
# right shoulder, elbow, wrist. Millimetres, z up, facing y.
BODY = np.array(
    [
        *([0, 0, 930], [-100, 0, 920], [-105, 20, 500], [-110, -20, 80], [100, 0, 920], [105, 20, 500], [110, -20, 80]),
        *([0, 0, 1180], [0, 0, 1440], [0, 90, 1560], [0, 0, 1720]),
        *([170, 0, 1430], [220, -20, 1160], [240, 60, 920], [-170, 0, 1430], [-220, -20, 1160], [-240, 60, 920]),
    ],
    dtype=np.float64,
)

DAMAGED = ((5, 2), (10, 2), (13, 1))
"""Action and subaction of the sequences of S9 that tables leave out."""


def records(subject: int, moments: int, seed: int, action: int = 2, subaction: int = 1) -> list[dict[str, Any]]:
    """Records of ``moments`` numbers 1, 6, 11 … of one sequence, as four cameras about a person see them."""
    rng = np.random.default_rng(seed)
    found = []
    of_sequence = "" if (action, subaction) == (2, 1) else f"_act_{action:02d}_subact_{subaction:02d}"
    folder = f"s_{subject:02d}{of_sequence}"
    for number in range(1, 1 + 5 * moments, 5):
        joints = BODY + rng.normal(0, 40, size=(17, 3)) + rng.uniform((-300, -300, 0), (300, 300, 0))
        for camera in range(4):
            angle = np.pi / 2 * camera + 0.3
            R = np.array(
                [[-np.sin(angle), np.cos(angle), 0], [0, 0, -1], [-np.cos(angle), -np.sin(angle), 0]], dtype=np.float64
            )
            centre = np.array([4200 * np.cos(angle), 4200 * np.sin(angle), 1200.0])
            in_camera = (joints - centre) @ R.T
            K = np.array([[1145.0, 0, 512], [0, 1144.0, 515], [0, 0, 1]])
            dist = np.concatenate([K_LENS[:2, 0], P_LENS[:, 0], K_LENS[2:, 0]])
            pixels = cv2.projectPoints(in_camera[:, None], np.zeros(3), np.zeros(3), K, dist)[0][:, 0]
            found.append(
                {
                    "image": f"{folder}_ca_{camera + 1:02d}/{number:06d}.jpg",
                    "source": "h36m",
                    "subject": subject,
                    "action": action,
                    "subaction": subaction,
                    "image_id": number,
                    "camera_id": camera,
                    "joints_2d": pixels,
                    "joints_3d": joints,
                    "joints_3d_camera": in_camera,
                    "joints_vis": np.ones((17, 3)),
                    "center": pixels.mean(axis=0),
                    "scale": np.full(2, 2.5),
                    "camera": {
                        **{"R": R, "T": centre[:, None], "k": K_LENS, "p": P_LENS},
                        **{"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]},
                    },
                }
            )
    return found


def write_toolbox(root: Path, moments: int = 2, damaged: bool = False) -> dict[str, list[dict[str, Any]]]:
    """The tree below ``root``, with a moment of each damaged sequence where these are wanted; returns its records."""
    (root / "annot").mkdir(parents=True, exist_ok=True)
    written = {"train": records(1, moments, seed=1), "test": records(9, moments, seed=2)}
    for action, subaction in DAMAGED if damaged else ():
        written["test"] += records(9, 1, 3, action, subaction)
    rng = np.random.default_rng(0)
    for split, of_split in written.items():
        (root / FILES[split]).write_bytes(pickle.dumps(of_split))
        for record in of_split:
            path = root / "images" / record["image"]
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 255, (26, 25, 3), dtype=np.uint8)
            cv2.imwrite(str(path), cv2.resize(coarse, (1000, 1002)))
    return written
