"""A synthetic world in the layout of MuPoTS-3D, with a detector's boxes, as RootNet reads it; see `datasets.mupots`.

The detector misses hidden people, displaces the boxes of visible parts, and reports false boxes with lower scores.
People with too few visible joints are annotated as invalid.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator

from poseboard.datasets.camera import Array
from poseboard.datasets.mupots import MUPOTS, MuPoTS
from poseboard.datasets.synthetic import generation, photographs
from poseboard.datasets.synthetic.generation import random_part
from poseboard.datasets.synthetic.layouts.muco import people_of
from poseboard.datasets.synthetic.photographs import Counts, Frames, Photograph, PhotographLayout, Scenes, xywh

FALSE_BOXES = 0.4
"""Mean number of false boxes per image."""


class WorldOptions(photographs.WorldOptions):
    """Options of a synthetic MuPoTS-3D world, for testing only."""

    splits: ClassVar[tuple[str, ...]] = ("test",)

    test_scenes: Scenes = 16
    frames: Frames = 10
    people: Counts = (2, 3)


def detections(photograph: Photograph, rng: Generator) -> list[dict[str, Any]]:
    """Simulate a detector on an image: entries of a COCO-style detections file."""
    boxes, scores = [], []
    for box, seen in zip(photograph.surface_px, photograph.seen.mean(axis=1), strict=True):
        chance, displacement, noise = rng.random(), rng.normal(0, 0.03, 4), rng.normal(0, 0.07)
        if np.isfinite(box).all() and chance < 0.35 + 0.9 * seen:
            boxes.append(box + displacement * np.tile(box[2:] - box[:2], 2))
            scores.append(0.5 + 0.45 * seen + noise)
    for _ in range(rng.poisson(FALSE_BOXES)):
        boxes.append(_false_box(photograph, rng))
        scores.append(rng.uniform(0.08, 0.75))
    whole = [box for box in zip(xywh(np.array(boxes).reshape(-1, 4)), scores, strict=True) if min(box[0][2:]) >= 4]
    return [
        {"image_id": photograph.number, "category_id": 1, "bbox": box, "score": round(float(np.clip(s, 0.05, 1)), 4)}
        for box, s in whole
    ]


def _false_box(photograph: Photograph, rng: Generator) -> Array:
    width, height = photograph.camera.size
    tall = height * rng.uniform(0.25, 0.7)
    wide = tall * rng.uniform(0.3, 0.9)
    left, upper = rng.uniform(0, max(1.0, width - wide)), rng.uniform(0, height - tall)
    return np.array([left, upper, left + wide, upper + tall])


class MuPoTSLayout(PhotographLayout):
    """Writer of the MuPoTS-3D layout."""

    version = "mupots-1"
    parts = ("data", "bbox")

    def image(self, split: str, scene: int, frame: int, number: int) -> str:
        """Path of an image. Scene folders are TS1, TS2, and so on."""
        return f"data/MultiPersonTestSet/TS{scene + 1}/img_{frame:06d}.jpg"

    def annotations(self, options: photographs.WorldOptions, photographs: Sequence[Photograph]) -> dict[str, Any]:
        """Contents of the annotation file and the detections file, by path below the root."""
        images, annotations, detected = [], list[dict[str, Any]](), list[dict[str, Any]]()
        for photograph in photographs:
            name = self.image(photograph.split, photograph.scene, photograph.frame, photograph.number)
            intrinsic = [*photograph.focal_px, *photograph.principal_point_px]
            images.append({**photograph.entry(name.removeprefix("data/MultiPersonTestSet/")), "intrinsic": intrinsic})
            people = people_of(photograph, len(annotations), len(MUPOTS))
            annotations += [
                {**person, "is_valid": int(v)} for person, v in zip(people, photograph.recognisable, strict=True)
            ]
            detected += detections(photograph, random_part(options.seed, "detector", str(photograph.number)))
        return {
            "data/MuPoTS-3D.json": {"images": images, "annotations": annotations},
            "bbox/bbox_mupots_output.json": detected,
        }


generate = partial(generation.generate, MuPoTSLayout(MuPoTS))
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
