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


def usable_views(P, points):
    return np.flatnonzero(np.isfinite(points).all(1) & np.isfinite(P).all((1, 2)) & P[:, 2].any(1))


def agreement_of(P, points, views, X, threshold_px):
    """Agreement of the views with a point, above 0 below the threshold and in front of the camera."""
    pixels, depth = project(P[views], X)
    agreement = 1 - ((pixels - points[views]) ** 2).sum(1) / threshold_px**2
    return np.where(depth > 0, agreement, 0).clip(0)


def plain_consensus(P, points, threshold_px):
    """The point and its views, of P (V, 3, 4), points (V, 2); None with fewer than two views."""
    views = usable_views(P, points)
    best_score, best = -1.0, None
    for pair in combinations(views, 2):
        agreement = agreement_of(P, points, views, solve(P, points, pair), threshold_px)
        if agreement.sum() > best_score:
            best_score = agreement.sum()
            best = np.union1d(views[agreement > 0], pair)
    return None if best is None else (solve(P, points, best), best)


def plain_search(P, points, order, schedule, threshold_px, block):
    """Views of a point that more than twelve views observe; pairs of the first twelve, ``block`` at a time."""
    views = usable_views(P, points)
    drawn = [v for v in order if v in views][:12]
    best = np.zeros(len(views)) - 1
    for start in range(0, len(schedule), block):
        for pair in schedule[start : start + block]:
            pair_views = [drawn[place] for place in pair]
            agreement = agreement_of(P, points, views, solve(P, points, pair_views), threshold_px)
            if agreement.sum() > best.sum():
                best, best_pair = agreement, pair_views
        agreeing, n = (best > 0).sum(), len(views)
        if agreeing and (1 - agreeing * (agreeing - 1) / (n * (n - 1))) ** (start + block) < 1e-6:
            break
    consensus = np.union1d(views[best > 0], best_pair)
    again = agreement_of(P, points, views, solve(P, points, consensus), threshold_px)
    return views[again > 0] if again.sum() > best.sum() and (again > 0).sum() >= 2 else consensus


def refined(P, points, views, X, threshold_px):
    """The point with the smallest cost near X, by a general optimiser."""

    def cost(offset):
        return huber_cost(P[views], points[views], X + offset, HUBER_SHARE * threshold_px)

    options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000}
    return X + minimize(cost, np.zeros(3), method="Nelder-Mead", options=options).x
