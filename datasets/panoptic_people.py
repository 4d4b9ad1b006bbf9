"""CMU Panoptic with several people and 2D detections, as evaluated by VoxelPose and its successors.

On disk, below one root, for each sequence, the files of `datasets.panoptic` and a file of detections:

    <sequence>/calibration_<sequence>.json
    <sequence>/hdPose3d_stage1_coco19/body3DScene_%08d.json
    <sequence>/pred_<sequence>_maskrcnn_hrnet_coco.pkl or .npz     see `datasets.detections`; the camera is the
                                                                   node of an HD camera: 3 of 00_03
    <sequence>/hdImgs/<camera>/<camera>_%08d.jpg                   optional, only for figures: methods get no images

Detections are in distorted image coordinates. There are no published detections for these sequences: run a detector of
COCO's joints on the HD images.

The convention is that of VoxelPose (github.com/microsoft/voxelpose-pytorch, lib/dataset/panoptic.py): the test
sequences and cameras below, every twelfth labelled frame with a person, and the people with a body centre of confidence
above 0.1. VoxelPose's poses have 15 joints; COCO lacks two of them, the neck and the body centre.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np

from poseboard.datasets.adapter import Stride
from poseboard.datasets.camera import Array
from poseboard.datasets.detections import (
    Detections,
    boxes_about,
    detections_name,
    detections_path,
    read_detections,
)
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.files import read_file
from poseboard.datasets.manifest import NAME
from poseboard.datasets.panoptic import HD_CAMERAS, Panoptic
from poseboard.datasets.sample import Group, ReadImage, Sample, View
from poseboard.datasets.skeleton import COCO

SEQUENCES = ("160906_pizza1", "160422_haggling1", "160906_ian5", "160906_band4")
"""VoxelPose's test sequences."""

CAMERAS = ("00_03", "00_06", "00_12", "00_13", "00_23")
"""VoxelPose's five HD cameras."""

EVERY = 12
"""Stride of VoxelPose over the labelled frames of a test sequence."""


class PanopticPeople(Panoptic):
    """Adapter of CMU Panoptic with several people: frames with 2D detections of any number of people.

    There is no training split, because no row can be trained on detections that are not associated across views.

    Args:
        root: folder of the sequences.
        sequences: sequences of the split "test".
        cameras: names of the cameras, in order; "all": all HD cameras.
        every: stride over the labelled frames of a sequence; None: `EVERY`, or 1 for a generated world, in which only
            every used frame is rendered.
        synthetic: see `Adapter`.
    """

    name = "panoptic-people"
    title = "CMU Panoptic, several people with given 2D detections"
    obtain = f"{Panoptic.obtain}; for 2D detections, run a detector of COCO's joints on these images"
    layout = "panoptic_people"
    centre_annotated = True

    def __init__(
        self,
        root: Path,
        sequences: tuple[str, ...] = SEQUENCES,
        cameras: tuple[str, ...] | Literal["all"] = CAMERAS,
        every: Stride | None = None,
        synthetic: bool = False,
    ) -> None:
        if every is None:
            every = 1 if (Path(root) / NAME).is_file() else EVERY
        if other := [name for name in cameras if cameras != "all" and name not in HD_CAMERAS]:
            raise InputError(
                f"{self.name}: cameras",
                f"{other[0]!r} is not an HD camera",
                f"name HD cameras, such as {', '.join(CAMERAS)}",
            )
        super().__init__(root, {"test": sequences}, cameras, every, people="all", synthetic=synthetic)
        self._of_scene: dict[str, Detections] = {}

    def inspect(self) -> tuple[DataState, str]:
        """Ready if calibrations, labels and detections of all sequences can be read; images are optional."""
        present = self._present
        if not present:
            return self._missing()
        absent = [f"sequence {name}" for name in self._named() if name not in present]
        frames = people = detected = drawn = 0
        for name in present:
            scene, cameras = self._scene(name), self._calibration(name)
            if not scene.frames:
                absent.append(f"labelled frames of {name}")
            frames, people = frames + len(scene.frames), people + sum(map(len, scene.people.values()))
            if detections_path(self.root / name, name) is None:
                absent.append(f"{name}/{detections_name(name)}.pkl")
                continue
            detections = self._detections_of(name)
            detected += sum(len(self._detected_people(detections, c, f)) for c in cameras for f in scene.frames)
            ends = dict.fromkeys(scene.frames[i] for i in (0, -1) if scene.frames)
            drawn += all(self._image_path(name, camera, frame).is_file() for camera in cameras for frame in ends)
        images = "images" if drawn == len(present) else "no images" if not drawn else f"images of {drawn} sequences"
        detail = f"{frames} frames with {people} people, {detected} detections in {len(self.views)} cameras, {images}"
        return self._state(absent, detail)

    def content_sha256(self) -> str:
        """SHA-256 of the options and of the calibrations, labels and detections."""
        digest = hashlib.sha256(super().content_sha256().encode())
        for name in self._present:
            path = detections_path(self.root / name, name)
            digest.update(b"absent" if path is None else hashlib.sha256(read_file(path, self.obtain)).digest())
        return digest.hexdigest()

    def facts(self, split: str) -> Facts:
        """Facts of a split. People are detected separately in each view; true poses are triangulated in the dome."""
        return Facts(boxes="detected", truth=self.truth_source("triangulated"), associated=False)

    def sample(self, key: str) -> Sample:
        """Sample of one frame. Each view has the detections (P, 17, 2) and scores (P, 17) of all people, and boxes.

        Raises:
            InputError: the key is unknown, or the file of the sequence's detections is missing.
        """
        name, frame = self._frame(key)
        detections = self._detections_of(name)
        views = []
        for camera_name, camera in self._calibration(name).items():
            people = self._detected_people(detections, camera_name, frame)
            path = self._image_path(name, camera_name, frame)
            image = ReadImage.of(path, camera.size) if path.is_file() else None
            joints_px = people[..., :2]
            views.append(View(camera_name, camera, image, boxes_about(joints_px), joints_px, people[..., 2]))
        return Sample(key, tuple(views), Group(name, name, name))

    def _detections_of(self, name: str) -> Detections:
        if name not in self._of_scene:
            path = detections_path(self.root / name, name)
            if path is None:
                where = self.root / name / f"{detections_name(name)}.pkl"
                raise InputError(where, "there is no such file, nor one .npz", "detect people in the HD images")
            self._of_scene[name] = read_detections(path)
        return self._of_scene[name]

    @staticmethod
    def _detected_people(detections: Detections, camera: str, frame: int) -> Array:
        """Detections (P, 17, 3) of one view: x px, y px, score."""
        return detections.get((int(camera.partition("_")[2]), frame), np.zeros((0, len(COCO), 3)))
