"""Linear triangulation and reprojection, batched over frames, joints and views, in float64.

Conventions: ``P = K [R|t]`` maps world millimetres to undistorted pixels, and leading dimensions broadcast. A view is
not used for a joint if its weight is 0 or its point or weight is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

DAMPING = 1e-12
"""Multiple of the identity that is added to the 3×3 normal matrix, relative to its trace. It keeps solutions and
gradients of parallel rays finite and is far below the rounding of any point that can be triangulated (the iterations
refine against the undamped equations)."""
_SAFE_RATIO = 0.01
"""Rayleigh quotients above this share of the smallest eigenvalue's lower bound are recomputed by SVD."""
_WORK_PER_THREAD = 200_000
"""Observations below which another thread costs more than it saves."""
_AT_INFINITY = 1e-9
"""Fourth component of a unit homogeneous vector in mm below which a point counts as infinitely far."""


@overload
def dlt(P: Tensor, points_px: Tensor, weights: Tensor | None = None, *, homogeneous: bool = False) -> Tensor: ...
@overload
def dlt(P: Array, points_px: Array, weights: Array | None = None, *, homogeneous: bool = False) -> Array: ...
def dlt(
    P: Tensor | Array, points_px: Tensor | Array, weights: Tensor | Array | None = None, *, homogeneous: bool = False
) -> Tensor | Array:
    """Weighted linear triangulation (direct linear transform, DLT) of joints from two or more views.

    The rows of ``A = [B|b]`` are ``w (x P[2] - P[0])`` and ``w (y P[2] - P[1])`` per view; neither rows nor columns are
    normalised. The result minimises ``|B X + b|`` over points ``X`` and depends neither on the origin nor on the axes
    of the world.

    ``homogeneous=True`` is the published system (learnable triangulation, section 3.1, release code): it minimises
    ``|A y|`` over unit ``y`` and returns ``y[:3] / y[3]``. The unit norm favours points far from the world origin. In
    millimetres the effect is negligible a metre away from the origin, but at the origin a pixel of noise can become
    decimetres. Instead of a decomposition of ``A``, Rayleigh quotient iteration solves ``(B'B - l I) X = -B'b`` for the
    smallest eigenvalue ``l`` of ``A'A``. Residuals are computed from ``A`` itself, so that the squared condition number
    of ``B'B`` costs no precision.

    Gradients with respect to ``points_px``, ``weights`` and ``P`` are those of the implicit function at the solution.
    They stay finite for parallel rays, equal cameras and equal smallest singular values. There are no second-order
    gradients.

    Args:
        P: (..., V, 3, 4) projection matrices.
        points_px: (..., V, J, 2) undistorted pixels.
        weights: (..., V, J), at least 0, of any scale; None: equal weights.
        homogeneous: solve the published system, with which published weights were trained.

    Returns:
        (..., J, 3) float64 world mm, a tensor or an array like the input. NaN where fewer than two views are usable.
        For rays that are parallel within rounding, a finite point on the rays near the foot of the perpendicular from
        the world origin.

    Raises:
        ValueError: the shapes of the arguments do not match.

    Example:
        >>> P = np.stack([camera.P for camera in cameras])
        >>> joints_mm = dlt(P, np.stack([camera.project(pose_mm) for camera in cameras]))
    """
    if not isinstance(P, Tensor):
        assert not isinstance(points_px, Tensor)
        assert not isinstance(weights, Tensor)
        return _compiled_dlt(P, points_px, weights, homogeneous)
    assert isinstance(points_px, Tensor)
    assert weights is None or isinstance(weights, Tensor)
    return _dlt(P, points_px, weights, homogeneous)


def _compiled_dlt(P: Array, points_px: Array, weights: Array | None, homogeneous: bool) -> Array:
    from poseboard.methods.geometry.compiled_triangulation import triangulate  # noqa: PLC0415  (imports numba)

    P, points_px = np.asarray(P, dtype=np.float64), np.asarray(points_px, dtype=np.float64)
    weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    _check_shapes(P.shape, points_px.shape, None if weights is None else weights.shape)
    views, joints = points_px.shape[-3:-1]
    batch = _batch(P.shape[:-3], points_px.shape[:-3], () if weights is None else weights.shape[:-2])
    frames = math.prod(batch)
    X, unsure = np.full((frames * joints, 3), np.nan), np.zeros(frames * joints, dtype=bool)
    if views >= 2 and len(X):
        all_P = owned(P, P.shape if P.ndim == 3 else (*batch, views, 3, 4)).reshape(-1, views, 12)
        all_points = owned(points_px, (*batch, views, joints, 2)).reshape(frames, views, joints, 2)
        all_weights = np.empty((0, views, joints))
        if weights is not None:
            all_weights = owned(weights, (*batch, views, joints)).reshape(frames, views, joints)

        def fill(start: int, stop: int) -> None:
            triangulate(
                all_P, all_points, all_weights, homogeneous, DAMPING, _SAFE_RATIO, start, stop, X, unsure
            )  # fmt: skip

        in_threads(fill, len(X), work=len(X) * views, per_thread=_WORK_PER_THREAD)
        if homogeneous and unsure.any():
            frame, joint = np.divmod(np.flatnonzero(unsure), joints)
            some = [
                torch.from_numpy(values)
                for values in (
                    all_P[frame % len(all_P)].reshape(-1, views, 3, 4),
                    all_points[frame, :, joint][:, :, None],
                )
            ]
            of_some = None if weights is None else torch.from_numpy(all_weights[frame, :, joint][..., None])
            X[unsure] = _dlt(some[0], some[1], of_some, homogeneous)[:, 0].numpy()
    return X.reshape(*batch, joints, 3)


def owned(array: Array, shape: tuple[int, ...]) -> Array:
    """Broadcast an array and make it contiguous and writable, because numba compiles again for any other layout."""
    if array.shape != shape:
        array = np.broadcast_to(array, shape)
    flags = array.flags
    return array if flags.c_contiguous and flags.writeable and flags.aligned else array.copy()


def in_threads(fill: Callable[[int, int], None], points: int, work: int, per_thread: int) -> None:
    """Call ``fill`` for ranges of points in parallel, in at most as many threads as torch has.

    Args:
        fill: function of the indices ``start`` and ``stop`` of a range.
        points: total number of points.
        work: total number of observations.
        per_thread: number of observations that justify another thread.
    """
    threads = min(torch.get_num_threads(), work // per_thread, points)
    if threads < 2:
        fill(0, points)
        return
    ends = [points * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, ends[:-1], ends[1:]))


def _batch(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Leading dimensions after broadcasting."""
    longest = max(shapes, key=len)
    return longest if all(shape in ((), longest) for shape in shapes) else np.broadcast_shapes(*shapes)


def _check_shapes(P: Sequence[int], points_px: Sequence[int], weights: Sequence[int] | None) -> None:
    if tuple(P[-2:]) != (3, 4) or len(points_px) < 3 or points_px[-1] != 2 or points_px[-3] != P[-3]:
        raise ValueError(f"P (..., V, 3, 4) and points (..., V, J, 2) expected, got {tuple(P)} and {tuple(points_px)}")
    if weights is not None and tuple(weights[-2:]) != tuple(points_px[-3:-1]):
        raise ValueError(f"weights (..., V, J) expected, got {tuple(weights)} for points {tuple(points_px)}")


def _dlt(P: Tensor, points_px: Tensor, weights: Tensor | None, homogeneous: bool) -> Tensor:
    # Rows of A = [B|b], two per view: w (x P[2] - P[0]) and w (y P[2] - P[1]).
    rows, usable = equations(P, points_px, weights)
    B, b = rows[:3], rows[3]
    with torch.no_grad():
        if homogeneous:
            X, inverse = _smallest_quotient(rows.detach(), steps=2 if rows.requires_grad else 1)
        else:
            X, inverse = _least_squares(rows.detach())
    # One more Newton step with constant X and inverse. Its value is a last refinement. Its derivative is the implicit
    # one, since the Rayleigh quotient is stationary at the solution.
    residual = (B * X[:, None]).sum(0) + b
    step = (B * residual).sum(1)
    if homogeneous:
        step = step - _quotient(residual, X) * X
    X = X - _apply(inverse, step)
    return torch.where(usable.sum(0) >= 2, X, torch.nan).movedim(0, -1)


def equations(P: Tensor, points_px: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Rows of the linear system of `dlt`, and a mask of the usable views.

    Args:
        P: (..., V, 3, 4) projection matrices.
        points_px: (..., V, J, 2) undistorted pixels.
        weights: (..., V, J), at least 0; None: equal weights.

    Returns:
        Rows (4, 2V, ..., J) float64, divided by the largest weight of the joint, zeros for unusable views; and usable
        (V, ..., J) bool.

    Raises:
        ValueError: shapes do not match.
    """
    _check_shapes(P.shape, points_px.shape, None if weights is None else weights.shape)
    # numpy's broadcast_shapes: torch's imports sympy.
    batch = np.broadcast_shapes(P.shape[:-3], points_px.shape[:-3], () if weights is None else weights.shape[:-2])
    views, joints = points_px.shape[-3:-1]
    P = P.double().expand(*batch, views, 3, 4).movedim((-1, -3, -2), (0, 1, 2)).contiguous()[..., None]
    points = points_px.double().expand(*batch, views, joints, 2).movedim((-3, -1), (0, 1)).contiguous()
    # A sum is finite if every term is. An overflow counts as not finite, which is right as well.
    usable = torch.isfinite(points.sum(1)) & (torch.isfinite(P.sum((0, 2))) & (P[:, :, 2] != 0).any(0))
    if weights is not None:
        weights = weights.double().expand(*batch, views, joints).movedim(-2, 0).contiguous()
        usable = usable & (weights > 0) & (weights < torch.inf)
    everything = bool(usable.all())
    if not everything:
        points = torch.where(usable[:, None], points, 0.0)
        P = torch.nan_to_num(P)
    rows = points * P[:, :, 2:] - P[:, :, :2]  # (4, V, 2, ..., J)
    if weights is not None:
        weights = weights if everything else torch.where(usable, weights, 0.0)
        largest = weights.detach().amax(0) if views else weights.new_zeros(weights.shape[1:])
        rows = rows * (weights / torch.where(largest > 0, largest, 1.0))[:, None]
    elif not everything:
        rows = rows * usable[:, None]
    return rows.flatten(1, 2), usable


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """Product of matrices (3, 3, ...) and vectors (3, ...)."""
    return (matrix * vector).sum(1)


def _quotient(residual: Tensor, X: Tensor) -> Tensor:
    """Rayleigh quotient ``|B X + b|² / (1 + |X|²)``."""
    return (residual * residual).sum(0) / (1 + (X * X).sum(0))


def invert(S: Tensor) -> tuple[Tensor, Tensor]:
    """Inverses of symmetric positive (3, 3, ...) matrices by cofactors, and their determinants with a lower bound."""
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = (row.unbind() for row in S.unbind())
    c_xx, c_xy, c_xz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    c_yz = xy * xz - xx * yz
    cofactors = torch.stack([c_xx, c_xy, c_xz, c_xy, xx * zz - xz * xz, c_yz, c_xz, c_yz, xx * yy - xy * xy])
    trace = xx + yy + zz
    determinant = xx * c_xx + xy * c_xy + xz * c_xz
    determinant = determinant.maximum((DAMPING**2 * trace**3).clamp_min(torch.finfo(S.dtype).tiny))
    return (cofactors / determinant).unflatten(0, (3, 3)), determinant


def damp(S: Tensor) -> Tensor:
    """Add a small multiple of the identity to (3, 3, ...) matrices, in place, so that their inverses are bounded."""
    trace = S[0, 0] + S[1, 1] + S[2, 2]
    S.diagonal().add_(torch.where(trace > 0, DAMPING * trace, 1.0)[..., None])
    return S


def _least_squares(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise ``|B X + b|``: X (3, ...), and the inverse of B'B (3, 3, ...)."""
    normal = (rows[:3, None] * rows).sum(2)  # (3, 4, ...)
    inverse, _ = invert(damp(normal[:, :3]))
    return -_apply(inverse, normal[:, 3]), inverse


def _smallest_quotient(rows: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Minimise the Rayleigh quotient: X (3, ...), and the inverse Hessian (3, 3, ...) at X.

    After one step X is exact within rounding, but the inverse only within 1e-4, so gradients need two steps.
    """
    B, b = rows[:3], rows[3]
    normal = (B[:, None] * rows).sum(2)  # (3, 4, ...)
    S = damp(normal[:, :3])
    inverse, determinant = invert(S)
    X = -_apply(inverse, normal[:, 3])
    trace = S[0, 0] + S[1, 1] + S[2, 2]
    # 4 det / trace² is a lower bound of the smallest eigenvalue of B'B. A quotient far below it belongs to the
    # solution, and the iteration converges with the cube of their ratio. The other systems are solved by SVD.
    safe = _SAFE_RATIO * 4 * determinant / trace**2
    unsure = torch.zeros_like(trace, dtype=torch.bool)
    for _ in range(steps):
        residual = (B * X[:, None]).sum(0) + b
        quotient = _quotient(residual, X)
        unsure = unsure | (quotient > safe)
        H = S.clone()
        H.diagonal().sub_(torch.where(unsure, 0.0, quotient)[..., None])
        inverse, _ = invert(H)
        X = X - _apply(inverse, (B * residual).sum(1) - quotient * X)
    if unsure.any():
        some, X_some, S_some = rows[:, :, unsure], X[:, unsure], S[:, :, unsure]
        y = torch.linalg.svd(some.movedim(-1, 0).mT).Vh[..., 3, :].T
        finite = y[3].abs() > _AT_INFINITY
        X_some = torch.where(finite, y[:3] / torch.where(finite, y[3], 1.0), X_some)
        quotient = _quotient((some[:3] * X_some[:, None]).sum(0) + some[3], X_some)
        S_some.diagonal().sub_(quotient[..., None])
        X[:, unsure], inverse[:, :, unsure] = X_some, invert(S_some)[0]
    return X, inverse


def project(P: Tensor, points_mm: Tensor) -> tuple[Tensor, Tensor]:
    """Project world points to every view.

    Args:
        P: (..., V, 3, 4) projection matrices.
        points_mm: (..., J, 3) world mm.

    Returns:
        Pixels (..., V, J, 2), NaN where the homogeneous scale is 0; and depths (..., V, J), positive in front of the
        camera (mm along the optical axis if P and ``[R|t]`` have the same last row).
    """
    x = torch.einsum("...vrc,...jc->...vjr", P[..., :3], points_mm) + P[..., None, :, 3]
    depth = x[..., 2]
    return x[..., :2] / torch.where(depth == 0, torch.nan, depth)[..., None], depth


@overload
def reprojection_error(P: Tensor, points_mm: Tensor, points_px: Tensor) -> Tensor: ...
@overload
def reprojection_error(P: Array, points_mm: Array, points_px: Array) -> Array: ...
def reprojection_error(P: Tensor | Array, points_mm: Tensor | Array, points_px: Tensor | Array) -> Tensor | Array:
    """Distance in pixels between observations and projections. The release code of learnable triangulation halves it.

    Args:
        P: (..., V, 3, 4) projection matrices.
        points_mm: (..., J, 3) world mm.
        points_px: (..., V, J, 2) observations.

    Returns:
        (..., V, J) pixels; NaN where an observation or the point is missing.

    Example:
        >>> P = np.eye(3, 4)[None]  # one camera at the world origin
        >>> reprojection_error(P, np.array([[0.0, 0, 2]]), np.array([[[3.0, 4]]]))
        array([[5.]])
    """
    if not isinstance(P, Tensor):
        as_tensor = [torch.from_numpy(np.array(a, dtype=np.float64)) for a in (P, points_mm, points_px)]
        return np.asarray(reprojection_error(as_tensor[0], as_tensor[1], as_tensor[2]).numpy())
    assert isinstance(points_mm, Tensor)
    assert isinstance(points_px, Tensor)
    return torch.linalg.vector_norm(project(P, points_mm)[0] - points_px, dim=-1)


def ray_distance(P: Array, points_mm: Array, points_px: Array) -> Array:
    """Distance in mm between points and the lines of sight of observations.

    Args:
        P: (..., V, 3, 4) projection matrices.
        points_mm: (..., J, 3) world mm.
        points_px: (..., V, J, 2) observations.

    Returns:
        (..., V, J) mm; NaN where an observation, its camera or the point is missing.
    """
    rows = points_px[..., None] * P[..., None, 2:, :] - P[..., None, :2, :]  # two planes that intersect in the line
    normals = rows[..., :3]
    off = np.einsum("...vjpc,...jc->...vjp", normals, points_mm) + rows[..., 3]
    # Length of the shortest step onto both planes, by the 2x2 Gram matrix of their normals.
    a, c = np.moveaxis((normals**2).sum(-1), -1, 0)
    b = (normals[..., 0, :] * normals[..., 1, :]).sum(-1)
    squared = c * off[..., 0] ** 2 - 2 * b * off[..., 0] * off[..., 1] + a * off[..., 1] ** 2
    area = a * c - b * b
    return np.asarray(np.sqrt(np.maximum(squared, 0.0) / np.where(area > 0, area, np.nan)))
