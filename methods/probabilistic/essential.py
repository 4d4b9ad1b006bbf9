"""Standard camera estimation from 2D points with OpenCV: essential matrices, PnP, bundle adjustment."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseboard.methods.geometry.bundle import Rig, adjust, first_frame, triangulate_compiled
from poseboard.methods.geometry.relative_pose import best_hypotheses

Array = NDArray[np.float64]

THRESHOLD = 2.0
"""Threshold of MAGSAC, px. OpenCV's plain RANSAC takes four to ten times as long on joints that are 8 px off."""
PAIR_STEPS = 8
"""Steps of bundle adjustment of the rig of each pair, before the best of them is chosen."""


def essential_start(
    rays: Array, weights: Array, threshold: float, pair: tuple[int, int] = (0, 1)
) -> tuple[Array, Array] | None:
    """Estimate the cameras of one rig from the essential matrix of a pair of views, and by PnP for every other view.

    Args:
        rays: (V, N, 2) normalised image points.
        weights: (V, N) weights; an observation with weight 0 does not count.
        threshold: threshold of MAGSAC, in the unit of ``rays``.
        pair: indices of the two views.

    Returns:
        R (V, 3, 3) and t (V, 3) in the frame of the pair's first view, with the pair's second view at distance 1. A
        view without a PnP solution gets the pose of the pair's first view. None if OpenCV finds no essential matrix.
    """
    first, second = pair
    both = (weights[[first, second]] > 0).all(axis=0)
    if both.sum() < 5:
        return None
    a, b = np.ascontiguousarray(rays[first, both]), np.ascontiguousarray(rays[second, both])
    cv2.setRNGSeed(0)
    E, mask = cv2.findEssentialMat(a, b, np.eye(3), method=cv2.USAC_MAGSAC, prob=0.999, threshold=threshold)
    if E is None or E.shape != (3, 3):
        return None
    _, R1, t1, _ = cv2.recoverPose(E, a, b, np.eye(3), mask=mask)
    views = len(rays)
    R, t = np.tile(np.eye(3), (views, 1, 1)), np.zeros((views, 3))
    R[second], t[second] = R1, t1[:, 0]
    homogeneous = cv2.triangulatePoints(np.eye(3, 4), np.column_stack([R1, t1]), a.T, b.T)
    points = np.full((rays.shape[1], 3), np.nan)
    points[both] = (homogeneous[:3] / np.where(homogeneous[3] == 0, np.nan, homogeneous[3])).T
    for view in set(range(views)) - {first, second}:
        seen = (weights[view] > 0) & np.isfinite(points).all(axis=1)
        if seen.sum() < 6:
            continue
        try:
            found, turn, shift = cv2.solvePnP(points[seen], rays[view, seen], np.eye(3), None, flags=cv2.SOLVEPNP_SQPNP)
        except cv2.error:  # the points are in one place
            continue
        if found:
            R[view], t[view] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return R, t


def essential_rigs(rays: Tensor, weights: Tensor, focal_px: Tensor, steps: int = 30) -> Rig:
    """Estimate rigs from the pair of views with the lowest reprojection cost over all views, by bundle adjustment.

    The start of every pair (`essential_start`) is adjusted by a few steps. The best start of each rig
    (`best_hypotheses`, as in `relative_pose.estimate`) is adjusted further. If no pair of a rig has an essential
    matrix, the adjustment starts from cameras side by side.

    Args:
        rays: (B, V, N, 2) observations as (x / z, y / z).
        weights: (B, V, N) weights of the observations.
        focal_px: (B, V, N) focal length of each observation.
        steps: number of steps of the last adjustment.
    """
    views = rays.shape[1]
    beside = np.tile(np.eye(3), (views, 1, 1)), np.arange(views)[:, None] * np.array([[-1.0, 0.0, 0.0]])
    starts, rig_of_start = [], []
    for place, focal in enumerate(focal_px.mean((1, 2)).tolist()):
        by_pair = [
            essential_start(rays[place].numpy(), weights[place].numpy(), THRESHOLD / focal, pair)
            for pair in combinations(range(views), 2)
        ]
        of_rig = [start for start in by_pair if start is not None] or [beside]
        starts += of_rig
        rig_of_start += [place] * len(of_rig)
    R, t = (torch.from_numpy(np.stack(values)) for values in zip(*starts, strict=True))
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    of = torch.tensor(rig_of_start)
    observed = rays[of], weights[of], focal_px[of]
    R, t = first_frame(R, t)
    rigs = adjust(R, t, *observed, PAIR_STEPS, triangulate_compiled(R, t, *observed[:2]))
    best = best_hypotheses(rigs, of, *observed, kept=1)
    return adjust(rigs.R[best], rigs.t[best], rays, weights, focal_px, steps, rigs.points[best])
