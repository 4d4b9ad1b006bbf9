# mypy: allow-untyped-defs
# ^ numba infers the types of compiled functions.
"""Compiled loops over pairs of views: Sampson distances, their robust scale, and normal equations.

Notation for a pair (a, b) and a point: d_a and d_b are lines of sight in the world, c is the baseline from centre a to
centre b. Exact observations give n = d_b · (c × d_a) = 0. The Sampson distance is n / D, where D is the length of the
gradient of n with respect to the four pixel coordinates.
"""

import numpy as np
from numpy.typing import NDArray

from poseboard.methods.geometry.compiling import inner, kept

Array = NDArray[np.float64]

FREEDOM = 4.0
"""Degrees of freedom of Student's t; 4 tolerates the tenth of residuals that 5 % of outliers per view make."""
SMALLEST_PX = 0.2
"""Smallest scale of a pair, so that noise-free data do not make the evidence infinite."""
FEWEST = 20
"""Common points that a pair needs."""
COUNT = 10
"""Parameters per view: rotation (3), centre (3), focal length, k1, lag, scale."""
_LENS_STEPS = 20

_OPTIONS = {"nogil": True, "error_model": "numpy"}
_inner, _kept = inner(**_OPTIONS), kept(**_OPTIONS)
# Sums may be taken in any order, so that they use all lanes of the processor.
_summing = inner(**_OPTIONS, fastmath={"reassoc", "nsz", "contract"})


@_inner
def _bend(x, y, dist, factor):
    r2 = x * x + y * y
    radial = 1 + r2 * (dist[0] + r2 * (dist[1] + r2 * dist[4]))
    return (
        x * radial + factor * x * y * dist[2] + (r2 + factor * x * x) * dist[3],
        y * radial + factor * x * y * dist[3] + (r2 + factor * y * y) * dist[2],
    )


@_kept
def undistort(points_px, K, dist, factor, m, per_px):
    """Fill directions m (N, 2) of pixels (N, 2) and derivatives per_px (N, 2, 2); NaN where the lens has no inverse."""
    fx, fy, cx, cy, skew = K[0, 0], K[1, 1], K[0, 2], K[1, 2], K[0, 1]
    bent = False
    for i in range(5):
        bent = bent or dist[i] != 0.0
    h = 1e-4
    for i in range(len(points_px)):
        y0 = (points_px[i, 1] - cy) / fy
        x0 = (points_px[i, 0] - cx - skew * y0) / fx
        m[i, 0], m[i, 1] = x0, y0
        per_px[i, 0, 0], per_px[i, 0, 1], per_px[i, 1, 0], per_px[i, 1, 1] = 1 / fx, -skew / (fx * fy), 0.0, 1 / fy
        if not bent or np.isnan(x0 + y0):
            continue
        x, y = x0, y0
        for _ in range(_LENS_STEPS):
            u, v = _bend(x, y, dist, factor)
            x, y = x + x0 - u, y + y0 - v
            if not abs(x) + abs(y) < 1e3:
                break
            if abs(x0 - u) + abs(y0 - v) < 1e-9:
                break
        u, v = _bend(x, y, dist, factor)
        ux, vx = _bend(x + h, y, dist, factor)
        uy, vy = _bend(x, y + h, dist, factor)
        a, b, c, d = (ux - u) / h, (uy - u) / h, (vx - v) / h, (vy - v) / h
        area = a * d - b * c
        if abs(u - x0) * fx < 1.0 and abs(v - y0) * fy < 1.0 and area > 0.05:
            m[i, 0], m[i, 1] = x, y
            # Inverse of [[a, b], [c, d]] times that of K.
            per_px[i, 0, 0], per_px[i, 0, 1] = d / area / fx, (-skew * d / fx - b) / area / fy
            per_px[i, 1, 0], per_px[i, 1, 1] = -c / area / fx, (skew * c / fx + a) / area / fy
        else:
            m[i, 0] = m[i, 1] = np.nan


@_kept
def change_lens(m, per_frame, per_px, offset, scale, focal, k1, lag, m_out, per_frame_out, per_px_out):
    """Change points of V views to other cameras: factors of scale and focal length, k1, and a delay in frames."""
    for v in range(len(m)):
        s, k = 1 / scale[v], k1[v]
        shrink = s / focal[v]
        for i in range(m.shape[1]):
            x = ((m[v, i, 0] + offset[v, 0]) * s - offset[v, 0]) / focal[v]
            y = ((m[v, i, 1] + offset[v, 1]) * s - offset[v, 1]) / focal[v]
            a, b, c, d = 1.0, 0.0, 0.0, 1.0
            if k != 0.0:
                x0, y0 = x, y
                for _ in range(4):
                    bend = max(1 + k * (x * x + y * y), 0.3)
                    x, y = x0 / bend, y0 / bend
                # The inverse of the lens's derivative (1 + k r²) I + 2 k m m'.
                r2 = x * x + y * y
                tangential, radial = max(1 + k * r2, 0.3), max(1 + 3 * k * r2, 0.1)
                outer = 2 * k / (tangential * radial)
                a, b = 1 / tangential - outer * x * x, -outer * x * y
                c, d = b, 1 / tangential - outer * y * y
            u, w = per_frame[v, i, 0] * shrink, per_frame[v, i, 1] * shrink
            per_frame_out[v, i, 0], per_frame_out[v, i, 1] = u, w
            m_out[v, i, 0], m_out[v, i, 1] = x + lag[v] * u, y + lag[v] * w
            for j in range(2):
                p, q = per_px[v, i, 0, j] * shrink, per_px[v, i, 1, j] * shrink
                per_px_out[v, i, 0, j], per_px_out[v, i, 1, j] = a * p + b * q, c * p + d * q


@_inner
def _sight(R, x, y):
    return R[0, 0] * x + R[1, 0] * y + R[2, 0], R[0, 1] * x + R[1, 1] * y + R[2, 1], R[0, 2] * x + R[1, 2] * y + R[2, 2]


@_inner
def _cross(ux, uy, uz, vx, vy, vz):
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@_inner
def _gradient(R, q, per_px):
    """Gradient of n with respect to a pixel; q is the normal of the epipolar plane through the other view's ray."""
    u = R[0, 0] * q[0] + R[0, 1] * q[1] + R[0, 2] * q[2]
    v = R[1, 0] * q[0] + R[1, 1] * q[1] + R[1, 2] * q[2]
    return per_px[0, 0] * u + per_px[1, 0] * v, per_px[0, 1] * u + per_px[1, 1] * v


@_inner
def _residual(m, per_px, R, centres, a, b, i):
    """Signed Sampson distance of a point in pixels."""
    ax, ay, az = _sight(R[a], m[a, i, 0], m[a, i, 1])
    bx, by, bz = _sight(R[b], m[b, i, 0], m[b, i, 1])
    cx, cy, cz = centres[b, 0] - centres[a, 0], centres[b, 1] - centres[a, 1], centres[b, 2] - centres[a, 2]
    p = _cross(cx, cy, cz, ax, ay, az)
    q = _cross(bx, by, bz, cx, cy, cz)
    n = bx * p[0] + by * p[1] + bz * p[2]
    a0, a1 = _gradient(R[a], q, per_px[a, i])
    b0, b1 = _gradient(R[b], p, per_px[b, i])
    return n / max(np.sqrt(a0 * a0 + a1 * a1 + b0 * b0 + b1 * b1), 1e-300)


@_kept
def residuals(m, per_px, R, centres, pairs, out):
    """Fill ``out`` (P, N) with signed Sampson distances in pixels; NaN where the point is missing in a view."""
    for p in range(len(pairs)):
        for i in range(m.shape[1]):
            out[p, i] = _residual(m, per_px, R, centres, pairs[p, 0], pairs[p, 1], i)


@_summing
def _weighted(squared, s2):
    """Sum of squares with the weights of Student's t, up to a constant factor."""
    total = 0.0
    for i in range(len(squared)):
        total += squared[i] * s2 / (FREEDOM * s2 + squared[i])
    return total


@_summing
def _log_sum(squared, unit):
    """Sum of log(1 + squared / unit). One logarithm of a product of eight is faster than eight logarithms."""
    total = 0.0
    whole = len(squared) // 8 * 8
    inverse = 1 / unit
    for i in range(0, whole, 8):
        product = 1.0
        for j in range(8):
            product *= min(1 + squared[i + j] * inverse, 1e30)
        total += np.log(product)
    for i in range(whole, len(squared)):
        total += np.log(min(1 + squared[i] * inverse, 1e30))
    return total


@_kept
def costs(m, per_px, R, centres, pairs, cost, scale):
    """Fill cost (P,), mean negative log likelihood, and scale (P,) of Student's t; NaN with too few common points."""
    squared = np.empty(m.shape[1])
    for p in range(len(pairs)):
        count = 0
        for i in range(m.shape[1]):
            r = _residual(m, per_px, R, centres, pairs[p, 0], pairs[p, 1], i)
            if r * r < np.inf:
                squared[count] = r * r
                count += 1
        cost[p] = scale[p] = np.nan
        if count < FEWEST:
            continue
        s2 = np.median(squared[:count]) / 0.55
        for _ in range(25):
            s2 = max(s2, SMALLEST_PX * SMALLEST_PX)
            before, s2 = s2, (FREEDOM + 1) * _weighted(squared[:count], s2) / count
            s2 = max(s2, SMALLEST_PX * SMALLEST_PX)
            if abs(s2 - before) < 1e-3 * s2:
                break
        total = _log_sum(squared[:count], FREEDOM * s2)
        cost[p] = (FREEDOM + 1) / 2 * total / count + 0.5 * np.log(s2)
        scale[p] = np.sqrt(s2)


@_inner
def _back(R, g0, g1, per_px):
    """Derivative of half of the squared gradient with respect to the normal q."""
    u = per_px[0, 0] * g0 + per_px[0, 1] * g1
    v = per_px[1, 0] * g0 + per_px[1, 1] * g1
    return R[0, 0] * u + R[1, 0] * v, R[0, 1] * u + R[1, 1] * v, R[0, 2] * u + R[1, 2] * v


@_inner
def _lens(R, q, g0, g1, m, per_px):
    """Half of the derivative of the squared gradient with respect to -k1."""
    r2 = m[0] * m[0] + m[1] * m[1]
    u = R[0, 0] * q[0] + R[0, 1] * q[1] + R[0, 2] * q[2]
    v = R[1, 0] * q[0] + R[1, 1] * q[1] + R[1, 2] * q[2]
    along = g0 * (per_px[0, 0] * m[0] + per_px[1, 0] * m[1]) + g1 * (per_px[0, 1] * m[0] + per_px[1, 1] * m[1])
    return r2 * (g0 * g0 + g1 * g1) + 2 * along * (m[0] * u + m[1] * v)


@_inner
def _view(J, start, R, d, by, turn, centre, m, per_frame, offset, size, off_g2, off_lens):
    """Fill derivatives of a residual with respect to the ten parameters of a view."""
    tx, ty, tz = _cross(d[0], d[1], d[2], by[0], by[1], by[2])
    J[start], J[start + 1], J[start + 2] = tx + turn[0], ty + turn[1], tz + turn[2]
    J[start + 3], J[start + 4], J[start + 5] = centre[0] * size, centre[1] * size, centre[2] * size
    u = R[0, 0] * by[0] + R[0, 1] * by[1] + R[0, 2] * by[2]
    v = R[1, 0] * by[0] + R[1, 1] * by[1] + R[1, 2] * by[2]
    r2 = m[0] * m[0] + m[1] * m[1]
    # A longer focal length or another lens also changes how many pixels an angle is.
    J[start + 6] = -(m[0] * u + m[1] * v) + off_g2
    J[start + 7] = -r2 * (m[0] * u + m[1] * v) + off_lens
    J[start + 8] = per_frame[0] * u + per_frame[1] * v
    J[start + 9] = -((m[0] + offset[0]) * u + (m[1] + offset[1]) * v) + off_g2


@_kept
def linearise(  # noqa: PLR0915  (one loop over points, without temporary arrays)
    m, per_frame, per_px, R, centres, offset, pairs, scale, counts, size, normal, gradient
):
    """Add the weighted normal equations of all residuals to ``normal`` (10 V, 10 V) and ``gradient`` (10 V,).

    The derivative of n / D includes the derivative of D. Otherwise noise of several pixels would bias the solution.
    """
    J = np.empty(2 * COUNT)
    block, slope = np.empty((2 * COUNT, 2 * COUNT)), np.empty(2 * COUNT)
    for p in range(len(pairs)):
        if np.isnan(scale[p]):
            continue
        a, b = pairs[p]
        s2 = scale[p] * scale[p]
        block[:], slope[:] = 0.0, 0.0
        number = 0
        c0, c1, c2 = centres[b, 0] - centres[a, 0], centres[b, 1] - centres[a, 1], centres[b, 2] - centres[a, 2]
        for i in range(m.shape[1]):
            # Residual r = n / D: n = d_b . (c x d_a) is the triple product of base line and rays, D the length of its
            # gradient in the pixels of both views (Sampson distance).
            d_a = _sight(R[a], m[a, i, 0], m[a, i, 1])
            d_b = _sight(R[b], m[b, i, 0], m[b, i, 1])
            n_a = _cross(c0, c1, c2, d_a[0], d_a[1], d_a[2])
            n_b = _cross(d_b[0], d_b[1], d_b[2], c0, c1, c2)
            n = d_b[0] * n_a[0] + d_b[1] * n_a[1] + d_b[2] * n_a[2]
            a0, a1 = _gradient(R[a], n_b, per_px[a, i])
            b0, b1 = _gradient(R[b], n_a, per_px[b, i])
            g_a, g_b = a0 * a0 + a1 * a1, b0 * b0 + b1 * b1
            D = np.sqrt(g_a + g_b)
            r = n / D
            # A joint without a detection in either view, or a ray along the base line.
            if not (r * r < np.inf and D > 1e-200):
                continue
            number += 1
            # Weight of Student's t with FREEDOM degrees of freedom: few wrong detections do not decide.
            weight = (FREEDOM + 1) / (FREEDOM + r * r / s2) / s2
            off = r / (D * D)
            # Gradients of D's two parts as vectors of the world.
            ua = _back(R[a], a0, a1, per_px[a, i])
            ub = _back(R[b], b0, b1, per_px[b, i])
            e = _cross(ub[0], ub[1], ub[2], c0, c1, c2)
            f = _cross(c0, c1, c2, ua[0], ua[1], ua[2])
            # Derivatives of r with respect to the rays, the base line, the rotations and the lenses.
            by_a = (n_b[0] / D - off * e[0], n_b[1] / D - off * e[1], n_b[2] / D - off * e[2])
            by_b = (n_a[0] / D - off * f[0], n_a[1] / D - off * f[1], n_a[2] / D - off * f[2])
            e = _cross(d_a[0], d_a[1], d_a[2], ub[0], ub[1], ub[2])
            f = _cross(ua[0], ua[1], ua[2], d_b[0], d_b[1], d_b[2])
            g = _cross(d_a[0], d_a[1], d_a[2], d_b[0], d_b[1], d_b[2])
            base = (g[0] / D - off * (e[0] + f[0]), g[1] / D - off * (e[1] + f[1]), g[2] / D - off * (e[2] + f[2]))
            minus = (-base[0], -base[1], -base[2])
            e = _cross(n_b[0], n_b[1], n_b[2], ua[0], ua[1], ua[2])
            f = _cross(n_a[0], n_a[1], n_a[2], ub[0], ub[1], ub[2])
            turn_a = (off * e[0], off * e[1], off * e[2])
            turn_b = (off * f[0], off * f[1], off * f[2])
            lens_a = off * _lens(R[a], n_b, a0, a1, m[a, i], per_px[a, i])
            lens_b = off * _lens(R[b], n_a, b0, b1, m[b, i], per_px[b, i])
            _view(J, 0, R[a], d_a, by_a, turn_a, minus, m[a, i], per_frame[a, i], offset[a], size, off * g_a, lens_a)
            _view(J, COUNT, R[b], d_b, by_b, turn_b, base, m[b, i], per_frame[b, i], offset[b], size, off * g_b, lens_b)
            for j in range(2 * COUNT):
                w = weight * J[j]
                slope[j] += w * r
                for k in range(j + 1):
                    block[j, k] += w * J[k]
        if number == 0:
            continue
        # Each pair counts as counts[p] observations, however many joints it has.
        each = counts[p] / number
        for j in range(2 * COUNT):
            row = a * COUNT + j if j < COUNT else b * COUNT + j - COUNT
            gradient[row] += each * slope[j]
            for k in range(j + 1):
                column = a * COUNT + k if k < COUNT else b * COUNT + k - COUNT
                normal[row, column] += each * block[j, k]
                if k != j:
                    normal[column, row] += each * block[j, k]
