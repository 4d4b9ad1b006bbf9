"""Matching of predicted with true people in each image, and average precision. Pure functions.

Conventions. People are points (N, 3) in mm, each with an integer that identifies its image. A higher score means a more
confident prediction. A pair is a predicted and a true person of the same image; no function loops over images.

There are three rules, which the literature confuses:

* *sound*: people are taken by falling score, and each takes the nearest free true person within reach;
  among predictions of equal score the nearest pair comes first, so the order of a file decides nothing. AP is the area
  under the curve of the highest precision at each recall or beyond (VOC 2010), with one point for each distinct score.
* *published*: MuPoTS-3D's AP_25 as RootNet's release computes it (Moon et al., ICCV 2019). Each prediction is compared
  with the nearest true person and is false if that person is already matched. AP sums the rectangles under the raw
  curve without the first one, so one perfect prediction of one person has AP 0. Ties go by the order of the file.
* *nearest*: a prediction can match only the nearest true person, as in the published rule. The area is computed as in
  the sound rule. Among predictions of equal score the farthest comes first, so copies cannot lower the error. VoxelPose
  uses this rule for whole poses (`protocols.ap_people`).

In all rules the distance of a match is *strictly* below the limit. The published rule ignores predictions in images
without a true person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Images = NDArray[np.integer]
Array = NDArray[np.float64]

FARTHEST_MM = 9999.0
"""From here on the published rule finds no nearest person at all."""

_CELLS = 4_000_000  # resamples × points of the curve that are held at once


@dataclass(frozen=True, eq=False)
class Matches:
    """Matches of N predicted people.

    Args:
        truth: (N,) index of the matched true person, -1 if unmatched.
        judged: (N,) bool; False: the prediction is ignored and counts neither as correct nor as false.
        distance_mm: (N,) distance to the nearest true person of the image; NaN if the image has none.
    """

    truth: NDArray[np.int64]
    judged: NDArray[np.bool_]
    distance_mm: Array

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) bool, whether each predicted person is matched."""
        return np.asarray(self.truth >= 0)


def validate(pred: Points, pred_image: Images, score: Points, truth: Points, truth_image: Images) -> None:
    """Raise ValueError unless points are finite (N, 3) and (M, 3), each with an image, and scores are finite."""
    for name, points, image in (("pred", pred, pred_image), ("truth", truth, truth_image)):
        if points.ndim != 2 or points.shape[1] != 3 or image.shape != points.shape[:1]:
            raise ValueError(f"{name} needs (N, 3) points with an image each, got {points.shape} and {image.shape}")
        if not np.isfinite(points).all():
            raise ValueError(f"{name} has coordinates that are not finite")
    if score.shape != pred_image.shape or not np.isfinite(score).all():
        raise ValueError(f"score needs {pred_image.shape} finite numbers, got {score.shape}")


def by_score(score: Points) -> NDArray[np.int64]:
    """Indices by descending score; equal scores keep their order."""
    return np.asarray(np.argsort(-np.asarray(score, dtype=np.float64), kind="stable"))


def match(
    pred: Points, pred_image: Images, score: Points, truth: Points, truth_image: Images, within_mm: float = 250.0
) -> Matches:
    """Match predicted with true people by the sound rule; every prediction is judged.

    Args:
        pred: (N, 3) predicted people, mm.
        pred_image: (N,) image of each predicted person.
        score: (N,) score of each predicted person.
        truth: (M, 3) true people, mm.
        truth_image: (M,) image of each true person.
        within_mm: limit of the distance of a match, exclusive.

    Raises:
        ValueError: shapes do not match or a value is not finite.

    Example:
        >>> people = np.array([[0.0, 0, 3000], [900, 0, 3000]])
        >>> match(people[::-1], np.zeros(2, int), np.array([0.9, 0.8]), people, np.zeros(2, int)).truth.tolist()
        [1, 0]
    """
    validate(pred, pred_image, score, truth, truth_image)
    p, t, distance = _pairs(pred, pred_image, truth, truth_image)
    nearest = _nearest(p, distance, len(pred))
    reach = distance < within_mm
    p, t, distance = p[reach], t[reach], distance[reach]
    # the person's number decides between true people equally near, which is the same for every order of predictions
    order = np.lexsort((t, distance, -np.asarray(score, dtype=np.float64)[p]))
    found = greedy(p[order], t[order], len(pred), len(truth))
    return Matches(found, np.ones(len(pred), dtype=bool), nearest)


def match_published(
    pred: Points, pred_image: Images, score: Points, truth: Points, truth_image: Images, within_mm: float = 250.0
) -> Matches:
    """Match predicted with true people by the published rule. Arguments as in :func:`match`.

    Example:
        >>> people = np.array([[0.0, 0, 3000], [200, 0, 3000]])
        >>> near_first = np.array([[0.0, 0, 3000], [50, 0, 3000]])
        >>> match_published(near_first, np.zeros(2, int), np.array([0.9, 0.8]), people, np.zeros(2, int)).truth.tolist()
        [0, -1]
    """
    validate(pred, pred_image, score, truth, truth_image)
    p, t, distance = _pairs(pred, pred_image, truth, truth_image)
    nearest = _nearest(p, distance, len(pred))
    judged = ~np.isnan(nearest)
    reach = (distance == nearest[p]) & (distance < min(within_mm, FARTHEST_MM))
    p, t = p[reach], t[reach]
    first = _first(p, len(pred))  # of people equally near the first in the file
    p, t = p[first], t[first]
    rank = np.empty(len(pred), dtype=np.int64)
    rank[by_score(score)] = np.arange(len(pred))
    order = np.argsort(rank[p])
    p, t = p[order], t[order]
    first = _first(t, len(truth))
    found = np.full(len(pred), -1, dtype=np.int64)
    found[p[first]] = t[first]
    return Matches(found, judged, nearest)


def match_nearest(
    p: NDArray[np.int64], t: NDArray[np.int64], distance: Array, score: Points, true: int, within: float
) -> Matches:
    """Match predicted with true people by the nearest rule; images without a true person are not judged.

    Args:
        p: (K,) index of the predicted person of each pair in an image, in any order; see `same_image`.
        t: (K,) index of the true person of each pair.
        distance: (K,) distance of each pair; infinite if the pair cannot match.
        score: (N,) scores of the predicted people.
        true: number of true people.
        within: limit of the distance of a match, exclusive.

    Example:
        >>> p, t = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        >>> match_nearest(p, t, np.array([10.0, 90, 20, 80]), np.array([0.8, 0.9]), 2, 100).truth.tolist()
        [-1, 0]
    """
    order = np.lexsort((t, distance, p))
    order = order[_first(p[order], len(score))]  # of each predicted person its nearest true one
    p, t, distance = p[order], t[order], distance[order]
    nearest = np.full(len(score), np.nan)
    nearest[p] = distance
    rank = np.lexsort((-distance, -np.asarray(score, dtype=np.float64)[p]))
    rank = rank[distance[rank] < within]
    right = rank[_first(t[rank], true)]
    found = np.full(len(score), -1, dtype=np.int64)
    found[p[right]] = t[right]
    return Matches(found, ~np.isnan(nearest), nearest)


def curve(matches: Matches, score: Points, people: int) -> tuple[Array, Array]:
    """Precision and recall, one array each, after each judged prediction by descending score.

    Recall is relative to the number of true ``people``.
    """
    order = by_score(score)
    order = order[matches.judged[order]]
    right = np.cumsum(matches.correct[order])
    precision = right / np.arange(1, len(order) + 1)
    return precision, np.asarray(right / max(people, 1))


def average_precision(
    correct: NDArray[np.bool_],
    score: Points,
    codes: Images,
    people: Points,
    multiplicity: Array,
    *,
    published: bool = False,
) -> Array:
    """Average precision under each resample of groups, (R,) in [0, 1].

    Args:
        correct: (N,) whether each judged prediction is correct.
        score: (N,) score of each prediction.
        codes: (N,) group of each prediction, in [0, G).
        people: (G,) number of true people in each group.
        multiplicity: (R, G) weight of each group in each resample; ones (1, G) give the AP of the data.
        published: use the published rule instead of the sound one.

    Returns:
        Average precision (R,); NaN where a resample has no true people, 0 where it has no predictions.

    Example:
        >>> one = np.ones((1, 1))
        >>> right = np.array([True, False, True])
        >>> float(average_precision(right, np.array([0.9, 0.8, 0.7]), np.zeros(3, int), np.array([2.0]), one)[0])
        0.8333333333333333
    """
    groups = multiplicity.shape[1]
    order = by_score(score)
    correct, falling, codes = correct[order], np.asarray(score, dtype=np.float64)[order], codes[order]
    total = multiplicity @ np.asarray(people, dtype=np.float64)
    area = np.zeros(len(multiplicity))
    if len(order) and correct.any():
        # Points of the curve at which recall rises: by the sound rule the last prediction of each score, and of those
        # between two rises nothing is needed but their number.
        ends = np.ones(len(order), dtype=bool) if published else np.append(falling[1:] != falling[:-1], True)
        point = np.cumsum(ends) - ends
        risen = np.zeros(int(point[-1]) + 1, dtype=bool)
        risen[point[correct]] = True
        # predictions after a rise and up to the next belong to the next
        rise = np.concatenate([[0], np.cumsum(risen)])[point]
        rises = int(risen.sum())
        counts = np.zeros((2, rises, groups))
        kept = rise < rises
        np.add.at(counts[0], (rise[kept & correct], codes[kept & correct]), 1)
        np.add.at(counts[1], (rise[kept], codes[kept]), 1)
        block = max(1, _CELLS // rises)
        for start in range(0, len(multiplicity), block):
            m = multiplicity[start : start + block]
            right, steps = m @ counts[0].cumsum(axis=0).T, m @ counts[0].T
            made = m @ counts[1].cumsum(axis=0).T
            precision = np.divide(right, made, out=np.zeros_like(right), where=made > 0)
            if not published:
                precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            area[start : start + block] = (precision * steps).sum(axis=1)
        if published:
            area -= _first_is_right(correct, codes, multiplicity)
    return np.divide(area, total, out=np.full(len(area), np.nan), where=total > 0)


def _first_is_right(correct: NDArray[np.bool_], codes: Images, multiplicity: Array) -> Array:
    """(R,) 1 for resamples with a correct first prediction, whose rectangle the published rule omits; else 0."""
    first = np.full(multiplicity.shape[1], len(correct))
    np.minimum.at(first, codes, np.arange(len(correct)))
    places = np.where(multiplicity > 0, first, len(correct)).min(axis=1)
    return np.asarray(np.append(correct, False)[places], dtype=np.float64)


def greedy(p: NDArray[np.int64], t: NDArray[np.int64], predicted: int, true: int) -> NDArray[np.int64]:
    """Match one to one, greedily in the order of the pairs.

    Args:
        p: (K,) index of the predicted person of each pair, best pair first.
        t: (K,) index of the true person of each pair.
        predicted: number of predicted people, N.
        true: number of true people.

    Returns:
        Index of the matched true person of each predicted person, (N,); -1 if unmatched.
    """
    found, taken = np.full(predicted, -1, dtype=np.int64), np.zeros(true, dtype=bool)
    while len(p):  # at most as many rounds as an image has people
        first = _first(p, predicted) & _first(t, true)
        found[p[first]], taken[t[first]] = t[first], True
        left = (found[p] < 0) & ~taken[t]
        p, t = p[left], t[left]
    return found


def same_image(pred_image: Images, truth_image: Images) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair every predicted person with every true person of the same image; two arrays (K,) of indices.

    Example:
        >>> [numbers.tolist() for numbers in same_image(np.array([7, 8]), np.array([8, 8, 9]))]
        [[1, 1], [0, 1]]
    """
    order = np.argsort(truth_image, kind="stable")
    images, start, count = np.unique(truth_image[order], return_index=True, return_counts=True)
    if not len(images):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    place = np.minimum(np.searchsorted(images, pred_image), len(images) - 1)
    each = np.where(images[place] == pred_image, count[place], 0)
    p = np.repeat(np.arange(len(pred_image)), each)
    of_image = np.arange(len(p)) - np.repeat(np.cumsum(each) - each, each)
    return p, order[start[place][p] + of_image]


def _pairs(
    pred: Points, pred_image: Images, truth: Points, truth_image: Images
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Pairs of `same_image` and their distances in mm, image by image for fast memory access."""
    order = np.argsort(pred_image, kind="stable")
    p, t = same_image(pred_image[order], truth_image)
    difference = pred[order].astype(np.float64)[p] - truth.astype(np.float64)[t]
    return order[p], t, np.sqrt(np.einsum("nk,nk->n", difference, difference))


def _nearest(p: NDArray[np.int64], distance: Array, predicted: int) -> Array:
    """Smallest distance (N,) of each predicted person; NaN without a pair. Pairs are sorted by predicted person."""
    nearest = np.full(predicted, np.nan)
    if len(p):
        starts = np.flatnonzero(np.append(True, p[1:] != p[:-1]))
        nearest[p[starts]] = np.minimum.reduceat(distance, starts)
    return nearest


def _first(values: NDArray[np.int64], limit: int) -> NDArray[np.bool_]:
    """Mask of the first occurrence of each value; values are below ``limit``."""
    first = np.empty(limit, dtype=np.int64)
    first[values[::-1]] = np.arange(len(values))[::-1]
    return np.asarray(first[values] == np.arange(len(values)))
