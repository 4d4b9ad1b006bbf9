"""A synthetic world in the layout of Human3.6M multi-view (learnable triangulation's label file).

``<root>/processed/<S>/<Action-k>/imageSequence/<camera>/img_%06d.jpg`` has lens distortion,
``imageSequence-undistorted`` is made from it. ``<root>/extra/human36m-multiview-labels-GTbboxes.npy`` has cameras,
poses and boxes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from poseboard.datasets.camera import Array, Camera, undistortion_map
from poseboard.datasets.files import write_file
from poseboard.datasets.human36m import (
    CAMERAS,
    LABELS,
    ROW,
    TREES,
    Human36M,
    encode_labels,
    image_path,
    labels_content,
)
from poseboard.datasets.manifest import labels_digest
from poseboard.datasets.synthetic import generation, world
from poseboard.datasets.synthetic.generation import Clip, Job, Layout, WrittenLabels, encode_jpeg
from poseboard.datasets.synthetic.world import SEQUENCES, RosterOptions, StudioOptions, direct, jobs, shots

PUBLISHED_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
PUBLISHED_TEST = ("S9", "S11")


class WorldOptions(world.WorldOptions):
    """Options of a world with the test subjects of Human3.6M, S9 and S11."""

    @model_validator(mode="after")
    def _published_split(self) -> WorldOptions:
        if not set(self.test_subjects) <= set(PUBLISHED_TEST) or set(self.train_subjects) & set(PUBLISHED_TEST):
            raise ValueError(f"the layout's test subjects are {', '.join(PUBLISHED_TEST)}, and these only")
        return self

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects in the order of the label file: the published subjects in published order, then by number."""
        names = {*self.train_subjects, *self.test_subjects}
        further = sorted(names - set(PUBLISHED_SUBJECTS), key=lambda name: int(name[1:]))
        return (*(name for name in PUBLISHED_SUBJECTS if name in names), *further)


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledClip(Clip):
    """Rendered sequence with its rows of the label file.

    Args:
        keypoints_mm: (T, 17, 3) in the world frame.
        boxes_tlbr: (T, V, 4) pixels.
        cameras: cameras of the subject.
    """

    keypoints_mm: Array
    boxes_tlbr: NDArray[np.int16]
    cameras: tuple[Camera, ...]


def square_tlbr(silhouette: NDArray[np.bool_], margin: float = 0.03) -> tuple[int, int, int, int]:
    """Square box of a foreground mask as in the published labels: top, left, bottom, right; zeros without foreground.

    The side is the larger extent (with exclusive end) plus twice round(margin * side + 2); the start is
    round(centre - side / 2) with Python's rounding.
    """
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    if not rows.size:
        return 0, 0, 0, 0
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(bottom - top, right - left)
    side += 2 * round(margin * side + 2)
    upper, start = round((top + bottom) / 2 - side / 2), round((left + right) / 2 - side / 2)
    return upper, start, upper + side, start + side


@lru_cache(maxsize=8)
def _lens_maps(options: StudioOptions, subject: str, v: int) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    return undistortion_map(options.rig(subject)[v])


def label_file(options: RosterOptions, clips: Sequence[LabelledClip]) -> dict[str, Any]:
    """Build the label dictionary of all clips in the published format; see `labels_content`."""
    subjects = options.subjects
    of_clips = {subject: clip.cameras for (subject, _), clip in zip(jobs(options), clips, strict=True)}
    table = np.zeros(sum(len(clip.keypoints_mm) for clip in clips), dtype=ROW)
    row = 0
    for (subject, name), clip in zip(jobs(options), clips, strict=True):
        count = len(clip.keypoints_mm)
        part = table[row : row + count]
        part["subject_idx"], part["action_idx"] = subjects.index(subject), SEQUENCES.index(name)
        part["frame_idx"] = np.arange(count) * options.frame_step
        part["keypoints"], part["bbox_by_camera_tlbr"] = clip.keypoints_mm, clip.boxes_tlbr
        row += count
    cameras = [of_clips.get(subject) or options.rig(subject) for subject in subjects]
    return labels_content(subjects, SEQUENCES, cameras, table)


class Human36MLayout(Layout[Any, LabelledClip]):
    """Writer of the Human3.6M multi-view layout.

    Args:
        adapter: class that reads the written world.
        version: see `generation.Layout`.
    """

    parts = ("processed", "extra")

    def __init__(self, adapter: type[Human36M] = Human36M, version: str = "human36m-1") -> None:
        super().__init__(partial(adapter, synthetic=True))
        self._kind, self.version = adapter, version

    def jobs(self, options: RosterOptions) -> list[Job]:
        """List subject and name of all sequences."""
        return jobs(options)

    def write_sequence(self, root: Path, options: RosterOptions, job: Job) -> LabelledClip:
        """Render one sequence and write its distorted and undistorted images."""
        subject, name = job
        take = direct(options, subject, name)
        actor = take.people[0]
        count = len(actor.figure.joints_mm)
        boxes, visibility = np.zeros((count, len(CAMERAS), 4), np.int16), np.zeros((count, len(CAMERAS)))
        jpegs: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        for camera_name in CAMERAS:
            for tree in TREES:
                image_path(root, subject, name, tree, camera_name, 0).parent.mkdir(parents=True, exist_ok=True)
        for i, v, picture, seen in shots(options, subject, name, take):
            whole, part = _lens_maps(options, subject, v)
            boxes[i, v], visibility[i, v] = square_tlbr(picture.silhouette), seen.mean()
            through_lens = encode_jpeg(picture.image, options.jpeg_quality)
            # As published, the undistorted images are made from the JPEG files.
            stored = np.asarray(cv2.imdecode(np.frombuffer(through_lens, np.uint8), cv2.IMREAD_COLOR))
            flat = cv2.remap(stored, whole, part, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
            jpegs[i, v] = through_lens, encode_jpeg(np.asarray(flat, np.uint8)[..., ::-1], options.jpeg_quality)
        digest = hashlib.sha256()
        for (i, v), pair in sorted(jpegs.items()):
            for tree, data in zip(TREES, pair, strict=True):
                digest.update(data)
                write_file(image_path(root, subject, name, tree, CAMERAS[v], i * options.frame_step), data)
        size_bytes = sum(len(data) for pair in jpegs.values() for data in pair)
        return LabelledClip(
            *(visibility, digest.hexdigest(), size_bytes),
            keypoints_mm=actor.figure.joints_mm,
            boxes_tlbr=boxes,
            cameras=options.rig(subject),
        )

    def labels(self, options: RosterOptions, clips: Sequence[LabelledClip]) -> dict[str, bytes]:
        """Build the published label file: path below the root -> content."""
        return {LABELS.as_posix(): encode_labels(label_file(options, clips))}

    def write_labels(self, root: Path, options: RosterOptions, clips: Sequence[LabelledClip]) -> WrittenLabels:
        """Write the label file and a contact sheet; the digest is of the content, since a pickle's bytes may differ."""
        super().write_labels(root, options, clips)
        labels = label_file(options, clips)
        names = [labels[field] for field in ("subject_names", "camera_names", "action_names")]
        return WrittenLabels(labels_digest(names, labels["cameras"], labels["table"]))

    def verified(self, root: Path) -> dict[str, Any]:
        """Compare every byte of a world with its manifest and return it; raise InputError if a file was changed."""
        return self._kind(root, synthetic=True).verified(every_byte=True)


generate = partial(generation.generate, Human36MLayout())
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
