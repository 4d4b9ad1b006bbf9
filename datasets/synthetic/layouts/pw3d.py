"""A synthetic world in the layout of 3DPW, in metres, as RootNet reads it; see `datasets.pw3d`.

A person of whom the camera sees too few joints is not annotated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from poseboard.datasets.pw3d import SMPL, Pw3d
from poseboard.datasets.synthetic import generation, photographs
from poseboard.datasets.synthetic.photographs import (
    Counts,
    Frames,
    Photograph,
    PhotographLayout,
    Scenes,
    Size,
    joint_boxes,
    xywh,
)

BOX_SCALE = 1.2
"""Of boxes about the joints that are in the image."""


class WorldOptions(photographs.WorldOptions):
    """A world of three splits; a sequence is one scene."""

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    size_px: Size = (320, 180)
    train_scenes: Scenes = 4
    validation_scenes: Scenes = 2
    test_scenes: Scenes = 12
    frames: Frames = 14
    people: Counts = (1, 3)


class Pw3dLayout(PhotographLayout):
    """See `generation.Layout`."""

    version = "pw3d-1"
    parts: tuple[str, ...] = ("data",)

    def image(self, split: str, scene: int, frame: int, number: int) -> str:
        """Sequences are called by split and number."""
        return f"data/imageFiles/{_sequence(split, scene)}/image_{frame:05d}.jpg"

    def labels(self, options: photographs.WorldOptions, photographs: Sequence[Photograph]) -> dict[str, Any]:
        """A file of annotations for each split."""
        files: dict[str, Any] = {}
        for split in options.splits:
            images, annotations = [], list[dict[str, Any]]()
            for photograph in (photograph for photograph in photographs if photograph.split == split):
                K, (width, height) = photograph.camera.K, photograph.camera.size
                images.append(
                    {
                        "id": photograph.number,
                        "file_name": f"image_{photograph.frame:05d}.jpg",
                        "sequence": _sequence(split, photograph.scene),
                        "frame_idx": photograph.frame,
                        "width": width,
                        "height": height,
                        "cam_param": {
                            "focal": [float(K[0, 0]), float(K[1, 1])],
                            "princpt": [float(K[0, 2]), float(K[1, 2])],
                        },
                    }
                )
                annotations += _people(photograph, len(annotations))
            files[f"data/3DPW_{split}.json"] = {"images": images, "annotations": annotations}
        return files


def _sequence(split: str, scene: int) -> str:
    return f"{split}_{scene:02d}"


def _people(photograph: Photograph, first_id: int) -> list[dict[str, Any]]:
    mm, px = photograph.joints_mm(SMPL.joints), photograph.joints_px(SMPL.joints)
    inside = photograph.inside(px)
    shown = np.flatnonzero(photograph.recognisable & inside.any(axis=1)).tolist()
    boxes = xywh(joint_boxes(np.where(inside[..., None], px, np.nan)[shown], BOX_SCALE))
    return [
        {
            "id": first_id + row,
            "image_id": photograph.number,
            "person_id": person,
            "bbox": boxes[row],
            "joint_cam": np.round(mm[person] / 1000, 6).tolist(),
            "joint_img": np.round(px[person], 2).tolist(),
        }
        for row, person in enumerate(shown)
    ]


def generate(options: WorldOptions, root: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """Write a world in this layout, unless the folder already has it; see `generation.generate`."""
    return generation.generate(Pw3dLayout(Pw3d), options, root, progress)
