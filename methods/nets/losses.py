"""Losses on key points and heat maps.

The key-point losses are those of learnable triangulation (Iskakov et al., ICCV 2019, section 3 and release code). Their
arguments are predictions and truth (B, J, D) in one unit (the release converts millimetres to centimetres) and a
validity (B, J, 1). Joints with a validity above 0 are valid. The losses are means over valid joints, and 0 without
valid joints.

Example:
    >>> truth, validity = torch.zeros(1, 2, 3), torch.tensor([[[1.0], [0.0]]])  # the second joint does not count
    >>> keypoint_mae(torch.full((1, 2, 3), 2.0), truth, validity).item()
    2.0
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.soft_argmax import soft_argmax_2d


def _masked_mean(values: Tensor, validity: Tensor) -> Tensor:
    """Mean of values (B, J, D) over the coordinates of valid joints."""
    mask = validity > 0
    values = torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))
    return values.sum() / (values.shape[-1] * mask.sum().clamp(min=1))


def _difference(predicted: Tensor, truth: Tensor, validity: Tensor) -> Tensor:
    """Truth minus prediction, 0 for invalid joints, so that their NaN reaches neither the loss nor its gradient."""
    valid = validity > 0
    zero = torch.zeros((), dtype=predicted.dtype, device=predicted.device)
    return torch.where(valid, truth, zero) - torch.where(valid, predicted, zero)


def keypoint_mse(predicted: Tensor, truth: Tensor, validity: Tensor) -> Tensor:
    """Mean squared coordinate error over valid joints."""
    return _masked_mean(_difference(predicted, truth, validity).square(), validity)


def keypoint_mse_smooth(predicted: Tensor, truth: Tensor, validity: Tensor, threshold: float = 400.0) -> Tensor:
    """Mean squared coordinate error, in which a square d above ``threshold`` counts as d^0.1 x threshold^0.9."""
    squared = _difference(predicted, truth, validity).square()
    large = squared > threshold
    damped = squared.where(large, torch.full_like(squared, threshold)).pow(0.1) * threshold**0.9
    return _masked_mean(torch.where(large, damped, squared), validity)


def keypoint_mae(predicted: Tensor, truth: Tensor, validity: Tensor) -> Tensor:
    """Mean absolute coordinate error over valid joints."""
    return _masked_mean(_difference(predicted, truth, validity).abs(), validity)


def keypoint_l2(predicted: Tensor, truth: Tensor, validity: Tensor) -> Tensor:
    """Mean Euclidean distance (MPJPE) over valid joints. Its gradient is finite everywhere, and zero at distance 0."""
    squared = _difference(predicted, truth, validity).square().sum(dim=-1, keepdim=True)
    positive = squared > 0
    distance = torch.where(positive, squared, torch.ones_like(squared)).sqrt()
    return _masked_mean(torch.where(positive, distance, torch.zeros_like(distance)), validity)


def keypoint_robust(predicted: Tensor, truth: Tensor, validity: Tensor, scale: float) -> Tensor:
    """Cauchy loss: mean of log(1 + (distance / scale)^2). The gradient is largest at the distance ``scale``. Ours."""
    squared = _difference(predicted, truth, validity).square().sum(dim=-1, keepdim=True)
    return _masked_mean(torch.log1p(squared / scale**2), validity)


def heatmap_cross_entropy(logits: Tensor, points_px: Tensor, weights: Tensor, sigma_px: float = 1.0) -> Tensor:
    """Cross-entropy between the soft-max of heat maps and a Gaussian at the true point.

    Args:
        logits: (n, J, h, w).
        points_px: (n, J, 2) in heat-map pixels.
        weights: (n, J) weights of the joints; 0: not used.
        sigma_px: standard deviation of the Gaussian, heat-map pixels.
    """
    height, width = logits.shape[-2:]
    x = torch.arange(width, device=logits.device, dtype=logits.dtype)
    y = torch.arange(height, device=logits.device, dtype=logits.dtype)
    along_x = (-(x - points_px[..., :1]).square() / (2 * sigma_px**2)).softmax(dim=-1)
    along_y = (-(y - points_px[..., 1:]).square() / (2 * sigma_px**2)).softmax(dim=-1)
    log_p = logits.flatten(2).log_softmax(dim=-1).unflatten(2, (height, width))
    entropy = -torch.einsum("njhw,njh,njw->nj", log_p, along_y, along_x)
    return (entropy * weights).sum() / weights.sum().clamp(min=1)


def coordinate_smooth_l1(predicted_px: Tensor, points_px: Tensor, weights: Tensor) -> Tensor:
    """Smooth L1 loss of points (n, J, 2), quadratic below 1 px, summed over x and y, with ``weights`` (n, J)."""
    loss = functional.smooth_l1_loss(predicted_px, points_px, reduction="none").sum(dim=-1)
    return (loss * weights).sum() / weights.sum().clamp(min=1)


def heatmap_losses(
    architecture: Architecture,
    heatmaps: Tensor,
    points_px: Tensor,
    weights: Tensor,
    heatmap_weight: float,
    sigma_px: float,
) -> dict[str, Tensor]:
    """Compute the 2D losses of the "small" recipes.

    Args:
        architecture: architecture of the backbone.
        heatmaps: (n, J, h, w), raw.
        points_px: (n, J, 2) true points in crop pixels.
        weights: (n, J) weights of the joints; 0: not used.
        heatmap_weight: weight of the cross-entropy in "total".
        sigma_px: standard deviation of the true heat maps, heat-map pixels.

    Returns:
        The losses "total", "heatmap" and "smooth_l1", and "error_px", the mean error in crop pixels.
    """
    predicted, _ = soft_argmax_2d(heatmaps, architecture.multiplier, architecture.softmax)
    factor = heatmaps.shape[-1] / architecture.crop_px
    target = points_px * factor
    entropy = heatmap_cross_entropy(heatmaps * architecture.multiplier, target, weights, sigma_px)
    distance = coordinate_smooth_l1(predicted, target, weights)
    with torch.no_grad():
        error = torch.linalg.vector_norm(predicted - target, dim=-1) / factor
        error_px = (error * weights).sum() / weights.sum().clamp(min=1)
    return {
        "total": heatmap_weight * entropy + distance,
        "heatmap": entropy.detach(),
        "smooth_l1": distance.detach(),
        "error_px": error_px,
    }
