"""A synthetic dome in the layout of CMU Panoptic, as its toolbox extracts it; see `datasets.panoptic`.

World frame of the files: centimetres, y down. A joint's confidence grows with the share of the cameras that see it;
one that fewer than two cameras see cannot be triangulated and is missing: (0, 0, 0, -1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.panoptic import JOINTS19, RANGES, SEQUENCES, Panoptic
from poseboard.datasets.synthetic import generation
from poseboard.datasets.synthetic.body import Figure
from poseboard.datasets.synthetic.dome import HD_RATE_HZ, DomeOptions
from poseboard.datasets.synthetic.generation import Clip, ImageWriter, Job, Layout
from poseboard.datasets.synthetic.world import direct, shots

WorldOptions = DomeOptions

FROM_STUDIO = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Rotation from the studio (z up) to the files (y down)."""
_CM = 0.1
_CONFIDENCE = (0.15, 0.75)
SEEN_AS = {"neck": "thorax", "body_centre": "pelvis"}
"""Joint of the files -> point of a figure whose visibility it has."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DomeClip(Clip):
    """Rendered take with its annotated joints.

    Args:
        joints19: (T, 19, 4) x, y, z in cm and confidence, as in the files.
    """

    joints19: Array


def joints19_mm(figure: Figure) -> Array:
    """The 19 joints of the files (T, 19, 3), mm, in the studio's frame. The body centre is the middle of the hips."""
    points = dict(figure.points_mm)
    points["neck"] = points["thorax"]
    points["body_centre"] = (points["left_hip"] + points["right_hip"]) / 2
    return np.stack([points[name] for name in JOINTS19], axis=1)


def joints19_annotated(joints_mm: Array, seen: NDArray[np.bool_]) -> Array:
    """Convert joints of one person to the values of the files: (T, 19, 4) x, y, z in cm, y down, and confidence.

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
    """Content of a calibration file."""
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


def hd_image(subject: str, camera: str, number: int) -> str:
    """Path of an HD image below the root."""
    return f"{subject}/hdImgs/{camera}/{camera}_{number:08d}.jpg"


def scene_file(subject: str, number: int, bodies: Sequence[Array]) -> tuple[str, dict[str, Any]]:
    """Path and content of the pose file of a frame. Each body is (19, 4): x, y, z in cm, and confidence."""
    return f"{subject}/hdPose3d_stage1_coco19/body3DScene_{number:08d}.json", {
        "version": 0.7,
        "univTime": round(1000 * number / HD_RATE_HZ, 3),
        "fpsType": "hd_29_97",
        "bodies": [{"id": p, "joints19": body.ravel().tolist()} for p, body in enumerate(bodies)],
    }


class PanopticLayout(Layout[DomeOptions, DomeClip]):
    """Writer of the CMU Panoptic layout for one person."""

    version = "panoptic-1"
    parts = tuple(RANGES)

    def jobs(self, options: DomeOptions) -> list[Job]:
        """List sequence and name of all takes, training first."""
        names = (*SEQUENCES["train"], *SEQUENCES["test"])
        return [(subject, take) for subject in names for take in options.takes_of(subject)]

    def write_sequence(self, root: Path, options: DomeOptions, job: Job) -> DomeClip:
        """Render one take and write its images."""
        subject, name = job
        numbers = options.numbers(subject, name)
        take = direct(options, subject, name)
        seen = np.zeros((len(numbers), len(options.cameras), len(JOINTS19)), dtype=np.bool_)
        images = ImageWriter(root, options.jpeg_quality)
        names = [SEEN_AS.get(joint, joint) for joint in JOINTS19]
        for i, v, picture, of_joints in shots(options, subject, name, take, names):
            images.write(hd_image(subject, options.cameras[v], numbers[i]), picture.image)
            seen[i, v] = of_joints
        joints19 = joints19_annotated(joints19_mm(take.people[0].figure), seen)
        return DomeClip(seen.mean(axis=2), *images.record(), joints19=joints19)

    def labels(self, options: DomeOptions, clips: Sequence[DomeClip]) -> dict[str, Any]:
        """Calibration and pose files: path below the root -> content."""
        content: dict[str, Any] = {}
        for subject in RANGES:
            content[f"{subject}/calibration_{subject}.json"] = calibration(options.rig(subject), options.cameras)
        for (subject, name), clip in zip(self.jobs(options), clips, strict=True):
            for number, body in zip(options.numbers(subject, name), clip.joints19, strict=True):
                file, values = scene_file(subject, number, [body])
                content[file] = values
        return content


generate = partial(generation.generate, PanopticLayout(partial(Panoptic, synthetic=True)))
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
