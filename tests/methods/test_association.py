from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_triangulation import rig, see, seeds

from poseboard.datasets.shelf import Shelf
from poseboard.methods.geometry.association import associate, epipolar_distance, fundamental
from poseboard.methods.geometry.robust import ransac
from poseboard.methods.geometry.triangulation import dlt, reprojection_error

SHELF = Path(__file__).parents[2] / "../shared/data/shelf"


def crowd(rng, count):
    """(P, 17, 3): people about half a metre wide and 1.7 m tall, at least 0.6 m apart."""
    spots = []
    while len(spots) < count:
        spot = rng.uniform(-1500, 1500, 2)
        if all(np.linalg.norm(spot - other) > 600 for other in spots):
            spots.append(spot)
    offsets = rng.uniform([-250, -250, 0], [250, 250, 1700], (count, 17, 3))
    return offsets + np.column_stack([spots, np.zeros(count)])[:, None]


def detections(rng, P, X, noise_px, missed):
    """Shuffled detections of each view, and (people, V) where each person went, -1 where missed."""
    px = see(P[None], X.reshape(1, -1, 3))[0].reshape(len(P), *X.shape[:2], 2)
    points, confidence, where = [], [], np.full((len(X), len(P)), -1)
    for v in range(len(P)):
        kept = rng.permutation(np.flatnonzero(rng.random(len(X)) >= missed))
        where[kept, v] = np.arange(len(kept))
        points.append(px[v, kept] + rng.normal(0, noise_px, (len(kept), 17, 2)))
        confidence.append(rng.uniform(0.3, 1, (len(kept), 17)))
    return points, confidence, where


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_epipolar_distance_is_zero_for_one_point_and_to_first_order_the_noise(seed):
    rng = np.random.default_rng(seed)
    P = rig(rng, 2)
    X = crowd(rng, 1)[0]
    a, b = see(P[None], X[None])[0]
    assert epipolar_distance(P[0], P[1], a, b).max() < 1e-6
    F = fundamental(P[0], P[1])
    line = np.append(a[0], 1) @ F.T
    slope = np.linalg.norm(line[:2])
    moved = b[0] + 4 * line[:2] / slope
    other_slope = np.linalg.norm((np.append(moved, 1) @ F)[:2])
    off = epipolar_distance(P[0], P[1], a[:1], moved[None])
    # 4 px from the line in one view, spread over both by how fast either pixel leaves its line
    np.testing.assert_allclose(off, 4 * slope / np.hypot(slope, other_slope), rtol=1e-6)
    assert 0 < off[0] <= 4 + 1e-6


def test_epipolar_distances_of_many_pairs_do_not_depend_on_the_scale_of_a_camera():
    rng = np.random.default_rng(3)
    P_a, P_b = (np.stack([rig(rng, 2)[v] for _ in range(5)]) for v in range(2))
    a, b = rng.uniform(0, 1000, (2, 5, 17, 2))
    expected = [epipolar_distance(*pair) for pair in zip(P_a, P_b, a, b, strict=True)]
    np.testing.assert_allclose(epipolar_distance(P_a, P_b, a, b), expected)
    np.testing.assert_allclose(epipolar_distance(1e-4 * P_a, 1e-4 * P_b, a, b), expected)
    a[2, 3], b[2, 4] = np.nan, np.nan
    missing = np.isnan(epipolar_distance(P_a, P_b, a, b))
    assert np.argwhere(missing).tolist() == [[2, 3], [2, 4]]


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 5), st.integers(3, 6))
def test_a_crowd_is_told_apart(seed, people, views):
    rng = np.random.default_rng(seed)
    P = rig(rng, views)
    X = crowd(rng, people)
    points, confidence, where = detections(rng, P, X, noise_px=2, missed=0)
    found = associate(P, points, confidence, threshold_px=15)
    assert {tuple(row) for row in found} == {tuple(row) for row in where}


def test_missed_detections_split_nobody_and_join_nobody():
    rng = np.random.default_rng(0)
    right = total = 0
    for _ in range(20):
        P = rig(rng, 5)
        points, confidence, where = detections(rng, P, crowd(rng, 6), noise_px=3, missed=0.25)
        found = associate(P, points, confidence, threshold_px=15)
        expected = {tuple(row) for row in where if (row >= 0).sum() >= 2}
        right += len(expected & {tuple(row) for row in found})
        total += len(expected)
        assert all((row >= 0).sum() >= 2 for row in found)
        for v in range(5):
            used = found[found[:, v] >= 0, v]
            assert len(set(used)) == len(used)
    assert right / total > 0.97


def test_undetected_joints_are_ignored():
    rng = np.random.default_rng(1)
    P, X = rig(rng, 4), crowd(rng, 3)
    points, confidence, where = detections(rng, P, X, noise_px=1, missed=0)
    for view in points:
        view[:, rng.permutation(17)[:8]] = np.nan
    assert {tuple(row) for row in associate(P, points, confidence, 15)} == {tuple(row) for row in where}


@pytest.mark.parametrize("counts", [(), (0, 0), (1, 0), (3, 0, 0)])
def test_nobody_is_seen_twice(counts):
    views = len(counts)
    points = [np.zeros((count, 17, 2)) for count in counts]
    found = associate(rig(np.random.default_rng(0), max(views, 1))[:views], points, [p[..., 0] for p in points], 15)
    assert found.shape == (0, views)
    assert found.dtype == np.intp


def one_person(views=2):
    rng = np.random.default_rng(5)
    P = rig(rng, views)
    return P, *detections(rng, P, crowd(rng, 1), noise_px=1, missed=0)[:2]


def test_a_person_in_the_first_and_last_of_three_views():
    P, points, confidence = one_person(3)
    points[1], confidence[1] = points[1][:0], confidence[1][:0]
    assert associate(P, points, confidence, 15).tolist() == [[0, -1, 0]]


def test_two_people_in_one_view_each_are_not_one_person():
    rng = np.random.default_rng(6)
    P = rig(rng, 3)
    points, confidence, where = detections(rng, P, crowd(rng, 2), noise_px=1, missed=0)
    for v, kept in enumerate(([0], [1], [])):
        rows = where[kept, v]
        points[v], confidence[v] = points[v][rows], confidence[v][rows]
    assert len(associate(P, points, confidence, 15)) == 0


@pytest.mark.parametrize("scale", [1, 1e-3])
def test_joints_count_by_the_confidences_of_both_views(scale):
    P, points, confidence = one_person()
    points[1][0, :8, 1] += 100  # half of the joints are wrong in one view
    confidence = [np.full((1, 17), float(scale)) for _ in range(2)]
    assert len(associate(P, points, confidence, 10)) == 0
    for of_view in confidence:
        of_view[0, :8] = 0.01 * scale
    assert associate(P, points, confidence, 10).tolist() == [[0, 0]]


def test_missing_joints_do_not_lower_the_cost():
    P, points, confidence = one_person()
    points[1][0, :15] = np.nan
    assert associate(P, points, confidence, 10).tolist() == [[0, 0]]
    points[1][0, 15:, 1] += 60
    assert len(associate(P, points, confidence, 10)) == 0


def test_detections_without_confidence_are_not_associated():
    P, points, confidence = one_person(3)
    confidence[1][:] = 0
    assert associate(P, points, confidence, 15).tolist() == [[0, -1, 0]]


def test_the_linkage_is_the_average():
    # The second camera is to the right of the first and the third below it.
    P = np.stack([np.column_stack([np.eye(3), -np.array(centre)]) for centre in ([0, 0, 0], [1, 0, 0], [0, 1, 0])])
    P = np.diag([1000.0, 1000, 1]) @ P
    X = np.random.default_rng(8).uniform([-1, -1, 4], [1, 1, 6], (17, 3))
    points = [view[None] for view in see(P[None], X[None])[0]]
    # Along the lines of the second view, and so far from those of the first.
    points[2] = points[2] + [100, -99.9]
    distances = [epipolar_distance(P[v], P[2], points[v][0], points[2][0]).mean() for v in (0, 1)]
    assert distances[0] > 30
    assert 0 < distances[1] < 5
    assert associate(P, points, [np.ones((1, 17))] * 3, 15).tolist() == [[0, 0, -1]]


def test_people_in_more_views_come_first():
    rng = np.random.default_rng(7)
    P = rig(rng, 4)
    points, confidence, where = detections(rng, P, crowd(rng, 4), noise_px=1, missed=0)
    for person, absent in ((0, [0, 1]), (1, [2]), (3, [0, 2, 3])):
        for v in absent:
            points[v][where[person, v]] = np.nan
            where[person, v] = -1
    found = associate(P, points, confidence, 15)
    assert found.tolist() == [where[person].tolist() for person in (2, 1, 0)]


@pytest.mark.skipif(not SHELF.exists(), reason="no sample of Shelf beside the repository")
def test_real_detections_on_shelf():
    shelf = Shelf(SHELF)
    seen_by_four = 0
    for key in shelf.keys("test"):
        views = shelf.sample(key).views
        P = np.stack([view.camera.P for view in views])
        px = [view.camera.undistort(view.joints_px) for view in views]
        people = associate(P, px, [view.confidence for view in views], 15)
        assert len(people) in {3, 4}
        points = np.full((len(people), 5, 17, 2), np.nan)
        for person, row in enumerate(people):
            for v in np.flatnonzero(row >= 0):
                points[person, v] = px[v][row[v]]
        linear = reprojection_error(P, dlt(P, points), points)
        robust = ransac(P, points)
        assert np.nanmedian(linear) < 8
        assert np.nanmedian(reprojection_error(P, robust.points_mm, points)) < 6
        whole = (people >= 0).sum(axis=1) >= 4
        seen_by_four += whole.sum()
        upright = robust.points_mm[whole]
        assert ((upright[:, 0, 2] > 1300) & (upright[:, 0, 2] < 1700)).all()  # noses
        assert (np.abs(upright[:, 15:, 2]) < 150).all()  # ankles
    assert seen_by_four >= 6
