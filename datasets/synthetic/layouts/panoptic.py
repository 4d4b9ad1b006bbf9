"""A synthetic dome in the layout of CMU Panoptic, as its toolbox extracts it; see `datasets.panoptic`.

World frame of the files: centimetres, y down. A joint's confidence grows with the share of the cameras that see it;
one that fewer than two cameras see cannot be triangulated and is missing: (0, 0, 0, -1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.contact_sheet import write_contact_sheet
from poseboard.datasets.files import write_file
from poseboard.datasets.manifest import files_digest, verify_files
from poseboard.datasets.panoptic import JOINTS19, RANGES, SEQUENCES, Panoptic
from poseboard.datasets.synthetic import generation
from poseboard.datasets.synthetic.body import Figure
from poseboard.datasets.synthetic.dome import HD_RATE_HZ, DomeOptions
from poseboard.datasets.synthetic.generation import Clip, Job, WrittenLabels, encode_jpeg
from poseboard.datasets.synthetic.world import direct, shots

WorldOptions = DomeOptions

FROM_STUDIO = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""A point of the studio, z up, as one of the files, y down."""
_CM = 0.1
_CONFIDENCE = (0.15, 0.75)
SEEN_AS = {"neck": "thorax", "body_centre": "pelvis"}
"""Points of a figure that stand for joints of other names, where it is asked whether a camera sees them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DomeClip(Clip):
    """One take.

    Args:
        joints19: (T, 19, 4) cm and confidence, as in the files.
    """

    joints19: Array


def joints19_mm(figure: Figure) -> Array:
    """The joints of the files (T, 19, 3), in the studio's frame, mm; the body's centre is the middle of the hips."""
    points = dict(figure.points_mm)
    points["neck"] = points["thorax"]
    points["body_centre"] = (points["left_hip"] + points["right_hip"]) / 2
    return np.stack([points[name] for name in JOINTS19], axis=1)


def joints19_annotated(joints_mm: Array, seen: NDArray[np.bool_]) -> Array:
    """What the files hold of one person, (T, 19, 4): cm, y down, and confidence.

    Args:
        joints_mm: (T, 19, 3) from `joints19_mm`.
        seen: (T, V, 19) whether each camera sees each joint.
    """
    least, most = _CONFIDENCE
    confidence = np.round(least + (most - least) * seen.mean(axis=1), 6)
    joints19 = np.concatenate([np.round(_CM * joints_mm @ FROM_STUDIO.T, 6), confidence[..., None]], axis=-1)
    joints19[seen.sum(axis=1) < 2] = (0, 0, 0, -1)
    return joints19


def calibration(cameras: Sequence[Camera], names: Sequence[str]) -> dict[str, Any]:
    """The content of a calibration file."""
    entries = []
    for name, camera in zip(names, cameras, strict=True):
        panel, node = (int(part) for part in name.split("_"))
        entries.append(
            {
                "name": name,
                "type": "hd",
                "resolution": list(camera.size),
                "panel": panel,
                "node": node,
                "K": camera.K.tolist(),
                "distCoef": camera.dist.tolist(),
                "R": (camera.R @ FROM_STUDIO.T).tolist(),
                "t": (_CM * camera.t[:, None]).tolist(),
            }
        )
    return {"calibDataSource": "synthetic_dome", "cameras": entries}


class PanopticLayout:
    """See `generation.Layout`."""

    version = "panoptic-1"
    parts = tuple(RANGES)

    def jobs(self, options: DomeOptions) -> list[Job]:
        """Sequence and name of all takes, those to train on first."""
        names = (*SEQUENCES["train"], *SEQUENCES["test"])
        return [(subject, take) for subject in names for take in options.takes_of(subject)]

    def write_sequence(self, root: Path, options: DomeOptions, job: Job) -> DomeClip:
        """Render one take and write its images."""
        subject, name = job
        numbers = options.numbers(subject, name)
        take = direct(options, subject, name)
        seen = np.zeros((len(numbers), len(options.cameras), len(JOINTS19)), dtype=np.bool_)
        digest, size_bytes, files = hashlib.sha256(), 0, []
        names = [SEEN_AS.get(joint, joint) for joint in JOINTS19]
        for i, v, picture, of_joints in shots(options, subject, name, take, names):
            data = encode_jpeg(picture.image, options.jpeg_quality)
            camera = options.cameras[v]
            file = f"{subject}/hdImgs/{camera}/{camera}_{numbers[i]:08d}.jpg"
            write_file(root / file, data)
            digest.update(data)
            size_bytes += len(data)
            files.append(file)
            seen[i, v] = of_joints
        joints19 = joints19_annotated(joints19_mm(take.people[0].figure), seen)
        return DomeClip(seen.mean(axis=2), digest.hexdigest(), size_bytes, tuple(files), joints19=joints19)

    def write_labels(self, root: Path, options: DomeOptions, clips: Sequence[DomeClip]) -> WrittenLabels:
        """Write calibrations and poses, and a contact sheet."""
        content: dict[str, Any] = {}
        for subject in RANGES:
            content[f"{subject}/calibration_{subject}.json"] = calibration(options.rig(subject), options.cameras)
        for (subject, name), clip in zip(self.jobs(options), clips, strict=True):
            for number, body in zip(options.numbers(subject, name), clip.joints19, strict=True):
                content[f"{subject}/hdPose3d_stage1_coco19/body3DScene_{number:08d}.json"] = {
                    "version": 0.7,
                    "univTime": round(1000 * number / HD_RATE_HZ, 3),
                    "fpsType": "hd_29_97",
                    "bodies": [{"id": 0, "joints19": body.ravel().tolist()}],
                }
        for file, values in content.items():
            write_file(root / file, json.dumps(values, separators=(",", ":")).encode())
        written = Panoptic(root, synthetic=True)
        groups = {key: written.sample(key).group for split in written.splits for key in written.keys(split)}
        write_contact_sheet(written, groups, root / "contact_sheet.png")
        return WrittenLabels(files_digest(root, list(content)), tuple(content))

    def verified(self, root: Path) -> dict[str, Any]:
        """The manifest of a complete tree after comparing every byte; InputError if a file was changed."""
        return verify_files(root, every_byte=True)


def generate(options: DomeOptions, root: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """Write a world in this layout, unless the folder already has it; see `generation.generate`."""
    return generation.generate(PanopticLayout(), options, root, progress)
