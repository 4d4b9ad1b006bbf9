"""Boxes of people as RootNet (Moon et al., ICCV 2019, release code) takes them: cut to the image, squared, enlarged.

A data set hands over tight boxes. What a network crops is made of them here, once: files that hold such crops
(``bbox_root_*_output.json``) are marked as processed, since a box that is processed twice is enlarged twice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from poseboard.datasets.camera import Array

CROP_SCALE = 1.25
"""Factor on the sides of a squared box."""


def cut_boxes(boxes_xywh: ArrayLike, sizes: ArrayLike) -> Array:
    """Boxes moved into the image, (N, 4) x, y, width, height in pixels; NaN where there is none.

    The right and lower edges are measured from the corner that was moved, so a box with a negative x is shifted and not
    cut; sides are one pixel shorter than given, as the release has it. There is none where width x height is not above
    0 (two negative sides pass), or where the box lies beyond the image.

    Args:
        boxes_xywh: (N, 4) x, y of the upper left corner, width, height.
        sizes: (N, 2) or (2,) width and height of the images.

    Example:
        >>> cut_boxes([[-10, 20, 50, 100]], (640, 480)).tolist()
        [[0.0, 20.0, 49.0, 99.0]]
    """
    boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    last = np.broadcast_to(np.asarray(sizes, dtype=np.float64), (len(boxes), 2)) - 1
    sides = boxes[:, 2:]
    upper_left = np.maximum(boxes[:, :2], 0)
    lower_right = np.minimum(last, upper_left + np.maximum(sides - 1, 0))
    there = (sides.prod(axis=1) > 0) & np.all(lower_right >= upper_left, axis=1)
    cut = np.concatenate([upper_left, lower_right - upper_left], axis=1)
    return np.where(there[:, None], cut, np.nan)


def crop_boxes(boxes_xywh: ArrayLike, sizes: ArrayLike, aspect: float = 1.0, scale: float = CROP_SCALE) -> Array:
    """What a network crops for tight boxes, (N, 4) x, y, width, height in pixels; NaN where `cut_boxes` has none.

    The shorter side grows to the aspect about the centre, then both grow by ``scale``; what sticks out of the image is
    meant to.

    Args:
        boxes_xywh: (N, 4) tight ones.
        sizes: (N, 2) or (2,) width and height of the images.
        aspect: width by height of the crop.
        scale: factor on both sides.

    Example:
        >>> crop_boxes([[100, 50, 81, 161]], (640, 480)).tolist()
        [[40.0, 30.0, 200.0, 200.0]]
    """
    cut = cut_boxes(boxes_xywh, sizes)
    width, height = cut[:, 2], cut[:, 3]
    centres = cut[:, :2] + cut[:, 2:] / 2
    sides = scale * np.stack([np.maximum(width, aspect * height), np.maximum(height, width / aspect)], axis=1)
    return np.concatenate([centres - sides / 2, sides], axis=1)


def key_point_box(points_px: ArrayLike) -> Array:
    """Box about key points (..., J, 2), grown by a fifth, as the release's converter of Human3.6M has it; (..., 4)."""
    points = np.asarray(points_px, dtype=np.float64)
    lower, upper = points.min(axis=-2), points.max(axis=-2)
    sides = 1.2 * (upper - lower - 1)
    return np.concatenate([(lower + upper) / 2 - sides / 2, sides], axis=-1)
