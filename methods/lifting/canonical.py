"""Rotations between the frames of monocular lifting: the camera's, a crop's and the body's own.

Rotations of poses act on row vectors, ``pose = canonical @ R``, as in the lifting networks of epipolar transformers (He
et al., CVPR 2020, release code).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from poseboard.datasets.camera import Array


def canonicalise(joints: Array, axis: int, plane: int) -> tuple[Array, Array]:
    """Poses about their root, turned into a frame of their own: two joints fix where it points.

    Zimmermann and Brox (ICCV 2017), section 4.3, there for hands: the middle finger's base lies on the -y axis, the
    little finger's base in the plane z = 0 where x is positive.

    Args:
        joints: (..., J, 3) relative to the root, any unit.
        axis: joint that comes to lie on the -y axis.
        plane: joint that comes to lie in z = 0 with x > 0.

    Returns:
        The poses (..., J, 3), and R (..., 3, 3) with ``joints == canonical @ R``. Both are NaN where the two joints are
        unknown, or one line with the root.
    """
    y = -_unit(joints[..., axis, :])
    aside = joints[..., plane, :] - (joints[..., plane, :] * y).sum(-1, keepdims=True) * y
    x = _unit(aside)
    R = np.stack([x, y, np.cross(x, y)], axis=-2)
    return joints @ np.swapaxes(R, -1, -2), R


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 1e-9, length, np.nan))


def median_of_views(poses: Array, R: Array) -> tuple[Array, Array]:
    """Poses that several cameras see, turned into the world's axes, and their median by coordinate.

    Epipolar transformers, release code of the lifting networks (``MULTIVIEW_MEDIUM``): ``pose @ inv(R).T``, where
    ``x_cam = R @ x_world``, then the median. Poses stay about their root.

    Args:
        poses: (..., V, J, 3) each in its camera's frame; NaN where there is no view.
        R: (..., V, 3, 3) rotations of the cameras.

    Returns:
        The turned poses (..., V, J, 3), and the median (..., J, 3) of the views that are there; NaN where none is.
    """
    turned = poses @ np.swapaxes(np.linalg.inv(R), -1, -2)
    there = np.isfinite(turned).all(axis=(-2, -1)).any(axis=-1)
    median = np.full((*turned.shape[:-3], *turned.shape[-2:]), np.nan)
    median[there] = np.nanmedian(turned[there], axis=-3)
    return turned, median


def ray_rotation(K: Array, point_px: Sequence[float]) -> Array:
    """The smallest rotation of a camera that turns its axis to the ray through a pixel.

    What a crop about that pixel shows looks as it would on the axis of the turned camera; so poses that are lifted from
    crops are lifted in its frame. ``x_turned = R @ x_cam``.

    Args:
        K: (3, 3) intrinsics.
        point_px: (x, y) of the image that ``K`` belongs to.

    Returns:
        R (3, 3).
    """
    ray = np.linalg.solve(K, np.array([*point_px, 1.0]))
    x, y, z = ray / np.linalg.norm(ray)
    cross = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])  # of ray × (0, 0, 1), the axis to turn about
    return np.asarray(np.eye(3) + cross + cross @ cross / (1.0 + z))


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula: (..., 3) whose length is the angle -> (..., 3, 3), differentiable at zero.

    The angle is sqrt(|v|^2 + 1e-8), as in the release code, so that the zero vector has a gradient; it is the identity
    to 1e-8.
    """
    angle = (axis_angle.square().sum(dim=-1, keepdim=True) + 1e-8).sqrt()
    x, y, z = (axis_angle / angle).unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)
