"""Properties that the metric functions must have, whatever the poses."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from poseboard.protocols import metrics

J = 17
checked = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)


def poses(rng: np.random.Generator, n: int = 5, joints: int = J) -> NDArray[np.float64]:
    return rng.normal(0, 300, (n, joints, 3)) + rng.normal(0, 2000, (n, 1, 3))


def loop_error(pred: NDArray, truth: NDArray, root: int | None) -> float:
    """The definition, spelled out for one pose."""
    total = 0.0
    for j in range(len(truth)):
        difference = pred[j] - truth[j]
        if root is not None:
            difference = difference - (pred[root] - truth[root])
        total += float(np.sqrt((difference**2).sum()))
    return total / len(truth)


@checked
@given(seeds, st.sampled_from([None, 0, 6, 16]), st.sampled_from([np.float32, np.float64]))
def test_mpjpe_is_its_definition(seed: int, root: int | None, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = poses(rng).astype(dtype), poses(rng).astype(dtype)
    expected = [loop_error(p.astype(np.float64), t.astype(np.float64), root) for p, t in zip(pred, truth, strict=True)]
    np.testing.assert_allclose(metrics.mpjpe(pred, truth, root), expected, rtol=1e-6)


@checked
@given(seeds, st.floats(0.2, 5), st.sampled_from([None, 6]))
def test_mpjpe_scales_and_is_symmetric(seed: int, factor: float, root: int | None) -> None:
    rng = np.random.default_rng(seed)
    a, b = poses(rng), poses(rng)
    np.testing.assert_allclose(metrics.mpjpe(factor * a, factor * b, root), factor * metrics.mpjpe(a, b, root))
    np.testing.assert_allclose(metrics.mpjpe(a, b, root), metrics.mpjpe(b, a, root))


@checked
@given(seeds, st.sampled_from([None, 6]))
def test_triangle_inequality(seed: int, root: int | None) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = poses(rng), poses(rng), poses(rng)
    assert (metrics.mpjpe(a, c, root) <= metrics.mpjpe(a, b, root) + metrics.mpjpe(b, c, root) + 1e-9).all()


@checked
@given(seeds, st.floats(0.3, 3))
def test_pa_mpjpe_ignores_a_similarity_of_the_prediction(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = poses(rng), poses(rng)
    rotation = Rotation.random(len(truth), random_state=seed % 2**31).as_matrix()
    moved = factor * pred @ rotation + rng.normal(0, 3000, (len(truth), 1, 3))
    np.testing.assert_allclose(metrics.pa_mpjpe(moved, truth), metrics.pa_mpjpe(pred, truth), rtol=1e-7)
    np.testing.assert_allclose(metrics.procrustes(moved, pred), pred, atol=1e-6)


@checked
@given(seeds)
def test_procrustes_is_least_squares_among_similarities(seed: int) -> None:
    """No random similarity near the found one, or anywhere, leaves a smaller sum of squares."""
    rng = np.random.default_rng(seed)
    pred, truth = poses(rng, 1), poses(rng, 1)
    aligned = metrics.procrustes(pred, truth)
    best = ((aligned - truth) ** 2).sum()
    centre = aligned.mean(axis=1, keepdims=True)
    for angle in (1e-3, 1e-2, 1.0):
        turn = Rotation.from_rotvec(rng.normal(size=3) * angle).as_matrix()
        other = (1 + angle * rng.normal() / 3) * (aligned - centre) @ turn + centre + angle * rng.normal(0, 10, 3)
        assert ((other - truth) ** 2).sum() >= best - 1e-6


def test_procrustes_does_not_mirror() -> None:
    truth = poses(np.random.default_rng(3), 8)
    mirrored = truth * [-1, 1, 1]
    aligned = metrics.procrustes(mirrored, truth)
    assert (metrics.pa_mpjpe(mirrored, truth) > 50).all()
    handedness = [
        np.sign(np.linalg.det(np.linalg.lstsq(a - a.mean(0), b - b.mean(0), rcond=None)[0]))
        for a, b in zip(mirrored, aligned, strict=True)
    ]
    assert handedness == [1.0] * 8


def test_procrustes_of_coinciding_joints_only_shifts() -> None:
    truth = poses(np.random.default_rng(1), 2)
    aligned = metrics.procrustes(np.full_like(truth, 7.0), truth)
    np.testing.assert_allclose(aligned, np.broadcast_to(truth.mean(axis=1, keepdims=True), truth.shape))


def test_flat_poses_align() -> None:
    """A pose in a plane has a singular value of zero; its similarity is still found."""
    rng = np.random.default_rng(5)
    truth = poses(rng, 4) * [1, 1, 0]
    turn = Rotation.random(random_state=2).as_matrix()
    np.testing.assert_allclose(metrics.pa_mpjpe(0.5 * truth @ turn + 9, truth), 0, atol=1e-6)


@checked
@given(seeds)
def test_joint_order_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = poses(rng), poses(rng)
    order = rng.permutation(J)
    np.testing.assert_allclose(metrics.mpjpe(pred[:, order], truth[:, order]), metrics.mpjpe(pred, truth))
    np.testing.assert_allclose(metrics.pa_mpjpe(pred[:, order], truth[:, order]), metrics.pa_mpjpe(pred, truth))
    errors = metrics.joint_errors(pred, truth)
    np.testing.assert_allclose(metrics.joint_errors(pred[:, order], truth[:, order]), errors[:, order])


@checked
@given(seeds, st.integers(0, 20_000))
def test_blocks_and_rows_change_nothing(seed: int, extra: int) -> None:
    """More poses than a block, answered in another order and some not at all."""
    rng = np.random.default_rng(seed)
    n = 8192 + extra
    truth = rng.normal(0, 300, (n, 2, 3)).astype(np.float32)
    pred = rng.normal(0, 300, (n, 2, 3)).astype(np.float32)
    rows = rng.integers(-1, n, n)
    errors = metrics.joint_errors(pred, truth, rows=rows)
    expected = np.linalg.norm(pred[rows].astype(np.float64) - truth, axis=2)
    np.testing.assert_allclose(errors[rows >= 0], expected[rows >= 0], rtol=1e-6)
    assert np.isposinf(errors[rows < 0]).all()


def test_a_root_that_is_the_mean_of_two_joints() -> None:
    rng = np.random.default_rng(1)
    pred, truth = poses(rng, 6), poses(rng, 6)
    about = [p - p[:, [2, 5]].astype(np.float64).mean(axis=1, keepdims=True) for p in (pred, truth)]
    expected = np.linalg.norm(about[0] - about[1], axis=2)
    np.testing.assert_allclose(metrics.joint_errors(pred, truth, root=[2, 5]), expected, rtol=1e-5)
    pred[0, 5], truth[1, 2] = np.nan, np.nan
    errors = metrics.joint_errors(pred, truth, root=[2, 5])
    assert np.isposinf(errors[0]).all()
    assert np.isnan(errors[1]).all()
    np.testing.assert_allclose(errors[2:], expected[2:], rtol=1e-5)
    with pytest.raises(ValueError, match="root 17"):
        metrics.joint_errors(pred, truth, root=[2, 17])


def test_what_is_absent() -> None:
    rng = np.random.default_rng(0)
    pred, truth = poses(rng, 5), poses(rng, 5)
    truth[0, 3] = np.nan  # not annotated
    pred[1, 4] = np.nan  # not predicted
    pred[2, 6] = np.nan  # the root is not predicted
    truth[3, 6] = np.nan  # the root is not annotated
    truth[4, 2], pred[4, 2] = np.nan, np.nan  # neither: not evaluated
    absolute = metrics.joint_errors(pred, truth)
    relative = metrics.joint_errors(pred, truth, root=6)
    for errors in (absolute, relative):
        assert np.isnan(errors[0]).tolist() == [i == 3 for i in range(J)]
        assert np.isposinf(errors[1]).tolist() == [i == 4 for i in range(J)]
        assert np.isnan(errors[4, 2])
    assert np.isposinf(relative[2]).all()
    assert np.isposinf(absolute[2]).tolist() == [i == 6 for i in range(J)]
    assert np.isnan(relative[3]).all()
    assert np.isnan(absolute[3]).tolist() == [i == 6 for i in range(J)]
    per_pose = metrics.pose_errors(absolute)
    assert np.isfinite(per_pose).tolist() == [True, False, False, True, True]
    keep = [i for i in range(J) if i != 3]
    assert per_pose[0] == pytest.approx(loop_error(pred[0, keep], truth[0, keep], None))
    aligned = metrics.aligned_joint_errors(pred, truth)
    assert np.isnan(aligned[0, 3])
    assert np.isposinf(aligned[1]).all()
    np.testing.assert_allclose(metrics.pose_errors(aligned)[0], metrics.pa_mpjpe(pred[:1, keep], truth[:1, keep])[0])


def test_pck_counts() -> None:
    errors = np.array([[0.0, 10.0, 150.0, np.nan], [151.0, np.inf, 5.0, 5.0], [np.nan] * 4])
    np.testing.assert_allclose(metrics.pose_pck(errors, 150)[:2], [1, 0.5])
    assert np.isnan(metrics.pose_pck(errors, 150)[2])
    thresholds = [0, 5, 10, 150]
    by_hand = [[np.mean([e <= t for e in row if not np.isnan(e)]) for t in thresholds] for row in errors[:2]]
    np.testing.assert_allclose(metrics.pck_curve(errors, thresholds), np.mean(by_hand, axis=0))
    np.testing.assert_allclose(metrics.pose_auc(errors, thresholds)[:2], np.mean(by_hand, axis=1))


@checked
@given(seeds)
def test_pck_curve_rises_to_one_and_agrees_with_the_share(seed: int) -> None:
    errors = np.random.default_rng(seed).exponential(60, (30, J))
    thresholds = list(range(0, 2000, 100))
    curve = metrics.pck_curve(errors, thresholds)
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] == pytest.approx(1)
    np.testing.assert_allclose(curve, [metrics.pose_pck(errors, t).mean() for t in thresholds])
    np.testing.assert_allclose(metrics.pose_auc(errors, thresholds).mean(), curve.mean())


@pytest.mark.parametrize(
    ("pred", "truth", "kwargs", "problem"),
    [
        (np.zeros((3, J, 2)), np.zeros((3, J, 3)), {}, r"pred needs (N, J, 3) floats, got (3, 17, 2) float64"),
        (np.zeros((3, J)), np.zeros((3, J, 3)), {}, r"pred needs (N, J, 3) floats, got (3, 17) float64"),
        (np.zeros((3, J, 3)), np.zeros((3, J, 3), int), {}, r"truth needs (N, J, 3) floats, got (3, 17, 3) int64"),
        (np.zeros((3, 16, 3)), np.zeros((3, J, 3)), {}, "pred has 16 joints, truth 17"),
        (np.zeros((2, J, 3)), np.zeros((3, J, 3)), {}, "2 predictions for 3 truth poses"),
        (np.zeros((3, J, 3)), np.zeros((3, J, 3)), {"root": J}, "root 17 is none of 17 joints"),
        (np.zeros((3, J, 3)), np.zeros((3, J, 3)), {"root": -1}, "root -1 is none of 17 joints"),
        (np.zeros((3, J, 3)), np.zeros((3, J, 3)), {"rows": np.array([0, 1, 3])}, "rows need (3,) indices below 3"),
        (np.zeros((3, J, 3)), np.zeros((3, J, 3)), {"rows": np.array([0, 1])}, "indices below 3, got (2,)"),
        (np.full((3, J, 3), np.inf), np.zeros((3, J, 3)), {}, "a coordinate is infinite"),
    ],
)
def test_wrong_arrays_are_refused(pred: NDArray, truth: NDArray, kwargs: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^({re.escape(problem)}|rows need .*{re.escape(problem)}$)"):
        metrics.joint_errors(pred, truth, **kwargs)


@pytest.mark.parametrize(
    ("pred", "truth", "result"),
    [(2, 2, np.float32), (4, 4, np.float32), (4, 8, np.float64), (8, 4, np.float64)],
)
def test_arithmetic_is_double_whatever_the_types(pred: int, truth: int, result: type) -> None:
    rng = np.random.default_rng(2)
    p, t = (rng.normal(0, 300, (4, J, 3)).astype(f"f{size}") for size in (pred, truth))
    expected = np.linalg.norm(p.astype(np.float64) - t, axis=2)
    errors = metrics.joint_errors(p, t)
    assert errors.dtype == result
    np.testing.assert_allclose(errors, expected, rtol=2 * np.finfo(result).eps)
    np.testing.assert_array_equal(metrics.pose_errors(errors), errors.astype(np.float64).mean(axis=1))
    errors[:, 3] = np.nan
    np.testing.assert_allclose(metrics.pose_errors(errors), np.nanmean(errors, axis=1, dtype=np.float64), rtol=1e-14)
    huge = metrics.joint_errors(np.full((1, 1, 3), 1e200), np.zeros((1, 1, 3), np.float32))
    assert huge.item() == np.finfo(np.float32).max


def scaled_loop(pred: NDArray, truth: NDArray, root: list[int]) -> NDArray:
    """The definition, spelled out for one pose: the factor is that of a least-squares fit over evaluated joints."""
    p, t = pred - pred[root].mean(axis=0), truth - truth[root].mean(axis=0)
    used = ~np.isnan(t).any(axis=1)
    factor = np.linalg.lstsq(p[used].reshape(-1, 1), t[used].ravel(), rcond=None)[0][0]
    return np.linalg.norm(max(factor, 0.0) * p - t, axis=1)


@pytest.mark.parametrize("root", [[6], [2, 5]])
def test_errors_after_scaling_are_their_definition(root: list[int]) -> None:
    rng = np.random.default_rng(4)
    truth = poses(rng, 7)
    pred = 0.3 * truth + rng.normal(0, 20, truth.shape)
    pred[1] *= -1  # the best factor is negative: 0 is used
    pred[1] += 1e4
    truth[2, 3] = np.nan  # not annotated
    truth[3, 4], pred[3, 4] = np.nan, np.nan  # neither
    expected = np.array([scaled_loop(p, t, root) for p, t in zip(pred, truth, strict=True)])
    pred[4, 8] = np.nan  # not predicted: a factor of the other joints would favour the pose
    pred[5, root[-1]] = np.nan
    truth[6, root[-1]] = np.nan
    expected[4:6], expected[6] = np.inf, np.nan
    pred *= np.array([1, 1e160, 1e-170, 1, 1, 1, 1])[:, None, None]  # any unit, another for each pose
    rows = np.arange(7)[::-1].copy()
    for errors in (
        metrics.scaled_joint_errors(pred, truth, root),
        metrics.scaled_joint_errors(pred[::-1], truth, root, rows),
    ):
        np.testing.assert_allclose(errors, expected, rtol=1e-9)
    rod = np.array([[[0.0, 0, 0], [1, 0, 0]]])
    np.testing.assert_allclose(metrics.scaled_joint_errors(rod, 300 * rod, [0]), 0, atol=1e-9)
    assert not metrics.scaled_joint_errors(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), [0]).any()
    with pytest.raises(ValueError, match="root 17"):
        metrics.scaled_joint_errors(pred, truth, [17])


def test_errors_in_units_of_the_size_are_clipped_and_absent_ones_stay() -> None:
    truth = np.zeros((3, 2, 3))
    pred = np.array([[[0.5, 0, 0], [2, 0, 0]], [[np.nan, 0, 0], [1, 0, 0]]])
    errors = metrics.sized_joint_errors(pred, truth, np.array([100.0, 10.0, np.nan]), 80.0, rows=np.array([0, 1, 0]))
    np.testing.assert_array_equal(errors, [[50, 80], [np.inf, 10], [np.nan, np.nan]])


def test_procrustes_fits_on_the_used_joints_and_moves_the_others() -> None:
    rng = np.random.default_rng(6)
    truth = poses(rng, 3)
    turn = Rotation.random(random_state=3).as_matrix()
    pred = (truth - 500) @ turn * [[[1.0]], [[1e-200]], [[1e150]]]  # poses of very different size
    np.testing.assert_allclose(metrics.procrustes(pred, truth), truth, rtol=1e-9)
    use = np.ones((3, J), bool)
    use[:, 4] = False
    spoilt = pred.copy()
    spoilt[:, 4] *= 1.5
    moved = metrics.procrustes(spoilt, truth, use)
    np.testing.assert_allclose(moved[:, use[0]], truth[:, use[0]], rtol=1e-9)
    assert (np.linalg.norm(moved[:, 4] - truth[:, 4], axis=1) > 50).all()
    # One joint has no rotation and no scale, so all joints are shifted; a rod of 1 mm has a scale.
    only = np.zeros((3, J), bool)
    only[:, 2] = True
    np.testing.assert_allclose(
        metrics.procrustes(pred[:1], truth[:1], only[:1]), pred[:1] - pred[:1, 2:3] + truth[:1, 2:3]
    )
    rod = np.array([[[0.0, 0, 0], [1, 0, 0]]])
    np.testing.assert_allclose(metrics.procrustes(rod, 300 * rod), 300 * rod, atol=1e-9)
    assert metrics.procrustes(np.empty((2, 0, 3)), np.empty((2, 0, 3))).shape == (2, 0, 3)


def test_aligned_errors_of_rows_and_of_joints_that_are_in_neither() -> None:
    rng = np.random.default_rng(7)
    truth = poses(rng, 3)
    pred = 2 * truth[::-1] + 9
    pred[2, 5], truth[0, 5] = np.nan, np.nan
    errors = metrics.aligned_joint_errors(pred, truth, np.array([2, 1, -1]))
    np.testing.assert_allclose(errors[:2], np.where(np.isnan(truth[:2, :, 0]), np.nan, 0), atol=1e-6)
    assert np.isposinf(errors[2]).all()


def test_poses_of_a_sequence_share_one_similarity() -> None:
    rng = np.random.default_rng(8)
    truth, codes = poses(rng, 6), np.array([3, 0, 3, 3, 0, 9])
    pred = truth + rng.normal(0, 30, truth.shape)
    use = rng.random((6, J)) > 0.2
    for code in (0, 3, 9):
        turn = Rotation.random(random_state=code).as_matrix()
        pred[codes == code] = (0.5 + code) * pred[codes == code] @ turn + code
    pred[0, 1], truth[2, 3] = np.nan, np.nan
    for used in (None, use):
        fitted = np.isfinite(pred).all(axis=2) & np.isfinite(truth).all(axis=2) & (True if used is None else use)
        moved = metrics.procrustes_together(pred, truth, codes, used)
        for code in (0, 3, 9):
            rows = codes == code
            p, t = pred[rows][fitted[rows]], truth[rows][fitted[rows]]
            turn, _ = Rotation.align_vectors(t - t.mean(axis=0), p - p.mean(axis=0))
            turned = turn.apply(p - p.mean(axis=0))
            scale = (turned * (t - t.mean(axis=0))).sum() / (turned**2).sum()
            expected = scale * turn.apply((pred[rows] - p.mean(axis=0)).reshape(-1, 3)) + t.mean(axis=0)
            np.testing.assert_allclose(moved[rows].reshape(-1, 3), expected, atol=1e-6)


def test_shares_of_a_single_joint_and_of_nothing() -> None:
    errors = np.array([[20.0, np.nan], [np.nan, np.nan], [60.0, 120.0]])
    np.testing.assert_array_equal(metrics.pose_pck(errors, 50), [1, np.nan, 0])
    np.testing.assert_array_equal(metrics.pose_auc(errors, [100, 50]), [1, np.nan, 0.25])
    np.testing.assert_array_equal(metrics.pck_curve(errors, [50, 100]), [0.5, 0.75])
    np.testing.assert_array_equal(metrics.pck_curve(errors[1:2], [50, 100]), [np.nan, np.nan])
    assert metrics.pose_auc(np.array([[50.0]]), [50, 100]).item() == 1
