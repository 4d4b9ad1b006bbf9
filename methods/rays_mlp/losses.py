"""2D targets, losses, and the seven metrics that the release logs.

They follow the second version of the release of probabilistic triangulation (Jiang et al., ICCV 2023, code).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SIGMA_CELLS = 5 / 6
REACH_CELLS = 2
"""A Gaussian of 5 x 5 cells."""

IMAGE_WING = (25.0, 5.0)
"""omega and sigma in mm of the training on images."""
RAY_WING = (10.0, 2.0)
"""Of the training on generated rays."""


class HeatmapTargets(NamedTuple):
    """Training targets of heat maps and offsets.

    Args:
        heatmaps: (..., J, h, w) target maps with 1 at the peak; zero for a joint that is not valid.
        cell: (..., J) index (row by row) of the cell at which the offset is learned; 0 for a joint that is not valid.
        offsets: (..., J, 2) offset from the centre of this cell to the joint, in cells.
        valid: (..., J) whether the joint is inside the map.
    """

    heatmaps: Tensor
    cell: Tensor
    offsets: Tensor
    valid: Tensor


def heatmap_targets(points_px: Tensor, crop_px: int, size: int, *, compat: bool = False) -> HeatmapTargets:
    """Targets of joints (..., J, 2) in pixels of a square crop, for maps of ``size`` x ``size`` cells.

    The peak is in the cell nearest to the joint, where decoding reads the offset. With ``compat``, as in the release,
    the position of the peak is rounded towards zero, but the offset belongs to the nearest cell. The offset is then
    learned next to the peak for half of the joints.

    Example:
        >>> targets = heatmap_targets(torch.tensor([[[11.0, 20.0]]]), crop_px=96, size=24)
        >>> divmod(int(targets.heatmaps.argmax()), 24), targets.offsets.tolist()
        ((5, 3), [[[-0.25, 0.0]]])
    """
    cells = points_px * size / crop_px  # in this order, or float32 differs from the release in the last place
    nearest = (cells + 0.5).trunc() if compat else (cells + 0.5).floor()
    peak = cells.trunc() if compat else nearest
    valid = ((nearest >= 0) & (nearest < size)).all(dim=-1)
    grid = torch.arange(size, device=cells.device, dtype=cells.dtype)
    apart = grid - peak[..., None]  # (..., J, 2, size)
    bell = torch.exp(-apart.square() / (2 * SIGMA_CELLS**2)) * (apart.abs() <= REACH_CELLS)
    heatmaps = bell[..., 1, :, None] * bell[..., 0, None, :] * valid[..., None, None]
    index = (nearest[..., 1] * size + nearest[..., 0]).long()
    return HeatmapTargets(heatmaps, torch.where(valid, index, 0), cells - nearest, valid)


def focal_loss(heatmaps: Tensor, targets: Tensor, clamp: float = 1e-6) -> Tensor:
    """Focal loss of probabilities (n, J, h, w): the sum over cells, divided by the number of peaks if there are any."""
    p = heatmaps.clamp(clamp, 1 - clamp)
    peak = targets >= 0.9
    at_peaks = torch.where(peak, p.log() * (1 - p).square(), torch.zeros((), device=p.device))
    elsewhere = (1 - p).log() * p.square() * (1 - targets).pow(4)
    elsewhere = torch.where(peak, torch.zeros((), device=p.device), elsewhere)
    return -(at_peaks.sum() + elsewhere.sum()) / peak.sum().clamp(min=1)


def offset_loss(at_cells: Tensor, targets: HeatmapTargets) -> Tensor:
    """Mean absolute error over valid joints of offsets (..., J, 2) that were read at ``targets.cell``."""
    valid = targets.valid[..., None]
    errors = torch.where(valid, (at_cells - targets.offsets).abs(), torch.zeros((), device=at_cells.device))
    return errors.sum() / (2 * valid.sum() + 1e-4)


def wing_loss(predicted_mm: Tensor, truth_mm: Tensor, omega: float, sigma: float) -> Tensor:
    """Wing loss (..., J) of each joint's absolute error summed over x, y, z: logarithmic below omega, linear above."""
    d = (predicted_mm - truth_mm).abs().sum(dim=-1)
    near = omega * torch.log1p(d / sigma)
    at_omega = omega * torch.log1p(torch.tensor(omega / sigma, dtype=d.dtype, device=d.device))
    return 0.1 * torch.where(d < omega, near, d - omega + at_omega)


def mean_of(values: Tensor, known: Tensor) -> Tensor:
    """Mean of values (..., J) over known joints; 0 if no joint is known."""
    known = known.to(values.dtype)
    return (torch.where(known > 0, values, torch.zeros((), device=values.device)) * known).sum() / known.sum().clamp(
        min=1
    )


def point_figures(predicted: Tensor, truth: Tensor, known: Tensor, name: str) -> dict[str, Tensor]:
    """Mean errors over known joints: ``<name>/l1`` sums absolute errors over the axes, ``<name>/l2`` is a distance."""
    apart = (predicted - truth).detach()
    return {
        f"{name}/l1": mean_of(apart.abs().sum(dim=-1), known),
        f"{name}/l2": mean_of(torch.linalg.vector_norm(apart, dim=-1), known),
    }


class Pictured(NamedTuple):
    """2D joints and poses of B samples with V views, either predicted or true.

    Args:
        points_px: (B, V, J, 2) crop pixels.
        pose_mm: (B, J, 3) root-relative poses in the frame of view 0.
    """

    points_px: Tensor
    pose_mm: Tensor


def seven_figures(
    predicted: Pictured,
    truth: Pictured,
    heatmap_loss: Tensor,
    seen: Tensor | None = None,
    known: Tensor | None = None,
) -> dict[str, Tensor]:
    """Metrics that the release logs in training and inference, with the release's names.

    Poses are compared without alignment, relative to the true root and in the frame of view 0. The root joint counts,
    and ``x3d/l2`` is the MPJPE in mm. ``x2d/…`` are in crop pixels.

    Args:
        predicted: predicted joints and poses.
        truth: true joints and poses.
        heatmap_loss: loss of the encoder, mean over the views.
        seen: (B, V, J) mask of joints with a 2D position; None: all.
        known: (B, J) mask of joints with a 3D position; None: all.

    Returns:
        ``loss`` (half the sum of the next two, with gradients), ``loss/hm``, ``loss/x3d``, ``x2d/l1``, ``x2d/l2``,
        ``x3d/l1``, ``x3d/l2``.
    """
    seen = torch.ones_like(truth.points_px[..., 0]) if seen is None else seen
    known = torch.ones_like(truth.pose_mm[..., 0]) if known is None else known
    pose_loss = mean_of(wing_loss(predicted.pose_mm, truth.pose_mm, *IMAGE_WING), known)
    return {
        "loss": 0.5 * (heatmap_loss + pose_loss),
        "loss/hm": heatmap_loss.detach(),
        "loss/x3d": pose_loss.detach(),
        **point_figures(predicted.points_px, truth.points_px, seen, "x2d"),
        **point_figures(predicted.pose_mm, truth.pose_mm, known, "x3d"),
    }
