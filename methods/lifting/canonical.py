"""Rotations between the frames of monocular lifting: camera, crop and canonical frame of the pose.

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
    """Transform root-relative poses to their canonical frame, which two joints define.

    Zimmermann and Brox (ICCV 2017), section 4.3, define it for hands: the base of the middle finger is on the -y axis,
    and the base of the little finger is in the plane z = 0 with x > 0.

    Args:
        joints: (..., J, 3) relative to the root, in any unit.
        axis: index of the joint on the -y axis.
        plane: index of the joint in the plane z = 0 with x > 0.

    Returns:
        Canonical poses (..., J, 3), and R (..., 3, 3) with ``joints == canonical @ R``. Both are NaN where one of the
        two joints is unknown, or where they are collinear with the root.

    Example:
        >>> canonical, R = canonicalise(np.array([[0.0, 0, 0], [0, 0, 2], [3, 0, 1]]), axis=1, plane=2)
        >>> canonical.tolist()
        [[0.0, 0.0, 0.0], [0.0, -2.0, 0.0], [3.0, -1.0, 0.0]]
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
    """Median over views of root-relative poses, after rotation to the world's axes.

    This is ``MULTIVIEW_MEDIUM`` of the release code of epipolar transformers: ``pose @ inv(R).T``, where
    ``x_cam = R @ x_world``, and then the median per coordinate.

    Args:
        poses: (..., V, J, 3) poses in camera frames; NaN where a view is absent.
        R: (..., V, 3, 3) rotations of the cameras.

    Returns:
        Rotated poses (..., V, J, 3), and the median (..., J, 3) over the views; NaN if all views are absent.
    """
    rotated = poses @ np.swapaxes(np.linalg.inv(R), -1, -2)
    seen = np.isfinite(rotated).all(axis=(-2, -1)).any(axis=-1)
    median = np.full((*rotated.shape[:-3], *rotated.shape[-2:]), np.nan)
    median[seen] = np.nanmedian(rotated[seen], axis=-3)
    return rotated, median


def ray_rotation(K: Array, point_px: Sequence[float]) -> Array:
    """Smallest rotation of a camera that points its optical axis at a pixel: ``x_turned = R @ x_cam``.

    A crop centred at this pixel looks like a crop at the principal point of the rotated camera. Poses of crops are
    therefore lifted in the frame of the rotated camera.

    Args:
        K: (3, 3) intrinsics.
        point_px: (x, y) in the image of ``K``.

    Returns:
        Rotation R (3, 3).

    Example:
        >>> ray_rotation(np.diag([1000.0, 1000, 1]), (0.0, 0.0)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    ray = np.linalg.solve(K, np.array([*point_px, 1.0]))
    x, y, z = ray / np.linalg.norm(ray)
    cross = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])  # matrix of ray × (0, 0, 1), the axis of rotation
    return np.asarray(np.eye(3) + cross + cross @ cross / (1.0 + z))


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Convert rotation vectors (..., 3), radians, to matrices (..., 3, 3) by Rodrigues' formula.

    The angle is sqrt(|v|^2 + 1e-8), as in the release code, so that the gradient at zero exists. The matrix of the zero
    vector is the identity within 1e-8.
    """
    angle = (axis_angle.square().sum(dim=-1, keepdim=True) + 1e-8).sqrt()
    x, y, z = (axis_angle / angle).unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)
