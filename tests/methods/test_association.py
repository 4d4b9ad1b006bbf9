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
