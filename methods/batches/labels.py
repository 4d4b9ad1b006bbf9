"""True joints as pixels of a crop, and which of them count in a loss."""

from __future__ import annotations

import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Truth, View


def inside_crop(points_px: Array, crop_px: int, *, published: bool = False) -> Array:
    """1 for points (J, 2) in the crop, else 0.

    In it are those between the centres of its outermost pixels, where there are pixels on both sides. The release of
    epipolar transformers (``published``) counts from 0 up to the side, so half of its last column and row, too.
    """
    below = points_px < crop_px if published else points_px <= crop_px - 1
    return np.asarray(np.all((points_px >= 0) & below, axis=-1), dtype=np.float64)


def visible_joints(view: View, truth: Truth, crop_px: int | None, *, published: bool = False) -> tuple[Array, Array]:
    """True joints as pixels (J, 2) of the view, and weights (J,): 0 where unknown, annotated as hidden, or outside.

    Without ``crop_px``, for a view that is still to be cropped, no joint is outside. Joints are the projections of the
    pose, and (0, 0) where their weight is 0.

    With ``published`` they are what the release of epipolar transformers trains on: where the view itself is annotated,
    that; kept where they are hidden or outside; inside by its rule, see `inside_crop`.
    """
    if published and view.name in truth.annotated:
        (annotated,) = truth.annotated[view.name]
        points = view.camera.image(annotated)
    else:
        (joints_mm,) = truth.joints_mm
        points = view.camera.project(joints_mm)
    anywhere = np.asarray(np.isfinite(points).all(axis=-1), dtype=np.float64)
    weights = anywhere if crop_px is None else inside_crop(points, crop_px, published=published)  # 0 for NaN
    if view.name in truth.seen:
        (seen,) = truth.seen[view.name]
        weights = weights * seen
    return np.where((anywhere if published else weights)[:, None] > 0, points, 0.0), weights
