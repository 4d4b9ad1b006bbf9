"""Robust triangulation of one point, as `ransac` describes it: plain numpy and scipy, one pair of views at a time."""

from itertools import combinations

import numpy as np
from scipy.optimize import minimize

HUBER_SHARE = 1 / 5


def solve(P, points, views):
    rows = np.concatenate([points[v][:, None] * P[v, 2:] - P[v, :2] for v in views])
    return np.linalg.lstsq(rows[:, :3], -rows[:, 3])[0]


def project(P, X):
    x = P @ np.append(X, 1)
    return x[:, :2] / x[:, 2:], x[:, 2]


def huber_cost(P, points, X, huber_px):
    pixels, depth = project(P, X)
    distance = np.linalg.norm(pixels - points, axis=1)
    near = np.minimum(distance, huber_px)
    return np.where(depth > 0, near * (distance - near / 2), 1e12).sum()


def plain_consensus(P, points, threshold_px):
    """The point and its views, of P (V, 3, 4), points (V, 2); None with fewer than two views."""
    usable = np.isfinite(points).all(1) & np.isfinite(P).all((1, 2)) & P[:, 2].any(1)
    best_score, best = -1.0, None
    for pair in combinations(np.flatnonzero(usable), 2):
        pixels, depth = project(P[usable], solve(P, points, pair))
        agreement = 1 - ((pixels - points[usable]) ** 2).sum(1) / threshold_px**2
        agreement = np.where(depth > 0, agreement, 0).clip(0)
        if agreement.sum() > best_score:
            best_score = agreement.sum()
            best = np.union1d(np.flatnonzero(usable)[agreement > 0], pair)
    return None if best is None else (solve(P, points, best), best)


def refined(P, points, views, X, threshold_px):
    """The point with the smallest cost near X, by a general optimiser."""

    def cost(offset):
        return huber_cost(P[views], points[views], X + offset, HUBER_SHARE * threshold_px)

    options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000}
    return X + minimize(cost, np.zeros(3), method="Nelder-Mead", options=options).x
