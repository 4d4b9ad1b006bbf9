"""Batched triangulation against one point at a time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from poseboard.methods.geometry.robust import ransac, ransac_published
from poseboard.methods.geometry.triangulation import dlt

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import Race, RecordSpeed

Array = NDArray[np.float64]
FRAMES, JOINTS, VIEWS = 64, 17, 4
PEER_FRAMES = 4


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _scene(outlier_share: float) -> tuple[Array, Array, Array]:
    """Cameras on a 4 m ring, joints about its middle, 2 px noise; a share of the joints has one outlier view."""
    rng = np.random.default_rng(7)
    P = np.empty((VIEWS, 3, 4))
    for v in range(VIEWS):
        angle = 2 * np.pi * (v + 0.3) / VIEWS
        centre = np.array([4000 * np.cos(angle), 4000 * np.sin(angle), 1500.0])
        forward = np.array([0, 0, 1000.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[1145, 0, 512], [0, 1143, 515], [0, 0, 1.0]])
        P[v] = K @ np.column_stack([R, -R @ centre])
    X = rng.normal([0, 0, 1000], [400, 400, 400], (FRAMES, JOINTS, 3))
    x = np.einsum("vrc,fjc->fvjr", P[..., :3], X) + P[:, None, :, 3]
    points = x[..., :2] / x[..., 2:] + rng.normal(0, 2, (FRAMES, VIEWS, JOINTS, 2))
    for f, j in zip(*np.nonzero(rng.random((FRAMES, JOINTS)) < outlier_share), strict=True):
        angle = rng.uniform(0, 2 * np.pi)
        points[f, rng.integers(VIEWS), j] += rng.uniform(50, 300) * np.array([np.cos(angle), np.sin(angle)])
    return np.broadcast_to(P, (FRAMES, VIEWS, 3, 4)), points, X


def _dlt_loop(P: Array, points_px: Array, weights: Array) -> Array:
    """The plain peer: one numpy SVD a frame and joint (learnable triangulation, the specification's section 5.2)."""
    X = np.empty((len(P), points_px.shape[2], 3))
    for f in range(len(P)):
        for j in range(points_px.shape[2]):
            A = np.empty((2 * P.shape[1], 4))
            for v in range(P.shape[1]):
                A[2 * v] = weights[f, v, j] * (points_px[f, v, j, 0] * P[f, v, 2] - P[f, v, 0])
                A[2 * v + 1] = weights[f, v, j] * (points_px[f, v, j, 1] * P[f, v, 2] - P[f, v, 1])
            y = np.linalg.svd(A, full_matrices=False)[2][3]
            X[f, j] = y[:3] / y[3]
    return X


def test_dlt_speed(race: Race, record_speed: RecordSpeed) -> None:
    P, points, _ = _scene(0)
    weights = np.random.default_rng(1).uniform(0.2, 1, points.shape[:-1])
    difference = float(np.abs(dlt(P, points, weights, homogeneous=True) - _dlt_loop(P, points, weights)).max())
    assert difference < 1e-4
    ours, theirs = race(
        lambda: dlt(P, points, weights, homogeneous=True),
        lambda: _dlt_loop(P, points, weights),
        rounds=15,
        calls=10,
    )
    record_speed(
        "triangulation-dlt",
        f"Weighted linear triangulation, {FRAMES} frames × {JOINTS} joints × {VIEWS} views",
        "a loop over frames and joints with one numpy SVD each",
        30,
        ours,
        theirs,
        {"largest_difference_mm": difference},
    )


def test_ransac_speed(race: Race, record_speed: RecordSpeed) -> None:
    P, points, X = _scene(0.3)
    some = slice(0, PEER_FRAMES)

    def peer() -> Array:
        return ransac_published(P[some], points[some], random.Random(0)).points_mm

    ours, theirs = race(lambda: ransac(P, points), peer, rounds=7)
    our_error = np.linalg.norm(ransac(P, points).points_mm - X, axis=-1)
    peer_error = np.linalg.norm(peer() - X[some], axis=-1)
    assert theirs is not None
    assert our_error[some].mean() <= peer_error.mean()
    record_speed(
        "triangulation-ransac",
        f"Robust triangulation with refinement, {FRAMES} frames × {JOINTS} joints × {VIEWS} views, 30 % of the joints "
        "with one outlier",
        "the published scheme joint by joint: ten draws and scipy.optimize.least_squares",
        300,
        ours,
        theirs * FRAMES / PEER_FRAMES,
        {
            "mean_error_mm": float(our_error.mean()),
            "mean_error_on_peer_frames_mm": float(our_error[some].mean()),
            "peer_mean_error_mm": float(peer_error.mean()),
            "peer_measured_on_frames": PEER_FRAMES,
            "peer_scaled_to_frames": FRAMES,
        },
    )
