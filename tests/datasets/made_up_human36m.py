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

# Right ankle, knee, hip, left hip, knee, ankle; pelvis, spine, thorax, head top; right wrist, elbow, shoulder, left
# shoulder, elbow, wrist; nose. Millimetres, z up, facing y.
BODY = np.array(
    [
        *([110, -20, 80], [105, 20, 500], [100, 0, 920], [-100, 0, 920], [-105, 20, 500], [-110, -20, 80]),
        *([0, 0, 930], [0, 0, 1180], [0, 0, 1440], [0, 0, 1720]),
        *([240, 60, 920], [220, -20, 1160], [170, 0, 1430], [-170, 0, 1430], [-220, -20, 1160], [-240, 60, 920]),
        [0, 90, 1560],
    ],
    dtype=np.float64,
)


def make_people(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 17, 3) mm: people near the origin, turned about the vertical."""
    angle = rng.uniform(0, 2 * np.pi, count)
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros(count), np.ones(count)
    turn = np.stack([np.stack([c, -s, zero], -1), np.stack([s, c, zero], -1), np.stack([zero, zero, one], -1)], 1)
    joints = (BODY + rng.normal(0, 20, (count, *BODY.shape))) @ turn.swapaxes(1, 2)
    return joints + rng.uniform([-200, -200, 0], [200, 200, 0], (count, 1, 3))


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
    table["keypoints"] = make_people(rng, len(rows))
    of_row = cameras[table["subject_idx"]]
    in_camera = table["keypoints"][:, None] @ of_row["R"].swapaxes(-1, -2) + of_row["t"].swapaxes(-1, -2)
    pixels = in_camera @ of_row["K"].swapaxes(-1, -2)
    pixels = pixels[..., :2] / pixels[..., 2:]
    shift = rng.uniform(-3, 3, (len(rows), len(CAMERAS), 2))
    side = (
        np.ptp(pixels, axis=2).max(axis=-1, keepdims=True) + rng.uniform(8, 16, (len(rows), len(CAMERAS), 1))
    ).round()
    corner = ((pixels.min(axis=2) + pixels.max(axis=2) - side) / 2)[..., ::-1] + shift
    table["bbox_by_camera_tlbr"] = np.concatenate([corner.round(), corner.round() + side], axis=-1)
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
