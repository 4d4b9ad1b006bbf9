"""A made-up RHD folder in the published form, written without our own code."""

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SETS = ("training", "evaluation")
# number -> (pixels of the left hand, pixels of the right hand, which hands have visible key points)
PICTURES = {0: (30, 12, (True, True)), 1: (4, 60, (False, True)), 2: (9, 9, (True, True)), 5: (20, 0, (True, False))}


def make_annotations(seed: int) -> dict[int, dict[str, Any]]:
    """Every picture's hands half a metre before the camera, float32 as published."""
    rng = np.random.default_rng(seed)
    made = {}
    for number, (_, _, seen) in PICTURES.items():
        K = np.array([[300 + rng.uniform(0, 30), 0, 160], [0, 300 + rng.uniform(0, 30), 160], [0, 0, 1]])
        centres = np.repeat(rng.uniform([-0.15, -0.15, 0.5], [0.15, 0.15, 0.8], (2, 3)), 21, axis=0)
        xyz = centres + rng.uniform(-0.05, 0.05, (42, 3))
        uv = xyz @ K.T
        uv_vis = np.concatenate([uv[:, :2] / uv[:, 2:], np.ones((42, 1))], axis=1)
        uv_vis[rng.choice(42, 8, replace=False), 2] = 0
        for hand in range(2):
            if not seen[hand]:
                uv_vis[21 * hand : 21 * hand + 21, 2] = 0
        made[number] = {name: v.astype(np.float32) for name, v in (("uv_vis", uv_vis), ("xyz", xyz), ("K", K))}
    return made


def write_annotations(root: Path, name: str, content: Any) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / f"anno_{name}.pickle").write_bytes(pickle.dumps(content, protocol=2))


def write_rhd(root: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Both sets; returns their annotations."""
    made = {}
    for seed, name in enumerate(SETS):
        made[name] = make_annotations(seed)
        write_annotations(root, name, made[name])
        for kind in ("color", "mask"):
            (root / name / kind).mkdir()
        for number, (left, right, _) in PICTURES.items():
            mask = np.zeros(320 * 320, dtype=np.uint8)
            mask[:50] = 1  # the person
            mask[50 : 50 + left] = np.resize(np.arange(2, 18), left)
            mask[200 : 200 + right] = np.resize(np.arange(18, 34), right)
            image = np.random.default_rng(number).integers(0, 256, (320, 320, 3), dtype=np.uint8)
            assert cv2.imwrite(str(root / name / "mask" / f"{number:05d}.png"), mask.reshape(320, 320))
            assert cv2.imwrite(str(root / name / "color" / f"{number:05d}.png"), image)
    return made
