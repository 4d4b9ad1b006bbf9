"""Soft-argmax: the expected position under a heat map or a probability volume.

Learnable triangulation (Iskakov et al., ICCV 2019), sections 3.1 and 3.2. Pixel and voxel indices start at 0 without
half-pixel offset, as in the release code. Computation is in float32 or float64, also for maps of lower precision.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def _mass(values: Tensor, multiplier: float, softmax: bool) -> Tensor:
    values = values * multiplier
    return values.softmax(dim=-1) if softmax else functional.relu(values)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def soft_argmax_2d(heatmaps: Tensor, multiplier: float = 1.0, softmax: bool = True) -> tuple[Tensor, Tensor]:
    """Expected pixel (x, y) of raw heat maps.

    Args:
        heatmaps: (..., h, w).
        multiplier: factor on the maps before the soft-max; 100 in the published configurations.
        softmax: True: soft-max over the map. False: ReLU, and the coordinates are divided by the sum of the map.

    Returns:
        Coordinates (..., 2) in heat-map pixels, and the maps (..., h, w) after soft-max or ReLU (not normalised). With
        ReLU, coordinates are NaN if a map has no value above zero.

    Example:
        >>> maps = torch.zeros(1, 4, 4)
        >>> maps[0, 1, 2] = 1.0  # row 1, column 2
        >>> soft_argmax_2d(maps, multiplier=100)[0].round()
        tensor([[2., 1.]])
    """
    height, width = heatmaps.shape[-2:]
    p = _mass(_at_least_float32(heatmaps).flatten(-2), multiplier, softmax).unflatten(-1, (height, width))
    x = p.sum(dim=-2) @ torch.arange(width, device=p.device, dtype=p.dtype)
    y = p.sum(dim=-1) @ torch.arange(height, device=p.device, dtype=p.dtype)
    coordinates = torch.stack([x, y], dim=-1)
    if not softmax:
        coordinates = coordinates / p.sum(dim=(-2, -1))[..., None]
    return coordinates, p


def soft_argmax_3d(
    volumes: Tensor,
    positions: Tensor | None = None,
    multiplier: float = 1.0,
    softmax: bool = True,
    *,
    unnormalised_relu: bool = False,
) -> tuple[Tensor, Tensor]:
    """Expected position (x, y, z) of raw volumes.

    Args:
        volumes: (B, J, a, b, c).
        positions: (B, a, b, c, 3) position of each voxel, mm; None: voxel indices.
        multiplier: factor on the volumes before the soft-max.
        softmax: True: soft-max over the volume. False: ReLU.
        unnormalised_relu: with ReLU, do not divide by the sum of the volume: a defect of the release code that
            published weights depend on.

    Returns:
        Coordinates (B, J, 3), mm or voxel indices, and the volumes (B, J, a, b, c) after soft-max or ReLU.
    """
    sides = volumes.shape[2:]
    p = _mass(_at_least_float32(volumes).flatten(2), multiplier, softmax)
    if positions is None:
        axes = [torch.arange(side, device=p.device, dtype=p.dtype) for side in sides]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)[None]
    coordinates = p @ positions.flatten(1, 3).to(p.dtype)
    if not softmax and not unnormalised_relu:
        coordinates = coordinates / p.sum(dim=-1)[..., None]
    return coordinates, p.unflatten(2, sides)
