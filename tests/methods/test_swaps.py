"""Left and right are swapped back in the views where that makes all views agree."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import cameras, given_sample

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.geometry.robust import ransac
from poseboard.methods.geometry.swaps import _misfit, _sets, without_swaps
from poseboard.methods.ransac.method import Ransac

FLIP = HUMAN36M.flip_order
MIDDLE = {"pelvis": (0, 0, 900), "spine": (0, 0, 1150), "thorax": (0, 0, 1400), "nose": (0, 80, 1520)}
LEFT = {
    "hip": (130, 0, 900), "knee": (140, 60, 480), "ankle": (150, 0, 80),
    "shoulder": (170, 0, 1400), "elbow": (240, 40, 1130), "wrist": (260, 200, 950),
}  # fmt: skip


def people(rng, count):
    """Standing people (N, 17, 3) that face anywhere."""
    sides = {
        f"{side}_{name}": (s * x, y, z) for s, side in ((1, "left"), (-1, "right")) for name, (x, y, z) in LEFT.items()
    }
    named = {**MIDDLE, "head_top": (0, 0, 1650), **sides}
    body = np.array([named[joint] for joint in HUMAN36M.joints]) + rng.normal(0, 60, (count, 17, 3))
    angle = rng.uniform(0, 2 * np.pi, count)
    turn = np.zeros((count, 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 1, 0], turn[:, 0, 1], turn[:, 2, 2] = np.sin(angle), -np.sin(angle), 1
    return body @ turn.transpose(0, 2, 1)


def seen(rng, X, views, swapped, noise_px=4.0, outliers=0.0):
    """P, points (N, V, 17, 2) with so many swapped views each, and which those are."""
    rig = cameras(views)
    px = np.stack([camera.project(X) for camera in rig], axis=1)
    px += rng.normal(0, noise_px, px.shape)
    wrong = rng.random(px.shape[:-1]) < outliers
    px[wrong] += rng.normal(0, 60, (wrong.sum(), 2))
    which = np.argsort(rng.random((len(X), views)), axis=1) < swapped
    px = np.where(which[..., None, None], px[:, :, FLIP], px)
    return np.broadcast_to(np.stack([camera.P for camera in rig]), (len(X), views, 3, 4)), px, which


def solve(P, px, threshold_px=60.0):
    def robust(P, px):
        return ransac(P, px, threshold_px).points_mm

    return robust(P, px), *without_swaps(robust, P, px, FLIP, threshold_px)


def error(X, true):
    return float(np.linalg.norm(X - true, axis=-1).mean())


def test_one_swapped_view_of_four_costs_ransac_twice_the_error():
    """As detectors are: noise, and one detection of ten somewhere else."""
    rng = np.random.default_rng(0)
    X = people(rng, 60)
    P, px, which = seen(rng, X, 4, swapped=1, outliers=0.1)
    plain, found, swapped = solve(P, px)
    np.testing.assert_array_equal(swapped, which)
    assert error(found, X) <= error(plain, X) / 2


@pytest.mark.parametrize(("views", "count"), [(3, 1), (5, 2), (8, 1), (8, 3)])
def test_the_swapped_views_are_found(views, count):
    rng = np.random.default_rng(views + count)
    X = people(rng, 8)
    P, px, which = seen(rng, X, views, count)
    plain, found, swapped = solve(P, px, 30.0)
    np.testing.assert_array_equal(swapped, which)
    assert error(found, X) < error(plain, X)


def test_what_is_not_swapped_stays_as_it_is():
    rng = np.random.default_rng(1)
    P, px, _ = seen(rng, people(rng, 8), 4, swapped=0)
    px[0, 2] = np.nan
    px[1, :, 4] = np.nan
    plain, found, swapped = solve(P, px)
    assert not swapped.any()
    np.testing.assert_allclose(found, plain, atol=1e-9)
    assert np.isnan(found[1, 4]).all()


SIDED = [joint for joint, mirrored in enumerate(FLIP) if joint != mirrored]


@pytest.mark.parametrize("views", [4, 8])
def test_a_view_that_shows_no_sides_is_not_swapped(views):
    rng = np.random.default_rng(3)
    P, px, which = seen(rng, people(rng, 12), views, swapped=1)
    for person, swapped in enumerate(which):
        px[person, (swapped.argmax() + 1) % views, SIDED] = np.nan
        px[person, (swapped.argmax() + 2) % views, [0, 7, 8]] += 90  # costs more than a swap
    _, _, swapped = solve(P, px, 30.0)
    assert swapped.dtype == bool
    np.testing.assert_array_equal(swapped, which)


@pytest.mark.parametrize(("views", "swapped", "fewest", "most"), [(5, 2, 16, 16), (8, 2, 2, 6)])
def test_few_views_are_tried_in_all_sets_and_many_by_descent(views, swapped, fewest, most):
    rng = np.random.default_rng(4)
    P, px, _ = seen(rng, people(rng, 4), views, swapped, outliers=0.3)
    calls = []

    def robust(P, px):
        calls.append(len(P))
        return ransac(P, px, 30.0).points_mm

    without_swaps(robust, P, px, FLIP, 30.0)
    assert fewest <= len(calls) <= most


@pytest.mark.parametrize(("views", "swapped", "expected"), [(8, 3, 3), (8, 4, 4), (8, 5, 0)])
def test_at_most_half_of_many_views_are_swapped(views, swapped, expected):
    rng = np.random.default_rng(5)
    X = people(rng, 3)
    P, px, which = seen(rng, X, views, swapped)
    _, found = without_swaps(lambda P, px: X[: len(P)], P, px, FLIP, 30.0)
    np.testing.assert_array_equal(found, which & (expected > 0))


def test_sets_of_at_most_half_of_the_views_and_one_of_complementary_halves():
    assert _sets(1) == []
    assert _sets(2) == [(1,)]
    assert _sets(3) == [(0,), (1,), (2,)]
    assert _sets(4) == [(0,), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3)]
    assert len(_sets(5)) == 15


def test_the_misfit_of_a_joint_grows_quadratically_up_to_1():
    P, X = np.eye(3, 4)[None, None], np.array([[[0.0, 0, 1]] * 4])
    px = np.array([[[[3.0, 0], [0, 5], [100, 0], [np.nan, 0]]]])
    assert _misfit(P, X, px, 10.0) == pytest.approx(np.array([[0.09 + 0.25 + 1]]))


def test_the_row_answers_with_the_swap_undone():
    rng = np.random.default_rng(2)
    (X,) = people(rng, 1)
    whole = given_sample([X], views=4, shift_px=rng.normal(0, 4, (4, 1, 17, 2)))
    views = [replace(view, joints_px=view.joints_px[:, FLIP]) if view.name == "c1" else view for view in whole.views]
    sample = replace(whole, views=tuple(views))
    plain, swaps = (Ransac({"swaps": flag}, HUMAN36M).predict([sample])[0].joints_mm[0] for flag in (False, True))
    (unswapped,) = Ransac({}, HUMAN36M).predict([whole])
    np.testing.assert_allclose(swaps, unswapped.joints_mm[0], atol=1e-6)
    assert np.abs(plain - swaps).max() > 1
    with pytest.raises(InputError, match="swaps"):
        Ransac({"swaps": True, "compat": True}, HUMAN36M)
