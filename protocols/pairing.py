"""Pairing predicted people with true people, or with 2D people, of the same samples by the distance of their joints."""

from __future__ import annotations

import numpy as np
import scipy  # its parts load when they are used
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.protocols.average_precision import same_image

Index = NDArray[np.int64]


def assigned(first: Index, second: Index, cost: Array, cap: float) -> Index:
    """Choose candidate pairs, one to one, with the smallest sum of costs and none above the cap.

    An unpaired person costs the cap, so that no good pair is given up for two bad ones.

    Args:
        first: (K,) index of the first person of each candidate pair.
        second: (K,) index of the second person of each candidate pair.
        cost: (K,) cost of each candidate pair; NaN: the pair is impossible.
        cap: the largest cost of a pair.

    Returns:
        Indices of the chosen pairs among the K, ascending.

    Example:
        >>> assigned(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1.0, 2.0, 1.5]), 9.0).tolist()
        [1, 2]
    """
    near = np.flatnonzero(cost <= cap)
    if not near.size:
        return near
    size = (int(first.max()) + 1, int(second.max()) + 1)
    graph = scipy.sparse.coo_array((np.ones(near.size), (first[near], size[0] + second[near])), shape=(sum(size),) * 2)
    _, group = scipy.sparse.csgraph.connected_components(graph, directed=False)
    of_pair = group[first[near]]
    order = np.argsort(of_pair, kind="stable")
    chosen = []
    for pairs in np.split(near[order], np.flatnonzero(np.diff(of_pair[order])) + 1):
        if len(pairs) == 1:
            chosen.append(pairs)
            continue
        rows, i = np.unique(first[pairs], return_inverse=True)
        columns, j = np.unique(second[pairs], return_inverse=True)
        costs = np.full((len(rows), len(columns)), cap)
        place = np.full(costs.shape, -1, dtype=np.int64)
        costs[i, j], place[i, j] = cost[pairs], pairs
        made = place[scipy.optimize.linear_sum_assignment(costs)]
        chosen.append(made[made >= 0])
    return np.sort(np.concatenate(chosen))


def row_means(values: Array) -> Array:
    """Mean (N,) of the finite values of each row of (N, J); NaN without finite values."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def mean_distances(
    pred_mm: Array,
    pred_image: NDArray[np.integer],
    truth_mm: Array,
    truth_image: NDArray[np.integer],
    lacking_mm: float,
) -> tuple[Index, Index, Array]:
    """Mean joint distance of each predicted person to each true person of the same image.

    Args:
        pred_mm: (N, J, 3) predicted people; NaN = not predicted.
        pred_image: (N,) image of each predicted person, any integers.
        truth_mm: (M, J, 3) true people, each with an annotated joint; NaN = not annotated.
        truth_image: (M,) image of each true person.
        lacking_mm: distance that counts for an annotated joint without a prediction.

    Returns:
        Index of the predicted person, index of the true person, and mean distance over the annotated joints of each
        pair, (K,) each. The distance is infinite if less than half of the annotated joints are predicted.

    Example:
        >>> pred, true = np.array([[[3.0, 4, 0], [np.nan] * 3]]), np.zeros((1, 2, 3))
        >>> mean_distances(pred, np.zeros(1, int), true, np.zeros(1, int), 500.0)[2].tolist()
        [252.5]
        >>> pred[:, 0] = np.nan
        >>> mean_distances(pred, np.zeros(1, int), true, np.zeros(1, int), 500.0)[2].tolist()
        [inf]
    """
    p, t = same_image(pred_image, truth_image)
    apart = np.linalg.norm(pred_mm[p] - truth_mm[t], axis=-1)
    annotated, predicted = np.isfinite(truth_mm[t]).all(axis=-1), np.isfinite(apart)
    joints = annotated.sum(axis=1)
    mean = np.where(annotated, np.where(predicted, apart, lacking_mm), 0.0).sum(axis=1) / joints
    return p, t, np.where(2 * predicted.sum(axis=1) >= joints, mean, np.inf)
