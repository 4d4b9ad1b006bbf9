# mypy: allow-untyped-defs
# ^ numba infers the types of compiled functions; nothing outside ``robust`` calls them.
"""Compiled loops of robust triangulation, one point after another; see `robust.ransac`.

For each point, only the n views that observe it are stored. ``cameras`` has one row per view: 12 entries of P and two
pixel coordinates. ``normals`` has one row of normal equations per view: the upper triangle of B'B, then B'b. Pairs of
views are hypotheses. `_propose` computes `LANES` of them at once, one per SIMD lane.

All constants and functions are in this file, because numba renews its cache on disk only when this file changes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from poseboard.methods.geometry.compiling import inner, kept

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

LANES = 8
_MISSED = 1e-6
"""Chance that all pairs tried had a wrong view, given the share of views that agree: below it the search ends."""
_SETTLED_MM = 1e-9
"""The refinement ends where an undamped step would be shorter."""
_FIRST, _SECOND = np.array([0, 0, 0, 1, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 1, 2, 2, 3, 3, 3])
"""Rows and columns of the normal equations of a view, in the order in which they are kept."""
_TINY = 2.2250738585072014e-308
"""Smallest normal number."""
_BEHIND = 1e12
"""Cost of a point behind a camera: such a step is rejected."""


# Without fastmath, so that equal inputs give equal bytes.
_OPTIONS = {"nogil": True, "error_model": "numpy"}
_inner, _kept = inner(**_OPTIONS), kept(**_OPTIONS)


@_inner
def _solve(xx, xy, xz, yy, yz, zz, bx, by, bz, damp):
    """Solve a symmetric system by cofactors, damped as in `triangulation.damp` and bounded as in `invert`."""
    trace = xx + yy + zz
    added = damp * trace if trace > 0.0 else 1.0
    xx += added
    yy += added
    zz += added
    trace = xx + yy + zz
    c_xx = yy * zz - yz * yz
    c_xy = xz * yz - xy * zz
    c_xz = xy * yz - xz * yy
    determinant = xx * c_xx + xy * c_xy + xz * c_xz
    floor = damp * damp * (trace * trace * trace)
    floor = floor if floor > _TINY else _TINY
    determinant = determinant if determinant > floor else floor
    i_xy = c_xy / determinant
    i_xz = c_xz / determinant
    i_yz = (xy * xz - xx * yz) / determinant
    x = c_xx / determinant * bx + i_xy * by + i_xz * bz
    y = i_xy * bx + (xx * zz - xz * xz) / determinant * by + i_yz * bz
    z = i_xz * bx + i_yz * by + (xx * yy - xy * xy) / determinant * bz
    return x, y, z


@_inner
def _check(P, rig, sound):
    """Fill ``sound``, which is True for cameras with finite entries and a last row that is not zero."""
    for v in range(P.shape[1]):
        total = depth = 0.0
        for k in range(12):
            total += P[rig, v, k]
            if k >= 8:
                depth += abs(P[rig, v, k])
        sound[v] = depth > 0.0 and np.isfinite(total)


@_inner
def _pair(n, pairs):
    """Fill ``pairs`` with all pairs of ``n`` views; return their number."""
    count = 0
    for first in range(n):
        for second in range(first + 1, n):
            pairs[count, 0] = first
            pairs[count, 1] = second
            count += 1
    return count


@_inner
def _observe(P, rig, sound, points, f, j, rows, cameras, among, normals):
    """Fill one row per view that observes joint ``j`` of frame ``f``, and its index in ``among``; return the number."""
    n = 0
    for v in range(points.shape[1]):
        u, w = points[f, v, j, 0], points[f, v, j, 1]
        if not (sound[v] and np.isfinite(u + w)):
            continue
        for k in range(12):
            cameras[n, k] = P[rig, v, k]
        cameras[n, 12] = u
        cameras[n, 13] = w
        for k in range(4):
            rows[0, k] = u * P[rig, v, 8 + k] - P[rig, v, k]
            rows[1, k] = w * P[rig, v, 8 + k] - P[rig, v, 4 + k]
        for k in range(9):
            a, b = _FIRST[k], _SECOND[k]
            normals[n, k] = rows[0, a] * rows[0, b] + rows[1, a] * rows[1, b]
        among[n] = v
        n += 1
    return n


@_inner
def _propose(normals, cameras, n, pairs, start, count, squared_px, damp, lanes):
    """Fill ``lanes`` (9 x LANES) with score, x, y, z of the pairs from ``start``; the last pair fills spare lanes."""
    for lane in range(LANES):
        h = min(start + lane, count - 1)
        first, second = pairs[h, 0], pairs[h, 1]
        for k in range(9):
            lanes[k * LANES + lane] = normals[first, k] + normals[second, k]
    for lane in range(LANES):
        x, y, z = _solve(
            lanes[lane], lanes[LANES + lane], lanes[2 * LANES + lane],
            lanes[3 * LANES + lane], lanes[4 * LANES + lane], lanes[5 * LANES + lane],
            -lanes[6 * LANES + lane], -lanes[7 * LANES + lane], -lanes[8 * LANES + lane], damp,
        )  # fmt: skip
        lanes[lane] = 0.0
        lanes[LANES + lane] = x
        lanes[2 * LANES + lane] = y
        lanes[3 * LANES + lane] = z
    for i in range(n):
        a0, a1, a2, a3 = cameras[i, 0], cameras[i, 1], cameras[i, 2], cameras[i, 3]
        b0, b1, b2, b3 = cameras[i, 4], cameras[i, 5], cameras[i, 6], cameras[i, 7]
        c0, c1, c2, c3 = cameras[i, 8], cameras[i, 9], cameras[i, 10], cameras[i, 11]
        u, w = cameras[i, 12], cameras[i, 13]
        for lane in range(LANES):
            x, y, z = lanes[LANES + lane], lanes[2 * LANES + lane], lanes[3 * LANES + lane]
            depth = c0 * x + c1 * y + c2 * z + c3
            du = (a0 * x + a1 * y + a2 * z + a3) / depth - u
            dw = (b0 * x + b1 * y + b2 * z + b3) / depth - w
            agreement = 1.0 - (du * du + dw * dw) / squared_px
            agreement = agreement if agreement > 0.0 else 0.0
            lanes[lane] += agreement if depth > 0.0 else 0.0


@_inner
def _agree(cameras, n, x, y, z, squared_px, agrees):
    """Fill ``agrees`` with the views that agree with a point; return the point's score and their number."""
    score, count = 0.0, 0
    for i in range(n):
        depth = cameras[i, 8] * x + cameras[i, 9] * y + cameras[i, 10] * z + cameras[i, 11]
        du = (cameras[i, 0] * x + cameras[i, 1] * y + cameras[i, 2] * z + cameras[i, 3]) / depth - cameras[i, 12]
        dw = (cameras[i, 4] * x + cameras[i, 5] * y + cameras[i, 6] * z + cameras[i, 7]) / depth - cameras[i, 13]
        agreement = 1.0 - (du * du + dw * dw) / squared_px
        agrees[i] = depth > 0.0 and agreement > 0.0
        if agrees[i]:
            score += agreement
            count += 1
    return score, count


@_inner
def _together(normals, n, agrees, damp, s):
    """Triangulate linearly from the views that agree; ``s`` receives the sum of their normal equations."""
    for k in range(9):
        s[k] = 0.0
    for i in range(n):
        if agrees[i]:
            for k in range(9):
                s[k] += normals[i, k]
    return _solve(s[0], s[1], s[2], s[3], s[4], s[5], -s[6], -s[7], -s[8], damp)


@_inner
def _search(normals, cameras, n, pairs, count, ends, squared_px, damp, lanes, agrees):
    """Fill ``agrees`` with the consensus of the best pair; return its score. ``ends``: stop as soon as it is sure."""
    best, best_score, known = 0, -1.0, -1
    x = y = z = 0.0
    score = 0.0
    for start in range(0, count, LANES):
        _propose(normals, cameras, n, pairs, start, count, squared_px, damp, lanes)
        for lane in range(min(LANES, count - start)):
            if lanes[lane] > best_score:
                best, best_score = start + lane, lanes[lane]
                x, y, z = lanes[LANES + lane], lanes[2 * LANES + lane], lanes[3 * LANES + lane]
        if ends and best_score > 0.0:
            if known != best:
                score, agreeing = _agree(cameras, n, x, y, z, squared_px, agrees)
                known = best
                missed = 1.0 - agreeing * (agreeing - 1.0) / (n * (n - 1.0))
            if missed ** (start + LANES) < _MISSED:
                break
    if known != best:
        score, _ = _agree(cameras, n, x, y, z, squared_px, agrees)
    # The pair is always part of the consensus, also where its own error exceeds the threshold.
    agrees[pairs[best, 0]] = True
    agrees[pairs[best, 1]] = True
    return score


@_inner
def _evaluate(cameras, n, x, y, z, huber_px, state):
    """Huber cost of a point; fill ``state`` (n, 4) with pixels, depth and weight in the normal equations per view."""
    cost = 0.0
    for i in range(n):
        depth = cameras[i, 8] * x + cameras[i, 9] * y + cameras[i, 10] * z + cameras[i, 11]
        in_front = depth > 0.0
        depth = depth if in_front else 1.0
        u = (cameras[i, 0] * x + cameras[i, 1] * y + cameras[i, 2] * z + cameras[i, 3]) / depth
        w = (cameras[i, 4] * x + cameras[i, 5] * y + cameras[i, 6] * z + cameras[i, 7]) / depth
        du, dw = u - cameras[i, 12], w - cameras[i, 13]
        distance = np.sqrt(du * du + dw * dw)
        pull = 1.0
        if not in_front:
            cost += _BEHIND
            pull = 0.0
        elif distance <= huber_px:
            cost += distance * (distance - distance / 2.0)
        else:
            cost += huber_px * (distance - huber_px / 2.0)
            pull = 1.0 / distance * huber_px
        state[i, 0] = u
        state[i, 1] = w
        state[i, 2] = depth
        state[i, 3] = pull
    return cost


@_inner
def _linearise(cameras, n, state, system):
    """Fill ``system`` (15,): gradient, Gauss-Newton matrix, and the reduction of it in the linear part of the loss."""
    for k in range(15):
        system[k] = 0.0
    for i in range(n):
        depth, pull = state[i, 2], state[i, 3]
        # `pull` is the weight of the Huber loss: 1 within its bound, bound / distance beyond it, 0 behind the camera.
        if pull == 0.0:
            continue
        ax = ay = az = squared = 0.0
        for r in range(2):
            at = state[i, r]
            d = at - cameras[i, 12 + r]
            # Derivative of u = (P_r X) / (P_3 X) with respect to X.
            jx = (cameras[i, 4 * r] - at * cameras[i, 8]) / depth
            jy = (cameras[i, 4 * r + 1] - at * cameras[i, 9]) / depth
            jz = (cameras[i, 4 * r + 2] - at * cameras[i, 10]) / depth
            squared += d * d
            ax += d * jx
            ay += d * jy
            az += d * jz
            wx, wy, wz = jx * pull, jy * pull, jz * pull
            system[0] += wx * d
            system[1] += wy * d
            system[2] += wz * d
            system[3] += wx * jx
            system[4] += wx * jy
            system[5] += wx * jz
            system[6] += wy * jy
            system[7] += wy * jz
            system[8] += wz * jz
        if pull < 1.0:
            # The linear part of the loss has no curvature along the residual.
            far = pull / squared
            system[9] += ax * far * ax
            system[10] += ax * far * ay
            system[11] += ax * far * az
            system[12] += ay * far * ay
            system[13] += ay * far * az
            system[14] += az * far * az


@_inner
def _refine(cameras, n, x, y, z, huber_px, steps, damp, state, trial, system):
    """Refine a point by Levenberg–Marquardt on the Huber loss of the reprojection distances."""
    cost = _evaluate(cameras, n, x, y, z, huber_px, state)
    damping, better, s = 0.1, True, system
    for _ in range(steps):
        if better:
            _linearise(cameras, n, state, system)
        more = 1.0 + damping
        dx, dy, dz = _solve(
            s[3] * more - s[9], s[4] * more - s[10], s[5] * more - s[11],
            s[6] * more - s[12], s[7] * more - s[13], s[8] * more - s[14],
            s[0], s[1], s[2], damp,
        )  # fmt: skip
        trial_cost = _evaluate(cameras, n, x - dx, y - dy, z - dz, huber_px, trial)
        better = trial_cost < cost
        if better:
            x, y, z, cost = x - dx, y - dy, z - dz, trial_cost
            state, trial = trial, state
            damping /= 4.0
        else:
            damping *= 4.0
        if (abs(dx) + abs(dy) + abs(dz)) * more < _SETTLED_MM:
            break
    return x, y, z


class Scratch(NamedTuple):
    """Working memory of `triangulate` for one point in V views. If there are many views, M of them are drawn."""

    sound: NDArray[np.bool_]  # (V,) cameras of the frame that can be used
    rows: Array  # (2, 4)
    cameras: Array  # (V, 14)
    normals: Array  # (V, 9)
    among: Integers  # (V,) view of each row
    place: Integers  # (V,) row of each view
    chosen: Integers  # (M,) rows that are drawn
    pairs: Integers  # (M (M - 1) / 2, 2)
    lanes: Array  # (9 x LANES,): what lanes hold, one after another
    agrees: NDArray[np.bool_]  # (V,)
    again: NDArray[np.bool_]  # (V,)
    state: Array  # (V, 4)
    trial: Array  # (V, 4)
    system: Array  # (15,)

    @classmethod
    def of(cls, views: int, most: int) -> "Scratch":
        """Allocate memory for points in ``views`` views and pairs of at most ``most`` views."""
        return cls(
            sound=np.empty(views, dtype=np.bool_),
            rows=np.empty((2, 4)),
            cameras=np.empty((views, 14)),
            normals=np.empty((views, 9)),
            among=np.empty(views, dtype=np.int64),
            place=np.empty(views, dtype=np.int64),
            chosen=np.empty(most, dtype=np.int64),
            pairs=np.empty((most * (most - 1) // 2, 2), dtype=np.int64),
            lanes=np.empty(9 * LANES),
            agrees=np.empty(views, dtype=np.bool_),
            again=np.empty(views, dtype=np.bool_),
            state=np.empty((views, 4)),
            trial=np.empty((views, 4)),
            system=np.empty(15),
        )


@_inner
def _search_many(cameras, normals, n, drawn, j, schedule, squared_px, damp, scratch):
    """Fill ``scratch.agrees`` with a consensus of many views, searched from pairs of drawn views."""
    most = len(scratch.chosen)
    for v in range(len(scratch.place)):
        scratch.place[v] = -1
    for i in range(n):
        scratch.place[scratch.among[i]] = i
    count = 0
    for k in range(len(scratch.place)):
        i = scratch.place[drawn[k, j]]
        if i >= 0 and count < most:
            scratch.chosen[count] = i
            count += 1
    for k in range(len(schedule)):
        scratch.pairs[k, 0] = scratch.chosen[schedule[k, 0]]
        scratch.pairs[k, 1] = scratch.chosen[schedule[k, 1]]
    score = _search(
        normals, cameras, n, scratch.pairs, len(schedule), True, squared_px, damp, scratch.lanes, scratch.agrees
    )
    # The search has ended early: the views that agree with its whole consensus may be more.
    x, y, z = _together(normals, n, scratch.agrees, damp, scratch.system)
    score_again, count = _agree(cameras, n, x, y, z, squared_px, scratch.again)
    if score_again > score and count >= 2:
        for i in range(n):
            scratch.agrees[i] = scratch.again[i]


@_kept
def triangulate(P, points, drawn, schedule, threshold_px, huber_px, steps, damp, start, stop, X, inliers, scratch):
    """Fill ``X`` and ``inliers`` of the points from ``start`` to ``stop``.

    Args:
        P: (F or 1, V, 12) projection matrices.
        points: (F, V, J, 2) pixels.
        drawn: (V, J) order in which views are drawn if there are too many to try all pairs.
        schedule: (K, 2) pairs of drawn views, disjoint ones first.
        threshold_px: maximum reprojection distance of a view that agrees.
        huber_px: distance at which the loss changes from quadratic to linear.
        steps: number of refinement steps; 0: no refinement.
        damp: share of the trace that is added to the diagonal of normal equations.
        start: index of the first of the F x J points.
        stop: index after the last point.
        X: (F x J, 3) output; the caller fills it with NaN.
        inliers: (F, V, J) output; the caller fills it with False.
        scratch: working memory of the calling thread.
    """
    joints = points.shape[2]
    cameras, normals, agrees = scratch.cameras, scratch.normals, scratch.agrees
    squared_px = threshold_px * threshold_px
    rig = -1
    for point in range(start, stop):
        f, j = point // joints, point % joints
        if rig != f % len(P):
            rig = f % len(P)
            _check(P, rig, scratch.sound)
        n = _observe(P, rig, scratch.sound, points, f, j, scratch.rows, cameras, scratch.among, normals)
        if n < 2:
            continue
        # Two views are both inliers. Few views: try all pairs. Many: the pairs of the schedule.
        if n == 2:
            agrees[0] = True
            agrees[1] = True
        elif n <= len(scratch.chosen):
            count = _pair(n, scratch.pairs)
            _search(normals, cameras, n, scratch.pairs, count, False, squared_px, damp, scratch.lanes, agrees)
        else:
            _search_many(cameras, normals, n, drawn, j, schedule, squared_px, damp, scratch)
        # Triangulate all inliers together, and compact them for the refinement.
        x, y, z = _together(normals, n, agrees, damp, scratch.system)
        m = 0
        for i in range(n):
            if agrees[i]:
                inliers[f, scratch.among[i], j] = True
                for k in range(14):
                    cameras[m, k] = cameras[i, k]
                m += 1
        if steps > 0:
            x, y, z = _refine(
                cameras, m, x, y, z, huber_px, steps, damp, scratch.state, scratch.trial, scratch.system
            )  # fmt: skip
        X[point, 0] = x
        X[point, 1] = y
        X[point, 2] = z
