"""A synthetic world in the layout of 3DPW, in metres, as RootNet reads it; see `datasets.pw3d`.

People with too few visible joints are not annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
"""Factor on boxes about the joints that are in the image."""


class WorldOptions(photographs.WorldOptions):
    """Options of a synthetic 3DPW world with three splits. Each sequence is one scene."""

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    size_px: Size = (320, 180)
    train_scenes: Scenes = 4
    validation_scenes: Scenes = 2
    test_scenes: Scenes = 12
    frames: Frames = 14
    people: Counts = (1, 3)


class Pw3dLayout(PhotographLayout):
    """Writer of the 3DPW layout."""

    version = "pw3d-1"
    parts = ("data",)

    def image(self, split: str, scene: int, frame: int, number: int) -> str:
        """Path of an image. The folder of a sequence is named by split and number."""
        return f"data/imageFiles/{_sequence(split, scene)}/image_{frame:05d}.jpg"

    def annotations(self, options: photographs.WorldOptions, photographs: Sequence[Photograph]) -> dict[str, Any]:
        """Annotation file of each split: path below the root -> content."""
        files: dict[str, Any] = {}
        for split in options.splits:
            images, annotations = [], list[dict[str, Any]]()
            for photograph in (photograph for photograph in photographs if photograph.split == split):
                place = {"sequence": _sequence(split, photograph.scene), "frame_idx": photograph.frame}
                camera = {"focal": photograph.focal_px, "princpt": photograph.principal_point_px}
                entry = photograph.entry(f"image_{photograph.frame:05d}.jpg", **place)
                images.append({**entry, "cam_param": camera})
                annotations += _people(photograph, len(annotations))
            files[f"data/3DPW_{split}.json"] = {"images": images, "annotations": annotations}
        return files


def _sequence(split: str, scene: int) -> str:
    return f"{split}_{scene:02d}"


def _people(photograph: Photograph, first_id: int) -> list[dict[str, Any]]:
    mm, px = photograph.joints_mm(SMPL.joints), photograph.joints_px(SMPL.joints)
    inside = photograph.inside(px)
    annotated = np.flatnonzero(photograph.recognisable & inside.any(axis=1)).tolist()
    boxes = xywh(joint_boxes(np.where(inside[..., None], px, np.nan)[annotated], BOX_SCALE))
    return [
        {
            "id": first_id + row,
            "image_id": photograph.number,
            "person_id": person,
            "bbox": boxes[row],
            "joint_cam": np.round(mm[person] / 1000, 6).tolist(),
            "joint_img": np.round(px[person], 2).tolist(),
        }
        for row, person in enumerate(annotated)
    ]


generate = partial(generation.generate, Pw3dLayout(Pw3d))
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
