"""Volume loss of learnable triangulation (Iskakov et al., ICCV 2019, section 3 and release code)."""

from __future__ import annotations

import torch
from torch import Tensor


def voxel_cross_entropy(positions: Tensor, probabilities: Tensor, truth: Tensor, validity: Tensor) -> Tensor:
    """Mean negative log-probability of the voxel nearest to the true joint.

    The mean is over all joints, and invalid joints count as 0, as in the release code. For a joint outside the volume,
    the nearest voxel is on the border of the volume.

    Args:
        positions: (B, a, b, c, 3) of the voxels.
        probabilities: (B, J, a, b, c).
        truth: (B, J, 3), in the unit of ``positions``.
        validity: (B, J, 1), above 0 for valid joints.
    """
    flat = positions.flatten(1, 3)
    nearest = torch.cdist(torch.nan_to_num(truth).to(flat.dtype), flat, compute_mode="donot_use_mm_for_euclid_dist")
    index = nearest.argmin(dim=-1, keepdim=True)
    p = probabilities.flatten(2).gather(2, index)
    return ((validity > 0) * -torch.log(p + 1e-6)).mean()
