"""Loss, decoding and augmentation of the release of epipolar transformers.

Rules and constants are those of the release code (He et al., CVPR 2020). Published weights depend on them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Image, View, warp_image
from poseboard.methods.nets.losses import keypoint_mse_smooth


def joint_mse(heatmaps: Tensor, targets: Tensor, weights: Tensor, *, per_joint: bool = False) -> Tensor:
    """Heat-map loss: mean of ``(w (heatmap - target))²`` over batch, joints and cells.

    Args:
        heatmaps: (n, J, H, W) predicted maps.
        targets: (n, J, H, W) target maps.
        weights: (n, J) visibility.
        per_joint: sum over the joints instead of the mean, as in older configurations. The release's flag has the
            opposite meaning.
    """
    weighted = (weights[..., None, None] * (heatmaps - targets)).square()
    total = weighted.mean(dim=(0, 2, 3)).sum()
    return total if per_joint else total / heatmaps.shape[1]


HeatmapLoss = Literal["joint", "joint_sum", "smoothmse", "mse"]
"""Names as in the release; "joint_sum" is "joint" of its older configurations."""


def released_loss(kind: HeatmapLoss, heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Compute one of the release's losses on heat maps.

    Args:
        kind: "joint" and "joint_sum": see `joint_mse`. "smoothmse": `keypoint_mse_smooth` over the cells of visible
            maps. "mse": mean squared error over all maps, visible or not.
        heatmaps: (n, J, H, W) predicted maps.
        targets: (n, J, H, W) target maps.
        weights: (n, J) visibility.
    """
    if kind == "mse":
        return functional.mse_loss(heatmaps, targets)
    if kind == "smoothmse":
        return keypoint_mse_smooth(heatmaps.flatten(2), targets.flatten(2), weights[..., None])
    return joint_mse(heatmaps, targets, weights, per_joint=kind == "joint_sum")


def largest_cells(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Cell with the largest value of each map.

    Args:
        heatmaps: (n, J, H, W).

    Returns:
        Cells (n, J, 2) as (x, y), with (0, 0) for a map without positive values; and the largest values (n, J).
    """
    scores, index = heatmaps.flatten(2).max(dim=-1)
    cells = torch.stack([index % heatmaps.shape[-1], index // heatmaps.shape[-1]], dim=-1)
    return torch.where(scores[..., None] > 0, cells, 0).to(heatmaps.dtype), scores


def window_peaks(heatmaps: Tensor, radius: int, *, align_corners: bool = True) -> tuple[Tensor, Tensor]:
    """Decode heat maps by the centroid of a window around the largest value.

    Values up to 1e-6 and values outside the map count as 0. For a map without larger values, the result is the cell
    with the largest value.

    Args:
        heatmaps: (n, J, H, W).
        radius: radius of the square window in cells. The release uses the targets' sigma in pixels.
        align_corners: True: the window's samples are whole cells. False: behaviour of the release code with PyTorch 1.3
            and later, where samples and results are up to half a cell off.

    Returns:
        Fractional cells (n, J, 2) as (x, y), and the largest values (n, J).
    """
    maps, width = heatmaps.shape[:2], heatmaps.shape[-1]
    scores, index = heatmaps.flatten(2).max(dim=-1)
    peak = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
    side = 2 * radius + 1
    offset = torch.arange(side, device=heatmaps.device, dtype=heatmaps.dtype) - radius
    steps = offset if align_corners else offset * (2 * radius / side)
    last = peak.new_tensor([width - 1, heatmaps.shape[-2] - 1])
    x, y = (2 * (peak[..., None, :] + steps[:, None]) / last - 1).flatten(0, 1).unbind(-1)  # (n J, side) each
    places = torch.stack([x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=-1)
    window = functional.grid_sample(heatmaps.flatten(0, 1)[:, None], places, align_corners=align_corners)
    window = torch.where(window > 1e-6, window, 0.0)[:, 0].unflatten(0, maps)
    mass = window.sum(dim=(-2, -1)) + 2.2e-16
    dx = (window.sum(dim=-2) * offset).sum(-1) / mass
    dy = (window.sum(dim=-1) * offset).sum(-1) / mass
    return peak + torch.stack([dx, dy], dim=-1), scores


def scale_and_turn(
    view: View, crop_px: int, scale_factor: float, rotation_deg: float, rng: np.random.Generator
) -> tuple[Image, Array]:
    """Augment a crop as in the release: random size of the box and, with probability 0.6, random rotation.

    Size and rotation are normally distributed and clipped.

    Args:
        view: whole frame, so that larger or rotated boxes have image content.
        crop_px: side S of the crop.
        scale_factor: standard deviation of the relative size, and its limit.
        rotation_deg: standard deviation of the rotation. The limit is twice this value.
        rng: source of every random choice.

    Returns:
        The crop (S, S, 3) uint8, and A (3, 3) from frame pixels to crop pixels.

    Raises:
        InputError: the view has no box of the person.
    """
    size = np.clip(1 + scale_factor * rng.standard_normal(), 1 - scale_factor, 1 + scale_factor)
    turned = rng.random() < 0.6
    angle_deg = np.clip(rotation_deg * rng.standard_normal(), -2 * rotation_deg, 2 * rotation_deg) * turned
    return turned_crop(view, crop_px, float(size), float(angle_deg))


def turned_crop(view: View, crop_px: int, size: float, angle_deg: float) -> tuple[Image, Array]:
    """Crop the person's box, scaled by ``size`` and rotated; also return A (3, 3), see `scale_and_turn`."""
    if not np.isfinite(view.boxes_px).all():
        raise InputError(f"view {view.name}", "has a person without a box", "train on views with boxes")
    A = view.crop_affine(crop_px, size, rotation_deg=angle_deg)
    return warp_image(view.pixels(), A, (crop_px, crop_px)), A
