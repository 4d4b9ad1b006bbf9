"""A made-up folder of CMU Panoptic with several people and given detections, written without our own code."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from made_up_panoptic import make_body, make_calibration, write_image, write_label

SEQUENCES = ("160906_pizza1", "160422_haggling1", "160906_ian5", "160906_band4")
CAMERAS = ("00_03", "00_06", "00_12", "00_13", "00_23")
COCO_ROWS = [1, 15, 17, 16, 18, 3, 9, 4, 10, 5, 11, 6, 12, 7, 13, 8, 14]
"""Row of a body of each of COCO's joints."""
FRAMES = range(100, 113)
"""Labelled frames of each sequence, of which the first and the last are used by convention."""


def write_panoptic_people(
    root: Path,
    sequences: Sequence[str] = SEQUENCES,
    cameras: Sequence[str] = CAMERAS,
    frames: Sequence[int] = FRAMES,
    images: bool = False,
    all_detected: bool = False,
) -> None:
    """Two people in every frame, in every third one of them without an annotated body centre; nobody in frame 105."""
    rng = np.random.default_rng(7)
    for sequence in sequences:
        for frame in frames:
            bodies = [_body(frame, k) for k in range(2)] if frame != 105 else []
            if bodies and frame % 3 == 0:
                bodies[1][2] = (0, 0, 0, -1)
            write_label(root, sequence, frame, bodies)
            for camera in cameras if images else ():
                write_image(root, sequence, camera, frame)
        calibration = make_calibration(cameras)
        (root / sequence / f"calibration_{sequence}.json").write_text(json.dumps(calibration))
        rig = {camera["name"]: camera for camera in calibration["cameras"]}
        people = {
            f"{int(camera[3:])}_{frame}": [
                {"pred": _detected(rig[camera], frame, k, rng)} for k in range(2 if all_detected else (c + frame) % 3)
            ]
            for c, camera in enumerate(cameras)
            for frame in frames
        }
        (root / sequence / f"pred_{sequence}_maskrcnn_hrnet_coco.pkl").write_bytes(pickle.dumps(people))


def _body(frame: int, number: int) -> np.ndarray:
    """(19, 4) of one of the two people of a frame."""
    return make_body(frame + 1000 * number) + np.array([60.0 * number, 0, 0, 0])


def _detected(camera: dict[str, Any], frame: int, number: int, rng: np.random.Generator) -> np.ndarray:
    """COCO's joints of a person in a camera, (17, 3) x px, y px, score."""
    joints, rvec = _body(frame, number)[COCO_ROWS, :3], cv2.Rodrigues(np.array(camera["R"]))[0]
    pixels = cv2.projectPoints(
        joints, rvec, np.array(camera["t"]), np.array(camera["K"]), np.array(camera["distCoef"])
    )[0]
    return np.column_stack([pixels[:, 0], rng.uniform(0.5, 1, 17)])
