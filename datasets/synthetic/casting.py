# mypy: allow-untyped-defs
# ^ numba infers the types of compiled functions; nothing outside ``renderer`` calls them.
# ruff: noqa: PLR0912, PLR0915
# ^ long loops: a call of a compiled function copies the headers of its arrays.
"""Compiled loops of the renderer: intersection of rays with round cones, rotated boxes and the room.

A picture is made in five steps: `prepare` computes the cones' geometry, `screen_bounds` and `tiles` list the solids
that each 8 x 8 px tile of the image can show, `light_grid` lists the solids that can shade each 6 cm cell of a plane
perpendicular to the light, and `render` casts one ray per pixel, then four more where neighbouring pixels differ.

Columns of the arrays, by their first index:

* ``cones`` (N, 28): 0 end a, 3 axis, 6 length, 7 radii, 9 sine s of the half opening angle, 10 c^2 = 1 - s^2 (0 to 11
  from ``prepare``), 12 frame and texture origin, 24 paint, 27 owner.
* ``boxes`` (B, 9): 0 centre, 3 half extents, 6 cosine and sine of the yaw, 8 material.
* ``settings`` (26,): 0 camera centre, 3 direction of the light, 6 key, 7 ambient, 8 half extents and height of the
  room, 11 noise, 12 tint, 16 light grid.

A round cone is the convex hull of two spheres. There are few, wide arrays because each one is a dozen machine arguments
per call.

Traps: images must be equal to the byte on every run, so there is no fastmath and no reordering of sums. Changing the
order of operations in any function below changes the last bits of images, the hashes of worlds, and all scores.
"""

from typing import Any

import numpy as np
from numba import njit

TILE_PX = 8
CELL_MM = 60.0
NOTHING = 1e30
# Kinds of materials of cones, then of boxes: the first column of ``Solids.materials``.
CLOTH, SHIRT, HEAD, TROUSERS, SHOE = 0.0, 1.0, 2.0, 3.0, 4.0
PLAIN, WOOD, DRAWERS, CARTON, FABRIC = 10.0, 11.0, 12.0, 13.0, 14.0
MATERIAL_COLUMNS = 16
"""Kind, colours A, B and C (3 each, linear light), pattern, period (mm), phase, folds, and two of the kind's own."""


# No fastmath: it reorders sums, and equal inputs must give equal bytes.
_compiled: Any = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def prepare(cones):
    """Geometry (N, 12) of round cones: end a, axis, length, radii, s = sine of the half opening angle, 1 - s^2."""
    out = np.empty((cones.shape[0], 12))
    for i in range(cones.shape[0]):
        d0 = cones[i, 3] - cones[i, 0]
        d1 = cones[i, 4] - cones[i, 1]
        d2 = cones[i, 5] - cones[i, 2]
        length = np.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
        ra, rb = cones[i, 6], cones[i, 7]
        # One sphere contains the other: the cone is the larger sphere, stored as end a.
        flip = length <= abs(ra - rb) + 1e-6 and rb > ra
        for k in range(3):
            out[i, k] = cones[i, 3 + k] if flip else cones[i, k]
        out[i, 7] = rb if flip else ra
        out[i, 8] = rb
        if length <= abs(ra - rb) + 1e-6:
            # s = 2 makes the test "y <= s ra" of sphere a true everywhere; length 0 skips the side and sphere b.
            out[i, 3], out[i, 4], out[i, 5], out[i, 6] = 0.0, 0.0, 1.0, 0.0
            out[i, 9], out[i, 10] = 2.0, 1.0
        else:
            out[i, 3], out[i, 4], out[i, 5] = d0 / length, d1 / length, d2 / length
            out[i, 6] = length
            s = (
                ra - rb
            ) / length  # the side touches the spheres where their normals have this component along the axis
            out[i, 9], out[i, 10] = s, 1.0 - s * s
    return out


@_compiled
def _hit_cone(g, i, ox, oy, oz, ux, uy, uz):
    """Intersect a unit ray with a round cone; return distance and hit part (0 side, 1 sphere a, 2 sphere b).

    The side is c^2 |p|^2 - y^2 + 2 ra s y - ra^2 = 0, with p relative to a and y = p . axis, between the circles in
    which it touches the spheres: ra s <= y <= length + rb s. Both spheres are inside of the infinite cone, so that a
    ray that misses the infinite cone misses all three parts.
    """
    px, py, pz = ox - g[i, 0], oy - g[i, 1], oz - g[i, 2]
    length, ra, rb, s, c2 = g[i, 6], g[i, 7], g[i, 8], g[i, 9], g[i, 10]
    y0 = px * g[i, 3] + py * g[i, 4] + pz * g[i, 5]
    yu = ux * g[i, 3] + uy * g[i, 4] + uz * g[i, 5]
    pu = px * ux + py * uy + pz * uz
    pp = px * px + py * py + pz * pz
    best, part = NOTHING, 0
    if length > 0.0:
        # The side: insert p + t u into its equation, which gives a t^2 + 2 b t + c = 0.
        a = c2 - yu * yu
        b = c2 * pu - y0 * yu + ra * s * yu
        c = c2 * pp - y0 * y0 + 2.0 * ra * s * y0 - ra * ra
        disc = b * b - a * c
        if disc < 0.0:
            return best, part
        if abs(a) > 1e-9:  # a = 0: parallel to a line on the side; ignored
            root = np.sqrt(disc)
            low, high = ra * s, length + rb * s
            t = (-b - root) / a
            y = y0 + t * yu
            if t > 0.0 and low <= y <= high:
                best = t
            t = (-b + root) / a
            y = y0 + t * yu
            if 0.0 < t < best and low <= y <= high:
                best = t
    # Sphere a, only up to the circle in which the side touches it.
    disc = pu * pu - pp + ra * ra
    if disc > 0.0:
        t = -pu - np.sqrt(disc)
        if 0.0 < t < best and y0 + t * yu <= s * ra:
            best, part = t, 1
    # Sphere b, relative to its centre q = p - length axis, only beyond its circle.
    if length > 0.0:
        qu = pu - length * yu
        disc = qu * qu - (pp - 2.0 * length * y0 + length * length) + rb * rb
        if disc > 0.0:
            t = -qu - np.sqrt(disc)
            if 0.0 < t < best and y0 + t * yu >= length + s * rb:
                best, part = t, 2
    return best, part


@_compiled
def _hit_box(b, i, ox, oy, oz, ux, uy, uz):
    """Intersect a ray with a box rotated about z; return distance and hit face (axis + 1, with its sign).

    The slab method: a ray is inside of the box from the last entry into a slab to the first exit from one.
    """
    # Into the box's own frame: rotation by minus the yaw.
    cx, cy = ox - b[i, 0], oy - b[i, 1]
    px, py, pz = cx * b[i, 6] + cy * b[i, 7], cy * b[i, 6] - cx * b[i, 7], oz - b[i, 2]
    vx, vy = ux * b[i, 6] + uy * b[i, 7], uy * b[i, 6] - ux * b[i, 7]
    near, far, face = -NOTHING, NOTHING, 0
    for axis in range(3):
        p = px if axis == 0 else (py if axis == 1 else pz)
        v = vx if axis == 0 else (vy if axis == 1 else uz)
        h = b[i, 3 + axis]
        if abs(v) < 1e-12:  # parallel to the slab: always or never inside
            if abs(p) > h:
                return NOTHING, 0
            continue
        enter = (-h - p) / v if v > 0 else (h - p) / v
        leave = (h - p) / v if v > 0 else (-h - p) / v
        if enter > near:
            near = enter
            face = -(axis + 1) if v > 0 else axis + 1
        far = min(far, leave)
    if near > far or near <= 0.0:
        return NOTHING, 0
    return near, face


@_compiled
def first_hits(geometry, boxes, origin, targets, fraction, index):
    """Find the first surface towards each target; writes fraction and index, see ``renderer.first_hits``."""
    n = geometry.shape[0]
    for j in range(targets.shape[0]):
        d0, d1, d2 = targets[j, 0] - origin[0], targets[j, 1] - origin[1], targets[j, 2] - origin[2]
        length = np.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
        d0, d1, d2 = d0 / length, d1 / length, d2 / length
        best, best_index = NOTHING, -1
        for i in range(n):
            t, _ = _hit_cone(geometry, i, origin[0], origin[1], origin[2], d0, d1, d2)
            if t < best:
                best, best_index = t, i
        for i in range(boxes.shape[0]):
            t, _ = _hit_box(boxes, i, origin[0], origin[1], origin[2], d0, d1, d2)
            if t < best:
                best, best_index = t, n + i
        fraction[j] = best / length if best < NOTHING else NOTHING
        index[j] = best_index


@_compiled
def screen_bounds(cones, boxes, R, t, K, dist, width, height):
    """Bounds of each solid in the image plus one pixel, (N + B, 4): first and last column, first and last row.

    A solid with last < first is not visible.

    The pinhole bounds of a cone's end spheres, or of a box's corners, are clipped to a frame that is a quarter larger
    than the image: farther outside, the polynomial of the lens is no longer monotonic. The edges of the clipped bounds
    are then distorted point by point.
    """
    n, m = cones.shape[0], boxes.shape[0]
    out = np.empty((n + m, 4), np.int64)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    factor = dist[5]
    limit = (
        (-0.25 * width - cx) / fx, (1.25 * width - cx) / fx, (-0.25 * height - cy) / fy, (1.25 * height - cy) / fy
    )  # fmt: skip
    for i in range(n + m):
        x0, x1, y0, y1 = NOTHING, -NOTHING, NOTHING, -NOTHING
        whole = False
        for k in range(2 if i < n else 8):
            if i < n:
                wx, wy, wz = cones[i, 3 * k], cones[i, 3 * k + 1], cones[i, 3 * k + 2]
                r = cones[i, 6 + k]
            else:
                wx, wy, wz = _corner(boxes, i - n, k)
                r = 0.0
            x = R[0, 0] * wx + R[0, 1] * wy + R[0, 2] * wz + t[0]
            y = R[1, 0] * wx + R[1, 1] * wy + R[1, 2] * wz + t[1]
            z = R[2, 0] * wx + R[2, 1] * wy + R[2, 2] * wz + t[2]
            if z <= r + 20.0:  # at or behind the camera: the projection has no bounds
                whole = True
                break
            # Tangent planes through the centre: (x z -+ r sqrt(x^2 + z^2 - r^2)) / (z^2 - r^2).
            q = z * z - r * r
            sx, sy = r * np.sqrt(x * x + q), r * np.sqrt(y * y + q)
            x0, x1 = min(x0, (x * z - sx) / q), max(x1, (x * z + sx) / q)
            y0, y1 = min(y0, (y * z - sy) / q), max(y1, (y * z + sy) / q)
        if whole:
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = 0, width - 1, 0, height - 1
            continue
        x0, x1, y0, y1 = max(x0, limit[0]), min(x1, limit[1]), max(y0, limit[2]), min(y1, limit[3])
        if x0 > x1 or y0 > y1:
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = 0, -1, 0, -1
            continue
        # Distort 32 points on the edges of the rectangle; its interior stays within their bounds.
        u0, u1, v0, v1 = NOTHING, -NOTHING, NOTHING, -NOTHING
        for a in range(9):
            for b_ in range(9):
                if 0 < a < 8 and 0 < b_ < 8:
                    continue
                x, y = x0 + (x1 - x0) * a / 8.0, y0 + (y1 - y0) * b_ / 8.0
                r2 = x * x + y * y
                radial = 1.0 + r2 * (dist[0] + r2 * (dist[1] + r2 * dist[4]))
                u = x * radial + factor * x * y * dist[2] + (r2 + factor * x * x) * dist[3]
                v = y * radial + factor * x * y * dist[3] + (r2 + factor * y * y) * dist[2]
                u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
        out[i, 0] = max(0, int(np.floor(u0 * fx + cx)) - 1)
        out[i, 1] = min(width - 1, int(np.ceil(u1 * fx + cx)) + 1)
        out[i, 2] = max(0, int(np.floor(v0 * fy + cy)) - 1)
        out[i, 3] = min(height - 1, int(np.ceil(v1 * fy + cy)) + 1)
    return out


@_compiled
def tiles(bounds, width, height):
    """List the solids of each tile: starts (tiles + 1,) into a list of indices, which ascend within a tile.

    A counting sort: count per tile, add up to starts, fill.
    """
    across, down = (width + TILE_PX - 1) // TILE_PX, (height + TILE_PX - 1) // TILE_PX
    start = np.zeros(across * down + 1, np.int64)
    for i in range(bounds.shape[0]):
        if bounds[i, 1] < bounds[i, 0] or bounds[i, 3] < bounds[i, 2]:
            continue
        for y in range(bounds[i, 2] // TILE_PX, bounds[i, 3] // TILE_PX + 1):
            for x in range(bounds[i, 0] // TILE_PX, bounds[i, 1] // TILE_PX + 1):
                start[y * across + x + 1] += 1
    for k in range(across * down):
        start[k + 1] += start[k]
    items = np.empty(start[-1], np.int32)
    filled = start[:-1].copy()
    for i in range(bounds.shape[0]):
        if bounds[i, 1] < bounds[i, 0] or bounds[i, 3] < bounds[i, 2]:
            continue
        for y in range(bounds[i, 2] // TILE_PX, bounds[i, 3] // TILE_PX + 1):
            for x in range(bounds[i, 0] // TILE_PX, bounds[i, 1] // TILE_PX + 1):
                k = y * across + x
                items[filled[k]] = i
                filled[k] += 1
    return start, items


@_compiled
def _shadows(geometry, boxes, axes):
    """Compute the shadows of the solids on the plane perpendicular to the light, with axes (2, 3).

    Returns bounds (N + B, 4), and for cones (N, 5) start, vector and squared half width of the shadow; the half width
    includes half the diagonal of a cell.
    """
    n, m = geometry.shape[0], boxes.shape[0]
    rect, ends = np.empty((n + m, 4)), np.zeros((n, 5))
    for i in range(n + m):
        rect[i, 0], rect[i, 1], rect[i, 2], rect[i, 3] = NOTHING, -NOTHING, NOTHING, -NOTHING
        for k in range(2 if i < n else 8):
            if i < n:
                reach = geometry[i, 6] * k
                wx, wy = geometry[i, 0] + geometry[i, 3] * reach, geometry[i, 1] + geometry[i, 4] * reach
                wz = geometry[i, 2] + geometry[i, 5] * reach
                r = geometry[i, 7 + k] if geometry[i, 6] > 0.0 else geometry[i, 7]
            else:
                wx, wy, wz = _corner(boxes, i - n, k)
                r = 0.0
            u = wx * axes[0, 0] + wy * axes[0, 1] + wz * axes[0, 2]
            v = wx * axes[1, 0] + wy * axes[1, 1] + wz * axes[1, 2]
            if i < n and k == 0:
                ends[i, 0], ends[i, 1] = u, v
            elif i < n:
                ends[i, 2], ends[i, 3] = u - ends[i, 0], v - ends[i, 1]
                ends[i, 4] = (max(geometry[i, 7], r) + 0.7072 * CELL_MM) ** 2
            rect[i, 0], rect[i, 1] = min(rect[i, 0], u - r), max(rect[i, 1], u + r)
            rect[i, 2], rect[i, 3] = min(rect[i, 2], v - r), max(rect[i, 3], v + r)
    return rect, ends


@_compiled
def _shadows_cell(ends, u, v):
    """Whether a cone's shadow can reach the cell at (u, v).

    Conservative: the shadow is as wide everywhere as at its thicker end, so the test is the distance to a segment.
    """
    u, v = u - ends[0], v - ends[1]
    share = (u * ends[2] + v * ends[3]) / (ends[2] * ends[2] + ends[3] * ends[3] + 1e-9)
    share = min(1.0, max(0.0, share))
    u, v = u - share * ends[2], v - share * ends[3]
    return u * u + v * v <= ends[4]


@_compiled
def light_grid(geometry, boxes, light):
    """List the solids of each cell of the light grid.

    Returns starts, indices, and the grid (10,): two axes, low corner, columns and rows.
    """
    n, m = geometry.shape[0], boxes.shape[0]
    frame, axes = np.zeros(10), np.zeros((2, 3))
    # The plane's axes: horizontal and perpendicular to the light, and the cross product of light and first axis.
    scale = 1.0 / np.sqrt(light[0] * light[0] + light[1] * light[1] + 1e-12)
    axes[0, 0], axes[0, 1] = -light[1] * scale, light[0] * scale
    axes[1, 0], axes[1, 1] = -light[2] * axes[0, 1], light[2] * axes[0, 0]
    axes[1, 2] = light[0] * axes[0, 1] - light[1] * axes[0, 0]
    for c in range(3):  # assigning a slice would compile its error message, which takes two seconds
        frame[c], frame[3 + c] = axes[0, c], axes[1, c]
    rect, ends = _shadows(geometry, boxes, axes)
    columns, rows = 0, 0
    if n + m > 0:
        frame[6], frame[7] = rect[:, 0].min(), rect[:, 2].min()
        columns = int((rect[:, 1].max() - frame[6]) / CELL_MM) + 1
        rows = int((rect[:, 3].max() - frame[7]) / CELL_MM) + 1
    frame[8], frame[9] = columns, rows
    start, items = np.zeros(columns * rows + 1, np.int64), np.empty(0, np.int32)
    filled = start[:-1].copy()
    for fill in range(2):  # count, then fill
        for i in range(n + m):
            x0, x1 = int((rect[i, 0] - frame[6]) / CELL_MM), int((rect[i, 1] - frame[6]) / CELL_MM)
            y0, y1 = int((rect[i, 2] - frame[7]) / CELL_MM), int((rect[i, 3] - frame[7]) / CELL_MM)
            for y in range(y0, y1 + 1):
                for x in range(x0, x1 + 1):
                    if i < n and not _shadows_cell(
                        ends[i], frame[6] + (x + 0.5) * CELL_MM, frame[7] + (y + 0.5) * CELL_MM
                    ):
                        continue
                    k = y * columns + x
                    if fill:
                        items[filled[k]] = i
                        filled[k] += 1
                    else:
                        start[k + 1] += 1
        if not fill:
            for k in range(columns * rows):
                start[k + 1] += start[k]
            items = np.empty(start[-1], np.int32)
            filled = start[:-1].copy()
    return start, items, frame


@_compiled
def _corner(boxes, i, k):
    """Corner k (three bits) of a box, world mm."""
    x = boxes[i, 3] if k & 1 else -boxes[i, 3]
    y = boxes[i, 4] if k & 2 else -boxes[i, 4]
    z = boxes[i, 5] if k & 4 else -boxes[i, 5]
    c, s = boxes[i, 6], boxes[i, 7]
    return boxes[i, 0] + x * c - y * s, boxes[i, 1] + x * s + y * c, boxes[i, 2] + z


@_compiled
def is_lit(px, py, pz, skip, cones, boxes, settings, start, items):
    """Whether no solid is between a point and the light. ``skip``: the solid of the point itself."""
    u = px * settings[16] + py * settings[17] + pz * settings[18] - settings[22]
    v = px * settings[19] + py * settings[20] + pz * settings[21] - settings[23]
    if u < 0.0 or v < 0.0:
        return True
    x, y = int(u / CELL_MM), int(v / CELL_MM)
    if x >= int(settings[24]) or y >= int(settings[25]):
        return True
    k = y * int(settings[24]) + x
    n = cones.shape[0]
    for j in range(start[k], start[k + 1]):
        i = items[j]
        if i == skip:
            continue
        if i < n:
            t, _ = _hit_cone(cones, i, px, py, pz, settings[3], settings[4], settings[5])
        else:
            t, _ = _hit_box(boxes, i - n, px, py, pz, settings[3], settings[4], settings[5])
        if 0.5 < t < NOTHING:  # 0.5 mm: rounding must not let a surface shade itself
            return False
    return True


@_compiled
def _hash(x, y, z):
    """Hash three integers to a pseudo-random number in [0, 1)."""
    h = (x * 374761393 + y * 668265263 + z * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65536.0


@_compiled
def _value_noise(x, y, z):
    """Smooth noise in [0, 1] on a grid of size 1."""
    ix, iy, iz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - ix, y - iy, z - iz
    # Smoothstep 3 f^2 - 2 f^3, so that the noise has a continuous derivative at the grid.
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for k in range(8):
        dx, dy, dz = k & 1, (k >> 1) & 1, (k >> 2) & 1
        weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy) * (fz if dz else 1 - fz)
        total += weight * _hash(ix + dx, iy + dy, iz + dz)
    return total


@_compiled
def _pick(m, j, first):
    return m[j, first], m[j, first + 1], m[j, first + 2]


@_compiled
def _cloth_pattern(m, j, qf, ql, qu):
    """Whether the pattern of a garment has its second colour at (forward, left, up) mm from its origin."""
    pattern, period, phase = m[j, 10], m[j, 11], m[j, 12]
    second = False
    if pattern == 1.0:  # horizontal stripes
        second = (qu / period + phase) % 1.0 < 0.42
    elif pattern == 2.0:  # vertical stripes
        second = (ql / period + phase) % 1.0 < 0.3
    elif pattern == 3.0:  # checks
        second = ((qu / period + phase) % 1.0 < 0.5) != ((ql / period + phase) % 1.0 < 0.5)
    elif pattern == 4.0:  # upper part
        second = qu > 250.0 + 120.0 * phase
    elif pattern == 5.0:  # patches
        second = _value_noise(qf / period, ql / period, qu / period + 9.0 * phase) > 0.58
    return second


@_compiled
def _cone_albedo(m, j, nf, nl, nu, qf, ql, qu):
    """Colour of a person's surface from normal and position in the frame of the body part (forward, left, up)."""
    kind = m[j, 0]
    r, g, b = _pick(m, j, 1)
    if kind in (SHIRT, TROUSERS):
        if _cloth_pattern(m, j, qf, ql, qu):
            r, g, b = _pick(m, j, 4)
        # The front is lighter than the back. Without this cue the image of a person from the front equals that of its
        # mirror image from the back, and left and right could not be learned.
        front = min(1.0, max(0.0, nf * 1.6 + 0.5))
        shade = (0.42 if kind == SHIRT else 0.6) * (1.0 - front) + front
        r, g, b = r * shade, g * shade, b * shade
        if kind == SHIRT:
            if nf > 0.25 and m[j, 14] > 0.5 and abs(ql) < 11.0:  # an open collar or a row of buttons
                r, g, b = r * 0.45, g * 0.45, b * 0.45
            # A print on the chest.
            if nf > 0.3 and m[j, 14] < 0.5 and abs(ql) < 75.0 and abs(qu - 330.0) < 45.0 + 30.0 * m[j, 15]:
                r, g, b = _pick(m, j, 7)
            if nf < -0.35 and qu > 395.0:  # a yoke across the back
                r, g, b = m[j, 7] * 0.55, m[j, 8] * 0.55, m[j, 9] * 0.55
        elif abs(nl) > 0.985:  # side seams of trousers
            r, g, b = r * 0.6, g * 0.6, b * 0.6
    elif kind == HEAD:
        # The face is painted by direction from the centre of the head.
        norm = 1.0 / np.sqrt(qf * qf + ql * ql + qu * qu + 1e-9)
        f, side, u = qf * norm, abs(ql) * norm, qu * norm
        if f > 0.2:
            if (f < 0.98) and (0.3 < side < 0.46) and (-0.02 < u < 0.14):  # eyes
                r, g, b = (0.02, 0.02, 0.03) if side < 0.41 else (0.5, 0.5, 0.48)
            elif 0.22 < side < 0.55 and 0.2 < u < 0.3:  # brows
                r, g, b = _pick(m, j, 4)
            elif side < 0.26 and -0.66 < u < -0.54:  # mouth
                r, g, b = m[j, 1] * 0.75, m[j, 2] * 0.38, m[j, 3] * 0.36
            elif m[j, 14] > 0.5 and (u < -0.42 or (side > 0.55 and u < 0.05)):  # beard
                r, g, b = _pick(m, j, 4)
        elif f < -0.05 and u > -0.35 and m[j, 15] > 0.5:  # hair
            r, g, b = _pick(m, j, 4)
    elif kind == SHOE:
        if qu < -66.0:  # sole
            r, g, b = _pick(m, j, 4)
        elif qf > 60.0 and qu > -45.0:
            r, g, b = _pick(m, j, 7)
    return r, g, b


@_compiled
def _box_albedo(m, j, face, x, y, z, h0, h1, h2):
    """Colour of a box at a position in its own frame, mm."""
    kind = m[j, 0]
    r, g, b = _pick(m, j, 1)
    # u, v: coordinates on the face, hu, hv: its half extents.
    axis = abs(face)
    u, v = (y, z) if axis == 1 else ((x, z) if axis == 2 else (x, y))
    hu = h1 if axis == 1 else h0
    hv = h1 if axis == 3 else h2
    shade = 1.0
    if kind == WOOD:
        plank = np.floor(v / 95.0)
        shade = (
            0.72 + 0.3 * _value_noise(u / 160.0 + plank * 7.0, v / 11.0, m[j, 12]) + 0.1 * _hash(int(plank), 3, axis)
        )
        if (v / 95.0) % 1.0 < 0.05:
            shade *= 0.55
    elif kind == DRAWERS:
        if axis == 3:
            shade = 0.95
        else:
            fv = ((v + hv) / m[j, 11]) % 1.0
            if fv < 0.06 or abs(u) > hu - 14.0:
                shade = 0.5
            elif axis == 1 and abs(u) < 55.0 and abs(fv - 0.6) < 0.06:
                r, g, b = _pick(m, j, 4)
    elif kind == CARTON:
        if abs(u) < 32.0:
            r, g, b = _pick(m, j, 4)
        shade = 0.85 + 0.2 * _value_noise(u / 60.0, v / 60.0, m[j, 12])
    elif kind == FABRIC:
        shade = 0.7 + 0.4 * _value_noise(u / 45.0, v / 130.0, m[j, 12])
        if abs(u) > hu - 22.0 or abs(v) > hv - 22.0:
            r, g, b = _pick(m, j, 4)
        elif m[j, 10] == 1.0 and ((u + v) / m[j, 11]) % 1.0 < 0.5:
            r, g, b = _pick(m, j, 7)
    return r * shade, g * shade, b * shade


@_compiled
def _texel(textures, face, u, v):
    """Bilinear sample of a texture, u and v in [0, 1]."""
    height, width = textures.shape[1], textures.shape[2]
    x = min(max(u * width - 0.5, 0.0), width - 1.001)
    y = min(max(v * height - 0.5, 0.0), height - 1.001)
    j, i = int(x), int(y)
    fx, fy = x - j, y - i
    a, b, c, d = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    t, k = textures, face
    return (
        a * t[k, i, j, 0] + b * t[k, i, j + 1, 0] + c * t[k, i + 1, j, 0] + d * t[k, i + 1, j + 1, 0],
        a * t[k, i, j, 1] + b * t[k, i, j + 1, 1] + c * t[k, i + 1, j, 1] + d * t[k, i + 1, j + 1, 1],
        a * t[k, i, j, 2] + b * t[k, i, j + 1, 2] + c * t[k, i + 1, j, 2] + d * t[k, i + 1, j + 1, 2],
    )


@_compiled
def _meet(ux, uy, uz, first, last, settings, cones, boxes, tile_items):
    """Intersect a ray with the solids of a tile: distance, index (-1: none), hit part, and whether person 0 is hit."""
    n = cones.shape[0]
    best, index, part, person = NOTHING, -1, 0, False
    for k in range(first, last):
        i = tile_items[k]
        if i < n:
            t, p = _hit_cone(cones, i, settings[0], settings[1], settings[2], ux, uy, uz)
            if t < NOTHING and cones[i, 27] == 0.0:  # also behind other solids: the silhouette ignores occlusion
                person = True
        else:
            t, p = _hit_box(boxes, i - n, settings[0], settings[1], settings[2], ux, uy, uz)
        if t < best:
            best, index, part = t, i, p
    return best, index, part, person


@_compiled
def _room(ux, uy, uz, settings, textures):
    """Intersect a ray with the room: distance, hit face, and colour of the face.

    The camera is inside of the room: the nearest of the three planes ahead is the one that is hit.
    """
    half_x, half_y, height_mm = settings[8], settings[9], settings[10]
    tx = ((half_x if ux > 0 else -half_x) - settings[0]) / ux if abs(ux) > 1e-12 else NOTHING
    ty = ((half_y if uy > 0 else -half_y) - settings[1]) / uy if abs(uy) > 1e-12 else NOTHING
    tz = ((height_mm if uz > 0 else 0.0) - settings[2]) / uz if abs(uz) > 1e-12 else NOTHING
    t = min(tx, ty, tz)
    px, py, pz = settings[0] + t * ux, settings[1] + t * uy, settings[2] + t * uz
    if t == tz:
        face = 1 if uz > 0 else 0
        u, v = (px + half_x) / (2 * half_x), (py + half_y) / (2 * half_y)
    elif t == tx:
        face = 3 if ux > 0 else 2
        u, v = (py + half_y) / (2 * half_y), 1.0 - pz / height_mm
    else:
        face = 5 if uy > 0 else 4
        u, v = (px + half_x) / (2 * half_x), 1.0 - pz / height_mm
    r, g, b = _texel(textures, face, u, v)
    return t, face, r, g, b


@_compiled
def _inward(face):
    """Normal of a face of the room."""
    sign = 1.0 if face in (0, 2, 4) else -1.0
    return sign * (face // 2 == 1), sign * (face // 2 == 2), sign * (face // 2 == 0)


@_compiled
def _shade(nx, ny, nz, settings):
    """Light on a surface in the shadow of the key light, and the contribution of the key light (Lambert)."""
    facing = nx * settings[3] + ny * settings[4] + nz * settings[5]
    # A weak light from the opposite side keeps the shape visible in the shadow.
    fill = 0.16 * max(0.0, -nx * settings[3] - ny * settings[4] + 0.3 * nz)
    return settings[7] * (0.78 + 0.22 * nz) + fill, settings[6] * max(0.0, facing)


@_compiled
def _solid_surface(ux, uy, uz, best, index, part, settings, cones, boxes, materials):
    """Position, normal and colour where a ray hits a solid."""
    n = cones.shape[0]
    nx, ny, nz = 0.0, 0.0, 0.0
    px, py, pz = settings[0] + best * ux, settings[1] + best * uy, settings[2] + best * uz
    if index < n:
        # Normal of the part that was hit. y is the position along the axis.
        qx, qy, qz = px - cones[index, 0], py - cones[index, 1], pz - cones[index, 2]
        y = qx * cones[index, 3] + qy * cones[index, 4] + qz * cones[index, 5]
        if part == 1:
            nx, ny, nz = qx / cones[index, 7], qy / cones[index, 7], qz / cones[index, 7]
        elif part == 2:
            nx = (qx - cones[index, 6] * cones[index, 3]) / cones[index, 8]
            ny = (qy - cones[index, 6] * cones[index, 4]) / cones[index, 8]
            nz = (qz - cones[index, 6] * cones[index, 5]) / cones[index, 8]
        else:  # perpendicular to the axis, tilted by s along it
            nx, ny, nz = qx - y * cones[index, 3], qy - y * cones[index, 4], qz - y * cones[index, 5]
            scale = np.sqrt(cones[index, 10]) / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            nx, ny, nz = (
                nx * scale + cones[index, 9] * cones[index, 3],
                ny * scale + cones[index, 9] * cones[index, 4],
                nz * scale + cones[index, 9] * cones[index, 5],
            )
        # Material, and position and normal in the frame of the body part, in which textures are defined.
        j = int(cones[index, 24] if y <= cones[index, 26] * cones[index, 6] else cones[index, 25])
        dx, dy, dz = px - cones[index, 21], py - cones[index, 22], pz - cones[index, 23]
        qf, ql, qu = (
            dx * cones[index, 12] + dy * cones[index, 13] + dz * cones[index, 14],
            dx * cones[index, 15] + dy * cones[index, 16] + dz * cones[index, 17],
            dx * cones[index, 18] + dy * cones[index, 19] + dz * cones[index, 20],
        )
        r, g, b = _cone_albedo(
            materials, j,
            nx * cones[index, 12] + ny * cones[index, 13] + nz * cones[index, 14],
            nx * cones[index, 15] + ny * cones[index, 16] + nz * cones[index, 17],
            nx * cones[index, 18] + ny * cones[index, 19] + nz * cones[index, 20],
            qf, ql, qu,
        )  # fmt: skip
        if materials[j, 13] > 0.0:  # folds: noise tilts the normal along the part's up and left axes
            bump = materials[j, 13] * (_value_noise(qf / 34.0, ql / 34.0, qu / 58.0) - 0.5)
            nx, ny, nz = nx + bump * cones[index, 18], ny + bump * cones[index, 19], nz + bump * cones[index, 20]
            bump = materials[j, 13] * (_value_noise(qf / 34.0 + 31.0, ql / 34.0, qu / 58.0) - 0.5)
            nx, ny, nz = nx + bump * cones[index, 15], ny + bump * cones[index, 16], nz + bump * cones[index, 17]
            scale = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz)
            nx, ny, nz = nx * scale, ny * scale, nz * scale
    else:  # a box: its faces' normals are the axes rotated by the yaw
        k = index - n
        axis, sign = abs(part), (1.0 if part > 0 else -1.0)
        if axis == 1:
            nx, ny = sign * boxes[k, 6], sign * boxes[k, 7]
        elif axis == 2:
            nx, ny = -sign * boxes[k, 7], sign * boxes[k, 6]
        else:
            nz = sign
        dx, dy = px - boxes[k, 0], py - boxes[k, 1]
        r, g, b = _box_albedo(
            materials, int(boxes[k, 8]), part, dx * boxes[k, 6] + dy * boxes[k, 7], dy * boxes[k, 6] - dx * boxes[k, 7],
            pz - boxes[k, 2], boxes[k, 3], boxes[k, 4], boxes[k, 5],
        )  # fmt: skip
    return px, py, pz, nx, ny, nz, r, g, b


@_compiled
def _changes(colour, ids, lit, u, v):
    """Whether a pixel needs more rays: an edge or pattern of a solid, or the edge of a shadow on the room.

    Two neighbours on the room count only by their shadow: the backdrop's albedo already has five rays per pixel.
    """
    grey = colour[v, u, 0] + colour[v, u, 1] + colour[v, u, 2]
    for k in range(4):
        y = v + (1 if k == 0 else (-1 if k == 1 else 0))
        x = u + (1 if k == 2 else (-1 if k == 3 else 0))
        if 0 <= y < colour.shape[0] and 0 <= x < colour.shape[1]:
            if ids[v, u] < 0 and ids[y, x] < 0:
                if lit[v, u] != lit[y, x]:
                    return True
            else:
                other = colour[y, x, 0] + colour[y, x, 1] + colour[y, x, 2]
                if abs(other - grey) > 0.16 * (other + grey) + 0.02:
                    return True
    return False


@_compiled
def backdrop(directions, R, settings, textures, albedo, distance, faces):
    """Render the empty room: write albedo (five rays per pixel), distance and face; see ``renderer.Backdrop``."""
    height, width = faces.shape
    for v in range(height):
        y1 = min(v + 1, height - 1)
        for u in range(width):
            x1 = min(u + 1, width - 1)
            r, g, b = 0.0, 0.0, 0.0
            for k in range(5):
                # Directions within the pixel by linear interpolation between neighbours.
                a, c = (0.0, 0.0) if k == 4 else _inside_pixel(k)
                dx = directions[v, u, 0] + a * (directions[v, x1, 0] - directions[v, x1 - 1, 0])
                dy = directions[v, u, 1] + a * (directions[v, x1, 1] - directions[v, x1 - 1, 1])
                dx += c * (directions[y1, u, 0] - directions[y1 - 1, u, 0])
                dy += c * (directions[y1, u, 1] - directions[y1 - 1, u, 1])
                scale = 1.0 / np.sqrt(dx * dx + dy * dy + 1.0)
                t, face, r1, g1, b1 = _room(
                    (dx * R[0, 0] + dy * R[1, 0] + R[2, 0]) * scale,
                    (dx * R[0, 1] + dy * R[1, 1] + R[2, 1]) * scale,
                    (dx * R[0, 2] + dy * R[1, 2] + R[2, 2]) * scale,
                    settings, textures,
                )  # fmt: skip
                r, g, b = r + r1, g + g1, b + b1
                distance[v, u], faces[v, u] = t, face  # the last ray is the pixel's centre
            albedo[v, u, 0], albedo[v, u, 1], albedo[v, u, 2] = r * 0.2, g * 0.2, b * 0.2


@_compiled
def _inside_pixel(k):
    """Sample k of four in a pixel, on a square rotated by about 27 degrees."""
    return -0.375 + 0.25 * ((2 * k + 1) % 4 + (0 if k < 2 else -1)), -0.375 + 0.25 * k


@_compiled
def _expose(r, g, b, settings, z, image, u, v):
    """Write a pixel: linear light with tint, gamma curve and noise.

    The noise is the sum of three 7-bit numbers per channel from a counter-based generator (splitmix64): nearly normal,
    and independent of the order in which pixels are rendered.
    """
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    for channel in range(3):
        total = 0.0
        for _ in range(3):
            total += float(z & np.uint64(127))
            z = z >> np.uint64(7)
        linear = r if channel == 0 else (g if channel == 1 else b)
        # 64 is the standard deviation of the sum; the square root is the gamma curve.
        level = 255.0 * np.sqrt(max(0.0, linear * settings[12 + channel]))
        level += settings[11] * (total - 190.5) / 64.0
        image[v, u, channel] = np.uint8(min(255.0, max(0.0, level + 0.5)))


@_compiled
def render(
    directions, albedo, distance, faces, R, settings, cones, boxes, materials, textures, tile_start, tile_items,
    grid_start, grid_items, seed, image, ids, silhouette,
):  # fmt: skip
    """Render image, ids and silhouette with one ray per pixel, and four more where ``_changes`` is true.

    The first pass writes ``colour``, ``lit``, ids and silhouette of all pixels. The second pass refines a pixel if
    needed and writes the image. It reads the neighbours of the first pass, so the two passes cannot be one.
    """
    height, width = ids.shape
    across = (width + TILE_PX - 1) // TILE_PX
    colour = np.empty((height, width, 3), np.float32)
    lit = np.ones((height, width), np.bool_)
    # All points of a face of the room have the same light, with or without shadow.
    dim, key = np.empty(6), np.empty(6)
    for face in range(6):
        nx, ny, nz = _inward(face)
        dim[face], key[face] = _shade(nx, ny, nz, settings)
    for refine in range(2):
        for v in range(height):
            y1 = min(v + 1, height - 1)
            for u in range(width):
                r, g, b = 0.0, 0.0, 0.0
                if refine:
                    r, g, b = colour[v, u, 0], colour[v, u, 1], colour[v, u, 2]
                if not refine or _changes(colour, ids, lit, u, v):
                    tile = (v // TILE_PX) * across + u // TILE_PX
                    first, last = tile_start[tile], tile_start[tile + 1]
                    x1 = min(u + 1, width - 1)
                    for k in range(4 if refine else 1):
                        dx, dy = directions[v, u, 0], directions[v, u, 1]
                        if refine:  # rays within a pixel by linear interpolation
                            a, c = _inside_pixel(k)
                            dx += a * (directions[v, x1, 0] - directions[v, x1 - 1, 0])
                            dx += c * (directions[y1, u, 0] - directions[y1 - 1, u, 0])
                            dy += a * (directions[v, x1, 1] - directions[v, x1 - 1, 1])
                            dy += c * (directions[y1, u, 1] - directions[y1 - 1, u, 1])
                        # Unit direction in the world: R^T d.
                        scale = 1.0 / np.sqrt(dx * dx + dy * dy + 1.0)
                        ux = (dx * R[0, 0] + dy * R[1, 0] + R[2, 0]) * scale
                        uy = (dx * R[0, 1] + dy * R[1, 1] + R[2, 1]) * scale
                        uz = (dx * R[0, 2] + dy * R[1, 2] + R[2, 2]) * scale
                        t, index, part, person = NOTHING, -1, 0, False
                        if last > first:
                            t, index, part, person = _meet(
                                ux, uy, uz, first, last, settings, cones, boxes, tile_items
                            )  # fmt: skip
                        if index >= 0:
                            px, py, pz, nx, ny, nz, r1, g1, b1 = _solid_surface(
                                ux, uy, uz, t, index, part, settings, cones, boxes, materials
                            )  # fmt: skip
                            low, high = _shade(nx, ny, nz, settings)
                        else:
                            if refine:
                                t, face, r1, g1, b1 = _room(ux, uy, uz, settings, textures)
                            else:
                                t, face = distance[v, u], int(faces[v, u])
                                r1, g1, b1 = albedo[v, u, 0], albedo[v, u, 1], albedo[v, u, 2]
                            px, py, pz = settings[0] + t * ux, settings[1] + t * uy, settings[2] + t * uz
                            nx, ny, nz = 0.0, 0.0, 0.0
                            low, high = dim[face], key[face]
                        if not refine:
                            ids[v, u], silhouette[v, u] = index if index >= 0 else -1 - face, person
                        # The shadow ray starts 0.5 mm above the surface.
                        if high > 0.0:
                            if is_lit(
                                px + 0.5 * nx, py + 0.5 * ny, pz + 0.5 * nz, index, cones, boxes, settings, grid_start,
                                grid_items,
                            ):  # fmt: skip
                                low += high
                            elif not refine:
                                lit[v, u] = False
                        r, g, b = r + low * r1, g + low * g1, b + low * b1
                    if refine:  # mean of the first ray and the four others
                        r, g, b = r * 0.2, g * 0.2, b * 0.2
                if not refine:
                    colour[v, u, 0], colour[v, u, 1], colour[v, u, 2] = r, g, b
                else:
                    # 0x9E37… is the increment of splitmix64 (2^64 / golden ratio): each pixel has its own stream.
                    noise = seed + np.uint64(v * width + u + 1) * np.uint64(0x9E3779B97F4A7C15)
                    _expose(r, g, b, settings, noise, image, u, v)
