import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from test_triangulation import people, rig, see, seeds

from poseboard.methods.geometry.robust import ransac, ransac_published
from poseboard.methods.geometry.triangulation import dlt, reprojection_error


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


def test_the_refinement_reaches_the_minimum_that_scipy_finds():
    rng = np.random.default_rng(4)
    P, X = rig(rng, 5), people(rng, 4)
    points = see(P, X) + rng.normal(0, 4, (4, 5, 5, 2))
    found = ransac(P, points, threshold_px=30)
    for f, j in np.ndindex(4, 5):
        views = found.inliers[f, :, j]

        def scaled(x, f=f, j=j, views=views):
            # scipy's loss turns linear at 1, ours at a fifth of the threshold
            return reprojection_error(P[views], x[None], points[f][views, j : j + 1])[:, 0] / (30 / 5)

        def cost(x, scaled=scaled):
            z = scaled(x) ** 2
            return np.where(z <= 1, z, 2 * np.sqrt(z) - 1).sum()

        best = least_squares(scaled, found.points_mm[f, j], loss="huber", xtol=1e-12, ftol=1e-12).x
        assert cost(found.points_mm[f, j]) <= cost(best) + 1e-6


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
