"""A synthetic dome of several people in the layout of CMU Panoptic, with a detector's 2D joints.

See `datasets.panoptic_people` and `datasets.synthetic.dome_people`. Calibrations are of all 31 cameras, images and
detections of the five in use. A joint's confidence grows with the share of the 31 cameras that see it; one that fewer
than two cameras see cannot be triangulated and is missing: (0, 0, 0, -1). Body 0 of a file is the same person in all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.contact_sheet import write_contact_sheet
from poseboard.datasets.detections import Detections, detections_name, write_detections
from poseboard.datasets.files import write_file
from poseboard.datasets.manifest import files_digest, verify_files
from poseboard.datasets.panoptic import HD_CAMERAS, JOINTS19
from poseboard.datasets.panoptic_people import PanopticPeople
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.synthetic import generation
from poseboard.datasets.synthetic.dome import HD_RATE_HZ
from poseboard.datasets.synthetic.dome_people import DomePeopleOptions, detect, direct, shots, visible
from poseboard.datasets.synthetic.generation import Clip, Job, WrittenLabels, encode_jpeg, random_part
from poseboard.datasets.synthetic.layouts.panoptic import (
    SEEN_AS,
    calibration,
    joints19_annotated,
    joints19_mm,
)

WorldOptions = DomePeopleOptions


@dataclass(frozen=True, eq=False, kw_only=True)
class PeopleClip(Clip):
    """One sequence of P people.

    Args:
        joints19: (T, P, 19, 4) cm and confidence, as in the files.
        detections: of the cameras in use.
    """

    joints19: Array
    detections: Detections


class PanopticPeopleLayout:
    """See `generation.Layout`."""

    version = "panoptic-people-1"
    parts = DomePeopleOptions.subjects

    def jobs(self, options: DomePeopleOptions) -> list[Job]:
        """All sequences, each of one part."""
        return [(subject, "people") for subject in options.subjects]

    def write_sequence(self, root: Path, options: DomePeopleOptions, job: Job) -> PeopleClip:
        """Render one sequence and write its images."""
        subject, scene = job[0], direct(options, job[0])
        digest, size_bytes, files = hashlib.sha256(), 0, []
        for i, v, picture in shots(options, subject, scene):
            data = encode_jpeg(picture.image, options.jpeg_quality)
            camera = options.cameras[v]
            file = f"{subject}/hdImgs/{camera}/{camera}_{options.numbers[i]:08d}.jpg"
            write_file(root / file, data)
            digest.update(data)
            size_bytes += len(data)
            files.append(file)
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
            digest.hexdigest(),
            size_bytes,
            tuple(files),
            joints19=np.stack(joints19, axis=1),
            detections=detections,
        )

    def write_labels(self, root: Path, options: DomePeopleOptions, clips: Sequence[PeopleClip]) -> WrittenLabels:
        """Write calibrations, poses and detections, and a contact sheet."""
        files = []
        for subject, clip in zip(options.subjects, clips, strict=True):
            content: dict[str, Any] = {f"calibration_{subject}.json": calibration(options.dome(subject), HD_CAMERAS)}
            for number, bodies in zip(options.numbers, clip.joints19, strict=True):
                content[f"hdPose3d_stage1_coco19/body3DScene_{number:08d}.json"] = {
                    "version": 0.7,
                    "univTime": round(1000 * number / HD_RATE_HZ, 3),
                    "fpsType": "hd_29_97",
                    "bodies": [{"id": p, "joints19": body.ravel().tolist()} for p, body in enumerate(bodies)],
                }
            for file, values in content.items():
                write_file(root / subject / file, json.dumps(values, separators=(",", ":")).encode())
            detected = f"{detections_name(subject)}.npz"
            write_detections(root / subject / detected, clip.detections)
            files += [f"{subject}/{file}" for file in (*content, detected)]
        written = PanopticPeople(root, every=1, synthetic=True)
        groups = {key: written.sample(key).group for key in written.keys("test")}
        write_contact_sheet(written, groups, root / "contact_sheet.png")
        return WrittenLabels(files_digest(root, files), tuple(files))

    def verified(self, root: Path) -> dict[str, Any]:
        """The manifest of a complete tree after comparing every byte; InputError if a file was changed."""
        return verify_files(root, every_byte=True)


def generate(
    options: DomePeopleOptions,
    root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Write a world in this layout, unless the folder already has it; see `generation.generate`."""
    return generation.generate(PanopticPeopleLayout(), options, root, progress)
