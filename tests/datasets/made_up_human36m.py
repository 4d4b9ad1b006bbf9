"""A made-up Human3.6M tree in the published layout, written without our own code."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

SUBJECTS = ("S1", "S2", "S9", "S11")
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
ACTIONS = ("Greeting-2", "Waiting-1", "Walking-1", "WalkingDog-2")
FRAMES = (0, 5, 17)
LABELS = Path("extra/human36m-multiview-labels-GTbboxes.npy")


def make_labels() -> dict[str, Any]:
    """Every subject, action and frame; S11 lacks Waiting-1, and the first camera of its Walking-1."""
    rng = np.random.default_rng(7)
    cameras = np.zeros(
        (len(SUBJECTS), len(CAMERAS)),
        dtype=[("R", "f4", (3, 3)), ("t", "f4", (3, 1)), ("K", "f4", (3, 3)), ("dist", "f4", 5)],
    )
    for index in np.ndindex(cameras.shape):
        angle = rng.uniform(0, 2 * np.pi)
        c, s = np.cos(angle), np.sin(angle)
        cameras[index] = (
            [[-s, c, 0], [0, 0, -1], [-c, -s, 0]],
            rng.uniform([[-100], [700], [3000]], [[100], [900], [5000]]),
            [[rng.uniform(100, 130), 0, 50], [0, rng.uniform(100, 130), 48], [0, 0, 1]],
            rng.uniform(-0.1, 0.1, 5) * (1, 1, 0.02, 0.02, 1),
        )
    rows = [
        (s, a, f)
        for s, subject in enumerate(SUBJECTS)
        for a, action in enumerate(ACTIONS)
        for f in FRAMES
        if (subject, action) != ("S11", "Waiting-1")
    ]
    table = np.zeros(
        len(rows),
        dtype=[
            ("subject_idx", "i1"),
            ("action_idx", "i1"),
            ("frame_idx", "i2"),
            ("keypoints", "f4", (17, 3)),
            ("bbox_by_camera_tlbr", "i2", (len(CAMERAS), 4)),
        ],
    )
    for row, values in zip(table, rows, strict=True):
        row["subject_idx"], row["action_idx"], row["frame_idx"] = values
    table["keypoints"] = rng.uniform(-500, 1500, table["keypoints"].shape)
    corner = rng.integers(-10, 40, (len(rows), len(CAMERAS), 2))
    side = rng.integers(30, 60, (len(rows), len(CAMERAS), 1))
    table["bbox_by_camera_tlbr"] = np.concatenate([corner, corner + side], axis=-1)
    missing = (table["subject_idx"] == SUBJECTS.index("S11")) & (table["action_idx"] == ACTIONS.index("Walking-1"))
    table["bbox_by_camera_tlbr"][missing, 0] = 0
    return {
        "subject_names": list(SUBJECTS),
        "camera_names": list(CAMERAS),
        "action_names": list(ACTIONS),
        "cameras": cameras,
        "table": table,
    }


def write_labels(root: Path, labels: Any) -> Path:
    path = root / LABELS
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(labels, dtype=object), allow_pickle=True)
    return path


def write_images(root: Path, labels: dict[str, Any], folder: str) -> None:
    """100 x 96 pixels, noise; the third camera's are 100 x 98."""
    rng = np.random.default_rng(8)
    for row in labels["table"]:
        sequence = root / "processed" / SUBJECTS[row["subject_idx"]] / ACTIONS[row["action_idx"]] / folder
        for c, camera in enumerate(CAMERAS):
            top, _, bottom, _ = row["bbox_by_camera_tlbr"][c]
            if bottom > top:
                (sequence / camera).mkdir(parents=True, exist_ok=True)
                image = rng.integers(0, 256, (98 if c == 2 else 96, 100, 3), dtype=np.uint8)
                assert cv2.imwrite(str(sequence / camera / f"img_{row['frame_idx'] + 1:06d}.jpg"), image)


def write_human36m(root: Path) -> None:
    """A complete tree with both kinds of images."""
    content = make_labels()
    write_labels(root, content)
    for folder in ("imageSequence", "imageSequence-undistorted"):
        write_images(root, content, folder)
