"""Training metrics of the release of epipolar transformers (He et al., CVPR 2020, release code).

Our training logs them for comparison with logs of the release. They are not part of any table.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from poseboard.methods.epipolar.release_rules import largest_cells

_NEAR = 0.05
"""Maximum distance of a detected joint, as a share of the map's side."""


def joint_detection_rate(heatmaps: Tensor, targets: Tensor) -> Tensor:
    """Joint detection rate ("JDR"): share of maps whose maximum is within 5 % of the side of the target's maximum.

    For maps that are not square, columns are divided by the height and rows by the width, as in the release. Maps with
    the target's maximum in the first two rows or columns do not count.

    Args:
        heatmaps: (n, J, H, W) predicted maps.
        targets: (n, J, H, W) target maps.

    Returns:
        (J,) from 0 to 1; NaN for a joint without any map that counts (the release logs -1). The release's total is the
        mean over all other joints.
    """
    predicted, true = largest_cells(heatmaps)[0], largest_cells(targets)[0]
    side = predicted.new_tensor([heatmaps.shape[-2], heatmaps.shape[-1]])
    near = torch.linalg.vector_norm((predicted - true) / side, dim=-1) < _NEAR
    counts = (true > 1).all(dim=-1)
    return (near & counts).sum(dim=0) / counts.sum(dim=0)


def horizontal_hits(points_px: Tensor, truth_px: Tensor, weights: Tensor, within_px: Sequence[float]) -> Tensor:
    """Number of visible joints per view with an x error within each threshold.

    Args:
        points_px: (n, J, 2) predicted points.
        truth_px: (n, J, 2) true points.
        weights: (n, J) visibility; joints with 0 do not count.
        within_px: (T,) thresholds in pixels.

    Returns:
        (n, T) counts.
    """
    distance = (points_px - truth_px)[..., 0].abs().double()
    limits = torch.as_tensor(within_px, dtype=torch.float64, device=distance.device)
    return ((distance[..., None] < limits) & (weights[..., None] > 0)).sum(dim=-2)


def horizontal_pck(points_px: Tensor, truth_px: Tensor, weights: Tensor, within_px: Sequence[float]) -> Tensor:
    """Share (T,) of visible joints with an x error within each threshold ("PCK@t"); arguments as `horizontal_hits`."""
    hits = horizontal_hits(points_px, truth_px, weights, within_px).sum(dim=0)
    return hits.double() / (weights > 0).sum().clamp(min=1)
