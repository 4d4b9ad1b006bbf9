"""Speed of calibration-free poses and cameras of single frames, compared with OpenCV and SciPy, in one thread.

The reference starts from the essential matrix of two views (MAGSAC) and PnP of the other views. It refines cameras and
points with `scipy.optimize.least_squares`, an analytic Jacobian, MINPACK's Levenberg-Marquardt and scaled unknowns:
the fastest variant that we tried without failures. SciPy's documented variant, with a sparse numeric Jacobian, takes
four times as long.

The reference estimates only points, without a robust loss. Our code is robust and samples the posterior of the cameras.
Without outliers, least squares is the maximum likelihood, so our error may be larger by `MOST_WORSE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from poseboard.benchmarks.speed.scenes import Array, looking_at, ring
from poseboard.methods.geometry.relative_pose import estimate
from poseboard.methods.probabilistic.posterior import Sampling, sample_posterior

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import Race, RecordSpeed

VIEWS, JOINTS, FOCAL_PX, NOISE_PX = 4, 17, 1145.0, 1.0
FRAMES, JUDGED = 64, 96
SAMPLING = Sampling(draws=128, rounds=3)
THRESHOLD_PX, FAILED_MM = 3.0, 50.0
AIM = 10.0
MOST_WORSE = 1.03
"""Our mean error over the peer's, at most."""
pytestmark = pytest.mark.usefixtures("one_thread")


def scene(frames: int, seed: int) -> tuple[Array, Array]:
    """Rays (frames, V, J, 2) of a random rig per frame, on a ring of 4 m, and true points (frames, J, 3) in mm."""
    rng = np.random.default_rng(seed)
    angle = np.arange(VIEWS) * 2 * np.pi / VIEWS + rng.uniform(-0.3, 0.3, (frames, VIEWS))
    centre = ring(angle, 4000, rng.uniform(1000, 2000, angle.shape))
    poses = looking_at(centre, np.array([0, 0, 1000.0]) + rng.normal(0, 100, centre.shape))
    X = rng.uniform([-400, -400, 0], [400, 400, 1800], (frames, JOINTS, 3))
    seen = np.einsum("fvij,fnj->fvni", poses[..., :3], X) + poses[:, :, None, :, 3]
    return seen[..., :2] / seen[..., 2:] + rng.normal(0, NOISE_PX / FOCAL_PX, (*seen.shape[:-1], 2)), X


def ours(rays: Array) -> Array:
    """Mean points (frames, J, 3) by search, bundle adjustment and posterior sampling."""
    batch = torch.from_numpy(rays)
    weights, focal = torch.ones(batch.shape[:3]).double(), torch.full(batch.shape[:3], FOCAL_PX).double()
    rig = estimate(batch, weights, focal)
    generator = torch.Generator().manual_seed(0)
    return sample_posterior(rig, batch, weights, focal, SAMPLING, generator).mean_points.numpy()


def start_of(rays: Array) -> tuple[Array, Array] | None:
    """Initial cameras R (V, 3, 3) and t (V, 3) from the essential matrix of two views and PnP of the others."""
    a, b = np.ascontiguousarray(rays[0]), np.ascontiguousarray(rays[1])
    cv2.setRNGSeed(0)
    eye = np.eye(3)
    E, mask = cv2.findEssentialMat(a, b, eye, cv2.USAC_MAGSAC, 0.999, THRESHOLD_PX / FOCAL_PX)
    if E is None or E.shape != (3, 3):
        return None
    R, t = np.tile(eye, (len(rays), 1, 1)), np.zeros((len(rays), 3))
    _, R[1], shift, _ = cv2.recoverPose(E, a, b, eye, mask=mask)
    t[1] = shift[:, 0]
    homogeneous = cv2.triangulatePoints(np.eye(3, 4), np.column_stack([R[1], t[1]]), a.T, b.T)
    X = (homogeneous[:3] / homogeneous[3]).T
    for view in range(2, len(rays)):
        solved, w, shift = cv2.solvePnP(X, rays[view], eye, None, flags=cv2.SOLVEPNP_SQPNP)
        if not solved:
            return None
        R[view], t[view] = cv2.Rodrigues(w)[0], shift[:, 0]
    return R, t


def linear(R: Array, t: Array, rays: Array) -> Array:
    """Points (J, 3) by the normal equations of linear triangulation."""
    P = np.concatenate([R, t[..., None]], axis=-1)
    rows = (rays[..., None] * P[:, None, 2:] - P[:, None, :2]).transpose(1, 0, 2, 3).reshape(rays.shape[1], -1, 4)
    normal = rows.mT @ rows
    return np.asarray(-np.linalg.solve(normal[:, :3, :3], normal[:, :3, 3:])[..., 0])


class Adjustment:
    """Residuals and Jacobian of bundle adjustment over Cayley vectors, translations and points."""

    def __init__(self, R: Array, t: Array, rays: Array) -> None:
        X = linear(R, t, rays) @ R[0].T + t[0]
        self.R = R @ R[0].T
        t = t - self.R @ t[0]
        scale = np.linalg.norm(t[1])
        self.rays = rays
        self.views, self.points = rays.shape[0] - 1, rays.shape[1]
        self.start = np.concatenate([np.zeros(3 * self.views), t[1:].ravel() / scale, X.ravel() / scale])
        self.matrix = np.zeros((*rays.shape, len(self.start)))

    def state(self, x: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Cayley matrices and norms, rotations, rotated points, and points in each view."""
        w, t, X = np.split(x, [3 * self.views, 6 * self.views])
        w = w.reshape(-1, 3)
        W = np.cross(w[:, None], np.eye(3)).mT
        norm = 1 + (w * w).sum(1)[:, None, None] / 4
        R = np.concatenate([self.R[:1], (np.eye(3) + (W + W @ W / 2) / norm) @ self.R[1:]])
        turned = X.reshape(-1, 3) @ R.mT
        in_view = turned.copy()
        in_view[1:] += t.reshape(-1, 1, 3)
        return W, norm, R, turned, in_view

    def residuals(self, x: Array) -> Array:
        """Reprojection errors in px."""
        in_view = self.state(x)[-1]
        return np.asarray(FOCAL_PX * (in_view[..., :2] / in_view[..., 2:] - self.rays).ravel())

    def jacobian(self, x: Array) -> Array:
        """Derivatives of `residuals`."""
        W, norm, R, turned, in_view = self.state(x)
        views, points = self.views, self.points
        f = FOCAL_PX / in_view[..., 2]
        A = np.zeros((*f.shape, 2, 3))
        A[..., 0, 0] = A[..., 1, 1] = f
        A[..., 2] = -f[..., None] * in_view[..., :2] / in_view[..., 2:]
        of_points = self.matrix[..., 6 * views :].reshape(views + 1, points, 2, points, 3)
        every = np.arange(points)
        of_points[:, every, :, every] = (A @ R[:, None]).swapaxes(0, 1)
        of_vector = (np.eye(3) + W / 2) / norm
        x_, y_, z_ = np.moveaxis(turned[1:], -1, 0)
        zero = np.zeros_like(x_)
        crossed = np.stack([zero, z_, -y_, -z_, zero, x_, y_, -x_, zero], axis=-1).reshape(*x_.shape, 3, 3)
        of_rotation = A[1:] @ (crossed @ of_vector[:, None])
        for view in range(views):
            self.matrix[view + 1, ..., 3 * view : 3 * view + 3] = of_rotation[view]
            self.matrix[view + 1, ..., 3 * (views + view) : 3 * (views + view) + 3] = A[view + 1]
        return self.matrix.reshape(-1, len(x))


def one_at_a_time(rays: Array) -> Array:
    """Reference, frame by frame: points (frames, J, 3); NaN for frames without initial cameras."""
    points = np.full((len(rays), JOINTS, 3), np.nan)
    for of_frame, X in zip(rays, points, strict=True):
        if (start := start_of(of_frame)) is None:
            continue
        problem = Adjustment(*start, of_frame)
        solution = least_squares(
            problem.residuals,
            problem.start,
            problem.jacobian,
            method="lm",
            x_scale="jac",
            ftol=1e-6,
            xtol=1e-6,
            gtol=1e-6,
            max_nfev=100,
        ).x
        X[:] = solution[6 * (VIEWS - 1) :].reshape(-1, 3)
    return points


def aligned_mm(points: Array, truth: Array) -> Array:
    """Mean joint error (frames,) in mm after similarity alignment; without points, the size of the true pose."""
    p, q = (values - values.mean(axis=1, keepdims=True) for values in (np.nan_to_num(points), truth))
    U, S, Vh = np.linalg.svd(p.mT @ q)
    S[:, 2] *= np.sign(np.linalg.det(U @ Vh))
    U[:, :, 2] *= np.sign(np.linalg.det(U @ Vh))[:, None]
    scale = S.sum(axis=1) / np.maximum((p**2).sum(axis=(1, 2)), 1e-12)
    return np.asarray(np.linalg.norm(scale[:, None, None] * p @ (U @ Vh) - q, axis=-1).mean(axis=1))


def test_the_peers_jacobian_is_that_of_its_residuals() -> None:
    rays, _ = scene(1, seed=3)
    start = start_of(rays[0])
    assert start is not None
    problem = Adjustment(*start, rays[0])
    x = problem.start + np.random.default_rng(0).normal(0, 0.05, problem.start.shape)
    steps = 1e-6 * np.eye(len(x))
    numeric = np.stack([problem.residuals(x + step) - problem.residuals(x - step) for step in steps], axis=1) / 2e-6
    np.testing.assert_allclose(problem.jacobian(x), numeric, atol=1e-6 * np.abs(numeric).max())


@pytest.mark.full_size
def test_calibration_free_speed(race: Race, record_speed: RecordSpeed) -> None:
    rays, truth = scene(JUDGED, seed=7)
    error, peer_error = aligned_mm(ours(rays), truth), aligned_mm(one_at_a_time(rays), truth)
    assert (error > FAILED_MM).sum() <= (peer_error > FAILED_MM).sum()
    assert error.mean() <= MOST_WORSE * peer_error.mean()
    timed = rays[:FRAMES]
    seconds, peer_seconds = race(lambda: ours(timed), lambda: one_at_a_time(timed), rounds=2)
    record_speed(
        "calibration-free-1px-analytic",
        f"Poses and camera posterior without extrinsics, {FRAMES} single frames × {VIEWS} views × {JOINTS} joints, "
        f"{NOISE_PX:g} px noise, {SAMPLING.draws} × {SAMPLING.rounds} draws",
        "essential matrix (MAGSAC), PnP and scipy.optimize.least_squares (LM, an analytic Jacobian made for this "
        "comparison) of each frame",
        AIM,
        seconds,
        peer_seconds,
        {
            "ours_frames_per_second": FRAMES / seconds,
            "mean_error_mm": error.mean(),
            "peer_mean_error_mm": peer_error.mean(),
        },
    )
