"""Differentiable 2D joints and confidences of crops, from a backbone with soft-argmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.soft_argmax import soft_argmax_2d


class Joints(NamedTuple):
    """2D joints and confidences of n crops.

    Args:
        heatmaps: (n, J, h, w), raw.
        points_px: (n, J, 2) in (distorted) crop pixels.
        confidences: (n, J) in (0, 1); all ones if the backbone has no confidence head.
    """

    heatmaps: Tensor
    points_px: Tensor
    confidences: Tensor


def see_joints(architecture: Architecture, backbone: nn.Module, images: Tensor) -> Joints:
    """Detect 2D joints and their confidences in normalised crops (n, 3, S, S).

    Args:
        architecture: architecture of the backbone. Confidences need ``alg_confidences``.
        backbone: network built from the architecture.
        images: crops from `Architecture.prepare`.

    Example:
        >>> net = architecture.build(seed=0)  # doctest: +SKIP
        >>> see_joints(architecture, net, architecture.prepare(crops)).points_px.shape  # doctest: +SKIP
        torch.Size([4, 17, 2])
    """
    out = architecture.run(backbone, images)
    points, _ = soft_argmax_2d(out.heatmaps, architecture.multiplier, architecture.softmax)
    confidences = torch.ones_like(points[..., 0]) if out.alg_confidences is None else out.alg_confidences.float()
    return Joints(out.heatmaps, architecture.to_crop(points, out.heatmaps), confidences)


def see_both_ways(architecture: Architecture, backbone: nn.Module, images: Tensor, flip_order: Sequence[int]) -> Joints:
    """Mean of the joints detected in crops and in their mirror images, at twice the cost of `see_joints`.

    If the network confuses left and right in one of the two images, the joints are between both sides instead of on the
    wrong side.

    Args:
        architecture: see `see_joints`.
        backbone: see `see_joints`.
        images: see `see_joints`.
        flip_order: index of each joint's mirror image (`Skeleton.flip_order`).

    Returns:
        Joints, with the heat maps of the crops that are not mirrored.
    """
    seen = see_joints(architecture, backbone, images)
    _, mirrored_px, confidences = see_joints(architecture, backbone, images.flip(-1))
    order = list(flip_order)
    x, y = mirrored_px[:, order].unbind(-1)
    points_px = (seen.points_px + torch.stack([architecture.crop_px - 1 - x, y], dim=-1)) / 2
    return Joints(seen.heatmaps, points_px, (seen.confidences + confidences[:, order]) / 2)
