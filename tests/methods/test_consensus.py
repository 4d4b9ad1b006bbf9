"""Compiled loops of robust triangulation against plain references, in scenes for which Python is fast enough."""

import numpy as np
import pytest
import torch
from ransac_reference import HUBER_SHARE, huber_cost, plain_consensus, plain_search, project, solve
from test_robust import with_outliers
from test_triangulation import people, rig, see

from poseboard.methods.geometry import consensus, robust
from poseboard.methods.geometry.robust import ransac
from poseboard.methods.geometry.triangulation import dlt


def scene(seed, views, noise_px, outliers=1, joints=5):
    """Cameras and the pixels of two frames; a twentieth of them is missing."""
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 2, joints)
    points, _ = with_outliers(rng, see(P, X) + rng.normal(0, noise_px, (2, views, joints, 2)), outliers)
    points[rng.random(points.shape[:-1]) < 0.05] = np.nan
    return P, points


@pytest.mark.parametrize(
    ("views", "noise_px", "outliers"),
    [(3, 1.0, 1), (3, 9.0, 1), (4, 1.0, 1), (4, 9.0, 1), (6, 1.0, 1), (6, 9.0, 1), (6, 2.5, 0), (8, 2.0, 0)],
)
def test_the_best_pair_and_the_views_that_agree_with_it(views, noise_px, outliers):
    P, points = scene(views, views, noise_px, outliers)
    found = ransac(P, points, 5.0, refined=False)
    for f, j in np.ndindex(2, 5):
        expected = plain_consensus(P, points[f, :, j], 5.0)
        if expected is None:
            assert np.isnan(found.points_mm[f, j]).all()
            assert not found.inliers[f, :, j].any()
            continue
        np.testing.assert_array_equal(np.flatnonzero(found.inliers[f, :, j]), expected[1])
        np.testing.assert_allclose(found.points_mm[f, j], expected[0], rtol=1e-6, atol=1e-4)


def fill(P, points, order, threshold_px, steps=0, of=None):
    """Points (F J, 3) and inliers (F, V, J) with views drawn in the order (V, J), of a range of points or all."""
    frames, views, joints = points.shape[:3]
    X, inliers = np.full((frames * joints, 3), np.nan), np.zeros((frames, views, joints), dtype=bool)
    consensus.triangulate(
        P.reshape(-1, views, 12), points, order, robust._SCHEDULE, threshold_px, HUBER_SHARE * threshold_px, steps,
        robust.DAMPING, *(of or (0, len(X))), X, inliers, consensus.Scratch.of(views, robust.EXHAUSTIVE_VIEWS),
    )  # fmt: skip
    return X, inliers


@pytest.mark.parametrize(
    ("views", "noise_px", "outliers"),
    [(13, 1.0, 2), (14, 2.0, 7), (16, 2.0, 12), (20, 2.5, 3), (14, 4.0, 0), (14, 3.0, 0), (15, 9.0, 4), (12, 4.0, 0)],
)
def test_pairs_of_drawn_views_until_the_best_is_sure(views, noise_px, outliers):
    P, points = scene(views, views, noise_px, outliers, joints=6)
    order = np.random.default_rng(views).random((views, 6)).argsort(axis=0)
    X, inliers = fill(P, points, order, 5.0)
    for f, j in np.ndindex(2, 6):
        if np.isfinite(points[f, :, j, 0]).sum() <= 12:
            expected = plain_consensus(P, points[f, :, j], 5.0)[1]
        else:
            expected = plain_search(P, points[f, :, j], order[:, j], robust._SCHEDULE, 5.0, consensus.LANES)
        np.testing.assert_array_equal(np.flatnonzero(inliers[f, :, j]), expected)
        np.testing.assert_allclose(X[6 * f + j], solve(P, points[f, :, j], expected), rtol=1e-6, atol=1e-4)


def test_a_range_of_points_is_filled():
    P, points = scene(7, 4, 1.0)
    points[0, 1:, 2] = np.nan
    P = np.stack([P, P[::-1]])
    order = np.zeros((4, 5), dtype=np.int64)
    X, inliers = fill(P, points, order, 5.0, steps=3)
    assert np.nanmax(np.abs(fill(P, points, order, 5.0, steps=1)[0] - fill(P, points, order, 5.0)[0])) > 0
    assert np.isnan(X[:, 0]).tolist() == [False] * 2 + [True] + [False] * 7
    for start, stop in ((0, 3), (6, 9)):
        part, part_inliers = fill(P, points, order, 5.0, steps=3, of=(start, stop))
        within = (np.arange(10) >= start) & (np.arange(10) < stop)
        np.testing.assert_array_equal(part, np.where(within[:, None], X, np.nan))
        for k, (f, j) in enumerate(np.ndindex(2, 5)):
            assert np.array_equal(part_inliers[f, :, j], inliers[f, :, j] & within[k])


@pytest.mark.parametrize("views", [2, 3, 4, 6])
@pytest.mark.parametrize("noise_px", [0.5, 6.0])
def test_refined_points_minimise_the_huber_loss(views, noise_px):
    P, points = scene(views + 10, views, noise_px, outliers=0)
    start, found = ransac(P, points, 20.0, refined=False), ransac(P, points, 20.0)
    np.testing.assert_array_equal(found.inliers, start.inliers)
    for f, j in np.ndindex(2, 5):
        inliers = np.flatnonzero(found.inliers[f, :, j])
        if len(inliers) < 2:
            continue

        def cost(X, inliers=inliers, f=f, j=j):
            return huber_cost(P[inliers], points[f, inliers, j], X, HUBER_SHARE * 20.0)

        X, best = found.points_mm[f, j], cost(found.points_mm[f, j])
        assert best <= cost(start.points_mm[f, j])
        for step in 0.02 * np.eye(3):
            change = cost(X + step) - cost(X - step), cost(X + step) + cost(X - step) - 2 * best
            assert abs(change[0]) < 0.02 * change[1] + 1e-12


@pytest.mark.parametrize("behind", [0, 1])
def test_a_view_behind_which_the_point_lies_does_not_pull(behind):
    rng = np.random.default_rng(5)
    P, X = rig(rng, 2), people(rng, 1)
    points = see(P, X) + rng.normal(0, 40, (1, 2, 5, 2))
    P[behind] *= -1  # the same pixels, with every depth negative
    front = slice(1 - behind, 2 - behind)
    start, found = ransac(P, points, refined=False), ransac(P, points)
    for j in range(5):
        before, after = (
            np.linalg.norm(project(P[front], of.points_mm[0, j])[0] - points[0, front, j]) for of in (start, found)
        )
        assert before > 0.1
        assert after < 0.02  # px; the cost of the other view hides smaller ones


def test_the_refinement_of_a_point_near_a_camera_stays_in_front_of_it():
    stayed = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        P = rig(rng, 3)
        aside, depth = rng.normal(0, 20, 2), rng.uniform(5, 60)  # mm
        near = np.linalg.solve(P[0, :, :3], [*(1144 * aside + 513 * depth), depth] - P[0, :, 3])
        points = see(P, near[None, None]) + rng.normal(0, 100, (1, 3, 1, 2))
        start, found = (ransac(P, points, 1e5, refined=refined) for refined in (False, True))
        views = found.inliers[0, :, 0]
        if (project(P[views], start.points_mm[0, 0])[1] > 0).all():
            assert (project(P[views], found.points_mm[0, 0])[1] > 0).all()
            stayed += 1
    assert stayed >= 5


def test_a_refinement_that_starts_far_away():
    """A starting point of two rays that almost meet at infinity, which the linear part of the loss pulls back."""
    rng = np.random.default_rng(3)
    P, X = rig(rng, 5), people(rng, 1, 6)
    points = see(P, X) + rng.normal(0, 1, (1, 5, 6, 2))
    points[:, 1] += 400.0
    found = ransac(P, points, 5000.0)
    for j in range(6):

        def cost(X, j=j):
            return huber_cost(P, points[0, :, j], X, HUBER_SHARE * 5000.0)

        best = cost(found.points_mm[0, j])
        assert best <= min(cost(found.points_mm[0, j] + step) for step in 0.1 * np.concatenate([np.eye(3), -np.eye(3)]))


@pytest.mark.parametrize("scale", [1e-25, 1, 1e25])
def test_the_scale_of_cameras_is_arbitrary(scale):
    P, points = scene(0, 4, 1.0)
    expected, found = ransac(P, points), ransac(scale * P, points)
    np.testing.assert_allclose(found.points_mm, expected.points_mm, atol=1e-4)
    np.testing.assert_array_equal(found.inliers, expected.inliers)


def test_singular_systems_are_damped_as_in_the_triangulation():
    P = np.stack([np.eye(3, 4) * [[1000], [1000], [1]]] * 2)
    P[1, 0, 3] = 5e5
    same_ray = np.stack([P[0], P[0]])
    tiny = 1e-60 * P
    flat = np.zeros((2, 3, 4))
    flat[:, :, 3] = [[1, 2, 3], [2, 1, 5]]
    for cameras in (P, same_ray, same_ray[..., [2, 0, 1, 3]], same_ray[..., [1, 2, 0, 3]], tiny, flat):
        points = np.array([[[0.0, 0]], [[0.0, 0]]]) + 0.5
        found = ransac(cameras, points, refined=False).points_mm
        expected = dlt(torch.tensor(cameras), torch.tensor(points), homogeneous=False).numpy()
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_cameras_and_observations_that_cannot_be_used_are_absent():
    P, points = scene(1, 5, 1.0, outliers=0)
    points = np.nan_to_num(points, nan=300.0)
    expected = ransac(P[1:], points[:, 1:])
    spoiled = []
    for row, column in np.ndindex(3, 4):
        one = P.copy()
        one[0, row, column] = np.nan if row else np.inf
        spoiled.append((one, points))
    one = P.copy()
    one[0, 2] = 0
    spoiled.append((one, points))
    for coordinate in range(2):
        pixels = points.copy()
        pixels[:, 0, :, coordinate] = np.nan
        spoiled.append((P, pixels))
    for cameras, observed in spoiled:
        found = ransac(cameras, observed)
        assert not found.inliers[:, 0].any()
        np.testing.assert_array_equal(found.inliers[:, 1:], expected.inliers)
        np.testing.assert_array_equal(found.points_mm, expected.points_mm)
        two = ransac(cameras[:2], observed[:, :2])
        assert np.isnan(two.points_mm).all()
        assert not two.inliers.any()
    for column in range(4):  # a last row with one entry is a camera
        one = P.copy()
        one[0, 2] = np.eye(4)[column]
        assert ransac(one[:2], points[:, :2], refined=False).inliers.all()


def test_each_frame_has_its_cameras():
    P, points = scene(2, 4, 1.0)
    cameras = np.stack([P, P[::-1].copy()])
    cameras[0, 2] = 0
    found = ransac(cameras, points)
    for f in range(2):
        one = ransac(cameras[f], points[f])
        np.testing.assert_array_equal(found.points_mm[f], one.points_mm)
        np.testing.assert_array_equal(found.inliers[f], one.inliers)


def test_views_behind_which_the_point_lies_do_not_agree():
    P, points = scene(4, 4, 0.5, outliers=0)
    points = np.nan_to_num(points, nan=300.0)
    P[1] *= -1
    found = ransac(P, points, 1e4)
    assert not found.inliers[:, 1].any()
    for f, j in np.ndindex(2, 5):
        inliers = np.flatnonzero(found.inliers[f, :, j])
        assert (project(P[inliers], found.points_mm[f, j])[1] > 0).all()
