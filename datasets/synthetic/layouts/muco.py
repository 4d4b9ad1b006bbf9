"""A synthetic world in the layout of MuCo-3DHP, as RootNet reads it; see `datasets.muco`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from poseboard.datasets.muco import MUCO, MuCo
from poseboard.datasets.synthetic import generation, photographs
from poseboard.datasets.synthetic.photographs import Photograph, PhotographLayout, Scenes, Size, joint_boxes, xywh

BOX_SCALE = 1.08
"""Factor on boxes about the joints, so that they contain the whole person."""


class WorldOptions(photographs.WorldOptions):
    """Options of a synthetic MuCo-3DHP world, for training only."""

    splits: ClassVar[tuple[str, ...]] = ("train",)

    train_scenes: Scenes = 150
    size_px: Size = (224, 224)


def people_of(photograph: Photograph, first_id: int, joints: int) -> list[dict[str, Any]]:
    """Annotations of the people of an image, with the first ``joints`` of MuCo's joints."""
    mm, px = photograph.joints_mm(MUCO.joints), photograph.joints_px(MUCO.joints)
    boxes = xywh(joint_boxes(px, BOX_SCALE))
    inside = photograph.inside(px)
    return [
        {
            "id": first_id + person,
            "image_id": photograph.number,
            "bbox": boxes[person],
            "keypoints_img": np.round(px[person, :joints], 2).tolist(),
            "keypoints_cam": np.round(mm[person, :joints], 3).tolist(),
            "keypoints_vis": inside[person, :joints].astype(int).tolist(),
        }
        for person in range(len(mm))
    ]


class MuCoLayout(PhotographLayout):
    """Writer of the MuCo-3DHP layout."""

    version = "muco-1"
    parts = ("data",)

    def image(self, split: str, scene: int, frame: int, number: int) -> str:
        """Path of an image. Every second scene is in the folder of the augmented set."""
        folder = "augmented_set" if scene % 2 else "unaugmented_set"
        return f"data/{folder}/{scene // 2}/{frame:06d}.jpg"

    def annotations(self, options: photographs.WorldOptions, photographs: Sequence[Photograph]) -> dict[str, Any]:
        """Annotation file: path below the root -> content."""
        images, annotations = [], list[dict[str, Any]]()
        for photograph in photographs:
            name = self.image(photograph.split, photograph.scene, photograph.frame, photograph.number)
            camera = {"f": photograph.focal_px, "c": photograph.principal_point_px}
            images.append({**photograph.entry(name.removeprefix("data/")), **camera})
            annotations += people_of(photograph, len(annotations), len(MUCO))
        return {"data/MuCo-3DHP.json": {"images": images, "annotations": annotations}}


generate = partial(generation.generate, MuCoLayout(MuCo))
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
