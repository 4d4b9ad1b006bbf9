"""Shelf (TUM): up to four people and five cameras. Layout and joints: :mod:`poseboard.datasets.multi_human_pose`."""

from __future__ import annotations

from typing import ClassVar

from poseboard.datasets.multi_human_pose import OBTAIN, MultiHumanPose

__all__ = ["OBTAIN", "Shelf"]


class Shelf(MultiHumanPose):
    """The adapter. Images: ``Camera{c}/img_%06d.png``. By convention the first three actors are scored.

    Args:
        root: folder with the files of :mod:`poseboard.datasets.multi_human_pose`.
        truth: "none" for a folder whose annotations and detections are of different instants.
    """

    name: ClassVar[str] = "shelf"
    image_size: ClassVar[tuple[int, int]] = (1032, 776)
    evaluated: ClassVar[tuple[range, ...]] = (range(300, 601),)
    published_views: ClassVar[int] = 5
    image_file: ClassVar[str] = "Camera{camera}/img_{frame:06d}.png"
