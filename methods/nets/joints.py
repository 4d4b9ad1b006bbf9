"""2D joints and confidences of crops, by a backbone with soft-argmax: differentiable."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.soft_argmax import soft_argmax_2d


class Joints(NamedTuple):
    """2D joints and confidences of n crops.

    Args:
        heatmaps: (n, J, h, w), raw.
        points_px: (n, J, 2) in crop pixels, with the lens.
        confidences: (n, J) in (0, 1); ones without the confidence head.
    """

    heatmaps: Tensor
    points_px: Tensor
    confidences: Tensor


def see_joints(architecture: Architecture, backbone: nn.Module, images: Tensor) -> Joints:
    """2D joints and confidences of normalised crops (n, 3, S, S).

    Args:
        architecture: of the backbone; ``alg_confidences`` tells whether it has the confidence head.
        backbone: built from it.
        images: as `Architecture.prepare` makes them.

    Example:
        >>> net = architecture.build(seed=0)  # doctest: +SKIP
        >>> see_joints(architecture, net, architecture.prepare(crops)).points_px.shape  # doctest: +SKIP
        torch.Size([4, 17, 2])
    """
    out = architecture.run(backbone, images)
    points, _ = soft_argmax_2d(out.heatmaps, architecture.multiplier, architecture.softmax)
    confidences = torch.ones_like(points[..., 0]) if out.alg_confidences is None else out.alg_confidences.float()
    return Joints(out.heatmaps, architecture.to_crop(points, out.heatmaps), confidences)
