"""What the release of epipolar transformers logs about heat maps and the points read off them.

Rules are those of the release code (He et al., CVPR 2020). Training logs them beside its loss, to be read next to the
release's logs; what this project reports are the protocols' numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from poseboard.methods.epipolar.release_rules import largest_cells

_NEAR = 0.05
"""Of the map's side, within which a joint is detected: half of a tenth."""


def joint_detection_rate(heatmaps: Tensor, targets: Tensor) -> Tensor:
    """Share of each joint's maps whose largest value lies within 5 % of the map's side of the target's ("JDR").

    Of maps that are not square, columns are measured by the height and rows by the width, as the release does. Only
    maps count whose target has its largest value beyond the first two rows and columns.

    Args:
        heatmaps: (n, J, H, W).
        targets: (n, J, H, W).

    Returns:
        (J,) from 0 to 1, NaN for a joint of which no map counts (the release logs -1). The release's total is the mean
        of the others.
    """
    found, true = largest_cells(heatmaps)[0], largest_cells(targets)[0]
    side = found.new_tensor([heatmaps.shape[-2], heatmaps.shape[-1]])
    near = torch.linalg.vector_norm((found - true) / side, dim=-1) < _NEAR
    counts = (true > 1).all(dim=-1)
    return (near & counts).sum(dim=0) / counts.sum(dim=0)


def horizontal_hits(points_px: Tensor, truth_px: Tensor, weights: Tensor, within_px: Sequence[float]) -> Tensor:
    """How many visible joints of each view are nearer to the truth than some distances, by the x coordinate alone.

    Args:
        points_px: (n, J, 2).
        truth_px: (n, J, 2).
        weights: (n, J), 0 leaves a joint out.
        within_px: (T,) distances.

    Returns:
        (n, T) counts.
    """
    distance = (points_px - truth_px)[..., 0].abs().double()
    limits = torch.as_tensor(within_px, dtype=torch.float64, device=distance.device)
    return ((distance[..., None] < limits) & (weights[..., None] > 0)).sum(dim=-2)


def horizontal_pck(points_px: Tensor, truth_px: Tensor, weights: Tensor, within_px: Sequence[float]) -> Tensor:
    """Share (T,) of all visible joints nearer to the truth than some distances, by the x coordinate alone ("PCK@t")."""
    hits = horizontal_hits(points_px, truth_px, weights, within_px).sum(dim=0)
    return hits.double() / (weights > 0).sum().clamp(min=1)
