"""A synthetic world in the layout of Human3.6M as RootNet reads it, with a detector's boxes; see `human36m_coco`.

It is the studio of `human36m` with cameras without lens distortion. Frames are so far apart that their numbers are
multiples both of 5 and of 64: the adapter uses every one, for training and for testing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poseboard.datasets.camera import Array
from poseboard.datasets.human36m import CAMERAS
from poseboard.datasets.human36m_coco import SUBJECTS, Human36MCoco, SubjectAnnotations, file_name
from poseboard.datasets.human36m_toolbox import JOINTS
from poseboard.datasets.synthetic import generation, motion, world
from poseboard.datasets.synthetic.generation import Clip, Extent, ImageWriter, Job, Layout, random_part
from poseboard.datasets.synthetic.photographs import bounds, xywh
from poseboard.datasets.synthetic.world import direct, jobs, rig, shots

_TRAIN, _TEST = (tuple(f"S{number}" for number in SUBJECTS[2][split]) for split in ("train", "test"))
_NO_VIDEO = ("S11", "Directions-2", 0)
"""Subject, sequence and camera without a video."""
_DISPLACEMENT = 0.02
"""Standard deviation of the edges of detected boxes, as a share of the box."""


class WorldOptions(world.WorldOptions):
    """Options of a world with all subjects of Human3.6M's protocol 2. With fewer, the data set would be partial."""

    lens: ClassVar[bool] = False

    side_px: Annotated[int, Field(ge=48, le=1000)] = 192
    train_subjects: tuple[world.Subject, ...] = _TRAIN
    test_subjects: tuple[world.Subject, ...] = _TEST
    train_frames: Annotated[int, Field(ge=0, le=500)] = 2
    test_frames: Annotated[int, Field(ge=0, le=500)] = 2
    frame_step: Annotated[int, Field(ge=1, le=6400)] = 320

    @model_validator(mode="after")
    def _published_split(self) -> WorldOptions:
        for split, names, published in (("train", self.train_subjects, _TRAIN), ("test", self.test_subjects, _TEST)):
            if set(names) != set(published):
                raise ValueError(f"{split}_subjects: the layout's are {', '.join(published)}")
        return self

    @property
    def extent(self) -> Extent:
        """Size of the world. As in Human3.6M, one video does not exist."""
        whole = super().extent
        lost = _NO_VIDEO[1].partition("-")[0] in self.actions
        return whole._replace(shots=whole.shots - lost * self.test_frames)


@dataclass(frozen=True, eq=False, kw_only=True)
class PosedClip(Clip):
    """Rendered sequence with its labels: n images, camera by camera.

    Args:
        joints_mm: (T, 17, 3) joints in the world frame, in the order of the file.
        instant: (n,) index of each image's frame in the sequence.
        view: (n,) index of each image's camera.
        silhouettes_px: (n, 4) left, upper, right, lower of the actor, occluded parts included.
    """

    joints_mm: Array
    instant: NDArray[np.int64]
    view: NDArray[np.int64]
    silhouettes_px: Array


class Human36MCocoLayout(Layout[WorldOptions, PosedClip]):
    """Writer of RootNet's Human3.6M layout."""

    version = "human36m-coco-1"
    parts = ("annotations", "images", "bbox")

    def jobs(self, options: WorldOptions) -> list[Job]:
        """List subject and name of all sequences."""
        return jobs(options)

    def write_sequence(self, root: Path, options: WorldOptions, job: Job) -> PosedClip:
        """Render one sequence and write its images."""
        subject, name = job
        take = direct(options, subject, name)
        images, visibility, rows, boxes = ImageWriter(root, options.jpeg_quality), [], [], []
        for i, v, picture, seen in shots(options, subject, name, take):
            if (subject, name, v) == _NO_VIDEO:
                continue
            images.write(f"images/{file_name(*_numbers(subject, name), v, i * options.frame_step)}", picture.image)
            visibility.append(seen.mean())
            rows.append((i, v))
            boxes.append(bounds(picture.silhouette))
        instant, view = np.array(rows, dtype=np.int64).reshape(-1, 2).T
        actor = take.people[0].figure
        return PosedClip(
            np.array(visibility),
            *images.record(),
            joints_mm=actor.landmarks_mm(JOINTS),
            instant=instant,
            view=view,
            silhouettes_px=np.array(boxes).reshape(-1, 4),
        )

    def labels(self, options: WorldOptions, clips: Sequence[PosedClip]) -> dict[str, Any]:
        """Compute the COCO-style annotation files of Human3.6M; see `label_files`."""
        return label_files(options, clips)


def _numbers(subject: str, name: str) -> tuple[int, int, int]:
    """Numbers of subject, action and sub-action."""
    action, _, trial = name.rpartition("-")
    return int(subject[1:]), motion.ACTIONS.index(action) + 2, int(trial)


def label_files(options: WorldOptions, clips: Sequence[PosedClip]) -> dict[str, Any]:
    """Compute the label files: path below the root -> content."""
    files: dict[str, Any] = {}
    detected: list[dict[str, Any]] = []
    next_id = 0
    for subject in options.subjects:
        annotated = SubjectAnnotations(int(subject[1:]), rig(options, subject), next_id)
        of_subject = [(name, clip) for (who, name), clip in zip(jobs(options), clips, strict=True) if who == subject]
        sizes = dict.fromkeys(range(len(CAMERAS)), (options.side_px, options.side_px))
        for name, clip in of_subject:
            if subject in options.test_subjects:
                detected += _detections(options, subject, name, clip.silhouettes_px, annotated.next_id)
            frames = np.arange(len(clip.joints_mm)) * options.frame_step
            shots = list(zip(clip.instant.tolist(), clip.view.tolist(), strict=True))
            annotated.add(*_numbers(subject, name)[1:], frames, clip.joints_mm, shots, sizes)
        files |= annotated.files()
        next_id = annotated.next_id
    if detected:
        files["bbox/bbox_human36m_output.json"] = detected
    return files


def _detections(options: WorldOptions, subject: str, name: str, boxes_px: Array, first_id: int) -> list[dict[str, Any]]:
    """Simulate detections: one displaced box per image of a sequence."""
    rng = random_part(options.seed, "detector", subject, name)
    sides = boxes_px[:, 2:] - boxes_px[:, :2]
    displaced = boxes_px + rng.normal(0, _DISPLACEMENT, boxes_px.shape) * np.tile(sides, 2)
    scores = np.round(rng.uniform(0.8, 1, len(boxes_px)), 4).tolist()
    return [
        {"image_id": first_id + row, "category_id": 1, "bbox": box, "score": score}
        for row, (box, score) in enumerate(zip(xywh(displaced), scores, strict=True))
    ]


generate = partial(generation.generate, Human36MCocoLayout(partial(Human36MCoco, every_train=1, every_test=1)))
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
