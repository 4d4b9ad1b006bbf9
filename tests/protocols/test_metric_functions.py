"""Properties that the metric functions must have, whatever the poses."""

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
    ("pred", "truth", "kwargs"),
    [
        (np.zeros((3, J, 2)), np.zeros((3, J, 3)), {}),
        (np.zeros((3, J, 3), dtype=int), np.zeros((3, J, 3)), {}),
        (np.zeros((3, 16, 3)), np.zeros((3, J, 3)), {}),
        (np.zeros((2, J, 3)), np.zeros((3, J, 3)), {}),
        (np.zeros((3, J, 3)), np.zeros((3, J, 3)), {"root": J}),
        (np.zeros((3, J, 3)), np.zeros((3, J, 3)), {"rows": np.array([0, 1, 3])}),
        (np.zeros((3, J, 3)), np.zeros((3, J, 3)), {"rows": np.array([0, 1])}),
        (np.full((3, J, 3), np.inf), np.zeros((3, J, 3)), {}),
    ],
)
def test_wrong_arrays_are_refused(pred: NDArray, truth: NDArray, kwargs: dict) -> None:
    with pytest.raises(ValueError, match=r"pred|predictions|root|rows|infinite"):
        metrics.joint_errors(pred, truth, **kwargs)
