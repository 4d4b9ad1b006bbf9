"""Rotations as matrices, quaternions and vectors, against SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from poseboard.methods.geometry import rotations

ANGLES = 0.0, 1e-12, 3e-9, 1e-6, 9e-5, 2e-4, 0.1, 1.0, 2.5, math.pi - 1e-7


@pytest.fixture(params=[torch.float64, torch.float32])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def vectors() -> torch.Tensor:
    """Rotation vectors (10, 9, 3) float64: every angle about the axes, their opposites and three others."""
    rng = np.random.default_rng(0)
    axes = np.concatenate([np.eye(3), -np.eye(3), rng.standard_normal((3, 3))])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return torch.from_numpy(np.array(ANGLES)[:, None, None] * axes)


def scipy_matrices(w: torch.Tensor) -> torch.Tensor:
    matrices = Rotation.from_rotvec(w.reshape(-1, 3).numpy()).as_matrix()
    return torch.from_numpy(matrices).reshape(*w.shape[:-1], 3, 3)


def scipy_quaternions(w: torch.Tensor) -> torch.Tensor:
    quaternions = Rotation.from_rotvec(w.reshape(-1, 3).numpy()).as_quat()[:, [3, 0, 1, 2]]
    return torch.from_numpy(quaternions).reshape(*w.shape[:-1], 4)


def close(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> None:
    assert a.dtype == dtype
    torch.testing.assert_close(a.double(), b, atol=4 * torch.finfo(dtype).eps, rtol=4 * torch.finfo(dtype).eps)


def test_cross_products() -> None:
    a, b = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 4, 5, 3)))
    torch.testing.assert_close((rotations.cross_matrix(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b))


def test_matrices_of_vectors_and_back(vectors: torch.Tensor, dtype: torch.dtype) -> None:
    close(rotations.rotation_exp(vectors.to(dtype)), scipy_matrices(vectors), dtype)
    if dtype == torch.float64:
        torch.testing.assert_close(rotations.rotation_log(scipy_matrices(vectors)), vectors, atol=1e-15, rtol=5e-9)
        angles = torch.rad2deg(torch.tensor(ANGLES, dtype=dtype))[:, None].expand(-1, 9)
        torch.testing.assert_close(rotations.angle_deg(scipy_matrices(vectors)), angles, atol=1e-13, rtol=1e-8)


def test_derivatives_at_no_rotation_are_finite() -> None:
    w = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    rotations.rotation_log(rotations.rotation_exp(w)).sum().backward()
    torch.testing.assert_close(w.grad, torch.ones_like(w))


def test_quaternions_and_matrices(vectors: torch.Tensor, dtype: torch.dtype) -> None:
    R, q = scipy_matrices(vectors), scipy_quaternions(vectors)
    close(rotations.matrix_of_quaternion(q.to(dtype)), R, dtype)
    close(rotations.matrix_of_quaternion(-q.to(dtype)), R, dtype)
    products = 4 * q[..., None] * q[..., None, :]
    torch.testing.assert_close(rotations.quaternion_products(R), products)
    torch.testing.assert_close(rotations.quaternion_products(R[7, 8]), products[7, 8])
    largest = q.gather(-1, q.abs().argmax(-1, keepdim=True))
    torch.testing.assert_close(rotations.quaternion_of_matrix(R), q * largest.sign())


def test_rodrigues_vectors(vectors: torch.Tensor) -> None:
    w = vectors[:-1]  # infinite at half a turn
    angle = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    expected = w * 2 * (angle / 2).tan() / angle.clamp_min(1e-300)
    torch.testing.assert_close(rotations.rodrigues_of_matrix(scipy_matrices(w)), expected, atol=1e-15, rtol=1e-8)
    torch.testing.assert_close(rotations.rodrigues_of_matrix(scipy_matrices(w[7, 8])), expected[7, 8])


def test_spread_rotations_are_the_published_spiral_and_leave_no_hole() -> None:
    count, psi = 200, 1.533751168755204288118041
    q = np.empty((count, 4))
    for k in range(count):  # algorithm 1 of the paper
        s = k + 0.5
        r, R = math.sqrt(s / count), math.sqrt(1 - s / count)
        alpha, beta = 2 * math.pi * s / math.sqrt(2), 2 * math.pi * s / psi
        q[k] = r * math.sin(alpha), r * math.cos(alpha), R * math.sin(beta), R * math.cos(beta)
    spread = rotations.spread_rotations(count)
    expected = torch.from_numpy(Rotation.from_quat(q[:, [1, 2, 3, 0]]).as_matrix())
    torch.testing.assert_close(spread, expected, atol=1e-9, rtol=0)
    anywhere = torch.from_numpy(Rotation.random(500, random_state=0).as_matrix())
    assert rotations.angle_deg(spread[None] @ anywhere[:, None].mT).amin(1).max() < 45
