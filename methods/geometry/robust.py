"""Robust triangulation: a consensus over all pairs of views, then a Huber refinement of the reprojection error.

The RANSAC baseline of learnable triangulation (release code) draws ten pairs of views per joint, keeps the first
largest consensus and refines it with a general optimiser, one joint at a time. `ransac` tries every pair for all joints
at once, ranks the pairs by how well the views agree and refines all joints together. `ransac_published` repeats the
release's scheme draw by draw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from poseboard.methods.geometry.triangulation import damp, equations, invert

Array = NDArray[np.float64]

THRESHOLD_PX = 30.0
"""Reprojection distance. The release code has 15, which it compares with half the distance."""
_HUBER_SHARE = 1 / 5
"""Share of the threshold at which the Huber loss turns linear. The release code has 1 px for its threshold of 15, which
costs precision (8.5 mm instead of 8.0 on its recorded scenario of four views) and gains nothing with heavy tails."""
EXHAUSTIVE_VIEWS = 12
"""Up to this many usable views every pair is tried."""
_CHUNK = 4_000_000
"""Reprojections (pairs x views x joints x frames) computed at once; bounds the memory."""
_REFINEMENTS = 10
"""Levenberg-Marquardt steps."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """Robustly triangulated points.

    Args:
        points_mm: (..., J, 3) world mm; NaN where fewer than two views are usable.
        inliers: (..., V, J) bool, the views each point was fitted to.
    """

    points_mm: Array
    inliers: NDArray[np.bool_]


def ransac(
    P: Array, points_px: Array, threshold_px: float = THRESHOLD_PX, *, refined: bool = True, seed: int = 0
) -> Consensus:
    """Triangulate each joint from the views that agree best.

    Every pair of views proposes a point (above 12 usable views: every pair of 12 drawn per joint). Its score is
    ``sum max(0, 1 - (d / threshold)²)`` over the views that the point lies in front of; d is the reprojection distance.
    The pair with the highest score and the views within the threshold of its point are triangulated together.

    Args:
        P: (..., V, 3, 4) projection matrices.
        points_px: (..., V, J, 2) undistorted pixels, NaN where a view has no observation.
        threshold_px: reprojection distance at which a view stops agreeing.
        refined: minimise the Huber loss of the reprojection distances of the consensus.
        seed: of the draw of views above 12; the result is a pure function of the arguments.

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
    if views < 2 or not np.prod(batch) * joints:
        return Consensus(np.full((*batch, joints, 3), np.nan), np.zeros((*batch, views, joints), dtype=bool))
    all_P = torch.from_numpy(np.array(np.broadcast_to(P, (*batch, views, 3, 4)))).reshape(-1, views, 3, 4)
    all_points = torch.from_numpy(np.array(np.broadcast_to(points_px, (*batch, views, joints, 2))))
    # One draw for all frames: the result of a frame does not depend on the other frames of the call.
    draw = torch.rand(views, 1, joints, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    hypotheses = min(views, EXHAUSTIVE_VIEWS) ** 2 // 2
    size = max(1, _CHUNK // (hypotheses * views * joints))
    X, inliers = [], []
    with torch.no_grad():
        chunks = zip(all_P.split(size), all_points.reshape(-1, views, joints, 2).split(size), strict=True)
        for chunk_P, chunk_points in chunks:
            chunk_X, chunk_inliers = _consensus(chunk_P, chunk_points, threshold_px, refined, draw)
            X.append(chunk_X.movedim(0, -1))
            inliers.append(chunk_inliers.movedim(0, 1))
    return Consensus(
        torch.cat(X).reshape(*batch, joints, 3).numpy(), torch.cat(inliers).reshape(*batch, views, joints).numpy()
    )


def _consensus(P: Tensor, points_px: Tensor, threshold_px: float, refined: bool, draw: Tensor) -> tuple[Tensor, Tensor]:
    """X (3, B, J) and inliers (V, B, J) from P (B, V, 3, 4), points (B, V, J, 2) and random numbers (V, 1, J).

    V views, K pairs of views, B frames, J joints. Frames and joints come last: every step is one array operation.
    """
    rows, usable = equations(P, points_px)
    views = len(usable)
    rows = rows.unflatten(1, (views, 2))
    blocks = (rows[:3, None] * rows).sum(3)  # (3, 4, V, B, J): normal equations of each view
    candidates, candidate_usable, candidate_views = blocks, usable, None
    if views > EXHAUSTIVE_VIEWS:
        # `draw` is below 1, so usable views come before all others.
        candidate_views = (draw + usable).topk(EXHAUSTIVE_VIEWS, dim=0).indices
        candidates = blocks.gather(2, candidate_views.expand(3, 4, *candidate_views.shape))
        candidate_usable = usable.gather(0, candidate_views)
    first, second = torch.combinations(torch.arange(len(candidate_usable))).T
    # Normal equations add up over views: the point of a pair is the solution of the sum of its two blocks.
    X = _least_squares(candidates[:, :, first] + candidates[:, :, second])  # (3, K, B, J)

    P = torch.nan_to_num(P).permute(2, 3, 1, 0)[..., None]  # (3, 4, V, B, 1)
    points = torch.nan_to_num(points_px).permute(3, 1, 0, 2)  # (2, V, B, J)
    x = (P[:, :3, :, None] * X[:, None]).sum(1) + P[:, 3, :, None]  # (3, V, K, B, J)
    in_front = x[2] > 0
    offset = x[:2] / torch.where(in_front, x[2], 1.0) - points[:, :, None]
    agreement = 1 - (offset * offset).sum(0) / threshold_px**2
    agrees = (agreement > 0) & in_front & usable[:, None]  # (V, K, B, J)
    possible = candidate_usable[first] & candidate_usable[second]
    score = torch.where(possible, (agreement * agrees).sum(0), -torch.inf)
    best = score.argmax(0)  # (B, J)
    inliers = agrees.gather(1, best.expand(views, 1, *best.shape))[:, 0]
    pair = torch.stack([first[best], second[best]])
    if candidate_views is not None:
        pair = candidate_views.gather(0, pair)
    # The pair itself is always part of the consensus, also where its own error exceeds the threshold.
    inliers = inliers.scatter(0, pair, True) & usable
    X = _least_squares((blocks * inliers).sum(2))
    if refined:
        X = _refine(P, points, inliers.double(), X, _HUBER_SHARE * threshold_px)
    return torch.where(usable.sum(0) >= 2, X, torch.nan), inliers


def _least_squares(normal: Tensor) -> Tensor:
    """Normal equations (3, 4, ...) -> their solution X (3, ...), which does not depend on the world's origin."""
    return -(invert(damp(normal[:, :3].clone()))[0] * normal[:, 3]).sum(1)


def _refine(P: Tensor, points_px: Tensor, weights: Tensor, X: Tensor, huber_px: float) -> Tensor:
    """Levenberg–Marquardt on ``sum weights * huber(distance)``; every point has its own damping.

    Args:
        P: (3, 4, V, B, 1).
        points_px: (2, V, B, J).
        weights: (V, B, J), 0 leaves a view out.
        X: (3, B, J) start.
        huber_px: distance at which the loss turns linear.
    """

    def evaluate(X: Tensor) -> tuple[Tensor, ...]:
        x = (P[:, :3] * X[:, None]).sum(1) + P[:, 3]
        in_front = x[2] > 0
        depth = torch.where(in_front, x[2], 1.0)
        pixels = x[:2] / depth
        offset = pixels - points_px
        distance = (offset * offset).sum(0).sqrt()
        near = distance.clamp_max(huber_px)
        cost = near * (distance - near / 2)
        # A point behind a camera has no gradient from it. The cost is so large that such a step is rejected.
        cost = (weights * torch.where(in_front, cost, 1e12)).sum(0)
        # Weight of the view in the normal equations: 1 in the quadratic part of the loss, less in the linear part.
        pull = weights * in_front * (huber_px / distance.clamp_min(huber_px))
        return X, pixels, depth, offset, pull, cost

    state = evaluate(X)
    damping = torch.full_like(state[-1], 0.1)
    for _ in range(_REFINEMENTS):
        X, pixels, depth, offset, pull, cost = state
        J = (P[:2, :3] - pixels[:, None] * P[2, :3]) / depth  # (2, 3, V, B, J): d pixels / d X
        weighted = J * pull
        along = (offset[:, None] * J).sum(0)  # (3, V, B, J)
        far = pull * (pull < weights) / (offset * offset).sum(0).clamp_min(huber_px**2)
        # The linear part of the loss has no curvature along the residual: subtract it from the Gauss-Newton Hessian.
        H = (weighted[:, :, None] * J[:, None]).sum((0, 3))  # (3, 3, B, J)
        curvature = ((along * far)[:, None] * along).sum(2)
        H = H * (1 + damping) - curvature
        gradient = (weighted * offset[:, None]).sum((0, 2))
        trial = evaluate(X - (invert(damp(H))[0] * gradient).sum(1))
        better = trial[-1] < cost
        state = tuple(torch.where(better, new, old) for new, old in zip(trial, state, strict=True))
        damping = torch.where(better, damping / 4, damping * 4)
    return state[0]


def ransac_published(
    P: Array,
    points_px: Array,
    rng: random.Random,
    *,
    draws: int = 10,
    threshold_px: float = THRESHOLD_PX,
    refined: bool = True,
) -> Consensus:
    """The RANSAC of learnable triangulation's release code, draw by draw.

    Ten draws of two views from the sorted list of those that observe the joint, frames before joints. The drawn pair
    belongs to the consensus whatever its error. Half the reprojection distance is compared with half the threshold. The
    first of equally large sets wins, however badly it fits. The refinement has one half distance per view as residual
    and a numeric Jacobian.

    Args:
        P: (..., V, 3, 4). The rows are formed in the inputs' precision (the release code's is float32).
        points_px: (..., V, J, 2), NaN where a view has no observation.
        rng: source of the draws; its state advances.
        draws: pairs of views per joint.
        threshold_px: on the full reprojection distance.
        refined: whether scipy refines the consensus.
    """
    batch = np.broadcast_shapes(P.shape[:-3], points_px.shape[:-3])
    views, joints = points_px.shape[-3:-1]
    P = np.broadcast_to(P, (*batch, views, 3, 4))
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
        X = least_squares(half_distances, X, loss="huber", method="trf", args=(kept,)).x
    return kept, X
