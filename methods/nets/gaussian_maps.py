"""Heat maps drawn from joints: Gaussians in crop pixels, as the release of epipolar transformers makes its targets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FLOOR = 4.60517019
"""Exponent at which a map stops falling: 0.01 everywhere else."""


def gaussian_maps(
    points_px: Tensor, size: tuple[int, int], sigma_px: float, known: Tensor | None = None, cell_px: int = 4
) -> Tensor:
    """``exp(-min(d² / 2 sigma², 4.605…))`` of the distance d from each cell's centre to the joint.

    He et al., CVPR 2020, release code. Centres of cells are at ``cell_px * i + (cell_px - 1) / 2``; a joint may lie
    anywhere between pixels, or outside.

    Args:
        points_px: (..., J, 2) x and y in crop pixels; inf: outside, not NaN.
        size: (height, width) of the maps in cells.
        sigma_px: of the Gaussian, in crop pixels.
        known: (..., J); the whole map of a joint that is not is 0. None: all are.
        cell_px: crop pixels along the edge of a cell.

    Returns:
        (..., J, height, width) float32.
    """

    def along(coordinate: Tensor, cells: int) -> Tensor:
        centres = cell_px * torch.arange(cells, device=points_px.device, dtype=torch.float64) + (cell_px - 1) / 2
        squared = (coordinate.double()[..., None] - centres).square() / (2 * sigma_px**2)
        # the product of two exponentials, so that large maps need no exponential a cell
        return torch.exp(-squared).float()

    rows, columns = along(points_px[..., 1], size[0]), along(points_px[..., 0], size[1])
    maps = (rows[..., :, None] * columns[..., None, :]).clamp(min=math.exp(-_FLOOR))
    return maps if known is None else maps * (known > 0)[..., None, None]
