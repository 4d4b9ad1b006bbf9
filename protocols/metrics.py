"""Metrics of 3D poses: pure functions over arrays.

Conventions. ``pred`` and ``truth`` are (N, J, 3), millimetres, both in the same frame, the same joints in the same
order. Arithmetic is float64 in blocks, whatever the arrays' type, so a million poses need no more memory than their
errors; the result is float32 where both arrays are, else float64.

Absent joints are never dropped silently:

* a truth joint that is NaN is *not evaluated*: its error is NaN and no mean or share counts it;
* a joint that is evaluated but not predicted (NaN) has the error inf, "worse than anything";
* a pose that lacks any evaluated joint therefore has the pose error inf: a mean over the predicted joints would
  reward leaving out the hard ones;
* errors relative to a root need that root: without a true root nothing is evaluated; without a predicted root every
  joint has the error inf.

Infinite coordinates raise ValueError. The error of a predicted joint is always finite: an error beyond float32 becomes
the largest float32, because inf would leave the pose out of the mean. Prediction and truth are first moved to their own
roots and then subtracted: subtracting numbers of very different size would lose the digits of the smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Rows = NDArray[np.integer]

_BLOCK = 8192  # poses; 17 joints in float64 are 3 MB, which stays in the cache


def validate(pred: Array, truth: Array, rows: Rows | None = None, root: Sequence[int] = ()) -> None:
    """Raise ValueError unless the arrays are (N, J, 3) floats of equal J, with valid ``rows`` and ``root``."""
    for name, array in (("pred", pred), ("truth", truth)):
        if array.ndim != 3 or array.shape[2] != 3 or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{name} needs (N, J, 3) floats, got {array.shape} {array.dtype}")
    if pred.shape[1] != truth.shape[1]:
        raise ValueError(f"pred has {pred.shape[1]} joints, truth {truth.shape[1]}")
    if rows is None and len(pred) != len(truth):
        raise ValueError(f"{len(pred)} predictions for {len(truth)} truth poses")
    if rows is not None and (rows.shape != (len(truth),) or (rows.size and int(rows.max()) >= len(pred))):
        raise ValueError(f"rows need ({len(truth)},) indices below {len(pred)}, got {rows.shape}")
    outside = [index for index in root if not 0 <= index < truth.shape[1]]
    if outside:
        raise ValueError(f"root {outside[0]} is none of {truth.shape[1]} joints")


def joint_errors(pred: Array, truth: Array, root: int | Sequence[int] | None = None, rows: Rows | None = None) -> Array:
    """Euclidean distance between predicted and true joints, (N, J) mm.

    Args:
        pred: (M, J, 3) mm.
        truth: (N, J, 3) mm.
        root: index of the joint to subtract from both poses, or several indices to subtract their mean. The root's own
            error is then 0 and still counts. None: absolute positions.
        rows: (N,) index in ``pred`` of the prediction for each true pose, -1 if missing; None: equal indices.

    Raises:
        ValueError: shapes or types do not match, or a coordinate is infinite.

    Example:
        >>> truth = np.array([[[0.0, 0, 0], [0, 0, 100]]])  # one pose of two joints
        >>> joint_errors(truth + [3.0, 4.0, 0.0], truth).tolist()
        [[5.0, 5.0]]
        >>> joint_errors(truth + [3.0, 4.0, 0.0], truth, root=0).tolist()
        [[0.0, 0.0]]
    """
    roots = [] if root is None else [root] if isinstance(root, int) else list(root)

    def distances(p: Array, t: Array, absent: NDArray[np.bool_] | None) -> Array:
        if roots:
            p -= p[:, roots].mean(axis=1, keepdims=True)
            t -= t[:, roots].mean(axis=1, keepdims=True)
            if absent is not None:
                absent |= absent[:, roots].any(axis=1, keepdims=True)
        p -= t
        return np.sqrt(np.einsum("njk,njk->nj", p, p))

    return _blockwise(distances, pred, truth, rows, roots)


def sized_joint_errors(
    pred: Array, truth: Array, size_mm: NDArray[np.floating], limit_mm: float, rows: Rows | None = None
) -> Array:
    """Clipped joint errors (N, J), mm, of poses in units of their size: distance times size, at most ``limit_mm``.

    As in the release of epipolar transformers, for its lifting networks. Nothing is aligned.

    Args:
        pred: (M, J, 3) in units of the size.
        truth: (N, J, 3) in units of the size.
        size_mm: (N,) size of each true pose; NaN: the pose is not evaluated.
        limit_mm: largest error of a joint.
        rows: as in :func:`joint_errors`.

    Example:
        >>> truth = np.array([[[0.0, 0, 0], [0, 0, 100]]])  # one pose of two joints
        >>> sized_joint_errors(truth / 50 + [0.5, 0, 0], truth / 50, np.array([50.0]), limit_mm=40.0).tolist()
        [[25.0, 25.0]]
    """
    return clipped(joint_errors(pred, truth, rows=rows) * size_mm[:, None], limit_mm)


def scaled_joint_errors(pred: Array, truth: Array, root: Sequence[int], rows: Rows | None = None) -> Array:
    """Root-relative joint errors (N, J), mm, after each predicted pose is scaled to the true pose.

    The factor minimises the squared error over the evaluated joints and is never negative.

    Args:
        pred: (M, J, 3) in any unit.
        truth: (N, J, 3) mm.
        root: indices of the joints whose mean is subtracted from both poses.
        rows: as in :func:`joint_errors`.

    Example:
        >>> truth = np.array([[[0.0, 0, 0], [0, 0, 100], [0, 50, 0]]])
        >>> scaled_joint_errors(truth / 4000 + 7, truth, [0]).round(9).tolist()  # smaller and elsewhere
        [[0.0, 0.0, 0.0]]
        >>> scaled_joint_errors(-truth, truth, [0]).round(9).tolist()  # mirrored
        [[0.0, 100.0, 50.0]]
    """

    def distances(p: Array, t: Array, absent: NDArray[np.bool_] | None) -> Array:
        p -= p[:, root].mean(axis=1, keepdims=True)
        t -= t[:, root].mean(axis=1, keepdims=True)
        if absent is not None:
            absent |= absent[:, root].any(axis=1, keepdims=True)
        weight = np.ones(t.shape[:2]) if absent is None else np.where(absent, 0.0, 1.0)
        whole = np.all(~np.isnan(p).any(axis=2) | (weight == 0), axis=1)
        p = np.ldexp(p, -np.frexp(np.nanmax(np.abs(p), axis=(1, 2), initial=0.0, keepdims=True))[1])
        product = np.einsum("nj,njk,njk->n", weight, np.nan_to_num(p), np.nan_to_num(t))
        square = np.einsum("nj,njk,njk->n", weight, np.nan_to_num(p), np.nan_to_num(p))
        scale = np.divide(product, square, out=np.zeros_like(square), where=square > 0)
        errors = np.linalg.norm(np.maximum(scale, 0)[:, None, None] * p - t, axis=2)
        errors[~whole] = np.nan  # a scale fitted to some of the joints favours leaving out the others
        return errors

    return _blockwise(distances, pred, truth, rows, root)


def clipped(errors: Array, limit_mm: float) -> Array:
    """Clip errors at ``limit_mm``; a joint that is not predicted stays inf.

    Example:
        >>> clipped(np.array([[10.0, 400.0, np.inf]]), 150.0).tolist()
        [[10.0, 150.0, inf]]
    """
    return np.where(np.isinf(errors), errors, np.minimum(errors, limit_mm))


def aligned_joint_errors(pred: Array, truth: Array, rows: Rows | None = None) -> Array:
    """Joint errors (N, J), mm, after Procrustes alignment of each predicted pose.

    The transform is fitted on the evaluated joints; see :func:`procrustes`. Arguments as in :func:`joint_errors`.

    Example:
        >>> truth = np.array([[[0.0, 0, 0], [0, 0, 100], [0, 50, 0]]])
        >>> aligned_joint_errors(2 * truth + 7, truth).round(9).tolist()  # larger and elsewhere
        [[0.0, 0.0, 0.0]]
    """

    def distances(p: Array, t: Array, absent: NDArray[np.bool_] | None) -> Array:
        use = None if absent is None else ~absent
        predicted = ~np.isnan(p).any(axis=2)
        whole = np.all(predicted if absent is None else predicted | absent, axis=1)
        errors = np.full(t.shape[:2], np.nan)
        aligned = procrustes(p[whole], t[whole], None if use is None else use[whole])
        errors[whole] = np.linalg.norm(aligned - t[whole], axis=2)
        return errors

    return _blockwise(distances, pred, truth, rows, ())


def procrustes(pred: Array, truth: Array, use: NDArray[np.bool_] | None = None) -> Array:
    """Align each pose of ``pred`` with ``truth`` by a least-squares similarity: rotation, scale and translation.

    Umeyama, PAMI 1991, eq. 40-42: the rotation is proper, so a mirrored pose is not mirrored back. A pose with
    coinciding joints is only shifted.

    Args:
        pred: (N, J, 3) mm, finite where ``use``.
        truth: (N, J, 3) mm, finite where ``use``.
        use: (N, J) joints to fit on; None: all. The other joints are transformed too.

    Returns:
        (N, J, 3) float64.

    Example:
        >>> truth = np.array([[[0.0, 0, 0], [0, 0, 100], [0, 50, 0]]])
        >>> bool(np.allclose(procrustes(2 * truth + 7, truth), truth))
        True
    """
    weight = np.ones((*pred.shape[:2], 1)) if use is None else use[..., None].astype(np.float64)
    count = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    p, t = (np.where(weight > 0, a.astype(np.float64), 0.0) for a in (pred, truth))
    mean_p, mean_t = p.sum(axis=1, keepdims=True) / count, t.sum(axis=1, keepdims=True) / count
    p, t = (p - mean_p) * weight, (t - mean_t) * weight
    # in units of its own size, a power of two: squares of huge and tiny coordinates stay numbers, nothing is rounded
    exponent = np.frexp(np.abs(p).max(axis=(1, 2), initial=0.0, keepdims=True))[1]
    p = np.ldexp(p, -exponent)
    u, sigma, vt = np.linalg.svd(np.einsum("nji,njk->nik", p, t))
    sign = np.ones_like(sigma)
    sign[:, 2] = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation = (u * sign[:, None, :]) @ vt
    spread = np.einsum("njk,njk->n", p, p)
    # joints that coincide have no scale: leave 0/0 at 1
    scale = np.divide((sigma * sign).sum(axis=1), spread, out=np.ones_like(spread), where=spread > 0)
    centred = np.ldexp(pred.astype(np.float64) - mean_p, -exponent)
    moved: Array = scale[:, None, None] * (centred @ rotation) + mean_t
    return moved


def procrustes_together(
    pred: Array, truth: Array, codes: NDArray[np.integer], use: NDArray[np.bool_] | None = None
) -> Array:
    """Align poses with the truth by one least-squares similarity transform for all poses of equal code.

    Args:
        pred: (N, J, 3) mm.
        truth: (N, J, 3) mm.
        codes: (N,) equal for poses that share a transform, for example poses of one sequence.
        use: (N, J) joints to fit on, finite in both; None: all finite joints. The other joints are transformed too.

    Returns:
        (N, J, 3) float64.

    Example:
        >>> truth = np.arange(24.0).reshape(2, 4, 3) ** 2
        >>> bool(np.allclose(procrustes_together(3 * truth - 5, truth, np.array([0, 0])), truth))
        True
        >>> growing = truth * np.array([1.0, 2.0])[:, None, None]
        >>> bool(np.allclose(procrustes_together(growing, truth, np.array([0, 0])), truth))
        False
    """
    finite: NDArray[np.bool_] = np.all(np.isfinite(pred) & np.isfinite(truth), axis=2)
    fitted = finite if use is None else use & finite
    moved = np.full(pred.shape, np.nan)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        shape = (1, rows.size * pred.shape[1])
        of_code = procrustes(pred[rows].reshape(*shape, 3), truth[rows].reshape(*shape, 3), fitted[rows].reshape(shape))
        moved[rows] = of_code.reshape(pred[rows].shape)
    return moved


def pose_errors(errors: Array) -> NDArray[np.float64]:
    """Mean error of each pose over its evaluated joints, (N,); inf if one is not predicted, NaN if none is evaluated.

    All joints have equal weight, including a subtracted root (error 0), as in the release of learnable triangulation.

    Example:
        >>> pose_errors(np.array([[0.0, 10.0], [4.0, np.nan], [4.0, np.inf]])).tolist()
        [5.0, 4.0, inf]
    """
    means = np.asarray(errors.mean(axis=1, dtype=np.float64))
    partly = np.isnan(means)
    if partly.any():
        means[partly] = _share(errors[partly], errors[partly])
    return means


def mpjpe(pred: Array, truth: Array, root: int | Sequence[int] | None = None) -> NDArray[np.float64]:
    """Mean per-joint position error of each pose, (N,) mm: absolute, or relative to ``root``.

    Example:
        >>> truth = np.array([[[0.0, 0, 0], [0, 0, 100]]])  # one pose of two joints
        >>> mpjpe(truth + [3.0, 4.0, 0.0], truth).tolist(), mpjpe(truth + [3.0, 4.0, 0.0], truth, root=0).tolist()
        ([5.0], [0.0])
    """
    return pose_errors(joint_errors(pred, truth, root))


def pa_mpjpe(pred: Array, truth: Array) -> NDArray[np.float64]:
    """MPJPE of each pose after :func:`procrustes`, (N,) mm.

    Example:
        >>> truth = np.array([[[0.0, 0, 0], [0, 0, 100], [0, 50, 0]]])
        >>> pa_mpjpe(2 * truth + 7, truth).round(9).tolist()
        [0.0]
    """
    return pose_errors(aligned_joint_errors(pred, truth))


def pose_pck(errors: Array, threshold_mm: float) -> NDArray[np.float64]:
    """PCK of each pose, (N,) in [0, 1]: share of evaluated joints with error <= threshold; missing joints are wrong.

    Example:
        >>> pose_pck(np.array([[20.0, 150.0, 151.0, np.inf]]), 150.0).tolist()
        [0.5]
    """
    return _share(errors, errors <= threshold_mm)


def pose_auc(errors: Array, thresholds_mm: Sequence[float]) -> NDArray[np.float64]:
    """AUC of each pose, (N,) in [0, 1]: mean of :func:`pose_pck` over the thresholds.

    Example:
        >>> pose_auc(np.array([[20.0, 120.0]]), [50.0, 100.0, 150.0]).round(3).tolist()
        [0.667]
    """
    # a joint is within as many thresholds as are not below its error
    ordered = np.sort(np.asarray(thresholds_mm, dtype=np.float64))
    within = len(ordered) - np.searchsorted(ordered, np.where(np.isnan(errors), np.inf, errors), side="left")
    return _share(errors, within / len(ordered))


def pck_curve(errors: Array, thresholds_mm: Sequence[float]) -> NDArray[np.float64]:
    """PCK curve (T,): mean over poses of :func:`pose_pck` at each threshold; NaN if no pose is evaluated.

    Example:
        >>> pck_curve(np.array([[20.0, 120.0], [60.0, 60.0]]), [50.0, 100.0, 150.0]).tolist()
        [0.25, 0.75, 1.0]
    """
    evaluated = ~np.isnan(errors)
    count = evaluated.sum(axis=1)
    used = count > 0
    if not used.any():
        return np.full(len(thresholds_mm), np.nan)
    distances = errors[evaluated].astype(np.float64)
    weight = np.broadcast_to((1.0 / np.maximum(count, 1))[:, None], errors.shape)[evaluated]
    order = np.argsort(distances)
    cumulative = np.concatenate([[0.0], np.cumsum(weight[order])])
    return np.asarray(cumulative[np.searchsorted(distances[order], thresholds_mm, side="right")] / used.sum())


def _share(errors: Array, credit: NDArray[np.generic]) -> NDArray[np.float64]:
    """Mean of ``credit`` over the evaluated joints of each pose; NaN if none is evaluated."""
    evaluated = ~np.isnan(errors)
    count = evaluated.sum(axis=1)
    total = np.where(evaluated, credit, 0).sum(axis=1, dtype=np.float64)
    return np.divide(total, count, out=np.full(len(errors), np.nan), where=count > 0)


def _blockwise(
    distances: Callable[[Array, Array, NDArray[np.bool_] | None], Array],
    pred: Array,
    truth: Array,
    rows: Rows | None,
    root: Sequence[int],
) -> Array:
    """Compute ``distances(pred, truth, absent)`` in blocks in float64, with the module's rules for absent joints.

    ``absent`` (n, J) marks truth joints that are not evaluated (None: all are); ``distances`` may add to it, and may
    change the copies of prediction and truth. Its NaN become inf if the joint is evaluated.
    """
    validate(pred, truth, rows, root)
    result = np.empty(truth.shape[:2], dtype=np.result_type(pred, truth, np.float32))
    most = np.finfo(np.float32).max
    for start in range(0, len(truth), _BLOCK):
        block = slice(start, start + _BLOCK)
        t = truth[block].astype(np.float64)
        if rows is None:
            p = pred[block].astype(np.float64)
        else:
            answered = rows[block] >= 0
            p = np.full(t.shape, np.nan)
            p[answered] = pred[rows[block][answered]]
        whole_p, whole_t = bool(np.isfinite(p).all()), bool(np.isfinite(t).all())
        if not (whole_p and whole_t) and (np.isinf(p).any() or np.isinf(t).any()):
            raise ValueError("a coordinate is infinite")
        absent = None if whole_t else np.asarray(np.isnan(t).any(axis=2))
        errors = np.minimum(distances(p, t, absent), most)
        if not (whole_p and whole_t):
            errors[np.isnan(errors)] = np.inf
        if absent is not None:
            errors[absent] = np.nan
        result[block] = errors
    return result
