"""Shelf (TUM): up to four people and five cameras. Layout and joints: :mod:`poseboard.datasets.multi_human_pose`."""

from __future__ import annotations

from poseboard.datasets.multi_human_pose import MultiHumanPose


class Shelf(MultiHumanPose):
    """Adapter of the Shelf data set. Images are ``Camera{c}/img_%06d.png``.

    Only the first three actors are scored, as in published work.

    Args:
        root: folder with the files of :mod:`poseboard.datasets.multi_human_pose`.
        truth: "actors": true poses of ``actorsGT.mat``; "none": no true poses.
    """

    name = "shelf"
    title = "Shelf (TUM)"
    image_size = (1032, 776)
    evaluated = (range(300, 601),)
    published_views = 5
    image_file = "Camera{camera}/img_{frame:06d}.png"
