"""Generated training data: rays of true poses in the cameras of random rigs."""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from poseboard.methods.base import Options

_NEAREST_MM = 100.0
"""Depth below which a joint counts as behind the camera."""


class RigRange(Options):
    """Options of random rigs. Each camera is drawn independently and uniformly, and looks at the person.

    Args:
        distance_mm: minimum and maximum horizontal distance from the person's root.
        height_mm: minimum and maximum height above the lowest joint.
        aim_mm: maximum distance along each axis between the root and the point at which the camera looks.
        roll_deg: maximum rotation about the optical axis.
    """

    distance_mm: tuple[float, float] = (3000.0, 5500.0)
    height_mm: tuple[float, float] = (600.0, 2800.0)
    aim_mm: float = Field(default=400.0, ge=0)
    roll_deg: float = Field(default=6.0, ge=0, le=180)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("distance_mm", "height_mm"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name}: {low} is above {high}")
        if self.distance_mm[0] < 2 * self.aim_mm or self.distance_mm[0] < 10 * _NEAREST_MM:
            raise ValueError("distance_mm is too small: cameras would be among the joints")
        return self


def upright(poses_mm: Tensor, up: Tensor) -> Tensor:
    """Rotate poses (B, J, 3) so that their up direction, unit vectors ``up`` (B, 3), becomes the z axis."""
    other = torch.eye(3, dtype=up.dtype, device=up.device)[up.abs().argmin(dim=-1)]
    x = functional.normalize(torch.linalg.cross(other, up), dim=-1)
    turn = torch.stack([x, torch.linalg.cross(up, x), up], dim=-2)
    return poses_mm @ turn.transpose(-1, -2)


def in_random_rigs(poses_mm: Tensor, known: Tensor, views: int, rigs: int, ranges: RigRange) -> Tensor:
    """Transform poses to the frames of cameras that are drawn around them, with torch's random state.

    Args:
        poses_mm: (B, J, 3) root-relative poses, z up.
        known: (B, J) mask of the known joints; the lowest of them defines the floor.
        views: number V of cameras per rig.
        rigs: number G of rigs per pose.
        ranges: options of the random rigs.

    Returns:
        (B, G, V, J, 3) mm in the frame of each camera.
    """
    device, count = poses_mm.device, (len(poses_mm), rigs, views)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, device=device)

    z = torch.where(known > 0, poses_mm[..., 2], torch.full((), math.inf, device=device))
    floor = torch.nan_to_num(z.amin(dim=-1), posinf=0.0)[:, None, None]
    azimuth, distance = uniform(0, 2 * math.pi), uniform(*ranges.distance_mm)
    centre = torch.stack(
        [distance * azimuth.cos(), distance * azimuth.sin(), floor + uniform(*ranges.height_mm)], dim=-1
    )
    aim = torch.stack([uniform(-ranges.aim_mm, ranges.aim_mm) for _ in range(3)], dim=-1)
    forward = functional.normalize(aim - centre, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], device=device).expand_as(forward)
    right = functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    roll = torch.deg2rad(uniform(-ranges.roll_deg, ranges.roll_deg))[..., None]
    right, down = roll.cos() * right + roll.sin() * down, roll.cos() * down - roll.sin() * right
    R = torch.stack([right, down, forward], dim=-2)
    return (poses_mm[:, None, None] - centre[..., None, :]) @ R.transpose(-1, -2)


def directions(points_mm: Tensor) -> Tensor:
    """Convert points (..., 3) in a camera's frame to x / z and y / z (..., 2)."""
    return points_mm[..., :2] / points_mm[..., 2:].clamp(min=_NEAREST_MM)


def noisy_rays(points_mm: Tensor, noise_px: Tensor, focal_px: Tensor) -> Tensor:
    """Rays of points with simulated detection errors and confidences that decrease with the error, as in the release.

    Args:
        points_mm: (..., J, 3) points in the frame of each camera.
        noise_px: (..., J, 2) detection errors.
        focal_px: (...) focal length, pixels per unit of x / z.

    Returns:
        (..., J, 4), see `model.rays`; the confidence is exp(-|error|).
    """
    seen = directions(points_mm) + noise_px / focal_px[..., None, None]
    confidence = torch.exp(-torch.linalg.vector_norm(noise_px, dim=-1, keepdim=True))
    return torch.cat([seen, torch.ones_like(confidence), confidence], dim=-1)
