"""What the release of epipolar transformers does around the network: targets, loss, peaks, augmentation.

Rules and constants are those of the release code (He et al., CVPR 2020); published weights depend on them.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Image
from poseboard.methods.geometry.epipolar import MapGrid

_FLOOR = 4.60517019
"""Exponent at which a target stops falling: 0.01 everywhere else."""


def gaussian_targets(points_px: Tensor, grid: MapGrid, sigma_px: float) -> Tensor:
    """Target maps (..., J, H, W) float32 of points (..., J, 2) in crop pixels; sigma in crop pixels, floor 0.01."""
    cells = grid.centres(points_px.device)
    squared = (points_px.double()[..., None, :] - cells).square().sum(-1)
    target = torch.exp(-(squared / (2 * sigma_px**2)).clamp(max=_FLOOR)).float()
    return target.unflatten(-1, (grid.height, grid.width))


def joint_mse(heatmaps: Tensor, targets: Tensor, weights: Tensor, *, per_joint: bool = False) -> Tensor:
    """Sum over joints of the mean over batch and cells of ``(w (heatmap - target))²``, or that over the joints.

    Args:
        heatmaps: (n, J, H, W).
        targets: (n, J, H, W).
        weights: (n, J) visibility.
        per_joint: leave the sum as it is (older configurations; the release's flag has the opposite name).
    """
    weighted = (weights[..., None, None] * (heatmaps - targets)).square()
    total = weighted.mean(dim=(0, 2, 3)).sum()
    return total if per_joint else total / heatmaps.shape[1]


def window_peaks(heatmaps: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """The centroid of a window about the largest value.

    Args:
        heatmaps: (n, J, H, W).
        radius: of the square window, cells (the release reuses the targets' sigma in pixels); values up to 1e-6 and
            outside the map count 0. A map without others answers its largest cell.

    Returns:
        (n, J, 2) fractional cells (x, y), and the largest values (n, J).
    """
    width = heatmaps.shape[-1]
    scores, index = heatmaps.flatten(2).max(dim=-1)
    y0, x0 = torch.div(index, width, rounding_mode="floor"), index % width
    padded = functional.pad(torch.where(heatmaps > 1e-6, heatmaps, 0.0), (radius,) * 4)
    steps = torch.arange(2 * radius + 1, device=heatmaps.device)
    rows = y0[..., None, None] + steps[:, None]
    columns = x0[..., None, None] + steps
    places = (rows * padded.shape[-1] + columns).flatten(2)
    window = padded.flatten(2).gather(2, places).unflatten(2, (len(steps), len(steps)))
    offset = (steps - radius).to(window.dtype)
    mass = window.sum(dim=(-2, -1)) + 2.2e-16
    dx = (window.sum(dim=-2) * offset).sum(-1) / mass
    dy = (window.sum(dim=-1) * offset).sum(-1) / mass
    return torch.stack([x0 + dx, y0 + dy], dim=-1), scores


def scale_and_turn(
    image: Image, scale_factor: float, rotation_deg: float, rng: np.random.Generator
) -> tuple[Image, Array]:
    """The release's augmentation: normal draws, clipped, of the box's size and (6 times in 10) of its turn.

    Args:
        image: (S, S, 3) uint8.
        scale_factor: standard deviation and limit of the relative size.
        rotation_deg: standard deviation, and half the limit, of the turn.
        rng: source of every draw.

    Returns:
        The crop, and A (3, 3) from its old pixels to the new.
    """
    side = image.shape[0]
    size = np.clip(1 + scale_factor * rng.standard_normal(), 1 - scale_factor, 1 + scale_factor)
    turned = rng.random() < 0.6
    angle = np.deg2rad(np.clip(rotation_deg * rng.standard_normal(), -2 * rotation_deg, 2 * rotation_deg) * turned)
    if size == 1 and angle == 0:
        return image, np.eye(3)
    centre = np.full(2, (side - 1) / 2)
    A = np.eye(3)
    A[:2, :2] = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / size
    A[:2, 2] = centre - A[:2, :2] @ centre
    return np.asarray(cv2.warpAffine(image, A[:2], (side, side), flags=cv2.INTER_LINEAR), dtype=np.uint8), A
