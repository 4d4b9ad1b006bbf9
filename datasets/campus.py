"""Campus (TUM): up to three people and three cameras. Layout and joints: :mod:`poseboard.datasets.multi_human_pose`."""

from __future__ import annotations

from typing import ClassVar

from poseboard.datasets.multi_human_pose import OBTAIN, MultiHumanPose

__all__ = ["OBTAIN", "Campus"]


class Campus(MultiHumanPose):
    """The adapter. Images: ``Camera{c}/campus4-c{c}-%05d.png``. All three actors are scored.

    Args:
        root: folder with the files of :mod:`poseboard.datasets.multi_human_pose`.
        truth: "none" for a folder whose annotations show other instants than its detections.
    """

    name: ClassVar[str] = "campus"
    image_size: ClassVar[tuple[int, int]] = (360, 288)
    evaluated: ClassVar[tuple[range, ...]] = (range(350, 471), range(650, 751))
    published_views: ClassVar[int] = 3
    image_file: ClassVar[str] = "Camera{camera}/campus4-c{camera}-{frame:05d}.png"
