# mypy: allow-untyped-defs
# ^ numba infers the types of compiled functions; only `bundle`, `relative_pose` and the posterior call them.
# ruff: noqa: PLR0912, PLR0915
# ^ long loops: a call of a compiled function copies the headers of its arrays.
"""Compiled loops over rigs: search of relative poses, bundle adjustment, and triangulation by sampled cameras.

Entry points, each after its helper functions: `search_pairs` (relative poses of pairs of views), `adjust_rigs` and
`information_of_rigs` (bundle adjustment), `see_by_draws` (points and likelihoods of sampled cameras). Sums are written
out term by term, so that the compiler vectorises them and equal inputs give equal bytes.

Conventions are those of `bundle`. Arrays are float64 and C-contiguous. Each rig and pair is solved separately, so that
its result does not depend on the rest of the batch. Names for one rig:

* ``R`` (V, 3, 3), ``t`` (V, 3), ``X`` (3, N) points, ``ray`` (V, 2, N).
* ``w`` weights, ``f`` focal lengths and ``squared`` residuals, px², of all its observations (V N), ordered by view.

For one pair of views, ``pair`` (6, N) holds the rays of both views, the weights and the focal lengths.

Rotations are updated by Cayley transforms, which equal updates by rotation vectors to second order and need no sines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from poseboard.methods.geometry.compiling import inner, kept

NEAREST = 1e-3
"""Depth below which a point counts as that far in front of or behind a camera, in units of the first baseline."""
SCALE_RANGE = (1e-3, 50.0)
"""The robust scale, px, is kept in this range."""
MEDIAN_OF_RAYLEIGH = 1.1774
"""Median length of a 2D Gaussian error over its standard deviation."""
SHARE_OF_VARIANCE = 0.8579
"""Of a 2D Gaussian error's variance, under the loss: (1 / E - 1) a, with E = a exp(a) E1(a) and a = 9 / 2."""
_OVER_MEDIAN_2D = (3 / MEDIAN_OF_RAYLEIGH) ** 2
"""Squared robust scale, three standard deviations, over the median of squared 2D residuals."""
_OVER_MEDIAN_1D = (3 * 1.4826) ** 2
"""The same of signed distances."""
_CONVERGED = 1e-10
"""Adjustment ends where a step lowers the mean robust cost by less."""
_MANTISSA, _ONE = np.uint64(0x000FFFFFFFFFFFFF), np.uint64(0x3FF0000000000000)
_SHIFT, _BIAS = np.uint64(52), np.int64(1023)
_HALF_ROOT, _LN2 = 0.7071067811865476, 0.6931471805599453

# Without fastmath, so that equal inputs give equal bytes: with it, the last digits of what comes out depend on what the
# process has compiled before, and a training makes millimetres of them.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_inner, _kept = inner(**_OPTIONS), kept(**_OPTIONS)


@_inner
def _kth(values, count, k):
    """Return the k-th smallest of the first ``count`` values by Hoare's quickselect, which reorders them."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@_inner
def _log(x):
    """Logarithm of a normal positive number by arithmetic only, so that the compiler vectorises loops over it.

    x = 2^e m, with m in [0.71, 1.41): log x = e log 2 + 2 artanh((m - 1) / (m + 1)).
    """
    bits = np.float64(x).view(np.uint64)
    exponent = np.float64(np.int64(bits >> _SHIFT) - _BIAS)
    mantissa = np.uint64((bits & _MANTISSA) | _ONE).view(np.float64) * _HALF_ROOT  # 0.71 to 1.41
    s = (mantissa - 1.0) / (mantissa + 1.0)
    q = s * s
    # the series of 2 artanh(s)
    p = 1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15 + q * (1 / 17)))))))
    return (exponent + 0.5) * _LN2 + 2.0 * s * (1.0 + q * p)


@_inner
def _squared_scale(squared, w, over_median, buffer):
    """Squared robust scale, from the lower median of the squared residuals with weights above 0."""
    count = 0
    for n in range(len(w)):
        if w[n] > 0 and squared[n] == squared[n]:
            buffer[count] = squared[n]
            count += 1
    median = _kth(buffer, count, (count - 1) // 2) if count else 1.0
    return min(max(over_median * median, SCALE_RANGE[0] ** 2), SCALE_RANGE[1] ** 2)


@_inner
def _change_of_cost(before, after, w, scale, buffer):
    """Change of the total Cauchy cost: sum of w log((s + after) / (s + before)), with s the squared scale."""
    for n in range(len(w)):  # a loop of its own, because it is vectorised and the ordered sum below is not
        buffer[n] = _log((scale + after[n]) / (scale + before[n]))
    total = 0.0
    for n in range(len(w)):
        total += w[n] * buffer[n]
    return total


@_inner
def _turn(x, y, z, R, out):
    """Set ``out`` to C R, where C is the Cayley transform of the vector (x, y, z)."""
    s = 1 / (1 + (x * x + y * y + z * z) / 4)
    xx, yy, zz, xy, xz, yz = s * x * x / 2, s * y * y / 2, s * z * z / 2, s * x * y / 2, s * x * z / 2, s * y * z / 2
    x, y, z = s * x, s * y, s * z
    for c in range(3):
        a, b, d = R[0, c], R[1, c], R[2, c]
        out[0, c] = (1 - yy - zz) * a + (xy - z) * b + (xz + y) * d
        out[1, c] = (xy + z) * a + (1 - xx - zz) * b + (yz - x) * d
        out[2, c] = (xz - y) * a + (yz + x) * b + (1 - xx - yy) * d


@_inner
def _solve(A, b, size):
    """Solve A x = b by Cholesky factorization, and return whether A is positive definite.

    x overwrites b. The factor, with inverted diagonal, overwrites the lower triangle of A.
    """
    for i in range(size):
        for j in range(i):
            total = A[i, j]
            for k in range(j):
                total -= A[i, k] * A[j, k]
            A[i, j] = total * A[j, j]
        total = A[i, i]
        for k in range(i):
            total -= A[i, k] * A[i, k]
        if not total > 0:
            return False
        A[i, i] = 1 / math.sqrt(total)
    for i in range(size):
        total = b[i]
        for k in range(i):
            total -= A[i, k] * b[k]
        b[i] = total * A[i, i]
    for i in range(size - 1, -1, -1):
        b[i] *= A[i, i]
        for k in range(i):
            b[k] -= A[i, k] * b[i]
    return True


@_inner
def _sampson(R, t, pair, squared):
    """Fill ``squared`` (N,) with Sampson distances, px²: (b' E a)² / (|E a|² + |E' b|²).

    E = [t]x R is the essential matrix, a and b are the rays of both views, and norms are over the first two entries.
    """
    r00, r01, r02 = R[0, 0], R[0, 1], R[0, 2]
    r10, r11, r12 = R[1, 0], R[1, 1], R[1, 2]
    r20, r21, r22 = R[2, 0], R[2, 1], R[2, 2]
    t0, t1, t2 = t[0], t[1], t[2]
    e00, e01, e02 = t1 * r20 - t2 * r10, t1 * r21 - t2 * r11, t1 * r22 - t2 * r12
    e10, e11, e12 = t2 * r00 - t0 * r20, t2 * r01 - t0 * r21, t2 * r02 - t0 * r22
    e20, e21, e22 = t0 * r10 - t1 * r00, t0 * r11 - t1 * r01, t0 * r12 - t1 * r02
    for n in range(pair.shape[1]):
        ax, ay, bx, by, f = pair[0, n], pair[1, n], pair[2, n], pair[3, n], pair[5, n]
        c0, c1, c2 = e00 * ax + e01 * ay + e02, e10 * ax + e11 * ay + e12, e20 * ax + e21 * ay + e22
        q0, q1 = e00 * bx + e10 * by + e20, e01 * bx + e11 * by + e21
        e = f * (bx * c0 + by * c1 + c2)
        squared[n] = e * e / max(c0 * c0 + c1 * c1 + q0 * q0 + q1 * q1, 1e-18)


@_inner
def _sampson_system(R, t, tangent, pair, scale, H, g, rows):
    """Fill normal equations H (5, 5), g (5,) of the Sampson distance for a left rotation vector and two tangents of t.

    The denominator of the distance and the Cauchy weight 1 / (1 + d² / s) are treated as constant (iterative
    reweighting). With y = R a and k = b x t, the residual is e = b . (t x y) = y . k. Its derivatives are y x k with
    respect to the rotation and y x b with respect to the translation.
    """
    r00, r01, r02 = R[0, 0], R[0, 1], R[0, 2]
    r10, r11, r12 = R[1, 0], R[1, 1], R[1, 2]
    r20, r21, r22 = R[2, 0], R[2, 1], R[2, 2]
    t0, t1, t2 = t[0], t[1], t[2]
    u0, u1, u2 = tangent[0, 0], tangent[0, 1], tangent[0, 2]
    v0, v1, v2 = tangent[1, 0], tangent[1, 1], tangent[1, 2]
    for n in range(pair.shape[1]):  # residuals and derivatives first: this loop is vectorised, ordered sums are not
        ax, ay, bx, by, w, f = pair[0, n], pair[1, n], pair[2, n], pair[3, n], pair[4, n], pair[5, n]
        y0, y1, y2 = r00 * ax + r01 * ay + r02, r10 * ax + r11 * ay + r12, r20 * ax + r21 * ay + r22
        c0, c1, c2 = t1 * y2 - t2 * y1, t2 * y0 - t0 * y2, t0 * y1 - t1 * y0
        k0, k1, k2 = by * t2 - t1, t0 - bx * t2, bx * t1 - by * t0  # b x t
        q0, q1 = r00 * k0 + r10 * k1 + r20 * k2, r01 * k0 + r11 * k1 + r21 * k2
        e = bx * c0 + by * c1 + c2
        of_norm = f * f / max(c0 * c0 + c1 * c1 + q0 * q0 + q1 * q1, 1e-18)
        w = w * of_norm / (1 + of_norm * e * e / scale)
        j0, j1, j2 = y1 * k2 - y2 * k1, y2 * k0 - y0 * k2, y0 * k1 - y1 * k0
        m0, m1, m2 = y1 - y2 * by, y2 * bx - y0, y0 * by - y1 * bx  # y x b
        j3, j4 = m0 * u0 + m1 * u1 + m2 * u2, m0 * v0 + m1 * v1 + m2 * v2
        rows[0, n], rows[1, n], rows[2, n], rows[3, n], rows[4, n], rows[5, n], rows[6, n] = j0, j1, j2, j3, j4, e, w
    h00 = h10 = h11 = h20 = h21 = h22 = h30 = h31 = h32 = h33 = h40 = h41 = h42 = h43 = h44 = 0.0
    s0 = s1 = s2 = s3 = s4 = 0.0
    for n in range(pair.shape[1]):
        j0, j1, j2, j3, j4, e, w = (
            rows[0, n], rows[1, n], rows[2, n], rows[3, n], rows[4, n], rows[5, n], rows[6, n],
        )  # fmt: skip
        w0, w1, w2, w3, w4 = w * j0, w * j1, w * j2, w * j3, w * j4
        h00 += w0 * j0
        h10 += w1 * j0
        h11 += w1 * j1
        h20 += w2 * j0
        h21 += w2 * j1
        h22 += w2 * j2
        h30 += w3 * j0
        h31 += w3 * j1
        h32 += w3 * j2
        h33 += w3 * j3
        h40 += w4 * j0
        h41 += w4 * j1
        h42 += w4 * j2
        h43 += w4 * j3
        h44 += w4 * j4
        s0 += w0 * e
        s1 += w1 * e
        s2 += w2 * e
        s3 += w3 * e
        s4 += w4 * e
    H[0, 0], H[1, 0], H[1, 1], H[2, 0], H[2, 1], H[2, 2] = h00, h10, h11, h20, h21, h22
    H[3, 0], H[3, 1], H[3, 2], H[3, 3] = h30, h31, h32, h33
    H[4, 0], H[4, 1], H[4, 2], H[4, 3], H[4, 4] = h40, h41, h42, h43, h44
    g[0], g[1], g[2], g[3], g[4] = -s0, -s1, -s2, -s3, -s4


@_inner
def _epipolar_translation(R, pair, t):
    """Fill ``t`` with the translation that minimises the epipolar errors for a rotation.

    Each point gives m = R a x b with m . t = 0. The solution is the eigenvector of M = sum m m' / |m|² with the
    smallest eigenvalue. It is the eigenvector of the adjugate of M with the largest eigenvalue. Squaring the adjugate
    five times leaves only this eigenvector. All columns are parallel to it; the one with the largest diagonal entry is
    the most precise.
    """
    xx = xy = xz = yy = yz = zz = 0.0
    for n in range(pair.shape[1]):
        ax, ay, bx, by = pair[0, n], pair[1, n], pair[2, n], pair[3, n]
        y0 = R[0, 0] * ax + R[0, 1] * ay + R[0, 2]
        y1 = R[1, 0] * ax + R[1, 1] * ay + R[1, 2]
        y2 = R[2, 0] * ax + R[2, 1] * ay + R[2, 2]
        m0, m1, m2 = y1 - y2 * by, y2 * bx - y0, y0 * by - y1 * bx
        w = pair[4, n] / max(m0 * m0 + m1 * m1 + m2 * m2, 1e-24)
        xx += w * m0 * m0
        xy += w * m0 * m1
        xz += w * m0 * m2
        yy += w * m1 * m1
        yz += w * m1 * m2
        zz += w * m2 * m2
    small = 1e-9 * (xx + yy + zz) + 1e-30
    xx, yy, zz = xx + small, yy + small, zz + small
    xx, xy, xz, yy, yz, zz = (
        yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy,
        xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy,
    )  # fmt: skip
    for _ in range(5):
        s = 1 / max(xx + yy + zz, 1e-300)
        xx, xy, xz, yy, yz, zz = s * xx, s * xy, s * xz, s * yy, s * yz, s * zz
        xx, xy, xz, yy, yz, zz = (
            xx * xx + xy * xy + xz * xz, xx * xy + xy * yy + xz * yz, xx * xz + xy * yz + xz * zz,
            xy * xy + yy * yy + yz * yz, xy * xz + yy * yz + yz * zz, xz * xz + yz * yz + zz * zz,
        )  # fmt: skip
    if xx >= yy and xx >= zz:
        a, b, c = xx, xy, xz
    elif yy >= zz:
        a, b, c = xy, yy, yz
    else:
        a, b, c = xz, yz, zz
    length = math.sqrt(a * a + b * b + c * c)
    if not length > 0:
        a, b, c, length = 1.0, 0.0, 0.0, 1.0
    t[0], t[1], t[2] = a / length, b / length, c / length


@_inner
def _tangents(t, tangent):
    """Fill ``tangent`` with two unit vectors orthogonal to t and to each other, built from t's two larger entries."""
    x, y, z = t[0], t[1], t[2]
    if abs(x) <= abs(y) and abs(x) <= abs(z):
        a, b, c = 0.0, z, -y
    elif abs(y) <= abs(z):
        a, b, c = -z, 0.0, x
    else:
        a, b, c = y, -x, 0.0
    s = 1 / math.sqrt(a * a + b * b + c * c)
    a, b, c = s * a, s * b, s * c
    tangent[0, 0], tangent[0, 1], tangent[0, 2] = a, b, c
    tangent[1, 0], tangent[1, 1], tangent[1, 2] = y * c - z * b, z * a - x * c, x * b - y * a


@_inner
def _refine_pose(R, t, pair, w, steps, squared, new_R, new_t, tangent, H, g, rows, trial, buffer):
    """Refine one pose and its squared distances in place by damped Gauss-Newton; return the squared robust scale.

    A step that lowers the Cauchy cost at the current scale is kept, and the damping is divided by 5. Otherwise the
    damping is multiplied by 6. The translation stays on the unit sphere.
    """
    damping = 1e-3
    scale = _squared_scale(squared, w, _OVER_MEDIAN_1D, buffer)
    for _ in range(steps):
        _tangents(t, tangent)
        _sampson_system(R, t, tangent, pair, scale, H, g, rows)
        small = 1e-12 * (1 + (H[0, 0] + H[1, 1] + H[2, 2] + H[3, 3] + H[4, 4]) / 5)
        for i in range(5):
            H[i, i] += damping * H[i, i] + small
        better = _solve(H, g, 5)
        if better:
            _turn(g[0], g[1], g[2], R, new_R)
            length = 0.0
            for i in range(3):
                new_t[i] = t[i] + g[3] * tangent[0, i] + g[4] * tangent[1, i]
                length += new_t[i] * new_t[i]
            length = math.sqrt(length)
            for i in range(3):
                new_t[i] /= length
            _sampson(new_R, new_t, pair, trial)
            better = _change_of_cost(squared, trial, w, scale, buffer) < 0
        if better:
            for i in range(3):
                t[i] = new_t[i]
                for j in range(3):
                    R[i, j] = new_R[i, j]
            for n in range(len(squared)):
                squared[n] = trial[n]
            scale = _squared_scale(squared, w, _OVER_MEDIAN_1D, buffer)
            damping = max(0.2 * damping, 1e-9)
        else:
            damping = min(6 * damping, 1e6)
    return scale


@_inner
def _take_in_front(R, t, pair, new_R):
    """Choose among the four poses with the same essential matrix, and return the share of points behind a view.

    The poses are (R, t), (R, -t) and the same with R rotated by pi about t, R' = (2 t t' - I) R. The pose with the
    fewest points behind a view is chosen. Depths have the opposite signs of ``of_a`` and ``of_b``, see
    `relative_pose._depths`.
    """
    least, best, total = np.inf, 0, 1e-12
    for n in range(pair.shape[1]):
        total += pair[4, n]
    for half_turn in range(2):
        for c in range(3):
            along = 2 * (t[0] * R[0, c] + t[1] * R[1, c] + t[2] * R[2, c])
            for r in range(3):
                new_R[r, c] = along * t[r] - R[r, c] if half_turn else R[r, c]
        behind, if_opposite = 0.0, 0.0
        for n in range(pair.shape[1]):
            ax, ay, bx, by, w = pair[0, n], pair[1, n], pair[2, n], pair[3, n], pair[4, n]
            y0 = new_R[0, 0] * ax + new_R[0, 1] * ay + new_R[0, 2]
            y1 = new_R[1, 0] * ax + new_R[1, 1] * ay + new_R[1, 2]
            y2 = new_R[2, 0] * ax + new_R[2, 1] * ay + new_R[2, 2]
            n0, n1, n2 = by * y2 - y1, y0 - bx * y2, bx * y1 - by * y0  # b x y
            of_a = n0 * (by * t[2] - t[1]) + n1 * (t[0] - bx * t[2]) + n2 * (bx * t[1] - by * t[0])
            of_b = n0 * (y1 * t[2] - y2 * t[1]) + n1 * (y2 * t[0] - y0 * t[2]) + n2 * (y0 * t[1] - y1 * t[0])
            behind += w if of_a > 0 or of_b > 0 else 0.0
            if_opposite += w if of_a < 0 or of_b < 0 else 0.0
        if behind < least:
            least, best = behind, 2 * half_turn
        if if_opposite < least:
            least, best = if_opposite, 2 * half_turn + 1
    for c in range(3):
        along = 2 * (t[0] * R[0, c] + t[1] * R[1, c] + t[2] * R[2, c]) if best >= 2 else 0.0
        for r in range(3):
            R[r, c] = along * t[r] - R[r, c] if best >= 2 else R[r, c]
    if best % 2:
        for i in range(3):
            t[i] = -t[i]
    return least / total


@_kept
def search_pairs(pairs, w, R, t, cost, keep, steps, more_steps):
    """Search the relative poses of P pairs of views from H rotations each.

    Args:
        pairs: (P, 6, N) rays of both views, weights and focal lengths.
        w: (P, N) weights, the same as in ``pairs``.
        R: (P, H, 3, 3) starting rotations; refined in place.
        t: (P, H, 3) output: translations.
        cost: (P, H) output: robust cost plus share of points behind a view; infinite for a dropped pose.
        keep: number of poses per pair that are refined further; all others are dropped.
        steps: refinement steps of all poses.
        more_steps: further refinement steps of the kept poses.
    """
    P, H, N = len(pairs), R.shape[1], w.shape[1]
    squared = np.empty((H, N))
    new_R, new_t, tangent, A, g = np.empty((3, 3)), np.empty(3), np.empty((2, 3)), np.empty((5, 5)), np.empty(5)
    rows, trial, buffer, costs = np.empty((7, N)), np.empty(N), np.empty(N), np.empty(H)
    for p in range(P):
        total = 1e-12
        for n in range(N):
            total += w[p, n]
        worst = np.inf
        for number in range(2):  # first all poses, then the best ``keep`` of them
            smallest = np.inf
            for h in range(H):
                if number and cost[p, h] > worst:
                    continue
                if not number:
                    _epipolar_translation(R[p, h], pairs[p], t[p, h])
                    _sampson(R[p, h], t[p, h], pairs[p], squared[h])
                scale = _refine_pose(
                    R[p, h], t[p, h], pairs[p], w[p], more_steps if number else steps, squared[h],
                    new_R, new_t, tangent, A, g, rows, trial, buffer,
                )  # fmt: skip
                smallest = min(smallest, scale)
            # One scale for all poses: with its own, a pose with large residuals would look good.
            for h in range(H):
                costs[h] = np.inf
                if number and cost[p, h] > worst:
                    continue
                for n in range(N):
                    buffer[n] = _log(1 + squared[h, n] / smallest)
                of_pose = 0.0
                for n in range(N):
                    of_pose += w[p, n] * buffer[n]
                costs[h] = of_pose / total
                if number:
                    costs[h] += _take_in_front(R[p, h], t[p, h], pairs[p], new_R)
            for h in range(H):
                cost[p, h] = costs[h]
            if not number:
                worst = _kth(costs, H, keep - 1)


@_inner
def _triangulate(R, t, ray, w, X):
    """Fill X (3, N) by weighted linear triangulation without refinement; 0 for points with fewer than two views.

    Cofactors solve the normal equations of w (x r3 - r1) X = -w (x t3 - t1), and likewise with y and r2.
    """
    V, _, N = ray.shape
    for n in range(N):
        xx = xy = xz = yy = yz = zz = x = y = z = largest = 0.0
        views = 0
        for v in range(V):
            if w[v * N + n] > 0:
                views += 1
                largest = max(largest, w[v * N + n])
        for v in range(V):
            for side in range(2):
                s = w[v * N + n] / largest if largest > 0 else 0.0
                q = ray[v, side, n]
                a = s * (q * R[v, 2, 0] - R[v, side, 0])
                b = s * (q * R[v, 2, 1] - R[v, side, 1])
                c = s * (q * R[v, 2, 2] - R[v, side, 2])
                d = s * (q * t[v, 2] - t[v, side])
                xx += a * a
                xy += a * b
                xz += a * c
                yy += b * b
                yz += b * c
                zz += c * c
                x += a * d
                y += b * d
                z += c * d
        damping = 1e-12 * (xx + yy + zz)
        xx, yy, zz = xx + damping, yy + damping, zz + damping
        c_xx, c_xy, c_xz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
        c_yy, c_yz, c_zz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
        det = xx * c_xx + xy * c_xy + xz * c_xz
        s = -1 / det if views >= 2 and det > 0 else 0.0
        X[0, n] = s * (c_xx * x + c_xy * y + c_xz * z)
        X[1, n] = s * (c_xy * x + c_yy * y + c_yz * z)
        X[2, n] = s * (c_xz * x + c_yz * y + c_zz * z)


@_inner
def _squared_residuals(R, t, X, ray, f, squared):
    """Fill ``squared`` (V N,) with squared reprojection errors, px²."""
    V, _, N = ray.shape
    for v in range(V):
        r00, r01, r02, t0 = R[v, 0, 0], R[v, 0, 1], R[v, 0, 2], t[v, 0]
        r10, r11, r12, t1 = R[v, 1, 0], R[v, 1, 1], R[v, 1, 2], t[v, 1]
        r20, r21, r22, t2 = R[v, 2, 0], R[v, 2, 1], R[v, 2, 2], t[v, 2]
        for n in range(N):
            a, b, c = X[0, n], X[1, n], X[2, n]
            z = r20 * a + r21 * b + r22 * c + t2
            z = math.copysign(max(abs(z), NEAREST), z)
            x = (r00 * a + r01 * b + r02 * c + t0) / z - ray[v, 0, n]
            y = (r10 * a + r11 * b + r12 * c + t1) / z - ray[v, 1, n]
            squared[v * N + n] = f[v * N + n] ** 2 * (x * x + y * y)


@_inner
def _system(R, t, X, ray, w, f, squared, scale, cameras, gradient, cross, of_points):
    """Fill the normal equations of bundle adjustment with Cauchy weights w f² / (1 + r² / s).

    With the projection x = (R X + t)_x / z and p = R X, the derivatives of x are (r1 - x r3) / z with respect to the
    point, (1, 0, -x) / z with respect to the translation, and p x (1, 0, -x) / z with respect to a left rotation
    vector. Derivatives of y are analogous.

    Outputs: cameras (V - 1, 6, 6) as lower triangles, gradient (6 (V - 1)), cross (6 (V - 1), N, 3), and of_points
    (9, N), symmetric 3x3 matrices and gradients. Camera coordinates are a left rotation vector and a translation.
    """
    V, _, N = ray.shape
    for i in range(9):
        for n in range(N):
            of_points[i, n] = 0
    for v in range(V):
        r00, r01, r02, t0 = R[v, 0, 0], R[v, 0, 1], R[v, 0, 2], t[v, 0]
        r10, r11, r12, t1 = R[v, 1, 0], R[v, 1, 1], R[v, 1, 2], t[v, 1]
        r20, r21, r22, t2 = R[v, 2, 0], R[v, 2, 1], R[v, 2, 2], t[v, 2]
        k = 6 * (v - 1)
        h00 = h10 = h11 = h20 = h21 = h22 = 0.0
        h30 = h31 = h32 = h40 = h41 = h42 = h50 = h51 = h52 = 0.0
        h33 = h53 = h54 = h55 = 0.0
        g0 = g1 = g2 = g3 = g4 = g5 = 0.0
        for n in range(N):
            a, b, c = X[0, n], X[1, n], X[2, n]
            # the point R X
            p, q, r = r00 * a + r01 * b + r02 * c, r10 * a + r11 * b + r12 * c, r20 * a + r21 * b + r22 * c
            z = r + t2
            iz = 1 / math.copysign(max(abs(z), NEAREST), z)
            x, y = (p + t0) * iz, (q + t1) * iz
            of_scale = w[v * N + n] / (1 + squared[v * N + n] / scale) * f[v * N + n] ** 2 * iz
            g = of_scale * iz
            ex, ey = of_scale * (x - ray[v, 0, n]), of_scale * (y - ray[v, 1, n])
            ez = -(x * ex + y * ey)
            a0, a1, a2 = r00 - x * r20, r01 - x * r21, r02 - x * r22
            b0, b1, b2 = r10 - y * r20, r11 - y * r21, r12 - y * r22
            of_points[0, n] += g * (a0 * a0 + b0 * b0)
            of_points[1, n] += g * (a0 * a1 + b0 * b1)
            of_points[2, n] += g * (a1 * a1 + b1 * b1)
            of_points[3, n] += g * (a0 * a2 + b0 * b2)
            of_points[4, n] += g * (a1 * a2 + b1 * b2)
            of_points[5, n] += g * (a2 * a2 + b2 * b2)
            of_points[6, n] += ex * a0 + ey * b0
            of_points[7, n] += ex * a1 + ey * b1
            of_points[8, n] += ex * a2 + ey * b2
            if v == 0:
                continue
            # derivatives of x and y by the rotation: cross products of R X with (1, 0, -x) and (0, 1, -y)
            u0, u1, u2 = -x * q, r + x * p, -q
            v0, v1, v2 = -y * q - r, y * p, p
            h00 += g * (u0 * u0 + v0 * v0)
            h10 += g * (u1 * u0 + v1 * v0)
            h11 += g * (u1 * u1 + v1 * v1)
            h20 += g * (u2 * u0 + v2 * v0)
            h21 += g * (u2 * u1 + v2 * v1)
            h22 += g * (u2 * u2 + v2 * v2)
            h30 += g * u0
            h31 += g * u1
            h32 += g * u2
            h40 += g * v0
            h41 += g * v1
            h42 += g * v2
            h50 -= g * (x * u0 + y * v0)
            h51 -= g * (x * u1 + y * v1)
            h52 -= g * (x * u2 + y * v2)
            h33 += g
            h53 -= g * x
            h54 -= g * y
            h55 += g * (x * x + y * y)
            g0 += q * ez - r * ey
            g1 += r * ex - p * ez
            g2 += p * ey - q * ex
            g3 += ex
            g4 += ey
            g5 += ez
            u0, u1, u2, v0, v1, v2 = g * u0, g * u1, g * u2, g * v0, g * v1, g * v2
            cross[k, n, 0], cross[k, n, 1], cross[k, n, 2] = u0 * a0 + v0 * b0, u0 * a1 + v0 * b1, u0 * a2 + v0 * b2
            k1, k2, k3, k4, k5 = k + 1, k + 2, k + 3, k + 4, k + 5
            cross[k1, n, 0], cross[k1, n, 1], cross[k1, n, 2] = u1 * a0 + v1 * b0, u1 * a1 + v1 * b1, u1 * a2 + v1 * b2
            cross[k2, n, 0], cross[k2, n, 1], cross[k2, n, 2] = u2 * a0 + v2 * b0, u2 * a1 + v2 * b1, u2 * a2 + v2 * b2
            cross[k3, n, 0], cross[k3, n, 1], cross[k3, n, 2] = g * a0, g * a1, g * a2
            cross[k4, n, 0], cross[k4, n, 1], cross[k4, n, 2] = g * b0, g * b1, g * b2
            gx, gy = -g * x, -g * y
            cross[k5, n, 0], cross[k5, n, 1] = gx * a0 + gy * b0, gx * a1 + gy * b1
            cross[k5, n, 2] = gx * a2 + gy * b2
        if v == 0:
            continue
        of = cameras[v - 1]
        of[0, 0], of[1, 0], of[1, 1], of[2, 0], of[2, 1], of[2, 2] = h00, h10, h11, h20, h21, h22
        of[3, 0], of[3, 1], of[3, 2], of[3, 3] = h30, h31, h32, h33
        of[4, 0], of[4, 1], of[4, 2], of[4, 3], of[4, 4] = h40, h41, h42, 0.0, h33
        of[5, 0], of[5, 1], of[5, 2], of[5, 3], of[5, 4], of[5, 5] = h50, h51, h52, h53, h54, h55
        gradient[k], gradient[k + 1], gradient[k + 2] = g0, g1, g2
        gradient[k + 3], gradient[k + 4], gradient[k + 5] = g3, g4, g5


@_inner
def _reduce(cameras, gradient, cross, of_points, damping, matrix, right):
    """Eliminate the points by the Schur complement: fill the lower triangle of ``matrix`` (D, D) and ``right`` (D,).

    With blocks A of the cameras, C of the points and B between them: (A - B C^-1 B') dx = g_x - B C^-1 g_p. The block
    C = L L' of a point is 3x3. On return, of_points holds L with inverted diagonal and L^-1 g_p, cross holds B L^-T.
    """
    D, N, _ = cross.shape
    # L of each point, damped by Marquardt's rule, with a floor for points that one view observes.
    for n in range(N):
        trace = of_points[0, n] + of_points[2, n] + of_points[5, n]
        small = 1e-12 * trace + 1e-30
        l00 = 1 / math.sqrt(of_points[0, n] * (1 + damping) + small)
        l10, l20 = of_points[1, n] * l00, of_points[3, n] * l00
        l11 = 1 / math.sqrt(max(of_points[2, n] * (1 + damping) + small - l10 * l10, small))
        l21 = (of_points[4, n] - l20 * l10) * l11
        l22 = 1 / math.sqrt(max(of_points[5, n] * (1 + damping) + small - l20 * l20 - l21 * l21, small))
        of_points[0, n], of_points[1, n], of_points[2, n] = l00, l10, l11
        of_points[3, n], of_points[4, n], of_points[5, n] = l20, l21, l22
        a = of_points[6, n] * l00
        b = (of_points[7, n] - l10 * a) * l11
        of_points[6, n], of_points[7, n], of_points[8, n] = a, b, (of_points[8, n] - l20 * a - l21 * b) * l22
        for i in range(D):
            a = cross[i, n, 0] * l00
            b = (cross[i, n, 1] - l10 * a) * l11
            cross[i, n, 2] = (cross[i, n, 2] - l20 * a - l21 * b) * l22
            cross[i, n, 0] = a
            cross[i, n, 1] = b
    # - (B L^-T) (B L^-T)'
    rows = cross.reshape(D, 3 * N)
    for i in range(0, D, 3):
        a0, a1, a2 = rows[i], rows[i + 1], rows[i + 2]
        for j in range(0, i + 1, 3):
            b0, b1, b2 = rows[j], rows[j + 1], rows[j + 2]
            # nine independent sums at a time, which the processor overlaps
            s00 = s01 = s02 = s10 = s11 = s12 = s20 = s21 = s22 = 0.0
            for n in range(3 * N):
                s00 += a0[n] * b0[n]
                s01 += a0[n] * b1[n]
                s02 += a0[n] * b2[n]
                s10 += a1[n] * b0[n]
                s11 += a1[n] * b1[n]
                s12 += a1[n] * b2[n]
                s20 += a2[n] * b0[n]
                s21 += a2[n] * b1[n]
                s22 += a2[n] * b2[n]
            matrix[i, j], matrix[i, j + 1], matrix[i, j + 2] = -s00, -s01, -s02
            matrix[i + 1, j], matrix[i + 1, j + 1], matrix[i + 1, j + 2] = -s10, -s11, -s12
            matrix[i + 2, j], matrix[i + 2, j + 1], matrix[i + 2, j + 2] = -s20, -s21, -s22
    for i in range(D):
        total = gradient[i]
        for n in range(N):
            total -= (
                cross[i, n, 0] * of_points[6, n] + cross[i, n, 1] * of_points[7, n] + cross[i, n, 2] * of_points[8, n]
            )
        right[i] = total
    # + A, damped on its diagonal
    mean = 0.0
    for v in range(D // 6):
        k = 6 * v
        for i in range(6):
            for j in range(i + 1):
                matrix[k + i, k + j] += cameras[v, i, j]
            mean += cameras[v, i, i]
    small = 1e-9 * (1 + mean / max(D, 1))
    for v in range(D // 6):
        for i in range(6):
            matrix[6 * v + i, 6 * v + i] += damping * cameras[v, i, i] + small


@_kept
def adjust_rigs(R, t, X, ray, w, f, squared, steps):
    """Adjust B rigs (B, ...) in place by Levenberg-Marquardt, and fill ``squared`` (B, V N) with squared residuals.

    A step that lowers the Cauchy cost is kept, and the damping is divided by 5. Otherwise the damping is multiplied by
    6. Iteration ends when a step gains less than `_CONVERGED` or the damping exceeds 1e6.
    """
    B, V, _, N = ray.shape
    D = 6 * (V - 1)
    cameras, gradient, cross = np.empty((max(V - 1, 0), 6, 6)), np.empty(D), np.empty((D, N, 3))
    of_points, matrix, right = np.empty((9, N)), np.empty((D, D)), np.empty(D)
    new_R, new_t, new_X = np.empty((V, 3, 3)), np.empty((V, 3)), np.empty((3, N))
    trial, buffer = np.empty(V * N), np.empty(V * N)
    for b in range(B):
        for i in range(3):
            new_t[0, i] = t[b, 0, i]
            for j in range(3):
                new_R[0, i, j] = R[b, 0, i, j]
        total = 1e-12
        for n in range(V * N):
            total += w[b, n]
        damping = 1e-3
        _squared_residuals(R[b], t[b], X[b], ray[b], f[b], squared[b])
        for _ in range(steps):
            scale = _squared_scale(squared[b], w[b], _OVER_MEDIAN_2D, buffer)
            _system(R[b], t[b], X[b], ray[b], w[b], f[b], squared[b], scale, cameras, gradient, cross, of_points)
            _reduce(cameras, gradient, cross, of_points, damping, matrix, right)
            change = 0.0
            if _solve(matrix, right, D):
                # Cameras: R <- turn(-dx) R, t <- t - dt.
                for v in range(1, V):
                    k = 6 * (v - 1)
                    _turn(-right[k], -right[k + 1], -right[k + 2], R[b, v], new_R[v])
                    for i in range(3):
                        new_t[v, i] = t[b, v, i] - right[k + 3 + i]
                # The common scale is free: keep the second camera at distance 1.
                baseline = 0.0
                for i in range(3):
                    baseline += new_t[1, i] ** 2 if V > 1 else 0.0
                s = 1 / math.sqrt(baseline) if baseline > 0 else 1.0
                for v in range(1, V):
                    for i in range(3):
                        new_t[v, i] *= s
                # Points by back-substitution: dp = L^-T (L^-1 g_p - (B L^-T)' dx).
                for n in range(N):
                    x, y, z = of_points[6, n], of_points[7, n], of_points[8, n]
                    for i in range(D):
                        x -= right[i] * cross[i, n, 0]
                        y -= right[i] * cross[i, n, 1]
                        z -= right[i] * cross[i, n, 2]
                    z *= of_points[5, n]
                    y = (y - of_points[4, n] * z) * of_points[2, n]
                    x = (x - of_points[1, n] * y - of_points[3, n] * z) * of_points[0, n]
                    new_X[0, n], new_X[1, n], new_X[2, n] = (
                        s * (X[b, 0, n] - x),
                        s * (X[b, 1, n] - y),
                        s * (X[b, 2, n] - z),
                    )
                _squared_residuals(new_R, new_t, new_X, ray[b], f[b], trial)
                change = _change_of_cost(squared[b], trial, w[b], scale, buffer)
            if change < 0:
                for v in range(V):
                    for i in range(3):
                        t[b, v, i] = new_t[v, i]
                        for j in range(3):
                            R[b, v, i, j] = new_R[v, i, j]
                for i in range(3):
                    for n in range(N):
                        X[b, i, n] = new_X[i, n]
                for n in range(V * N):
                    squared[b, n] = trial[n]
                damping = max(0.2 * damping, 1e-9)
                if -change < _CONVERGED * total:
                    break
            else:
                damping *= 6
                if damping > 1e6:
                    break


@_kept
def information_of_rigs(R, t, X, ray, w, f, matrix):
    """Fill ``matrix`` (B, D, D) with the information of all cameras except the first, with points eliminated."""
    B, V, _, N = ray.shape
    D = 6 * (V - 1)
    cameras, gradient, cross = np.empty((max(V - 1, 0), 6, 6)), np.empty(D), np.empty((D, N, 3))
    of_points, right, squared = np.empty((9, N)), np.empty(D), np.zeros(V * N)
    for b in range(B):
        _system(R[b], t[b], X[b], ray[b], w[b], f[b], squared, 1.0, cameras, gradient, cross, of_points)
        _reduce(cameras, gradient, cross, of_points, 0.0, matrix[b], right)
        for i in range(D):
            for j in range(i):
                matrix[b, j, i] = matrix[b, i, j]


@_kept
def see_by_draws(R, t, ray, w, f, sigma, points, log_likelihood):
    """Triangulate points with M draws of the cameras of B rigs.

    Fills ``points`` (B, M, 3, N) and ``log_likelihood`` (B, M) = -9/2 sum w log(1 + r² / (9 sigma²)). This likelihood
    is Gaussian near 0 and has Cauchy tails beyond three standard deviations ``sigma`` (B,).
    """
    B, M, V = t.shape[:3]
    N = ray.shape[3]
    squared = np.empty(V * N)
    for b in range(B):
        variance = 9 * sigma[b] * sigma[b]
        for m in range(M):
            _triangulate(R[b, m], t[b, m], ray[b], w[b], points[b, m])
            _squared_residuals(R[b, m], t[b, m], points[b, m], ray[b], f[b], squared)
            total = 0.0
            for v in range(V):
                a, c, d, e = R[b, m, v, 2, 0], R[b, m, v, 2, 1], R[b, m, v, 2, 2], t[b, m, v, 2]
                for n in range(N):
                    z = a * points[b, m, 0, n] + c * points[b, m, 1, n] + d * points[b, m, 2, n] + e
                    u = squared[v * N + n] / variance
                    # a point behind a camera is as bad as one far off
                    total += w[b, v * N + n] * math.log(1 + (u if z > 0 else max(u, 1e4)))
            log_likelihood[b, m] = -4.5 * total
