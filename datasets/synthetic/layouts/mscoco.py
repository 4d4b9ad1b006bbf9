"""A synthetic world in the layout of MSCOCO 2017's person key points; see `datasets.mscoco`.

Boxes and key points are those of visible parts. People who are completely hidden are not annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from poseboard.datasets.mscoco import MsCoco
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.synthetic import generation, photographs
from poseboard.datasets.synthetic.photographs import Photograph, PhotographLayout, Scenes, xywh

_SETS = {"train": "train2017", "test": "val2017"}


class WorldOptions(photographs.WorldOptions):
    """Options of a world with 2D annotations only, like MSCOCO."""

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    train_scenes: Scenes = 60
    test_scenes: Scenes = 8


class MsCocoLayout(PhotographLayout):
    """Writer of the MSCOCO layout."""

    version = "mscoco-1"
    parts = ("images", "annotations")

    def image(self, split: str, scene: int, frame: int, number: int) -> str:
        """Path of an image: its name is the id of the image."""
        return f"images/{_SETS[split]}/{number:012d}.jpg"

    def annotations(self, options: photographs.WorldOptions, photographs: Sequence[Photograph]) -> dict[str, Any]:
        """Annotation file of each split: path below the root -> content."""
        categories = [{"id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO.joints)}]
        files: dict[str, Any] = {}
        for split in options.splits:
            images, annotations = [], list[dict[str, Any]]()
            for photograph in (photograph for photograph in photographs if photograph.split == split):
                images.append(photograph.entry(f"{photograph.number:012d}.jpg"))
                annotations += _people(photograph, 100_000 * (split == "test") + len(annotations) + 1)
            name = f"annotations/person_keypoints_{_SETS[split]}.json"
            files[name] = {"images": images, "annotations": annotations, "categories": categories}
        return files


def _people(photograph: Photograph, first_id: int) -> list[dict[str, Any]]:
    px = photograph.joints_px(COCO.joints)
    # 0: not in the image, 1: hidden, 2: visible.
    flags = np.where(photograph.inside(px), np.where(photograph.seen, 2, 1), 0)
    values = np.concatenate([np.rint(px), flags[..., None]], axis=-1).astype(int)
    values[flags == 0] = 0
    boxes = xywh(photograph.surface_px)
    annotated = np.flatnonzero(np.isfinite(photograph.surface_px).all(axis=1)).tolist()
    return [
        {
            "id": first_id + row,
            "image_id": photograph.number,
            "category_id": 1,
            "iscrowd": 0,
            "area": round(boxes[person][2] * boxes[person][3], 2),
            "bbox": boxes[person],
            "num_keypoints": int((flags[person] > 0).sum()),
            "keypoints": values[person].reshape(-1).tolist(),
        }
        for row, person in enumerate(annotated)
    ]


generate = partial(generation.generate, MsCocoLayout(MsCoco))
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
