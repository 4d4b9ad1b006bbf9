"""How the release of epipolar transformers triangulates (He et al., CVPR 2020, release code and its configurations).

Crop pixels and cameras of crops throughout. Scores are the largest values of the heat maps, so a view is sure of a
joint where its score is above a threshold.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.methods.geometry.triangulation import dlt, ray_distance

Scheme = Literal["pymvg", "naive", "refine", "epipolar", "epipolar_dlt"]
"""The release's names.

pymvg: linear, by the views that are sure, see `confident_dlt`. naive: of all pairs of sure views the one with whose
point most of them agree. refine: linear, by those views. epipolar: as refine where more than two agree, and where at
most one view is sure, by that view and the place where it found the joint in another. epipolar_dlt: by all sure views,
however they agree, else as epipolar.
"""

CONFIDENCE: dict[Scheme, float] = {"pymvg": 0.05, "naive": 0.05, "refine": 0.05, "epipolar": 0.85, "epipolar_dlt": 0.85}
INLIER_MM: dict[Scheme, float] = {"naive": 3.0, "refine": 3.0, "epipolar": 35.0}
"""Of the schemes that ask views whether they agree."""
_LEAST: dict[Scheme, float] = {"naive": np.inf, "refine": 2, "epipolar": 3}
"""Views that have to agree for the answer to be theirs, not the pair's."""

_STEP, _LOWEST = 0.05, -1.0
_CHUNK = 1_000_000


class Correspondences(NamedTuple):
    """Where each view found its joints in one other view.

    Args:
        source: (..., V) index of that view, -1 for none.
        points_px: (..., V, J, 2) there.
    """

    source: NDArray[np.intp]
    points_px: Array


def triangulate_released(
    scheme: Scheme,
    P: Array,
    points_px: Array,
    scores: Array,
    correspondences: Correspondences | None = None,
    *,
    confidence: float | None = None,
    inlier_mm: float | None = None,
    compat: bool = False,
) -> Array:
    """Joints by one of the release's schemes.

    The release draws 100 random pairs of views a joint and keeps the first best. Here every pair is tried once, which
    are 6 with four views; of equally good ones that with the nearest rays wins. The answer is the release's wherever
    that does not depend on its draws.

    Args:
        scheme: which.
        P: (..., V, 3, 4).
        points_px: (..., V, J, 2), NaN where there is no view.
        scores: (..., V, J).
        correspondences: for the schemes "epipolar" and "epipolar_dlt".
        confidence: score above which a view is sure; None: the release's of the scheme.
        inlier_mm: distance of the point from its ray up to which a view agrees; None: the release's of the scheme.
        compat: answer the world's origin where the release does: "naive", "refine" and "epipolar" where several views
            are sure and none agrees with the point of any pair; "naive" and "refine" where fewer than two are sure.

    Returns:
        (..., J, 3) mm; NaN where no two observations are left. Without ``compat`` a joint on which no view agrees has
        the point of the pair whose rays come nearest.

    Raises:
        ValueError: the scheme needs correspondences.
    """
    confidence = CONFIDENCE[scheme] if confidence is None else confidence
    if scheme == "pymvg" or points_px.shape[-3] < 2:
        return confident_dlt(P, points_px, scores, confidence)
    scores = np.where(np.isfinite(points_px).all(axis=-1), scores, -np.inf)
    sure = scores > confidence
    several = sure.sum(axis=-2, keepdims=True) >= 2
    used = sure
    origin = np.zeros(several.shape[:-2] + several.shape[-1:], dtype=bool)
    if scheme != "epipolar_dlt":
        limit_mm = INLIER_MM[scheme] if inlier_mm is None else inlier_mm
        used, agreed = _agreeing(P, points_px, sure, limit_mm, _LEAST[scheme])
        if compat:
            enough = several[..., 0, :]
            origin = enough & ~agreed if scheme == "epipolar" else ~(enough & agreed)
    used = used & several
    if scheme in ("epipolar", "epipolar_dlt"):
        if correspondences is None:
            raise ValueError(f"{scheme} needs to know where views found their joints in others")
        views = np.arange(scores.shape[-2])[:, None]
        surest = scores.argmax(axis=-2)[..., None, :]  # (..., 1, J)
        source = np.take_along_axis(np.broadcast_to(correspondences.source[..., None], scores.shape), surest, axis=-2)
        found_px = np.take_along_axis(correspondences.points_px, surest[..., None], axis=-3)
        there = ~several & (views == source)
        points_px = np.where(there[..., None], found_px, points_px)
        used = used | there | (~several & (views == surest))
    X = np.asarray(dlt(P, np.where(used[..., None], points_px, np.nan), homogeneous=True))
    return np.where(origin[..., None], 0.0, X)


def confident_dlt(P: Array, points_px: Array, scores: Array, confidence: float = CONFIDENCE["pymvg"]) -> Array:
    """Linear triangulation of the views that are sure of a joint.

    Where at most one view scores above the threshold it is lowered, 0.05 at a time, until two do or it is below -1.

    Args:
        P: (..., V, 3, 4).
        points_px: (..., V, J, 2), NaN where there is no view.
        scores: (..., V, J).
        confidence: the threshold that is tried first.

    Returns:
        (..., J, 3) mm; NaN where fewer than two views remain.
    """
    tried = [confidence]
    while tried[-1] >= _LOWEST:
        tried.append(tried[-1] - _STEP)
    scores = np.where(np.isfinite(points_px).all(axis=-1), scores, -np.inf)
    above = scores[..., None, :] > np.array(tried)[:, None]  # (..., V, T, J)
    enough = above.sum(axis=-3) >= 2
    first = np.where(enough.any(axis=-2), enough.argmax(axis=-2), len(tried) - 1)  # (..., J)
    chosen = np.take_along_axis(above, first[..., None, None, :], axis=-2)[..., 0, :]
    return np.asarray(dlt(P, np.where(chosen[..., None], points_px, np.nan), homogeneous=True))


def _agreeing(
    P: Array, points_px: Array, sure: NDArray[np.bool_], inlier_mm: float, least: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The largest set of sure views (..., V, J) that agree with the point of a pair of them, and if any does (..., J).

    Args:
        P: (..., V, 3, 4).
        points_px: (..., V, J, 2).
        sure: (..., V, J).
        inlier_mm: distance of the point from its ray up to which a view agrees.
        least: smaller sets give way to the pair itself.
    """
    views, joints = sure.shape[-2:]
    pair = np.stack(np.triu_indices(views, k=1), axis=1)  # (K, 2)
    if not len(pair):
        return np.zeros_like(sure), np.zeros((*sure.shape[:-2], joints), dtype=bool)
    batch = sure.shape[:-2]
    all_P = np.broadcast_to(P, (*batch, views, 3, 4)).reshape(-1, views, 3, 4)
    all_points, all_sure = points_px.reshape(-1, views, joints, 2), sure.reshape(-1, views, joints)
    of_pair = (np.arange(views) == pair[..., None]).any(axis=1)  # (K, V)
    chosen = np.empty_like(all_sure)
    agreed = np.empty((len(all_sure), joints), dtype=bool)
    size = max(1, _CHUNK // (len(pair) * views * joints))
    for begin in range(0, len(chosen), size):
        some = slice(begin, begin + size)
        X = np.asarray(dlt(all_P[some, pair], all_points[some, pair], homogeneous=True))  # (B, K, J, 3)
        distance = ray_distance(all_P[some, None], X, all_points[some, None])  # (B, K, V, J)
        agrees = (distance < inlier_mm) & all_sure[some, None]
        # Less than one for how near the rays are, so that it tells only sets of one size apart.
        nearness = np.where(agrees, 1 - distance / inlier_mm, 0.0).sum(axis=2) / (views + 1)
        score = np.where(all_sure[some, pair].all(axis=2), agrees.sum(axis=2) + nearness, -1.0)
        best = score.argmax(axis=1)  # (B, J)
        largest = np.take_along_axis(agrees, best[:, None, None], axis=1)[:, 0]
        itself = np.moveaxis(of_pair[best], -1, 1)
        chosen[some] = np.where(largest.sum(axis=1, keepdims=True) >= least, largest, itself)
        agreed[some] = largest.any(axis=1)
    return chosen.reshape(sure.shape), agreed.reshape(*batch, joints)
