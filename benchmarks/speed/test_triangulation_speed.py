"""Triangulation against what libraries offer, and against one point at a time; one thread for all.

Peers of robust triangulation: pycolmap's LO-RANSAC alone. PoseLib (2.0.5) estimates poses and triangulates nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
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
PUBLISHED_FRAMES = 8
PEER_THRESHOLD_PX = 15.0
"""Of pycolmap. From 10 to 20 px its errors of points that can be told are the same, above they are larger. Ours are
smallest with the default."""


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


def _peers_of_dlt(poses: Array, P: Array, points: Array) -> dict[str, Callable[[], Array]]:
    """What OpenCV and pycolmap offer for points (F, V, J, 2): calls whose answers are (F x J, 3) mm."""
    pycolmap = pytest.importorskip("pycolmap", reason="the peer is not installed: pip install 'poseboard[peers]'")
    views = len(P)
    # The peers' forms of the observations are made before the clock starts.
    by_view = [np.ascontiguousarray(of_view.reshape(-1, 2).T) for of_view in points.swapaxes(0, 1)]
    K = P[0, :, :3] @ poses[0, :, :3].T
    rays = (np.concatenate([points, np.ones_like(points[..., :1])], axis=-1) @ np.linalg.inv(K).T).swapaxes(1, 2)
    rays = np.ascontiguousarray((rays / np.linalg.norm(rays, axis=-1, keepdims=True)).reshape(-1, views, 3))
    of_cameras = list(poses)

    def opencv() -> Array:
        homogeneous = cv2.triangulatePoints(P[0], P[1], by_view[0], by_view[1])
        return np.asarray((homogeneous[:3] / homogeneous[3]).T)

    def colmap() -> Array:
        return np.array([pycolmap.triangulate_multi_view_point(of_cameras, of_point) for of_point in rays])

    peers: dict[str, Callable[[], Array]] = {"pycolmap": colmap}
    if views == 2:
        peers["opencv"] = opencv
    return peers


@pytest.mark.parametrize(("views", "frames"), [(2, 64), (2, 1), (4, 64), (4, 1), (31, 16), (31, 1)])
def test_dlt_against_libraries(views: int, frames: int, race: Race, record_speed: RecordSpeed) -> None:
    poses, P = _rig(views)
    points, X, _ = _outlying_views(P, 0.0, frames)
    peers = _peers_of_dlt(poses, P, points)
    repeats = 1 if frames > 1 else 30

    def repeated(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(repeats):
                call()

        return run

    seconds, *of_peers = race(
        repeated(lambda: dlt(P, points)), *map(repeated, peers.values()), rounds=15, calls=10 if frames > 1 else 3
    )
    fastest = min(of_peers)
    work = repeats * frames * JOINTS
    error = np.linalg.norm(dlt(P, points) - X, axis=-1)
    details = {
        "ours_microseconds_per_point": 1e6 * seconds / work,
        "mean_error_mm": error.mean(),
        "95th_percentile_mm": np.quantile(error, 0.95),
    }
    for (name, solve), of_peer in zip(peers.items(), of_peers, strict=True):
        of_points = np.linalg.norm(solve().reshape(X.shape) - X, axis=-1)
        details |= {
            f"{name}_microseconds_per_point": 1e6 * of_peer / work,
            f"{name}_mean_error_mm": of_points.mean(),
            f"{name}_95th_percentile_mm": np.quantile(of_points, 0.95),
        }
    record_speed(
        f"triangulation-dlt-{views}-views" + ("" if frames > 1 else "-one-pose"),
        f"Linear triangulation, {frames} frames × {JOINTS} joints × {views} views in one call",
        "OpenCV's triangulatePoints in one call, and pycolmap's triangulate_multi_view_point, one call per point; the "
        "faster one counts"
        if views == 2
        else "pycolmap's triangulate_multi_view_point in C++, one call per point; OpenCV's triangulatePoints takes two "
        "views alone",
        1,
        seconds / repeats,
        fastest / repeats,
        details,
    )


def test_ransac_speed(race: Race, record_speed: RecordSpeed) -> None:
    P, points, X = (array[:PUBLISHED_FRAMES] for array in _scene(0.3))
    answers: list[Array] = []

    def peer() -> None:
        answers.append(ransac_published(P, points, random.Random(0)).points_mm)

    ours, theirs = race(lambda: ransac(P, points), peer, rounds=3, calls=20)
    our_error = np.linalg.norm(ransac(P, points).points_mm - X, axis=-1)
    peer_error = np.linalg.norm(answers[-1] - X, axis=-1)
    assert our_error.mean() <= peer_error.mean()
    record_speed(
        "triangulation-ransac",
        f"Robust triangulation with refinement, {PUBLISHED_FRAMES} frames × {JOINTS} joints × {VIEWS} views, 30 % of "
        "the joints with one outlier",
        "the published scheme joint by joint: ten draws and scipy.optimize.least_squares",
        300,
        ours,
        theirs,
        {"mean_error_mm": float(our_error.mean()), "peer_mean_error_mm": float(peer_error.mean())},
    )


def _rig(views: int) -> tuple[Array, Array]:
    """Poses (V, 3, 4) of cameras about a capture volume, at many heights, and their projection matrices."""
    K = np.array([[1145, 0, 512], [0, 1143, 515], [0, 0, 1.0]])
    poses = np.empty((views, 3, 4))
    for v in range(views):
        angle = 2 * np.pi * (v * 0.618 + 0.05)  # never twice the same direction
        centre = np.array([3500 * np.cos(angle), 3500 * np.sin(angle), 800 + 1800 * ((7 * v) % views) / views])
        forward = np.array([0, 0, 1000.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        poses[v] = np.column_stack([R, -R @ centre])
    return poses, K @ poses


def _outlying_views(P: Array, share: float, frames: int) -> tuple[Array, Array, Array]:
    """Points (F, V, J, 2) with 2 px of noise, each view wrong with a probability; the truth; which points can be told.

    A point can be told where three views and more than half of all are right.
    """
    rng = np.random.default_rng(7)
    X = rng.normal([0, 0, 1000], [400, 400, 400], (frames, JOINTS, 3))
    x = np.einsum("vrc,fjc->fvjr", P[..., :3], X) + P[:, None, :, 3]
    points = x[..., :2] / x[..., 2:] + rng.normal(0, 2, (*x.shape[:-1], 2))
    wrong = rng.random(points.shape[:-1]) < share
    angle, shift = rng.uniform(0, 2 * np.pi, wrong.shape), rng.uniform(50, 300, wrong.shape)
    points += (wrong * shift)[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    right = (~wrong).sum(axis=1)
    return points, X, (right >= 3) & (2 * right > len(P))


@pytest.mark.parametrize(("views", "frames"), [(4, 64), (8, 32), (31, 16)])
def test_ransac_against_pycolmap(views: int, frames: int, race: Race, record_speed: RecordSpeed) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="the peer is not installed: pip install 'poseboard[peers]'")
    poses, P = _rig(views)
    parameters = [1145.0, 1143, 512, 515]
    cameras = [pycolmap.Camera(model="PINHOLE", width=1024, height=1030, params=parameters)] * views
    rigid = [pycolmap.Rigid3d(pose) for pose in poses]
    options = pycolmap.EstimateTriangulationOptions()
    options.residual_type = pycolmap.TriangulationResidualType.REPROJECTION_ERROR
    options.ransac.max_error = PEER_THRESHOLD_PX
    options.ransac.random_seed = 0
    shares = (0.05, 0.2, 0.4)
    scenes = [_outlying_views(P, share, frames) for share in shares]
    # The peer's form of the observations is made before the clock starts.
    theirs_px = [np.ascontiguousarray(points.swapaxes(1, 2)).reshape(-1, views, 2) for points, _, _ in scenes]

    def peer() -> list[list[dict[str, Array] | None]]:
        return [
            [pycolmap.estimate_triangulation(point, rigid, cameras, options) for point in scene] for scene in theirs_px
        ]

    def batched() -> list[Array]:
        return [ransac(P, points).points_mm for points, _, _ in scenes]

    ours, theirs = race(batched, peer, rounds=5, calls=3)
    details = {}
    worse = []
    for share, (_, X, told), our_mm, answers in zip(shares, scenes, batched(), peer(), strict=True):
        unanswered = np.full(3, np.nan)
        their_mm = np.reshape([unanswered if a is None else a["xyz"] for a in answers], X.shape)
        for name, points_mm in (("", our_mm), ("peer_", their_mm)):
            error = np.linalg.norm(points_mm - X, axis=-1)
            some = f"{name}{{}}_mm_with_{share * 100:.0f}_percent_outliers"
            details[some.format("mean_error")] = float(error[told].mean())
            details[some.format("95th_percentile")] = float(np.quantile(error[told], 0.95))
            details[some.format("mean_error_where_both_answer")] = float(error[np.isfinite(their_mm).all(-1)].mean())
        worse += [key for key, value in details.items() if f"peer_{key}" in details and value > details[f"peer_{key}"]]
    record_speed(
        f"triangulation-ransac-{views}-views",
        f"Robust triangulation, {frames} frames × {JOINTS} joints × {views} views, 5, 20 and 40 % of the views wrong; "
        "errors are of points with three right views and a majority of right ones",
        "pycolmap.estimate_triangulation (LO-RANSAC in C++), one call per point, one thread",
        3,
        ours,
        theirs,
        details,
    )
    assert not [key for key in worse if "where_both_answer" not in key]
