"""Synthetic cameras for several comparisons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def looking_at(centre_mm: Array, target_mm: Array) -> Array:
    """Poses [R|t] (..., 3, 4) of cameras at centres (..., 3) that look at points (..., 3) without roll; z is up."""
    forward = target_mm - centre_mm
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    R = np.stack([right, np.cross(forward, right), forward], axis=-2)
    return np.concatenate([R, -R @ centre_mm[..., None]], axis=-1)


def ring(angle: Array, radius_mm: float, height_mm: Array | float) -> Array:
    """Camera centres (..., 3) in mm on a circle around the z axis."""
    height = np.broadcast_to(height_mm, angle.shape)
    return np.stack([radius_mm * np.cos(angle), radius_mm * np.sin(angle), height], axis=-1)
