"""Robust triangulation: consensus over all pairs of views, then Huber refinement of the reprojection error.

The RANSAC baseline of learnable triangulation (release code) draws ten pairs of views per joint, keeps the first
largest consensus and refines it with a general optimiser, one joint at a time. `ransac` tries every pair for all joints
at once, ranks the pairs by how well the views agree and refines all joints together. `ransac_published` repeats the
release's scheme draw by draw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import scipy  # its parts load when they are used
from numpy.typing import NDArray

from poseboard.methods.geometry.triangulation import DAMPING, in_threads, owned

Array = NDArray[np.float64]

THRESHOLD_PX = 30.0
"""Reprojection distance. The release code has 15, which it compares with half the distance."""
_HUBER_SHARE = 1 / 5
"""Share of the threshold at which the Huber loss turns linear. The release code has 1 px for its threshold of 15, which
costs precision (8.5 mm instead of 8.0 on its recorded scenario of four views) and gains nothing with heavy tails."""
EXHAUSTIVE_VIEWS = 12
"""Every pair is tried up to this number of usable views."""
_WORK_PER_THREAD = 20_000
"""Observations below which another thread costs more than it saves."""
_REFINEMENTS = 10
"""Levenberg-Marquardt steps."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """Robustly triangulated points.

    Args:
        points_mm: (..., J, 3) world mm; NaN where fewer than two views are usable.
        inliers: (..., V, J) bool, True for the views from which the point was triangulated.
    """

    points_mm: Array
    inliers: NDArray[np.bool_]


def ransac(
    P: Array, points_px: Array, threshold_px: float = THRESHOLD_PX, *, refined: bool = True, seed: int = 0
) -> Consensus:
    """Robust triangulation of each joint from the views that agree best.

    Every pair of views proposes a point. Its score is ``sum max(0, 1 - (d / threshold)²)`` over the views with the
    point in front of the camera; d is the reprojection distance. The pair with the highest score and the views within
    the threshold of its point are triangulated together.

    With more than 12 usable views, 12 are drawn per joint and their pairs are tried, disjoint pairs first. The search
    stops when the probability that every pair so far had a wrong view is below 1e-6, given the share of views that
    agree with the best. The views that agree with the triangulation of this consensus replace it if their score is
    higher.

    Compiled code computes the points in as many threads as torch has. The result does not depend on the number of
    threads. The first call after a change of the code compiles for seconds and caches the result on disk.

    Args:
        P: (..., V, 3, 4) projection matrices.
        points_px: (..., V, J, 2) undistorted pixels, NaN where a view has no observation.
        threshold_px: maximum reprojection distance of a view that agrees.
        refined: whether to refine each point by minimising the Huber loss of the consensus's reprojection distances.
        seed: seed of the draw from more than 12 views. The result is a pure function of the arguments.

    Example:
        >>> P = np.stack([camera.P for camera in cameras])
        >>> points_px = np.stack([camera.project(pose_mm) for camera in cameras])
        >>> points_px[0] += 200  # one view is wrong
        >>> np.abs(ransac(P, points_px).points_mm - pose_mm).max() < 0.01
        True
    """
    P, points_px = np.asarray(P, dtype=np.float64), np.asarray(points_px, dtype=np.float64)
    batch = np.broadcast_shapes(P.shape[:-3], points_px.shape[:-3])
    views, joints = points_px.shape[-3:-1]
    frames = int(np.prod(batch))
    X, inliers = np.full((frames * joints, 3), np.nan), np.zeros((frames, views, joints), dtype=bool)
    if views >= 2 and len(X):
        from poseboard.methods.geometry.consensus import Scratch, triangulate  # noqa: PLC0415  (imports numba)

        all_P = owned(P, P.shape if P.ndim == 3 else (*batch, views, 3, 4))
        all_points = owned(points_px, (*batch, views, joints, 2))
        # One draw for all frames: the result of a frame does not depend on the other frames of the call.
        drawn = np.random.default_rng(seed).random((views, joints)).argsort(axis=0)

        def fill(start: int, stop: int) -> None:
            triangulate(
                all_P.reshape(-1, views, 12), all_points.reshape(frames, views, joints, 2), drawn, _SCHEDULE,
                float(threshold_px), _HUBER_SHARE * float(threshold_px), _REFINEMENTS if refined else 0, DAMPING,
                start, stop, X, inliers, Scratch.of(views, EXHAUSTIVE_VIEWS),
            )  # fmt: skip

        in_threads(fill, len(X), work=len(X) * views, per_thread=_WORK_PER_THREAD)
    return Consensus(X.reshape(*batch, joints, 3), inliers.reshape(*batch, views, joints))


def _disjoint_first(count: int) -> NDArray[np.int64]:
    """All pairs (K, 2) of an even number of views in round-robin order, so that pairs of a round are disjoint."""
    rest = np.arange(1, count)
    rounds = []
    for _ in range(count - 1):
        order = np.concatenate([[0], rest])
        rounds.append(np.sort(np.stack([order[: count // 2], order[: count // 2 - 1 : -1]], axis=1), axis=1))
        rest = np.roll(rest, 1)
    return np.concatenate(rounds)


_SCHEDULE = _disjoint_first(EXHAUSTIVE_VIEWS)


def ransac_published(
    P: Array,
    points_px: Array,
    rng: random.Random,
    *,
    draws: int = 10,
    threshold_px: float = THRESHOLD_PX,
    refined: bool = True,
) -> Consensus:
    """Triangulate with the RANSAC of learnable triangulation's release code, draw by draw.

    For each frame and joint, the release draws ten pairs from the sorted list of views that observe the joint. A drawn
    pair belongs to the consensus whatever its error is. Half of the reprojection distance is compared with half of the
    threshold. The first of equally large sets wins, even if another fits better. The refinement uses half of the
    distance per view as residual, and a numeric Jacobian.

    Args:
        P: (..., V, 3, 4) projection matrices. The rows are formed in the inputs' precision (the release code's is
            float32).
        points_px: (..., V, J, 2), NaN where a view has no observation.
        rng: random generator of the draws. Its state advances.
        draws: number of drawn pairs of views per joint.
        threshold_px: threshold of the (full) reprojection distance.
        refined: whether to refine the point with scipy.
    """
    batch = np.broadcast_shapes(P.shape[:-3], points_px.shape[:-3])
    views, joints = points_px.shape[-3:-1]
    P, points_px = np.broadcast_to(P, (*batch, views, 3, 4)), np.broadcast_to(points_px, (*batch, views, joints, 2))
    X, inliers = np.empty((*batch, joints, 3)), np.zeros((*batch, views, joints), dtype=bool)
    for frame in np.ndindex(*batch):
        for joint in range(joints):
            points = points_px[frame][:, joint]
            seen = np.flatnonzero(np.isfinite(points).all(axis=-1))
            if len(seen) < 2:
                X[(*frame, joint)] = np.nan
                continue
            kept, X[(*frame, joint)] = _published_joint(
                P[frame][seen], points[seen], rng, draws, threshold_px / 2, refined
            )
            inliers[frame][seen[kept], joint] = True
    return Consensus(X, inliers)


def _published_joint(
    P: Array, points_px: Array, rng: random.Random, draws: int, threshold: float, refined: bool
) -> tuple[list[int], Array]:
    def triangulate(chosen: list[int]) -> Array:
        rows = points_px[chosen][:, :, None] * P[chosen, 2:] - P[chosen, :2]
        y = np.linalg.svd(rows.reshape(-1, 4).astype(np.float64))[2][3]
        return np.asarray(y[:3] / y[3])

    def half_distances(X: Array, chosen: list[int]) -> Array:
        x = P[chosen] @ np.append(X, 1.0)
        return np.asarray(np.linalg.norm(x[:, :2] / x[:, 2:] - points_px[chosen], axis=1) / 2)

    views = list(range(len(P)))
    kept: list[int] = []
    for _ in range(draws):
        pair = sorted(rng.sample(views, 2))
        errors = half_distances(triangulate(pair), views)
        consensus = sorted({*pair, *np.flatnonzero(errors < threshold).tolist()})
        if len(consensus) > len(kept):
            kept = consensus
    X = triangulate(kept)
    if refined:
        X = scipy.optimize.least_squares(half_distances, X, loss="huber", method="trf", args=(kept,)).x
    return kept, X
