"""Boxes of people, computed as in RootNet's release (Moon et al., ICCV 2019): cut to the image, squared, enlarged.

Data sets have tight boxes. A box that is processed twice is enlarged twice, so readers reject files with processed
boxes (``bbox_root_*_output.json``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from poseboard.datasets.camera import Array

CROP_SCALE = 1.25
"""Factor by which the release enlarges both sides of a squared box."""


def cut_boxes(boxes_xywh: ArrayLike, sizes: ArrayLike) -> Array:
    """Cut boxes to their images. Returns (N, 4) x, y, width, height in pixels, NaN for unusable boxes.

    The release has two quirks, which are kept. A box with a negative x is shifted instead of cut, because the right
    edge is computed from the moved corner. Sides become one pixel shorter. Boxes outside the image are unusable, and so
    are boxes with width x height <= 0. (A box with two negative sides passes.)

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
    usable = (sides.prod(axis=1) > 0) & np.all(lower_right >= upper_left, axis=1)
    cut = np.concatenate([upper_left, lower_right - upper_left], axis=1)
    return np.where(usable[:, None], cut, np.nan)


def crop_boxes(boxes_xywh: ArrayLike, sizes: ArrayLike, aspect: float = 1.0, scale: float = CROP_SCALE) -> Array:
    """Crop regions (N, 4) of tight boxes: x, y, width, height in pixels; NaN for boxes that `cut_boxes` rejects.

    The shorter side is extended around the centre to the aspect ratio, then both sides are scaled. The region may
    extend beyond the image.

    Args:
        boxes_xywh: (N, 4) tight boxes.
        sizes: (N, 2) or (2,) width and height of the images.
        aspect: width of the crop divided by its height.
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
    """Boxes (..., 4) x, y, width, height around key points (..., J, 2), enlarged by 1.2 as in the release."""
    points = np.asarray(points_px, dtype=np.float64)
    lower, upper = points.min(axis=-2), points.max(axis=-2)
    sides = 1.2 * (upper - lower - 1)
    return np.concatenate([(lower + upper) / 2 - sides / 2, sides], axis=-1)
