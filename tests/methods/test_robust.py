import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ransac_reference import HUBER_SHARE, huber_cost, plain_consensus, refined
from test_triangulation import people, rig, see, seeds

from poseboard.methods.geometry import compiling, consensus, robust
from poseboard.methods.geometry.robust import ransac, ransac_published
from poseboard.methods.geometry.triangulation import dlt


def with_outliers(rng, points, per_joint):
    """`per_joint` random views of every joint moved by 50 to 300 px; and which."""
    moved = np.argsort(rng.random(points.shape[:-1]), axis=1) < per_joint
    angle = rng.uniform(0, 2 * np.pi, points.shape[:-1])
    shift = rng.uniform(50, 300, points.shape[:-1])[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return points + moved[..., None] * shift, moved


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 7), st.booleans())
def test_recovers_noiseless_points_exactly(seed, views, refined):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 3)
    found = ransac(P, see(P, X), refined=refined)
    np.testing.assert_allclose(found.points_mm, X, atol=1e-5)
    assert found.inliers.all()
    assert found.inliers.shape == (3, views, 5)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(5, 8))
def test_finds_the_outliers_where_the_rest_is_a_majority(seed, views):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 3)
    points, moved = with_outliers(rng, see(P, X), (views - 3) // 2)
    found = ransac(P, points, threshold_px=5)
    np.testing.assert_allclose(found.points_mm, X, atol=0.5)
    assert (found.inliers & moved).sum() <= 0.02 * moved.size  # an outlier along the epipolar lines may agree
    assert (found.inliers | moved).all()


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(3, 6))
def test_a_rigid_motion_or_another_order_of_views_changes_nothing(seed, views):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 2)
    points = see(P, X) + rng.normal(0, 2, (2, views, 5, 2))
    expected = ransac(P, points)
    order = rng.permutation(views)
    np.testing.assert_allclose(ransac(P[order], points[:, order]).points_mm, expected.points_mm, atol=0.01)
    shift = rng.uniform(-2000, 2000, 3)
    moved = P @ np.block([[np.eye(3), -shift[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
    np.testing.assert_allclose(ransac(moved, points).points_mm - shift, expected.points_mm, atol=0.01)


def test_absent_views_are_left_out_and_lonely_joints_are_nan():
    rng = np.random.default_rng(1)
    P, X = np.tile(rig(rng, 5), (2, 1, 1, 1)), people(rng, 2)
    points = see(P, X)
    points[0, 3] = np.nan
    points[1, 1:, 2] = np.nan
    P[0, 3] = 0
    found = ransac(P, points)
    assert not found.inliers[0, 3].any()
    assert np.isnan(found.points_mm[1, 2]).all()
    found.points_mm[1, 2] = X[1, 2]
    np.testing.assert_allclose(found.points_mm, X, atol=1e-5)


@pytest.mark.parametrize("views", [0, 1])
def test_one_view_is_no_triangulation(views):
    found = ransac(np.zeros((2, views, 3, 4)), np.zeros((2, views, 5, 2)))
    assert np.isnan(found.points_mm).all()
    assert not found.inliers.any()
    assert np.isnan(dlt(np.zeros((2, views, 3, 4)), np.zeros((2, views, 5, 2)), np.ones((2, views, 5)))).all()


def test_many_views_draw_pairs_by_seed_and_skip_absent_ones():
    rng = np.random.default_rng(2)
    P, X = rig(rng, 31), people(rng, 3)
    points, _ = with_outliers(rng, see(P, X), 10)
    points[:, :12] = np.nan
    found = ransac(P, points, threshold_px=5, seed=3)
    np.testing.assert_allclose(found.points_mm, X, atol=0.5)
    np.testing.assert_array_equal(found.points_mm[2], ransac(P, points[2], threshold_px=5, seed=3).points_mm)


def test_the_default_seed_is_0():
    rng = np.random.default_rng(4)
    P, X = rig(rng, 31), people(rng, 3)
    points, _ = with_outliers(rng, see(P, X) + rng.normal(0, 3, (3, 31, 5, 2)), 10)
    default, *seeded = (
        ransac(P, points, threshold_px=5, refined=False, **seed).inliers for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    np.testing.assert_array_equal(default, seeded[0])
    assert (default != seeded[1]).any()


def test_a_point_behind_a_camera_is_not_in_agreement_with_it():
    rng = np.random.default_rng(6)
    P, X = rig(rng, 3), people(rng, 1)
    points = see(P, X)
    P[2] *= -1  # the same pixels, with every depth negative
    assert not ransac(P, points, refined=False).inliers[:, 2].any()


def test_the_published_scheme_may_keep_a_bad_pair_where_ours_does_not():
    # Three views, one outlier: every pair counts two, and the first drawn wins.
    rng = np.random.default_rng(8)
    P, X = rig(rng, 3), people(rng, 20)
    points, _ = with_outliers(rng, see(P, X) + rng.normal(0, 1, (20, 3, 5, 2)), 1)
    ours = np.linalg.norm(ransac(P, points).points_mm - X, axis=-1)
    published = ransac_published(P, points, random.Random(0), refined=False)
    theirs = np.linalg.norm(published.points_mm - X, axis=-1)
    assert np.median(ours) < 10
    assert ours.mean() < 0.5 * theirs.mean()


def test_the_published_scheme_leaves_absent_views_out():
    rng = np.random.default_rng(9)
    P, X = np.stack([rig(rng, 4) for _ in range(2)]), people(rng, 2)
    points = see(P, X)
    points[0, 1:, 0] = np.nan  # one view
    points[1, 2:, 3] = np.nan  # two views
    points[1, 0, 4, 0] = np.nan
    found = ransac_published(P, points, random.Random(0))
    assert found.inliers.dtype == bool
    assert np.isnan(found.points_mm[0, 0]).all()
    assert not found.inliers[0, :, 0].any()
    assert found.inliers[1, :, 3].tolist() == [True, True, False, False]
    assert found.inliers[1, :, 4].tolist() == [False, True, True, True]
    found.points_mm[0, 0] = X[0, 0]
    np.testing.assert_allclose(found.points_mm, X, atol=1e-4)
    one_frame = ransac_published(P, see(P, X)[0], random.Random(0), refined=False)
    np.testing.assert_allclose(one_frame.points_mm[0], X[0], atol=1e-4)
    assert one_frame.points_mm.shape == (2, 5, 3)


def hard_scene(seed, views, frames=3):
    """Noise, outliers in up to half of the views and missing observations."""
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, frames)
    points, _ = with_outliers(
        rng, see(P, X) + rng.normal(0, 2, (frames, views, 5, 2)), int(rng.integers(views // 2 + 1))
    )
    points[rng.random(points.shape[:-1]) < 0.1] = np.nan
    return P, points


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 9), st.sampled_from([5.0, 30.0]))
def test_the_compiled_consensus_is_that_of_the_plain_reference(seed, views, threshold_px):
    P, points = hard_scene(seed, views)
    found = ransac(P, points, threshold_px, refined=False)
    for f, j in np.ndindex(3, 5):
        expected = plain_consensus(P, points[f, :, j], threshold_px)
        if expected is None:
            assert np.isnan(found.points_mm[f, j]).all()
            assert not found.inliers[f, :, j].any()
            continue
        point_mm, inliers = expected
        ours = np.flatnonzero(found.inliers[f, :, j])
        np.testing.assert_array_equal(ours, inliers)
        np.testing.assert_allclose(found.points_mm[f, j], point_mm, rtol=1e-6, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(3, 8), st.sampled_from([5.0, 30.0]))
def test_the_compiled_refinement_is_no_worse_than_a_general_optimiser(seed, views, threshold_px):
    P, points = hard_scene(seed, views, frames=1)
    start, found = ransac(P, points, threshold_px, refined=False), ransac(P, points, threshold_px)
    np.testing.assert_array_equal(found.inliers, start.inliers)
    for j in range(5):
        inliers = np.flatnonzero(found.inliers[0, :, j])
        if len(inliers) < 3:
            continue
        best = refined(P, points[0, :, j], inliers, start.points_mm[0, j], threshold_px)
        theirs, ours, before = (
            huber_cost(P[inliers], points[0, inliers, j], X, HUBER_SHARE * threshold_px)
            for X in (best, found.points_mm[0, j], start.points_mm[0, j])
        )
        assert ours <= before
        assert ours <= theirs * (1 + 1e-3) + 1e-6


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([13, 20, 31]), st.sampled_from([0.05, 0.4]))
def test_many_views_end_early_with_the_views_that_all_pairs_would_find(seed, views, share):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 2)
    points, moved = with_outliers(rng, see(P, X) + rng.normal(0, 1, (2, views, 5, 2)), int(share * views))
    found = ransac(P, points)
    for f, j in np.ndindex(2, 5):
        told = points[f, ~moved[f, :, j], j][None, :, None]
        best = ransac(P[~moved[f, :, j]], told).points_mm[0, 0]
        np.testing.assert_allclose(found.points_mm[f, j], best, atol=6)
    assert (found.inliers | moved).mean() > 0.99


def test_pairs_of_drawn_views_are_all_tried_and_disjoint_ones_first():
    schedule = robust._disjoint_first(12)
    np.testing.assert_array_equal(schedule, robust._SCHEDULE)
    assert len({tuple(pair) for pair in schedule.tolist()}) == len(schedule) == 66
    assert (schedule[:, 0] < schedule[:, 1]).all()
    assert schedule.max() == 11
    for start in range(0, 66, 6):
        assert len(np.unique(schedule[start : start + 6])) == 12


@pytest.mark.parametrize("views", [4, 31])
def test_threads_change_nothing(views, monkeypatch):
    rng = np.random.default_rng(11)
    P, X = rig(rng, views), people(rng, 7)
    points, _ = with_outliers(rng, see(P, X) + rng.normal(0, 2, (7, views, 5, 2)), views // 4)
    before = torch.get_num_threads()
    answers = []
    monkeypatch.setattr(robust, "_WORK_PER_THREAD", 1)
    try:
        for threads in (1, 2, 3, 64):
            torch.set_num_threads(threads)
            answers.append(ransac(P, points))
    finally:
        torch.set_num_threads(before)
    alone = [ransac(P, points[:, :, [j]]) for j in range(5)] if views == 4 else []
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.points_mm, answers[0].points_mm)
        np.testing.assert_array_equal(answer.inliers, answers[0].inliers)
    for j, answer in enumerate(alone):  # nor do the other joints of the call
        np.testing.assert_array_equal(answer.points_mm[:, 0], answers[0].points_mm[:, j])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("views", [4, 14])
def test_what_is_not_finite_is_not_observed(value, views):
    rng = np.random.default_rng(12)
    P, X = np.tile(rig(rng, views), (2, 1, 1, 1)), people(rng, 2)
    points = see(P, X) + rng.normal(0, 1, (2, views, 5, 2))
    expected = ransac(np.delete(P, 1, 1), np.delete(points, 1, 1), seed=5)
    whole, one = points.copy(), P.copy()
    whole[:, 1, :, 0] = value
    one[:, 1, 2, 3] = value
    for found in (ransac(P, whole, seed=5), ransac(one, points, seed=5)):
        assert not found.inliers[:, 1].any()
        np.testing.assert_allclose(found.points_mm, expected.points_mm, atol=1e-6 if views == 4 else 2)


def test_parallel_rays_and_equal_cameras_give_a_finite_point():
    P = np.stack([np.eye(3, 4) * [[1000], [1000], [1]]] * 3)
    P[1, 0, 3] = 5e5  # shifted sideways; every point at the same pixel is infinitely far away
    assert np.isfinite(ransac(P[:2], np.zeros((2, 1, 2))).points_mm).all()
    P[1] = P[0]
    assert np.isfinite(ransac(P, np.zeros((3, 1, 2))).points_mm).all()


def test_cameras_of_each_frame_and_any_batch_shape():
    rng = np.random.default_rng(13)
    P = np.stack([rig(rng, 4) for _ in range(6)])
    X = people(rng, 6)
    points = see(P, X)
    np.testing.assert_allclose(ransac(P, points).points_mm, X, atol=1e-5)
    folded = ransac(P.reshape(2, 3, 4, 3, 4), points.reshape(2, 3, 4, 5, 2))
    np.testing.assert_allclose(folded.points_mm, X.reshape(2, 3, 5, 3), atol=1e-5)
    assert folded.inliers.shape == (2, 3, 4, 5)
    across = ransac(P[:, None], points)  # (6, 1) rigs against 6 frames
    assert across.points_mm.shape == (6, 6, 5, 3)
    for rig_index, frame in np.ndindex(6, 6):
        expected = ransac(P[rig_index], points[frame])
        np.testing.assert_array_equal(across.points_mm[rig_index, frame], expected.points_mm)
        np.testing.assert_array_equal(across.inliers[rig_index, frame], expected.inliers)


def test_where_compiled_code_cannot_be_kept_it_is_compiled_all_the_same(monkeypatch):
    def njit(*, cache=False, **options):
        if cache:
            raise RuntimeError("no locator available")
        return lambda function: ("compiled", function)

    monkeypatch.setattr(compiling, "_njit", njit)
    assert compiling.kept()(abs) == ("compiled", abs)


def test_no_kind_of_array_is_compiled_anew():
    rng = np.random.default_rng(14)
    P, X = rig(rng, 4), people(rng, 3)
    points = see(P, X)
    expected = ransac(P, points)
    frozen = points.copy()
    frozen.setflags(write=False)
    transposed = np.asfortranarray(points)
    for camera in (P, np.broadcast_to(P, (3, 4, 3, 4)), np.tile(P, (3, 1, 1, 1))[::-1]):
        for observed in (frozen, transposed, points[::-1][::-1]):
            np.testing.assert_array_equal(ransac(camera, observed).points_mm, expected.points_mm)
    ransac(P, points, 30, refined=False)
    ransac(P.astype(np.float32), points.astype(np.float32), np.float32(30))
    assert len(consensus.triangulate.signatures) == 1
