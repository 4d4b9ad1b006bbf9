"""A made-up folder of Shelf or Campus in the published form, written without our own code."""

import json
import pickle
from pathlib import Path

import numpy as np
import scipy.io
from scipy.spatial.transform import Rotation


def write_shelf(root: Path, frames: int, cameras: int = 2, name: str = "shelf") -> np.ndarray:
    """A made-up data set in the published form; returns (frames, 2, 14, 3) m, the second actor seen in odd frames."""
    rng = np.random.default_rng(5)
    calibration = {
        str(c): {
            "R": Rotation.random(random_state=rng).as_matrix().tolist(),
            "T": rng.uniform(-2000, 2000, (3, 1)).tolist(),
            "fx": 1000.0,
            "fy": 1001.0,
            "cx": 516.0,
            "cy": 388.0,
            "k": [[0.1], [0.01], [0.001]],
            "p": [[0.002], [0.003]],
        }
        for c in range(cameras)
    }
    (root / f"calibration_{name}.json").write_text(json.dumps(calibration))
    joints = rng.uniform(-2, 2, (frames, 2, 14, 3))
    joints[::2, 1] = np.nan
    actors = np.empty((1, 2), dtype=object)
    for a in range(2):
        actors[0, a] = np.empty((frames, 1), dtype=object)
        for f in range(frames):
            actors[0, a][f, 0] = np.zeros((1, 0)) if np.isnan(joints[f, a]).any() else joints[f, a]
    scipy.io.savemat(root / "actorsGT.mat", {"actor3D": actors})
    people = {
        f"{c}_{f}": [{"pred": rng.uniform(0, 700, (17, 3))} for _ in range((c + f) % 3)]
        for c in range(cameras)
        for f in range(frames)
    }
    (root / f"pred_{name}_maskrcnn_hrnet_coco.pkl").write_bytes(pickle.dumps(people))
    return joints
