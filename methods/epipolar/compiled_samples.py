# mypy: allow-untyped-defs
# ^ numba infers the types of compiled functions; nothing outside ``sampling`` calls them.
"""Compiled sums over samples of maps at fractional cells; see `sampling`.

A call reads the four cells around each sample and stores only the result.
"""

import numpy as np

from poseboard.methods.geometry.compiling import inner, kept

# Without fastmath, so that equal inputs give equal bytes.
_OPTIONS = {"nogil": True, "error_model": "numpy"}
_inner, _kept = inner(**_OPTIONS), kept(**_OPTIONS)


@_inner
def _corners(x, y, width, height):
    """Indices and bilinear weights of the four cells around (x, y); index 0 and weight 0 outside the map."""
    left, top = np.floor(x), np.floor(y)
    fx, fy = np.float32(x - left), np.float32(y - top)
    gx, gy, none = np.float32(1) - fx, np.float32(1) - fy, np.float32(0)
    in_left, in_right = 0 <= left < width, -1 <= left < width - 1
    in_top, in_bottom = 0 <= top < height, -1 <= top < height - 1
    # The comparisons are false for what is not a number, which no whole number stands for.
    column = int(left) if in_left or in_right else 0
    row = int(top) if in_top or in_bottom else 0
    first = row * width + column
    return (
        first if in_left and in_top else 0,
        gx * gy if in_left and in_top else none,
        first + 1 if in_right and in_top else 0,
        fx * gy if in_right and in_top else none,
        first + width if in_left and in_bottom else 0,
        gx * fy if in_left and in_bottom else none,
        first + width + 1 if in_right and in_bottom else 0,
        fx * fy if in_right and in_bottom else none,
    )


@_inner
def _dot(a, b):
    """Dot product of two rows in four partial sums, which the processor computes in parallel."""
    s0 = s1 = s2 = s3 = np.float32(0)
    fours = len(a) // 4 * 4
    for c in range(0, fours, 4):
        s0 += a[c] * b[c]
        s1 += a[c + 1] * b[c + 1]
        s2 += a[c + 2] * b[c + 2]
        s3 += a[c + 3] * b[c + 3]
    for c in range(fours, len(a)):
        s0 += a[c] * b[c]
    return (s0 + s1) + (s2 + s3)


@_kept
def products(vectors, maps, source, places, width, height, out):
    """Fill ``out`` (b, R, K) with dot products of vectors (b, R, C) and their samples of ``maps`` (n, cells, C)."""
    sample = np.empty(maps.shape[2], np.float32)
    for n in range(places.shape[0]):
        cells = maps[source[n]]
        for r in range(places.shape[1]):
            vector = vectors[n, r]
            for k in range(places.shape[2]):
                a, wa, b, wb, c, wc, d, wd = _corners(places[n, r, k, 0], places[n, r, k, 1], width, height)
                first, second, third, fourth = cells[a], cells[b], cells[c], cells[d]
                for i in range(len(sample)):
                    sample[i] = wa * first[i] + wb * second[i] + wc * third[i] + wd * fourth[i]
                out[n, r, k] = _dot(vector, sample)


@_kept
def sums(weights, maps, source, places, width, height, out):
    """Add the samples of map ``source[b]``, weighted by ``weights`` (b, R, K), to ``out`` (b, R, C)."""
    for n in range(places.shape[0]):
        cells = maps[source[n]]
        for r in range(places.shape[1]):
            total = out[n, r]
            for k in range(places.shape[2]):
                w = weights[n, r, k]
                a, wa, b, wb, c, wc, d, wd = _corners(places[n, r, k, 0], places[n, r, k, 1], width, height)
                wa, wb, wc, wd = w * wa, w * wb, w * wc, w * wd
                first, second, third, fourth = cells[a], cells[b], cells[c], cells[d]
                for i in range(len(total)):
                    total[i] += wa * first[i] + wb * second[i] + wc * third[i] + wd * fourth[i]


@_kept
def spread(weights, vectors, source, places, width, height, maps):
    """Add weight times vector to the cells of ``maps`` (n, cells, C) around each sample of map ``source[b]``."""
    for n in range(places.shape[0]):
        cells = maps[source[n]]
        for r in range(places.shape[1]):
            vector = vectors[n, r]
            for k in range(places.shape[2]):
                w = weights[n, r, k]
                a, wa, b, wb, c, wc, d, wd = _corners(places[n, r, k, 0], places[n, r, k, 1], width, height)
                for cell, share in ((a, w * wa), (b, w * wb), (c, w * wc), (d, w * wd)):
                    target = cells[cell]
                    for i in range(len(vector)):
                        target[i] += share * vector[i]
