# mypy: allow-untyped-defs
# ^ numba infers the types of compiled functions; nothing outside ``posterior`` calls them.
# ruff: noqa: PLR0912, PLR0915
# ^ long loops: a call of a compiled function copies the headers of its arrays.
"""Compiled sampling of camera posteriors; `posterior` describes the algorithm and implements it with gradients.

Arrays are float64 and C-contiguous. `LANES` draws are computed at once, one per SIMD lane, and each rig separately.
With C cameras after the first, a draw has D = 6 C - 1 coordinates: 3 C of rotations, and the rest of translations.

All constants and functions are in this file, because numba renews its cache on disk only when this file changes.
"""

from __future__ import annotations

import math

import numpy as np

from poseboard.methods.geometry.compiling import inner, kept

LANES = 32
_NEAREST = 1e-3
"""Depth below which a point counts as that far in front of or behind a camera, in units of the first baseline."""
_FLOOR = 1e-10
"""Matrices whose smallest eigenvalue may be a smaller share of the largest are not solved here."""
_BEHIND = 1e4
"""A point behind a camera is as bad as one so far off, in squared robust scales."""
_MANTISSA, _ONE = np.uint64(0x000FFFFFFFFFFFFF), np.uint64(0x3FF0000000000000)
_MAGIC, _SHIFT = np.uint64(0x4330000000000000), np.uint64(52)
_OFFSET = 2.0**52 + 1023.0
_HALF_ROOT, _LN2 = 0.7071067811865476, 0.6931471805599453

# Without fastmath, so that equal inputs give equal bytes.
_OPTIONS = {"nogil": True, "error_model": "numpy"}
_inner, _kept = inner(**_OPTIONS), kept(**_OPTIONS)


@_inner
def _cholesky(A, first, last, tril, inverse):
    """Fill the Cholesky factor of a diagonal block and its inverse; return the log of the factor's determinant.

    The result is NaN if the block is not positive, or if its eigenvalues differ so much that they need a floor.
    """
    trace = squared = log_det = 0.0
    for i in range(first, last):
        trace += A[i, i]
        for j in range(first, i + 1):
            total = A[i, j]
            for k in range(first, j):
                total -= tril[i, k] * tril[j, k]
            if i > j:
                tril[i, j] = total * inverse[j, j]
            else:
                if not total > 0.0:
                    return np.nan
                tril[i, i] = math.sqrt(total)
                inverse[i, i] = 1.0 / tril[i, i]
                log_det += math.log(tril[i, i])
    for i in range(first, last):
        for j in range(first, i):
            total = 0.0
            for k in range(j, i):
                total += tril[i, k] * inverse[k, j]
            inverse[i, j] = -total * inverse[i, i]
        for j in range(first, i + 1):
            squared += inverse[i, j] * inverse[i, j]
    return log_det if _FLOOR * squared * trace < 1.0 else np.nan


@_inner
def _invert(A, tril, inverse, out):
    """Set ``out`` to the inverse of A; return whether the inverse is numerically reliable."""
    D = len(A)
    if not np.isfinite(_cholesky(A, 0, D, tril, inverse)):
        return False
    for i in range(D):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, D):
                total += inverse[k, i] * inverse[k, j]
            out[i, j] = total
            out[j, i] = total
    return True


@_inner
def _propose(covariance, d, inflation, tril, inverse, given, cross):
    """Fill a proposal with a covariance: factors of rotation and translation on the diagonal, and the slope below.

    Return the log of the determinant; NaN if the factorization is not reliable.
    """
    D = len(covariance)
    log_det = _cholesky(covariance, 0, d, tril, inverse)
    if not np.isfinite(log_det):
        return log_det
    for i in range(d, D):
        for j in range(d):
            total = 0.0
            for k in range(j + 1):
                total += covariance[i, k] * inverse[j, k]
            cross[i, j] = total
        for j in range(d):
            total = 0.0
            for k in range(j, d):
                total += cross[i, k] * inverse[k, j]
            tril[i, j] = total
        for j in range(d, i + 1):
            total = covariance[i, j]
            for k in range(d):
                total -= cross[i, k] * cross[j, k]
            given[i, j] = total
    log_det += _cholesky(given, d, D, tril, inverse)
    for i in range(D):
        for j in range(0 if i < d else d, i + 1):
            tril[i, j] *= inflation
            inverse[i, j] /= inflation
    return log_det + D * math.log(inflation)


@_inner
def _draw(noise, mean, d, tril, z):
    """Fill ``z`` (D, LANES) with draws of a proposal."""
    D = len(mean)
    for i in range(D):
        for lane in range(LANES):
            z[i, lane] = 0.0
        for j in range(d if i >= d else 0, i + 1):
            a = tril[i, j]
            for lane in range(LANES):
                z[i, lane] += a * noise[j, lane]
        if i >= d:
            for j in range(d):
                a = tril[i, j]
                for lane in range(LANES):
                    z[i, lane] += a * z[j, lane]
    for i in range(D):
        for lane in range(LANES):
            z[i, lane] += mean[i]


@_inner
def _log_density(z, mean, d, tril, inverse, log_det, centred, lanes, out):
    """Fill ``out`` (LANES,) with log densities of draws, up to a constant."""
    D = len(mean)
    for i in range(D):
        for lane in range(LANES):
            centred[i, lane] = z[i, lane] - mean[i]
        if i >= d:
            for j in range(d):
                a = tril[i, j]
                for lane in range(LANES):
                    centred[i, lane] -= a * centred[j, lane]
    for lane in range(2 * LANES):
        lanes[lane] = 0.0
    for i in range(D):
        for lane in range(LANES):
            lanes[2 * LANES + lane] = 0.0
        for j in range(d if i >= d else 0, i + 1):
            a = inverse[i, j]
            for lane in range(LANES):
                lanes[2 * LANES + lane] += a * centred[j, lane]
        place = LANES if i >= d else 0
        for lane in range(LANES):
            lanes[place + lane] += lanes[2 * LANES + lane] * lanes[2 * LANES + lane]
    for lane in range(LANES):
        # Cauchy, and Student-t with 3 degrees of freedom
        out[lane] = (
            -log_det
            - (1 + d) / 2 * math.log(1.0 + lanes[lane])
            - (3 + D - d) / 2 * math.log(1.0 + lanes[LANES + lane] / 3.0)
        )


@_inner
def _place(z, R0, t0, basis, cameras, prior):
    """Fill the cameras (V, 12 x LANES) of draws, rows of R and then t, and their log priors (LANES,)."""
    C = len(R0)
    d = 3 * C
    for lane in range(LANES):
        prior[lane] = 1.0
    first = cameras[0]
    # The first camera is the frame of all others: R = I, t = 0.
    for k in range(12 * LANES):
        first[k] = 0.0
    for lane in range(LANES):
        first[lane] = first[4 * LANES + lane] = first[8 * LANES + lane] = 1.0
    for c in range(C):
        # Slices: an index that may be negative, for all that the compiler knows, keeps lanes apart.
        of, z0, z1, z2 = cameras[c + 1], z[3 * c], z[3 * c + 1], z[3 * c + 2]
        a0, a1, a2 = R0[c, 0, 0], R0[c, 0, 1], R0[c, 0, 2]
        b0, b1, b2 = R0[c, 1, 0], R0[c, 1, 1], R0[c, 1, 2]
        c0, c1, c2 = R0[c, 2, 0], R0[c, 2, 1], R0[c, 2, 2]
        for lane in range(LANES):
            # Cayley map: R(z) turns by 2 atan(|z| / 2) about z. Uniform rotations have the density norm^-2.
            x, y, w = z0[lane], z1[lane], z2[lane]
            norm = 1.0 + (x * x + y * y + w * w) / 4.0
            prior[lane] *= norm
            s = 1.0 / norm
            h = s / 2.0
            xx, yy, ww, xy, xw, yw = h * x * x, h * y * y, h * w * w, h * x * y, h * x * w, h * y * w
            x, y, w = s * x, s * y, s * w
            r0, r1, r2 = 1.0 - yy - ww, xy - w, xw + y
            r3, r4, r5 = xy + w, 1.0 - xx - ww, yw - x
            r6, r7, r8 = xw - y, yw + x, 1.0 - xx - yy
            # Rows of R = R(z) R0.
            of[lane] = r0 * a0 + r1 * b0 + r2 * c0
            of[LANES + lane] = r0 * a1 + r1 * b1 + r2 * c1
            of[2 * LANES + lane] = r0 * a2 + r1 * b2 + r2 * c2
            of[3 * LANES + lane] = r3 * a0 + r4 * b0 + r5 * c0
            of[4 * LANES + lane] = r3 * a1 + r4 * b1 + r5 * c1
            of[5 * LANES + lane] = r3 * a2 + r4 * b2 + r5 * c2
            of[6 * LANES + lane] = r6 * a0 + r7 * b0 + r8 * c0
            of[7 * LANES + lane] = r6 * a1 + r7 * b1 + r8 * c1
            of[8 * LANES + lane] = r6 * a2 + r7 * b2 + r8 * c2
        # t = t0 + basis z: the directions that do not change the length of all translations.
        for k in range(3):
            row = of[(9 + k) * LANES : (10 + k) * LANES]
            for lane in range(LANES):
                row[lane] = t0[3 * c + k]
            for j in range(d - 1):
                a, along = basis[3 * c + k, j], z[d + j]
                for lane in range(LANES):
                    row[lane] += a * along[lane]
    second = cameras[1]
    for lane in range(LANES):
        prior[lane] = -2.0 * math.log(prior[lane])
        # The scale is free: the second camera is at distance 1 from the first.
        x, y, w = second[9 * LANES + lane], second[10 * LANES + lane], second[11 * LANES + lane]
        length = math.sqrt(x * x + y * y + w * w)
        s = 1.0 / length if length > 0.0 else 1.0
        for c in range(1, C + 1):
            for k in range(9, 12):
                cameras[c, k * LANES + lane] *= s


@_inner
def _log(x):
    """Logarithm of a number of at least 1 by arithmetic only, so that the compiler vectorises loops over it."""
    bits = np.float64(x).view(np.uint64)
    exponent = np.uint64((bits >> _SHIFT) | _MAGIC).view(np.float64) - _OFFSET
    mantissa = np.uint64((bits & _MANTISSA) | _ONE).view(np.float64) * _HALF_ROOT  # 0.71 to 1.41
    s = (mantissa - 1.0) / (mantissa + 1.0)
    q = s * s
    # the series of 2 artanh(s)
    p = 1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15 + q * (1 / 17)))))))
    return (exponent + 0.5) * _LN2 + 2.0 * s * (1.0 + q * p)


@_inner
def _see(cameras, ray, w, f, variance, acc, X, m, out):
    """Triangulate with LANES draws of the cameras into ``X`` (M, N, 3) from index ``m``; fill their log likelihoods."""
    V, _, N = ray.shape
    for lane in range(LANES):
        out[lane] = 0.0
    for n in range(N):
        # Weights relative to the largest one, as in the plain twin: the damping below depends on the scale.
        largest = 0.0
        views = 0
        for v in range(V):
            if w[v * N + n] > 0.0:
                views += 1
                largest = max(largest, w[v * N + n])
        # Normal equations A^T A X = -A^T b of w (p r3 - r1) X = -w (p t3 - t1), and likewise with q and r2.
        for place in range(9 * LANES):
            acc[place] = 0.0
        for v in range(V):
            if not w[v * N + n] > 0.0:
                continue
            s = w[v * N + n] / largest
            p, q = ray[v, 0, n], ray[v, 1, n]
            of = cameras[v]
            for lane in range(LANES):
                r0, r1, r2 = (
                    of[6 * LANES + lane],
                    of[7 * LANES + lane],
                    of[8 * LANES + lane],
                )
                r3 = of[11 * LANES + lane]
                a0 = s * (p * r0 - of[lane])
                a1 = s * (p * r1 - of[LANES + lane])
                a2 = s * (p * r2 - of[2 * LANES + lane])
                a3 = s * (p * r3 - of[9 * LANES + lane])
                b0 = s * (q * r0 - of[3 * LANES + lane])
                b1 = s * (q * r1 - of[4 * LANES + lane])
                b2 = s * (q * r2 - of[5 * LANES + lane])
                b3 = s * (q * r3 - of[10 * LANES + lane])
                acc[lane] += a0 * a0 + b0 * b0
                acc[LANES + lane] += a0 * a1 + b0 * b1
                acc[2 * LANES + lane] += a0 * a2 + b0 * b2
                acc[3 * LANES + lane] += a1 * a1 + b1 * b1
                acc[4 * LANES + lane] += a1 * a2 + b1 * b2
                acc[5 * LANES + lane] += a2 * a2 + b2 * b2
                acc[6 * LANES + lane] += a0 * a3 + b0 * b3
                acc[7 * LANES + lane] += a1 * a3 + b1 * b3
                acc[8 * LANES + lane] += a2 * a3 + b2 * b3
        # Solve by cofactors of the damped symmetric matrix. Points of fewer than two views become 0.
        enough = 1.0 if views >= 2 else 0.0
        for lane in range(LANES):
            xx, xy, xz = acc[lane], acc[LANES + lane], acc[2 * LANES + lane]
            yy, yz, zz = acc[3 * LANES + lane], acc[4 * LANES + lane], acc[5 * LANES + lane]
            x, y, z = acc[6 * LANES + lane], acc[7 * LANES + lane], acc[8 * LANES + lane]
            added = 1e-12 * (xx + yy + zz)
            xx, yy, zz = xx + added, yy + added, zz + added
            c_xx, c_xy, c_xz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
            c_yy, c_yz, c_zz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
            det = xx * c_xx + xy * c_xy + xz * c_xz
            s = -enough / det if det > 0.0 else 0.0
            acc[lane] = s * (c_xx * x + c_xy * y + c_xz * z)
            acc[LANES + lane] = s * (c_xy * x + c_yy * y + c_yz * z)
            acc[2 * LANES + lane] = s * (c_xz * x + c_yz * y + c_zz * z)
        for lane in range(LANES):
            X[m + lane, n, 0] = acc[lane]
            X[m + lane, n, 1] = acc[LANES + lane]
            X[m + lane, n, 2] = acc[2 * LANES + lane]
        for v in range(V):
            if not w[v * N + n] > 0.0:
                continue
            # Squared reprojection error in units of the variance; depths near 0 are clipped.
            p, q, scale = ray[v, 0, n], ray[v, 1, n], f[v * N + n] * f[v * N + n] / variance
            weight = w[v * N + n]
            of = cameras[v]
            for lane in range(LANES):
                x, y, z = acc[lane], acc[LANES + lane], acc[2 * LANES + lane]
                a = of[lane] * x + of[LANES + lane] * y + of[2 * LANES + lane] * z + of[9 * LANES + lane]
                b = (
                    of[3 * LANES + lane] * x
                    + of[4 * LANES + lane] * y
                    + of[5 * LANES + lane] * z
                    + of[10 * LANES + lane]
                )
                c = (
                    of[6 * LANES + lane] * x
                    + of[7 * LANES + lane] * y
                    + of[8 * LANES + lane] * z
                    + of[11 * LANES + lane]
                )
                away = abs(c)
                away = away if away > _NEAREST else _NEAREST
                inverse = 1.0 / (away if c >= 0.0 else -away)
                a = a * inverse - p
                b = b * inverse - q
                u = scale * (a * a + b * b)
                # A point behind the camera costs at least _BEHIND, wherever it projects.
                least = 0.0 if c > 0.0 else _BEHIND
                acc[3 * LANES + lane] = 1.0 + (u if u > least else least)
            for lane in range(LANES):  # a loop of its own: together they are too much for the compiler
                out[lane] += weight * _log(acc[3 * LANES + lane])
    for lane in range(LANES):
        out[lane] *= -4.5


@_inner
def _weigh(log_weights, count, share):
    """Fill ``share`` with the soft-max of the first ``count`` log weights; return the effective sample size."""
    largest = -np.inf
    for m in range(count):
        largest = max(largest, log_weights[m])
    total = 0.0
    for m in range(count):
        share[m] = math.exp(log_weights[m] - largest)
        total += share[m]
    squared = 0.0
    for m in range(count):
        share[m] /= total
        squared += share[m] * share[m]
    return 1.0 / squared


@_inner
def _refit(z, share, effective, enough, start, mean, covariance, lanes):
    """Fill mean and covariance of weighted draws, or those of the start if the effective sample size is too small."""
    D = len(start)
    blocks = len(share) // LANES
    for i in range(D):
        mean[i] = 0.0
        for j in range(i + 1):
            covariance[i, j] = start[i, j]
    if not effective > enough:
        return
    for i in range(D):
        for lane in range(LANES):
            lanes[lane] = 0.0
        for block in range(blocks):
            for lane in range(LANES):
                lanes[lane] += share[block * LANES + lane] * z[block, i, lane]
        for lane in range(LANES):
            mean[i] += lanes[lane]
    for i in range(D):
        for j in range(i + 1):
            for lane in range(LANES):
                lanes[lane] = 0.0
            for block in range(blocks):
                of = share[block * LANES : (block + 1) * LANES]
                for lane in range(LANES):
                    lanes[lane] += of[lane] * (z[block, i, lane] - mean[i]) * (z[block, j, lane] - mean[j])
            total = 0.0
            for lane in range(LANES):
                total += lanes[lane]
            covariance[i, j] = total
    # Few draws say little of so many directions: the start's covariance is kept as so many draws more.
    for i in range(D):
        for j in range(i + 1):
            covariance[i, j] = (effective * covariance[i, j] + D * start[i, j]) / (effective + D)


@_kept
def sample(
    R0, t0, basis, precision, noise, inflation, enough, ray, w, f, sigma, R, t, points, share, effective, covariance,
    sound,
):  # fmt: skip
    """Sample camera posteriors of B rigs: draw, weight and refit the proposal in every round.

    Args:
        R0: (B, C, 3, 3) starting rotations of the cameras after the first.
        t0: (B, 3 C) starting translations of these cameras.
        basis: (B, 3 C, 3 C - 1) basis of the changes of translations.
        precision: (B, D, D) precision of the first proposal.
        noise: (K, M / LANES, D, LANES) standardised draws for K rounds of M draws.
        inflation: factor on the scale of proposals.
        enough: effective sample size from which a proposal is fitted to the draws.
        ray: (B, V, 2, N) observations; finite.
        w: (B, V N) weights of the observations.
        f: (B, V N) focal lengths of the observations.
        sigma: (B,) standard deviation of a coordinate, px.
        R: (B, K M, V, 3, 3) output: rotations of the draws.
        t: (B, K M, V, 3) output: translations of the draws.
        points: (B, K M, N, 3) output: triangulated points.
        share: (B, K M) output: normalised weights of the draws.
        effective: (B,) output: effective sample size.
        covariance: (B, D, D) output: covariance of the coordinates.
        sound: (B,) output: whether the result of a rig is numerically reliable.
    """
    B, C = R0.shape[0], R0.shape[1]
    V, D, d = C + 1, 6 * C - 1, 3 * C
    K, blocks = noise.shape[0], noise.shape[1]
    M = blocks * LANES
    z, log_q = np.empty((K * blocks, D, LANES)), np.empty((K, K * blocks, LANES))
    likelihood, prior, log_weights = np.empty((K * blocks, LANES)), np.empty((K * blocks, LANES)), np.empty(K * M)
    mean, tril, inverse, log_det = np.empty((K, D)), np.zeros((K, D, D)), np.zeros((K, D, D)), np.empty(K)
    fitted, given, cross = np.empty((D, D)), np.empty((D, D)), np.empty((D, D))
    cameras, acc, centred = np.empty((V, 12 * LANES)), np.empty(9 * LANES), np.empty((D, LANES))
    for b in range(B):
        sound[b] = _invert(precision[b], tril[0], inverse[0], covariance[b])
        if not sound[b]:
            continue
        variance = 9.0 * sigma[b] * sigma[b]
        for i in range(D):
            mean[0, i] = 0.0
            for j in range(i + 1):
                fitted[i, j] = covariance[b, i, j]
        for k in range(K):
            log_det[k] = _propose(fitted, d, inflation, tril[k], inverse[k], given, cross)
            if not np.isfinite(log_det[k]):
                sound[b] = False
                break
            for block in range(blocks):
                at = k * blocks + block
                m = at * LANES
                _draw(noise[k, block], mean[k], d, tril[k], z[at])
                _place(z[at], R0[b], t0[b], basis[b], cameras, prior[at])
                _see(
                    cameras, ray[b], w[b], f[b], variance, acc, points[b], m, likelihood[at],
                )  # fmt: skip
                for v in range(V):
                    for lane in range(LANES):
                        for i in range(9):
                            R[b, m + lane, v, i // 3, i % 3] = cameras[v, i * LANES + lane]
                        for i in range(3):
                            t[b, m + lane, v, i] = cameras[v, (9 + i) * LANES + lane]
                for old in range(k):
                    _log_density(
                        z[at], mean[old], d, tril[old], inverse[old], log_det[old], centred, acc, log_q[old, at]
                    )  # fmt: skip
            drawn = (k + 1) * blocks
            for at in range(drawn):
                _log_density(z[at], mean[k], d, tril[k], inverse[k], log_det[k], centred, acc, log_q[k, at])
                for lane in range(LANES):
                    largest = log_q[0, at, lane]
                    for old in range(1, k + 1):
                        largest = max(largest, log_q[old, at, lane])
                    total = 0.0
                    for old in range(k + 1):
                        total += math.exp(log_q[old, at, lane] - largest)
                    log_weights[at * LANES + lane] = (
                        likelihood[at, lane] + prior[at, lane] - largest - math.log(total)
                    )  # fmt: skip
            effective[b] = _weigh(log_weights, drawn * LANES, share[b])
            if k < K - 1:
                _refit(z, share[b, : drawn * LANES], effective[b], enough, covariance[b], mean[k + 1], fitted, acc)


@_kept
def spread(R, t, share, mean_R, mean_t, covariance):
    """Fill ``covariance`` (B, V, 6, 6) of draws about their means, in left Rodrigues vectors and translations."""
    B, M, V = t.shape[:3]
    moved = np.empty(6)
    for b in range(B):
        for v in range(V):
            for i in range(6):
                for j in range(6):
                    covariance[b, v, i, j] = 0.0
            a = mean_R[b, v]
            for m in range(M):
                r = R[b, m, v]
                # r times the transposed mean: its trace, and what is not symmetric of it
                trace = 0.0
                for i in range(3):
                    for j in range(3):
                        trace += r[i, j] * a[i, j]
                s = 2.0 / (1.0 + trace)
                moved[0] = moved[1] = moved[2] = 0.0
                for j in range(3):
                    moved[0] += s * (r[2, j] * a[1, j] - r[1, j] * a[2, j])
                    moved[1] += s * (r[0, j] * a[2, j] - r[2, j] * a[0, j])
                    moved[2] += s * (r[1, j] * a[0, j] - r[0, j] * a[1, j])
                for i in range(3):
                    moved[3 + i] = t[b, m, v, i] - mean_t[b, v, i]
                for i in range(6):
                    weighted = share[b, m] * moved[i]
                    for j in range(i + 1):
                        covariance[b, v, i, j] += weighted * moved[j]
            for i in range(6):
                for j in range(i):
                    covariance[b, v, j, i] = covariance[b, v, i, j]
