"""Training examples of several views of one frame. Augmentation also changes the cameras of the views."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Image, Sample, Truth, View
from poseboard.methods.base import Example
from poseboard.methods.batches.augmentation import Augmentation, augment, transform_points
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.labels import inside_crop, visible_joints

Change = Callable[[View], tuple[Image, Array]]
"""A view -> its augmented crop, and A (3, 3) from pixels of the view to pixels of that crop."""


def drawn_views(sample: Sample, fewest: int, most: int, rng: np.random.Generator) -> list[View]:
    """Draw ``fewest`` to ``most`` views of a sample at random, in the sample's order and without repetition.

    As in learnable triangulation's release code, all numbers of views are equally likely, and so are all subsets with
    the same number. If the sample has fewer views, all are returned.
    """
    most = min(most, len(sample.views))
    count = most
    if fewest < most:
        count = int(rng.integers(fewest, most + 1))
    return [sample.views[i] for i in sorted(rng.permutation(len(sample.views))[:count])]


def augmented_views(
    sample: Sample,
    truth: Truth,
    settings: Augmentation,
    rng: np.random.Generator,
    *,
    crop_px: int,
    slots: int,
    flip_order: Sequence[int],
) -> Example:
    """Training example of up to ``slots`` random views, see `stack_changed`. All views are mirrored or none is."""
    views = drawn_views(sample, slots, slots, rng)
    mirrored = bool(rng.random() < settings.flip)
    return stack_changed(
        views,
        truth,
        lambda view: augment(crop_pixels(view, crop_px), settings, rng, mirrored=mirrored),
        crop_px=crop_px,
        slots=slots,
        flip_order=flip_order if mirrored else None,
    )


def stack_changed(
    views: Sequence[View],
    truth: Truth,
    change: Change,
    *,
    crop_px: int,
    slots: int,
    flip_order: Sequence[int] | None,
    published: bool = False,
) -> Example:
    """Training example of up to V views. Slots without a view are zero and not valid.

    Args:
        views: at most ``slots`` views.
        truth: ground truth of the only person.
        change: function that returns the crop of a view and its affine matrix; the camera is changed to match.
        crop_px: side S of the crops.
        slots: number of views V.
        flip_order: index of each joint's mirror image if ``change`` mirrors the crop; else None.
        published: ``points_px`` and ``weights`` as in the release of epipolar transformers, see `visible_joints`.

    Returns:
        images (V, S, S, 3) uint8; P (V, 3, 4) float64; valid (V,) bool; points_px (V, J, 2) and weights (V, J)
        float32; lens_px (V, J, 2) float32, the offset that undoes the lens at each joint; joints_mm (J, 3) and
        known (J, 1) float64.
    """
    (joints_mm,) = truth.joints_mm
    joints = len(joints_mm)
    images = np.zeros((slots, crop_px, crop_px, 3), dtype=np.uint8)
    P = np.zeros((slots, 3, 4))
    points, lens, weights = np.zeros((slots, joints, 2)), np.zeros((slots, joints, 2)), np.zeros((slots, joints))
    for i, view in enumerate(views):
        images[i], A = change(view)
        # Augmentation of a crop cannot show joints outside of it; a whole frame is cropped by `change`.
        side_px = crop_px if view.camera.size == (crop_px, crop_px) else None
        seen, visible = visible_joints(view, truth, side_px, published=published)
        points[i] = transform_points(A, seen)
        weights[i] = visible * inside_crop(points[i], crop_px, published=published)
        P[i] = A @ view.camera.P
        if view.camera.dist.any():
            pinhole = view.camera.undistorted().project(joints_mm)
            moved = (pinhole - view.camera.project(joints_mm)) @ A[:2, :2].T
            lens[i] = np.nan_to_num(moved)
    if flip_order is not None:  # in a mirror image the left arm looks like a right arm
        order = list(flip_order)
        points, lens, weights, joints_mm = points[:, order], lens[:, order], weights[:, order], joints_mm[order]
    known = np.isfinite(joints_mm).all(axis=-1, keepdims=True)
    return {
        "images": images,
        "P": P,
        "valid": np.arange(slots) < len(views),
        "points_px": points.astype(np.float32),
        "lens_px": lens.astype(np.float32),
        "weights": weights.astype(np.float32),
        "joints_mm": np.where(known, joints_mm, 0.0),
        "known": known.astype(np.float64),
    }
