"""Campus (TUM): up to three people and three cameras. Layout and joints: :mod:`poseboard.datasets.multi_human_pose`."""

from __future__ import annotations

from poseboard.datasets.multi_human_pose import MultiHumanPose


class Campus(MultiHumanPose):
    """Adapter of the Campus data set. Images are ``Camera{c}/campus4-c{c}-%05d.png``. All three actors are scored.

    Args:
        root: folder with the files of :mod:`poseboard.datasets.multi_human_pose`.
        truth: "actors": true poses of ``actorsGT.mat``; "none": no true poses.
    """

    name = "campus"
    title = "Campus (TUM)"
    image_size = (360, 288)
    evaluated = (range(350, 471), range(650, 751))
    published_views = 3
    image_file = "Camera{camera}/campus4-c{camera}-{frame:05d}.png"
