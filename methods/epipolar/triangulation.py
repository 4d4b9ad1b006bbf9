"""Triangulation schemes of epipolar transformers (He et al., CVPR 2020, release code and its configurations).

All points are crop pixels, and all cameras are those of crops. Scores are the largest values of the heat maps. A view
is confident of a joint if its score is above a threshold.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.methods.geometry.triangulation import dlt, ray_distance

Scheme = Literal["pymvg", "naive", "refine", "epipolar", "epipolar_dlt"]
"""Names as in the release.

pymvg: linear triangulation of the confident views, see `confident_dlt`.
naive: the pair of confident views with whose point most confident views agree.
refine: linear triangulation of those agreeing views.
epipolar: as refine if more than two views agree. If at most one view is confident: the view with the largest score and
its correspondence in another view.
epipolar_dlt: all confident views, whether they agree or not; otherwise as epipolar.
"""

CONFIDENCE: dict[Scheme, float] = {"pymvg": 0.05, "naive": 0.05, "refine": 0.05, "epipolar": 0.85, "epipolar_dlt": 0.85}
INLIER_MM: dict[Scheme, float] = {"naive": 3.0, "refine": 3.0, "epipolar": 35.0}
"""Distance of a point from a view's ray up to which the view agrees, for the schemes that count agreeing views."""
_LEAST: dict[Scheme, float] = {"naive": np.inf, "refine": 2, "epipolar": 3}
"""Minimum number of agreeing views that are triangulated; with fewer, the pair is."""

_STEP, _LOWEST = 0.05, -1.0
_CHUNK = 1_000_000


class Correspondences(NamedTuple):
    """Points in one source view that correspond to each view's joints.

    Args:
        source: (..., V) index of the source view; -1 if there is none.
        points_px: (..., V, J, 2) crop pixels of the source view.
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
    """Triangulate joints by one of the release's schemes.

    The release draws 100 random pairs of views per joint and keeps the first best pair. This function tries every pair
    once (6 pairs with four views). Among equally good pairs it chooses the pair with the nearest rays. Results equal
    those of the release unless they depend on its random draws.

    Args:
        scheme: one of `Scheme`.
        P: (..., V, 3, 4) projection matrices of the crops.
        points_px: (..., V, J, 2); NaN where a view is absent.
        scores: (..., V, J) largest values of the heat maps.
        correspondences: corresponding points for the schemes "epipolar" and "epipolar_dlt".
        confidence: score above which a view is confident; None: `CONFIDENCE` of the scheme.
        inlier_mm: maximum distance of the point from the ray of a view that agrees; None: `INLIER_MM` of the scheme.
        compat: return the world origin where the release does. "naive", "refine" and "epipolar" do so if several views
            are confident and none agrees with the point of any pair. "naive" and "refine" also do so if fewer than two
            views are confident.

    Returns:
        (..., J, 3) world mm; NaN with fewer than two observations. Without ``compat``, a joint without agreeing views
        is the point of the first pair of confident views.

    Raises:
        ValueError: the scheme needs ``correspondences``, but they are None.
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
            raise ValueError(f"{scheme} needs correspondences, give them or use another scheme")
        views = np.arange(scores.shape[-2])[:, None]
        surest = scores.argmax(axis=-2)[..., None, :]  # (..., 1, J)
        source = np.take_along_axis(np.broadcast_to(correspondences.source[..., None], scores.shape), surest, axis=-2)
        source_px = np.take_along_axis(correspondences.points_px, surest[..., None], axis=-3)
        is_source = ~several & (views == source)
        points_px = np.where(is_source[..., None], source_px, points_px)
        used = used | is_source | (~several & (views == surest))
    X = np.asarray(dlt(P, np.where(used[..., None], points_px, np.nan), homogeneous=True))
    return np.where(origin[..., None], 0.0, X)


def confident_dlt(P: Array, points_px: Array, scores: Array, confidence: float = CONFIDENCE["pymvg"]) -> Array:
    """Linear triangulation of each joint from its confident views.

    If fewer than two views score above the threshold, the threshold is lowered in steps of 0.05 until two views do or
    it is below -1.

    Args:
        P: (..., V, 3, 4) projection matrices of the crops.
        points_px: (..., V, J, 2); NaN where a view is absent.
        scores: (..., V, J) largest values of the heat maps.
        confidence: initial threshold.

    Returns:
        (..., J, 3) world mm; NaN where fewer than two views remain.
    """
    thresholds = [confidence]
    while thresholds[-1] >= _LOWEST:
        thresholds.append(thresholds[-1] - _STEP)
    scores = np.where(np.isfinite(points_px).all(axis=-1), scores, -np.inf)
    above = scores[..., None, :] > np.array(thresholds)[:, None]  # (..., V, T, J)
    enough = above.sum(axis=-3) >= 2
    first = np.where(enough.any(axis=-2), enough.argmax(axis=-2), len(thresholds) - 1)  # (..., J)
    chosen = np.take_along_axis(above, first[..., None, None, :], axis=-2)[..., 0, :]
    return np.asarray(dlt(P, np.where(chosen[..., None], points_px, np.nan), homogeneous=True))


def _agreeing(
    P: Array, points_px: Array, sure: NDArray[np.bool_], inlier_mm: float, least: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Largest set of confident views that agree with the point of one pair of views.

    Args:
        P: (..., V, 3, 4) projection matrices of the crops.
        points_px: (..., V, J, 2) crop pixels.
        sure: (..., V, J) whether the view is confident.
        inlier_mm: maximum distance of the point from the ray of a view that agrees.
        least: minimum size of a set. Smaller sets are replaced by the pair itself.

    Returns:
        Mask of the set (..., V, J), and whether any view agrees (..., J).
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
        chunk = slice(begin, begin + size)
        X = np.asarray(dlt(all_P[chunk, pair], all_points[chunk, pair], homogeneous=True))  # (B, K, J, 3)
        distance = ray_distance(all_P[chunk, None], X, all_points[chunk, None])  # (B, K, V, J)
        agrees = (distance < inlier_mm) & all_sure[chunk, None]
        # The nearness of the rays is below 1: it only decides between sets of the same size.
        nearness = np.where(agrees, 1 - distance / inlier_mm, 0.0).sum(axis=2) / (views + 1)
        score = np.where(all_sure[chunk, pair].all(axis=2), agrees.sum(axis=2) + nearness, -1.0)
        best = score.argmax(axis=1)  # (B, J)
        largest = np.take_along_axis(agrees, best[:, None, None], axis=1)[:, 0]
        itself = np.moveaxis(of_pair[best], -1, 1)
        chosen[chunk] = np.where(largest.sum(axis=1, keepdims=True) >= least, largest, itself)
        agreed[chunk] = largest.any(axis=1)
    return chosen.reshape(sure.shape), agreed.reshape(*batch, joints)
