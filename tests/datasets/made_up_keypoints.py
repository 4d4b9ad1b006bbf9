"""A made-up set of 2D detections, written in the format of each tool."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import h5py
import numpy as np

from poseboard.datasets.keypoints import Keypoints, People
from poseboard.datasets.keypoints.joint_sets import COCO_18
from poseboard.datasets.skeleton import COCO

CAMERAS = ("Kamera Süd", "cam2")
"""Camera names with a space and an umlaut."""
OPENPOSE_NAMES = tuple(
    name.title().replace("_", "").replace("Left", "L").replace("Right", "R") for name in COCO_18.joints
)
"""Names of the 18 joints as OpenPose spells them: LKnee."""


def make_keypoints(joints: tuple[str, ...] = COCO.joints, *, tracked: bool = True, people: int = 2) -> Keypoints:
    """Two cameras with frames 3 to 7; joints and people are missing here and there."""
    rng = np.random.default_rng(5)
    cameras = {}
    for camera in CAMERAS:
        frame = np.repeat(np.arange(3, 8), people)
        person = np.tile(np.arange(people), 5)
        score = np.round(rng.uniform(0.1, 1, (len(frame), len(joints))), 3)
        score[rng.random(score.shape) < 0.1] = 0
        score[:, 0] = 0.5  # no person without any joint
        xy = np.round(rng.uniform(0, 1000, (*score.shape, 2)), 3)
        xy[score == 0] = np.nan
        present = rng.random(len(frame)) < 0.8
        present[0] = True
        identity = person if tracked else np.full_like(person, -1)
        cameras[camera] = People(frame[present], xy[present], score[present], identity[present])
    return Keypoints(joints, cameras)


def write_openpose(folder: Path, keypoints: Keypoints) -> None:
    """Folders `<camera>_json`, one file per frame 0 to 9, frames without people included."""
    for camera, people in keypoints.cameras.items():
        for frame in range(10):
            entries = []
            for row in np.flatnonzero(people.frame == frame):
                values = np.nan_to_num(np.column_stack([people.xy_px[row], people.confidence[row]]))
                entries.append(
                    {"person_id": [int(people.person[row])], "pose_keypoints_2d": values.ravel().tolist(),
                     "face_keypoints_2d": []}
                )  # fmt: skip
            path = folder / f"{camera}_json" / f"{camera}_{frame:06d}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"version": 1.3, "people": entries}))


def write_coco(folder: Path, keypoints: Keypoints) -> None:
    """One file of results per camera."""
    folder.mkdir(parents=True, exist_ok=True)
    for camera, people in keypoints.cameras.items():
        entries = []
        for row in range(len(people)):
            values = np.nan_to_num(np.column_stack([people.xy_px[row], people.confidence[row]]))
            entry = {"image_id": int(people.frame[row]), "category_id": 1, "keypoints": values.ravel().tolist()}
            if people.person[row] >= 0:
                entry["track_id"] = int(people.person[row])
            entries.append(entry | {"score": 0.9})
        (folder / f"{camera}.json").write_text(json.dumps(entries))


def table_of(keypoints: Keypoints, camera: str, frames: int = 10) -> np.ndarray:
    """Dense table (frames, people, J, 3); NaN where nothing is detected."""
    people = keypoints.cameras[camera]
    count = max(int(people.person.max()) + 1, 1)
    table = np.full((frames, count, len(keypoints.joints), 3), np.nan)
    score = np.where(people.confidence > 0, people.confidence, np.nan)
    table[people.frame, np.maximum(people.person, 0)] = np.concatenate([people.xy_px, score[..., None]], axis=2)
    return table


def deeplabcut_columns(joints: tuple[str, ...], animals: int) -> list[tuple[str, ...]]:
    """Columns scorer, (individuals,) bodyparts, coords."""
    names = [(f"mouse{number}",) for number in range(animals)] if animals > 1 else [()]
    return [
        ("DLC_resnet50", *name, joint, coord)
        for name in names
        for joint in joints
        for coord in ("x", "y", "likelihood")
    ]


def write_deeplabcut_csv(folder: Path, keypoints: Keypoints, names: tuple[str, ...]) -> None:
    """One CSV file per camera; several animals as individuals."""
    folder.mkdir(parents=True, exist_ok=True)
    for camera in keypoints.cameras:
        table = table_of(keypoints, camera)
        columns = deeplabcut_columns(names, table.shape[1])
        levels = (
            ["scorer", "individuals", "bodyparts", "coords"]
            if table.shape[1] > 1
            else ["scorer", "bodyparts", "coords"]
        )
        with (folder / f"{camera}DLC_resnet50_rigMar1shuffle1_1000.csv").open(
            "w", newline="", encoding="utf-8"
        ) as file:
            writer = csv.writer(file)
            for level, row in zip(levels, zip(*columns, strict=True), strict=True):
                writer.writerow([level, *row])
            for frame, values in enumerate(table.reshape(len(table), -1)):
                writer.writerow([frame, *("" if np.isnan(value) else value for value in values)])


def write_deeplabcut_h5(folder: Path, keypoints: Keypoints, names: tuple[str, ...]) -> None:
    """One HDF5 file per camera, laid out as `pandas.DataFrame.to_hdf(format="table")` does."""
    folder.mkdir(parents=True, exist_ok=True)
    for camera in keypoints.cameras:
        table = table_of(keypoints, camera)
        values = table.reshape(len(table), -1)
        columns = deeplabcut_columns(names, table.shape[1])
        write_pandas_table(folder / f"{camera}DLC_resnet50_rigMar1shuffle1_1000.h5", values, pickle.dumps(columns, 0))


def write_pandas_table(path: Path, values: np.ndarray, kind: bytes) -> None:
    """Table of pandas with pickled column names ``kind``."""
    rows = np.zeros(len(values), dtype=[("index", "<i8"), ("values_block_0", "<f8", (values.shape[1],))])
    rows["index"], rows["values_block_0"] = np.arange(len(values)), values
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        group.create_dataset("table", data=rows).attrs["values_block_0_kind"] = np.bytes_(kind)


def write_sleap(folder: Path, keypoints: Keypoints, names: tuple[str, ...], *, standard: bool = False) -> None:
    """One analysis file per camera, in the order of axes of MATLAB or of Python (``standard``)."""
    folder.mkdir(parents=True, exist_ok=True)
    for camera in keypoints.cameras:
        table = table_of(keypoints, camera)
        with h5py.File(folder / f"{camera}.analysis.h5", "w") as file:
            if standard:
                file.create_dataset("tracks", data=table[..., :2], compression="gzip")
                file["tracks"].attrs["dims"] = json.dumps(["frame", "track", "node", "xy"])
                file["point_scores"] = table[..., 2]
                file["point_scores"].attrs["dims"] = json.dumps(["frame", "track", "node"])
            else:
                file.create_dataset("tracks", data=table[..., :2].transpose(1, 3, 2, 0), compression="gzip")
                file["point_scores"] = table[..., 2].transpose(1, 2, 0)
            file["node_names"] = [name.encode() for name in names]
            file["track_occupancy"] = np.isfinite(table[..., 0]).any(axis=2)


def write_sleap_csv(folder: Path, keypoints: Keypoints, names: tuple[str, ...]) -> None:
    """One CSV file per camera, a row per instance."""
    folder.mkdir(parents=True, exist_ok=True)
    for camera, people in keypoints.cameras.items():
        with (folder / f"{camera}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            parts = [f"{name}.{part}" for name in names for part in ("x", "y", "score")]
            writer.writerow(["track", "frame_idx", "instance.score", *parts])
            for row in range(len(people)):
                values = np.column_stack([people.xy_px[row], people.confidence[row]]).ravel()
                cells = ["" if np.isnan(value) else value for value in values]
                writer.writerow([f"track_{people.person[row]}", people.frame[row], 0.9, *cells])
