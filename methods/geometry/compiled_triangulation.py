# mypy: allow-untyped-defs
# ^ numba infers the types of compiled functions; nothing outside ``triangulation`` calls them.
# ruff: noqa: PLR0915
# ^ a long loop: a call of a compiled function copies the headers of its arrays.
"""Compiled loops of linear triangulation, one point after another; see `triangulation.dlt`.

All constants and functions are in this file, because numba renews its cache on disk only when this file changes.
"""

import numpy as np

from poseboard.methods.geometry.compiling import inner, kept

_TINY = 2.2250738585072014e-308
"""Smallest normal number."""

# Without fastmath, so that equal inputs give equal bytes.
_OPTIONS = {"nogil": True, "error_model": "numpy"}
_inner, _kept = inner(**_OPTIONS), kept(**_OPTIONS)


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
def _invert(xx, xy, xz, yy, yz, zz, damp):
    """Invert a symmetric matrix by cofactors; also return its determinant, bounded as in `triangulation.invert`."""
    c_xx = yy * zz - yz * yz
    c_xy = xz * yz - xy * zz
    c_xz = xy * yz - xz * yy
    trace = xx + yy + zz
    determinant = xx * c_xx + xy * c_xy + xz * c_xz
    floor = damp * damp * (trace * trace * trace)
    floor = floor if floor > _TINY else _TINY
    determinant = determinant if determinant > floor else floor
    return (
        c_xx / determinant,
        c_xy / determinant,
        c_xz / determinant,
        (xx * zz - xz * xz) / determinant,
        (xy * xz - xx * yz) / determinant,
        (xx * yy - xy * xy) / determinant,
        determinant,
    )


@_inner
def _observe(P, rig, sound, points, weights, f, j, rows):
    """Fill two rows of the linear system per view that observes joint ``j`` of frame ``f``; return their number."""
    largest = 1.0
    weighted = len(weights) > 0
    if weighted:
        largest = 0.0
        for v in range(points.shape[1]):
            weight = weights[f, v, j]
            if sound[v] and weight < np.inf and np.isfinite(points[f, v, j, 0] + points[f, v, j, 1]):
                largest = max(largest, weight)
    n = 0
    for v in range(points.shape[1]):
        u, w = points[f, v, j, 0], points[f, v, j, 1]
        if not (sound[v] and np.isfinite(u + w)):
            continue
        scale = 1.0
        if weighted:
            if not 0.0 < weights[f, v, j] < np.inf:
                continue
            scale = weights[f, v, j] / largest
        for k in range(4):
            rows[n, k] = (u * P[rig, v, 8 + k] - P[rig, v, k]) * scale
            rows[n + 1, k] = (w * P[rig, v, 8 + k] - P[rig, v, 4 + k]) * scale
        n += 2
    return n


@_inner
def _gradient(rows, n, x, y, z):
    """Half the gradient of ``|B X + b|²``, and its value."""
    gx = gy = gz = squared = 0.0
    for i in range(n):
        residual = rows[i, 0] * x + rows[i, 1] * y + rows[i, 2] * z + rows[i, 3]
        gx += rows[i, 0] * residual
        gy += rows[i, 1] * residual
        gz += rows[i, 2] * residual
        squared += residual * residual
    return gx, gy, gz, squared


@_kept
def triangulate(P, points, weights, homogeneous, damp, safe_ratio, start, stop, X, unsure):
    """Fill ``X`` and ``unsure`` of the points from ``start`` to ``stop``.

    Args:
        P: (F or 1, V, 12) projection matrices.
        points: (F, V, J, 2) pixels.
        weights: (F, V, J) weights; (0, V, J): equal weights.
        homogeneous: minimise ``|A y|`` over unit ``y`` by Rayleigh quotient iteration.
        damp: share of the trace that is added to the diagonal of normal equations.
        safe_ratio: ratio of the quotient to the smallest eigenvalue's lower bound up to which the result is sure.
        start: index of the first of the F x J points.
        stop: index after the last point.
        X: (F x J, 3) output; the caller fills it with NaN.
        unsure: (F x J,) output, whether the iteration may have missed the solution; the caller fills it with False.
    """
    joints = points.shape[2]
    sound, rows = np.empty(points.shape[1], dtype=np.bool_), np.empty((2 * points.shape[1], 4))
    rig = -1
    for point in range(start, stop):
        f, j = point // joints, point % joints
        if rig != f % len(P):
            rig = f % len(P)
            _check(P, rig, sound)
        n = _observe(P, rig, sound, points, weights, f, j, rows)
        # Each view has two equations; fewer than two views do not define a point.
        if n < 4:
            continue
        # Normal equations of the rows (a b c) X = -d.
        xx = xy = xz = yy = yz = zz = bx = by = bz = 0.0
        for i in range(n):
            a, b, c, d = rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3]
            xx += a * a
            xy += a * b
            xz += a * c
            yy += b * b
            yz += b * c
            zz += c * c
            bx += a * d
            by += b * d
            bz += c * d
        trace = xx + yy + zz
        # Damping keeps parallel rays solvable. The gradient step at the end removes its bias.
        added = damp * trace if trace > 0.0 else 1.0
        xx += added
        yy += added
        zz += added
        i_xx, i_xy, i_xz, i_yy, i_yz, i_zz, determinant = _invert(xx, xy, xz, yy, yz, zz, damp)
        x = -(i_xx * bx + i_xy * by + i_xz * bz)
        y = -(i_xy * bx + i_yy * by + i_yz * bz)
        z = -(i_xz * bx + i_yz * by + i_zz * bz)
        gx, gy, gz, squared = _gradient(rows, n, x, y, z)
        # Rayleigh quotient iteration from the inhomogeneous solution: two shifted Newton steps (one here, one below).
        if homogeneous:
            trace = xx + yy + zz
            quotient = squared / (1.0 + (x * x + y * y + z * z))
            # det / (trace / 2)^2 bounds the smallest eigenvalue from below. Near it another one may be reached.
            if quotient > safe_ratio * 4.0 * determinant / (trace * trace):
                unsure[point] = True
                continue
            i_xx, i_xy, i_xz, i_yy, i_yz, i_zz, _ = _invert(
                xx - quotient, xy, xz, yy - quotient, yz, zz - quotient, damp
            )
            gx -= quotient * x
            gy -= quotient * y
            gz -= quotient * z
            x, y, z = (
                x - (i_xx * gx + i_xy * gy + i_xz * gz),
                y - (i_xy * gx + i_yy * gy + i_yz * gz),
                z - (i_xz * gx + i_yz * gy + i_zz * gz),
            )
            gx, gy, gz, squared = _gradient(rows, n, x, y, z)
            quotient = squared / (1.0 + (x * x + y * y + z * z))
            gx -= quotient * x
            gy -= quotient * y
            gz -= quotient * z
        # Last Newton step, with the inverse at hand.
        X[point, 0] = x - (i_xx * gx + i_xy * gy + i_xz * gz)
        X[point, 1] = y - (i_xy * gx + i_yy * gy + i_yz * gz)
        X[point, 2] = z - (i_xz * gx + i_yz * gy + i_zz * gz)
