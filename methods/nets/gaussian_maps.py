"""Gaussian heat maps of joints, the training targets of the release of epipolar transformers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FLOOR = 4.60517019
"""Maximum of the negative exponent: maps are at least exp(-4.605) = 0.01."""


def gaussian_maps(
    points_px: Tensor, size: tuple[int, int], sigma_px: float, known: Tensor | None = None, cell_px: int = 4
) -> Tensor:
    """Gaussian heat maps of joints, with values not below 0.01.

    The value is ``exp(-min(d² / 2 sigma², 4.605…))``, with d the distance from the centre of a cell to the joint (He et
    al., CVPR 2020, release code). Centres of cells are at ``cell_px * i + (cell_px - 1) / 2``. Joints may lie between
    pixels or outside of the crop.

    Args:
        points_px: (..., J, 2) x and y in crop pixels. They may be infinite but not NaN.
        size: (height, width) of the maps in cells.
        sigma_px: standard deviation of the Gaussian, crop pixels.
        known: (..., J) 1 or 0. A joint with 0 has a map of zeros. None: all joints are known.
        cell_px: crop pixels per cell.

    Returns:
        (..., J, height, width) float32.

    Example:
        >>> maps = gaussian_maps(torch.tensor([[9.5, 5.5]]), (4, 4), sigma_px=8)  # a joint in row 1, column 2
        >>> divmod(int(maps[0].argmax()), 4)
        (1, 2)
    """

    def along(coordinate: Tensor, cells: int) -> Tensor:
        centres = cell_px * torch.arange(cells, device=points_px.device, dtype=torch.float64) + (cell_px - 1) / 2
        squared = (coordinate.double()[..., None] - centres).square() / (2 * sigma_px**2)
        # The maps are outer products of two exponentials: no exponential per cell.
        return torch.exp(-squared).float()

    rows, columns = along(points_px[..., 1], size[0]), along(points_px[..., 0], size[1])
    maps = (rows[..., :, None] * columns[..., None, :]).clamp(min=math.exp(-_FLOOR))
    return maps if known is None else maps * (known > 0)[..., None, None]
