"""Speed of triangulation compared with libraries, in one thread.

PoseLib (2.0.5) has no triangulation, so pycolmap is the only reference for robust triangulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from poseboard.benchmarks.speed.scenes import Array, looking_at, ring
from poseboard.methods.geometry.robust import ransac
from poseboard.methods.geometry.triangulation import dlt

try:
    import pycolmap
except ImportError:  # the extra `peers`
    pycolmap = None  # type: ignore[assignment]  # absent

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import Race, RecordSpeed

JOINTS, FRAMES, SHARES = 17, 64, (0.05, 0.2, 0.4)
PEER_THRESHOLD_PX = 15.0
"""Of pycolmap: its errors are the same from 10 to 20 px and larger above. Our default suits ours best."""
pytestmark = pytest.mark.usefixtures("one_thread")


def rig(views: int) -> tuple[Array, Array]:
    """Poses (V, 3, 4) and projection matrices (V, 3, 4) of cameras around a capture volume, at various heights."""
    number = np.arange(views, dtype=np.float64)
    angle = 2 * np.pi * (number * 0.618 + 0.05)  # no direction twice
    poses = looking_at(ring(angle, 3500, 800 + 1800 * ((7 * number) % views) / views), np.array([0, 0, 1000.0]))
    return poses, np.array([[1145, 0, 512], [0, 1143, 515], [0, 0, 1.0]]) @ poses


def detections(P: Array, outliers: float) -> tuple[Array, Array, Array]:
    """2D points (F, V, J, 2) with 2 px noise and outliers, the true points, and a mask of decidable points.

    Each view of a point is an outlier with probability ``outliers``. A point is decidable if at least three views, and
    more than half of all views, are inliers.
    """
    rng = np.random.default_rng(7)
    X = rng.normal([0, 0, 1000], [400, 400, 400], (FRAMES, JOINTS, 3))
    x = np.einsum("vrc,fjc->fvjr", P[..., :3], X) + P[:, None, :, 3]
    points = x[..., :2] / x[..., 2:] + rng.normal(0, 2, (*x.shape[:-1], 2))
    wrong = rng.random(points.shape[:-1]) < outliers
    angle, shift = rng.uniform(0, 2 * np.pi, wrong.shape), rng.uniform(50, 300, wrong.shape)
    points += (wrong * shift)[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    right = (~wrong).sum(axis=1)
    return points, X, (right >= 3) & (2 * right > len(P))


def test_dlt_of_two_views(race: Race, record_speed: RecordSpeed) -> None:
    poses, P = rig(2)
    points, X, _ = detections(P, 0.0)
    # The peers' forms of the observations are made before the clock starts.
    by_view = [np.ascontiguousarray(of_view.reshape(-1, 2).T) for of_view in points.swapaxes(0, 1)]
    K = P[0, :, :3] @ poses[0, :, :3].T
    rays = (np.concatenate([points, np.ones_like(points[..., :1])], axis=-1) @ np.linalg.inv(K).T).swapaxes(1, 2)
    rays = np.ascontiguousarray((rays / np.linalg.norm(rays, axis=-1, keepdims=True)).reshape(-1, 2, 3))

    def opencv() -> Array:
        homogeneous = cv2.triangulatePoints(P[0], P[1], by_view[0], by_view[1])
        return np.asarray((homogeneous[:3] / homogeneous[3]).T)

    peers = {"opencv": opencv}
    if pycolmap is not None:
        of_cameras = list(poses)
        peers["pycolmap"] = lambda: np.array(
            [pycolmap.triangulate_multi_view_point(of_cameras, of_point) for of_point in rays]
        )
    seconds, *of_peers = race(lambda: dlt(P, points), *peers.values(), rounds=15, calls=10)
    error = np.linalg.norm(dlt(P, points) - X, axis=-1)
    work = FRAMES * JOINTS
    details = {
        "ours_microseconds_per_point": 1e6 * seconds / work,
        "mean_error_mm": error.mean(),
        "95th_percentile_mm": np.quantile(error, 0.95),
    }
    for (name, solve), peer_seconds in zip(peers.items(), of_peers, strict=True):
        error = np.linalg.norm(solve().reshape(X.shape) - X, axis=-1)
        details |= {
            f"{name}_microseconds_per_point": 1e6 * peer_seconds / work,
            f"{name}_mean_error_mm": error.mean(),
            f"{name}_95th_percentile_mm": np.quantile(error, 0.95),
        }
    record_speed(
        "triangulation-dlt-2-views",
        f"Linear triangulation, {FRAMES} frames × {JOINTS} joints × 2 views in one call",
        "OpenCV's triangulatePoints in one call, and pycolmap's triangulate_multi_view_point, one call per point; the "
        "faster one counts",
        1,
        seconds,
        min(of_peers),
        details,
    )


def test_ransac_of_four_views(race: Race, record_speed: RecordSpeed) -> None:
    if pycolmap is None:
        pytest.skip("the peer is not installed: pip install 'poseboard[peers]'")
    views = 4
    poses, P = rig(views)
    cameras = [pycolmap.Camera(model="PINHOLE", width=1024, height=1030, params=[1145.0, 1143, 512, 515])] * views
    rigid = [pycolmap.Rigid3d(pose) for pose in poses]
    options = pycolmap.EstimateTriangulationOptions()
    options.residual_type = pycolmap.TriangulationResidualType.REPROJECTION_ERROR
    options.ransac.max_error = PEER_THRESHOLD_PX
    options.ransac.random_seed = 0
    scenes = [detections(P, share) for share in SHARES]
    peer_px = [np.ascontiguousarray(points.swapaxes(1, 2)).reshape(-1, views, 2) for points, _, _ in scenes]

    def peer() -> list[list[dict[str, Array] | None]]:
        return [
            [pycolmap.estimate_triangulation(point, rigid, cameras, options) for point in scene] for scene in peer_px
        ]

    def ours() -> list[Array]:
        return [ransac(P, points).points_mm for points, _, _ in scenes]

    seconds, peer_seconds = race(ours, peer, rounds=5, calls=3)
    details: dict[str, float] = {}
    for share, (_, X, decidable), our_mm, estimates in zip(SHARES, scenes, ours(), peer(), strict=True):
        peer_mm = np.reshape([np.full(3, np.nan) if one is None else one["xyz"] for one in estimates], X.shape)
        for name, points_mm in (("", our_mm), ("peer_", peer_mm)):
            error = np.linalg.norm(points_mm - X, axis=-1)
            of_share = f"{name}{{}}_mm_with_{share * 100:.0f}_percent_outliers"
            details[of_share.format("mean_error")] = error[decidable].mean()
            details[of_share.format("95th_percentile")] = np.quantile(error[decidable], 0.95)
    assert all(value <= details[f"peer_{key}"] for key, value in details.items() if not key.startswith("peer_"))
    record_speed(
        f"triangulation-ransac-{views}-views",
        f"Robust triangulation, {FRAMES} frames × {JOINTS} joints × {views} views, 5, 20 and 40 % of the views wrong; "
        "errors are of points with three right views and a majority of right ones",
        "pycolmap.estimate_triangulation (LO-RANSAC in C++), one call per point, one thread",
        3,
        seconds,
        peer_seconds,
        details,
    )
