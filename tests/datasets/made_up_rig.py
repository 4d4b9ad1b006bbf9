"""A made-up recording: a person who walks in a circle in front of a made-up rig, and another who stands beside."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from made_up_calibrations import made_up_rig, write_own, write_pose2sim

from poseboard.datasets.camera import Camera
from poseboard.datasets.keypoints import Keypoints, People, write_keypoints
from poseboard.datasets.skeleton import COCO

NAMES = ("left", "right", "back", "front")
_HEIGHTS = {"nose": 1650, "eye": 1690, "ear": 1670, "shoulder": 1450, "elbow": 1150, "wrist": 900,
            "hip": 930, "knee": 500, "ankle": 90}  # fmt: skip
_ASIDE = {"nose": 0, "eye": 35, "ear": 75, "shoulder": 190, "elbow": 260, "wrist": 290, "hip": 110, "knee": 120,
          "ankle": 120}  # fmt: skip


def walk(frames: int = 60, fps: float = 60.0, radius: float = 700.0) -> np.ndarray:
    """Joints (F, 17, 3), world mm, z up: COCO's joints of a person of 1.75 m."""
    joints = np.empty((frames, 17, 3))
    for f in range(frames):
        # Steps get faster, so that no shift in time is a turn about the centre.
        angle, phase = 1.2 * f / fps, 9 * f / fps + 2 * (f / fps) ** 2
        heading = np.array([-np.sin(angle), np.cos(angle), 0])
        aside = np.array([-np.cos(angle), -np.sin(angle), 0])
        for j, joint in enumerate(COCO.joints):
            side, _, part = joint.rpartition("_")
            sign = {"left": 1, "right": -1}.get(side, 0)
            swing = 150 * sign * np.sin(phase) if part in ("ankle", "knee", "wrist") else 60 * (part == "nose")
            base = radius * np.array([np.cos(angle), np.sin(angle), 0])
            joints[f, j] = base + sign * _ASIDE[part] * aside + swing * heading + [0, 0, _HEIGHTS[part]]
    return joints


def seen(cameras: Mapping[str, Camera], people: list[np.ndarray], noise_px: float = 0.0) -> Keypoints:
    """Detections of people (F, 17, 3) in all cameras, with Gaussian noise."""
    rng = np.random.default_rng(0)
    by_camera = {}
    for name, camera in cameras.items():
        xy = np.concatenate([camera.project(person) for person in people])
        frame = np.concatenate([np.arange(len(person)) for person in people])
        person = np.repeat(np.arange(len(people)), [len(each) for each in people])
        order = np.argsort(frame, kind="stable")
        xy = (xy + rng.normal(0, noise_px, xy.shape))[order]
        by_camera[name] = People(frame[order], xy, np.full(xy.shape[:2], 0.9), person[order])
    return Keypoints(COCO.joints, by_camera)


def write_rig_tree(folder: Path, frames: int = 4) -> None:
    """A folder with rig.yaml and detections.parquet of one person, written without `poseboard rig new`."""
    cameras = made_up_rig(NAMES[:3])
    write_keypoints(folder / "detections.parquet", seen(cameras, [walk(frames)], 1.0))
    section = write_own(folder, cameras)
    (folder / "rig.yaml").write_text(f"fps: 60\n{section.read_text()}")
    section.unlink()


def write_openpose_folder(folder: Path, keypoints: Keypoints) -> Path:
    """The same detections as OpenPose writes them: a folder per camera, a file per frame."""
    for name, people in keypoints.cameras.items():
        (folder / f"{name}_json").mkdir(parents=True)
        for frame in range(int(people.frame.max(initial=-1)) + 1):
            entries = [
                {"person_id": [-1], "pose_keypoints_2d": np.concatenate([xy, c[:, None]], axis=1).ravel().tolist()}
                for xy, c in zip(
                    people.xy_px[people.frame == frame], people.confidence[people.frame == frame], strict=True
                )
            ]
            path = folder / f"{name}_json" / f"{name}_{frame:06d}.json"
            path.write_text(json.dumps({"version": 1.3, "people": entries}))
    return folder


def write_inputs(folder: Path, people: int = 1, noise_px: float = 2.0, frames: int = 60) -> tuple[Path, Path]:
    """Pose2Sim's Calib.toml and a folder of OpenPose's files; people walk one behind the other."""
    cameras = made_up_rig(NAMES)
    bodies = [walk(frames, radius=700.0 + 500 * index) for index in range(people)]
    folder.mkdir(parents=True, exist_ok=True)
    return write_pose2sim(folder, cameras), write_openpose_folder(folder / "pose", seen(cameras, bodies, noise_px))
