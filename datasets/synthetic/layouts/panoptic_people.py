"""A synthetic dome of several people in the layout of CMU Panoptic, with a detector's 2D joints.

See `datasets.panoptic_people` and `datasets.synthetic.dome_people`. Calibrations are of all 31 cameras, images and
detections of the five in use. A joint's confidence grows with the share of the 31 cameras that see it; one that fewer
than two cameras see cannot be triangulated and is missing: (0, 0, 0, -1). Body 0 of a file is the same person in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.detections import Detections, detections_name, encode_detections
from poseboard.datasets.panoptic import HD_CAMERAS, JOINTS19
from poseboard.datasets.panoptic_people import PanopticPeople
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.synthetic import generation
from poseboard.datasets.synthetic.dome_people import DomePeopleOptions, detect, direct, shots, visible
from poseboard.datasets.synthetic.generation import Clip, ImageWriter, Job, Layout, random_part
from poseboard.datasets.synthetic.layouts.panoptic import (
    SEEN_AS,
    calibration,
    hd_image,
    joints19_annotated,
    joints19_mm,
    scene_file,
)

WorldOptions = DomePeopleOptions


@dataclass(frozen=True, eq=False, kw_only=True)
class PeopleClip(Clip):
    """Rendered sequence of P people, with annotated joints and detections.

    Args:
        joints19: (T, P, 19, 4) x, y, z in cm and confidence, as in the files.
        detections: detections of the rendered cameras.
    """

    joints19: Array
    detections: Detections


class PanopticPeopleLayout(Layout[DomePeopleOptions, PeopleClip]):
    """Writer of the CMU Panoptic layout for several people."""

    version = "panoptic-people-1"
    parts = DomePeopleOptions.subjects

    def jobs(self, options: DomePeopleOptions) -> list[Job]:
        """List all sequences. Each sequence is one job."""
        return [(subject, "people") for subject in options.subjects]

    def write_sequence(self, root: Path, options: DomePeopleOptions, job: Job) -> PeopleClip:
        """Render one sequence and write its images."""
        subject, scene = job[0], direct(options, job[0])
        images = ImageWriter(root, options.jpeg_quality)
        for i, v, picture in shots(options, subject, scene):
            images.write(hd_image(subject, options.cameras[v], options.numbers[i]), picture.image)
        seen = visible(options, subject, scene, tuple(SEEN_AS.get(joint, joint) for joint in JOINTS19))
        joints19 = [
            joints19_annotated(joints19_mm(person.figure), seen[:, :, p]) for p, person in enumerate(scene.people)
        ]
        coco = np.stack([person.figure.landmarks_mm(COCO.joints) for person in scene.people], axis=1)
        of_coco = seen[..., [JOINTS19.index(joint) for joint in COCO.joints]]
        used = [HD_CAMERAS.index(name) for name in options.cameras]
        dome = options.dome(subject)
        detections = {
            (node, number): detect(
                dome[node],
                coco[i],
                of_coco[i, node],
                random_part(options.seed, "detector", subject, f"{node}/{number}"),
            )
            for node in used
            for i, number in enumerate(options.numbers)
        }
        return PeopleClip(
            seen[:, used].mean(axis=(2, 3)),
            *images.record(),
            joints19=np.stack(joints19, axis=1),
            detections=detections,
        )

    def labels(self, options: DomePeopleOptions, clips: Sequence[PeopleClip]) -> dict[str, Any]:
        """Calibration, pose and detection files: path below the root -> content."""
        content: dict[str, Any] = {}
        for subject, clip in zip(options.subjects, clips, strict=True):
            content[f"{subject}/calibration_{subject}.json"] = calibration(options.dome(subject), HD_CAMERAS)
            for number, bodies in zip(options.numbers, clip.joints19, strict=True):
                file, values = scene_file(subject, number, bodies)
                content[file] = values
            content[f"{subject}/{detections_name(subject)}.npz"] = encode_detections(clip.detections)
        return content


generate = partial(generation.generate, PanopticPeopleLayout(partial(PanopticPeople, every=1, synthetic=True)))
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
