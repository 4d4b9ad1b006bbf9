"""Cameras from 2D points as one writes it with OpenCV: essential matrix, PnP, bundle adjustment."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseboard.methods.geometry.bundle import Rig, adjust, triangulate

Array = NDArray[np.float64]

THRESHOLD = 2.0
"""Reprojection distance up to which RANSAC's points agree, standard deviations of an observation."""


def essential_start(rays: Array, weights: Array, threshold: float) -> tuple[Array, Array] | None:
    """Cameras of one rig: the essential matrix of the first two views, and PnP for every other.

    Args:
        rays: (V, N, 2) normalised image points.
        weights: (V, N); an observation with weight 0 does not count.
        threshold: of RANSAC, in the unit of rays.

    Returns:
        R (V, 3, 3) and t (V, 3) in the frame of the first view, with the second at distance 1; None where OpenCV finds
        no essential matrix. A view without a PnP solution stands where the first one does.
    """
    both = (weights[:2] > 0).all(axis=0)
    if both.sum() < 5:
        return None
    a, b = np.ascontiguousarray(rays[0, both]), np.ascontiguousarray(rays[1, both])
    cv2.setRNGSeed(0)
    E, mask = cv2.findEssentialMat(a, b, np.eye(3), method=cv2.RANSAC, prob=0.999, threshold=threshold)
    if E is None or E.shape != (3, 3):
        return None
    _, R1, t1, _ = cv2.recoverPose(E, a, b, np.eye(3), mask=mask)
    views = len(rays)
    R, t = np.tile(np.eye(3), (views, 1, 1)), np.zeros((views, 3))
    R[1], t[1] = R1, t1[:, 0]
    P = np.concatenate([R[:2], t[:2, :, None]], axis=-1)
    homogeneous = cv2.triangulatePoints(P[0], P[1], a.T, b.T)
    points = np.full((rays.shape[1], 3), np.nan)
    points[both] = (homogeneous[:3] / np.where(homogeneous[3] == 0, np.nan, homogeneous[3])).T
    for view in range(2, views):
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
    """Rigs by `essential_start`, one after the other, and bundle adjustment of all of them.

    Where there is no essential matrix, the adjustment starts from cameras side by side.

    Args:
        rays: (B, V, N, 2).
        weights: (B, V, N).
        focal_px: (B, V, N).
        steps: of bundle adjustment.
    """
    views = rays.shape[1]
    beside = np.tile(np.eye(3), (views, 1, 1)), np.arange(views)[:, None] * np.array([[-1.0, 0.0, 0.0]])
    starts = [
        essential_start(of_rig, of_weights, THRESHOLD / float(focal)) or beside
        for of_rig, of_weights, focal in zip(rays.numpy(), weights.numpy(), focal_px.mean((1, 2)), strict=True)
    ]
    R, t = (torch.from_numpy(np.stack(values)) for values in zip(*starts, strict=True))
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    return adjust(R, t, rays, weights, focal_px, steps, points=triangulate(R, t, rays, weights))
