"""Labels of 2D losses: true joints in crop pixels, and their weights."""

from __future__ import annotations

import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Truth, View


def inside_crop(points_px: Array, crop_px: int, *, published: bool = False) -> Array:
    """Mask (J,) of points (J, 2): 1 inside the crop, else 0.

    A point is inside if its coordinates are from 0 to ``crop_px - 1``, the centres of the outermost pixels. With
    ``published``, the rule is that of the release of epipolar transformers: from 0 to below ``crop_px``, which includes
    half of the last column and row.
    """
    below = points_px < crop_px if published else points_px <= crop_px - 1
    return np.asarray(np.all((points_px >= 0) & below, axis=-1), dtype=np.float64)


def visible_joints(view: View, truth: Truth, crop_px: int | None, *, published: bool = False) -> tuple[Array, Array]:
    """True joints (J, 2) in pixels and weights (J,). Unknown, hidden and outside joints have weight 0.

    Joints are projections of the 3D pose, and (0, 0) where their weight is 0.

    Args:
        view: crop or whole frame.
        truth: ground truth of the view's sample.
        crop_px: side of the crop; None for a whole frame that is cropped later, so that no joint counts as outside.
        published: whether to use labels as the release of epipolar transformers: 2D annotations of the view if it has
            any, positions also for hidden and outside joints, and the release's rule in `inside_crop`.
    """
    if published and view.name in truth.annotated:
        (annotated,) = truth.annotated[view.name]
        points = view.camera.image(annotated)
    else:
        (joints_mm,) = truth.joints_mm
        points = view.camera.project(joints_mm)
    known = np.asarray(np.isfinite(points).all(axis=-1), dtype=np.float64)
    weights = known if crop_px is None else inside_crop(points, crop_px, published=published)  # 0 for NaN
    if view.name in truth.seen:
        (seen,) = truth.seen[view.name]
        weights = weights * seen
    return np.where((known if published else weights)[:, None] > 0, points, 0.0), weights
