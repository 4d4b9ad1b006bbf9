"""A made-up folder of CMU Panoptic with several people and given detections, written without our own code."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made_up_panoptic import make_body, make_calibration, write_image, write_label

SEQUENCES = ("160906_pizza1", "160422_haggling1", "160906_ian5", "160906_band4")
CAMERAS = ("00_03", "00_06", "00_12", "00_13", "00_23")
FRAMES = range(100, 113)
"""Labelled frames of each sequence, of which the first and the last are used by convention."""


def write_panoptic_people(
    root: Path,
    sequences: Sequence[str] = SEQUENCES,
    cameras: Sequence[str] = CAMERAS,
    frames: Sequence[int] = FRAMES,
    images: bool = False,
) -> None:
    """Two people in every frame, in every third one of them without an annotated body centre; nobody in frame 105."""
    rng = np.random.default_rng(7)
    for sequence in sequences:
        for frame in frames:
            bodies = [make_body(frame), make_body(frame + 1000) + np.array([60, 0, 0, 0])] if frame != 105 else []
            if bodies and frame % 3 == 0:
                bodies[1][2] = (0, 0, 0, -1)
            write_label(root, sequence, frame, bodies)
            for camera in cameras if images else ():
                write_image(root, sequence, camera, frame)
        (root / sequence / f"calibration_{sequence}.json").write_text(json.dumps(make_calibration(cameras)))
        people = {
            f"{int(camera[3:])}_{frame}": [{"pred": rng.uniform(1, 80, (17, 3))} for _ in range((c + frame) % 3)]
            for c, camera in enumerate(cameras)
            for frame in frames
        }
        (root / sequence / f"pred_{sequence}_maskrcnn_hrnet_coco.pkl").write_bytes(pickle.dumps(people))
