"""Poses of one camera, judged about the root in that camera's frame."""

from dataclasses import replace

import numpy as np
import pytest
from predicted import answered, rows_of, seen_by
from scipy.spatial.transform import Rotation

from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import CAMERAS
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols.scoring import score

ROOT = HUMAN36M.root_index


@pytest.fixture
def truth(make_truth):
    """The small truth table, every row seen by four cameras of its own."""
    table = make_truth()
    turns = Rotation.random(len(table) * len(CAMERAS), random_state=3).as_matrix()
    return replace(table, seen_by=seen_by(turns.reshape(len(table), len(CAMERAS), 3, 3)))


@pytest.fixture
def of_camera(truth, make_predictions):
    """The truth as camera ``v`` sees it, about its root, with ``more`` added, said to be in ``frame``."""

    def make(v, frame=None, more=0.0, about_root=True, **info):
        joints = truth.joints_mm - truth.joints_mm[:, [ROOT]] if about_root else truth.joints_mm
        turns = truth.rotations(CAMERAS[v], np.arange(len(truth)))
        turned = np.einsum("nij,nkj->nki", turns, joints) + more
        made = make_predictions(truth, turned, cameras=(CAMERAS[v],), **info)
        return replace(made, frame=np.array([frame or CAMERAS[v]] * len(made), dtype=object))

    return make


@pytest.fixture
def judge(truth, make_table):
    def run(*tables, of=None, **fields):
        table = make_table("mpjpe_root_camera", groups=[{"each": True}], **fields)
        return score(table, answered(*tables), of or truth, resamples=100).scores

    return run


def test_the_oracle_of_each_camera_is_perfect(judge, of_camera):
    (found,) = judge(*(of_camera(v) for v in range(len(CAMERAS))))
    assert found.value == pytest.approx(0, abs=1e-3)
    assert (found.n_samples, found.n_missing) == (4 * 34, 0)
    assert found.title == "A table"
    assert not found.curves
    assert found.signature.cameras == tuple((name,) for name in CAMERAS)
    assert found.signature.views == "each alone"
    assert "camera" in found.signature.alignment
    assert found.signature.root == "pelvis"


def test_the_number_is_over_all_cameras_and_says_so(judge, of_camera):
    assert judge(of_camera(1, about_root=False, more=500.0))[0].value == pytest.approx(0, abs=1e-3), "about the root"
    more = np.zeros((len(HUMAN36M), 3))
    more[3] = (0.0, 3.0, 4.0)
    (found,) = judge(*(of_camera(v, more=more * v) for v in range(len(CAMERAS))))
    error = 5 / len(HUMAN36M)
    assert found.value == pytest.approx(1.5 * error, abs=1e-3)
    assert found.breakdown["camera"] == pytest.approx({CAMERAS[v]: v * error for v in range(4)}, abs=1e-3)
    assert found.breakdown["joint"]["left_hip"] == pytest.approx(7.5, abs=1e-3)
    # of some cameras: another signature, since it is another number
    (some,) = judge(of_camera(2, more=more), of_camera(3, more=more))
    assert some.signature.views == f"each of {CAMERAS[2]} / {CAMERAS[3]}"
    (one,) = judge(of_camera(2, more=more))
    assert one.signature.views == CAMERAS[2]
    assert one.value == pytest.approx(error, abs=1e-3)


def test_cameras_of_different_seeds_are_not_pooled(of_camera, truth, make_table):
    tables = answered(*(of_camera(v, seed=v) for v in range(2)))
    with pytest.raises(InputError, match="other seeds"):
        score(make_table("mpjpe_root_camera", groups=[{"each": True}]), tables, truth, resamples=50)


def test_where_a_root_came_from_is_part_of_the_number(of_camera, truth, make_table):
    """Handed a root from all cameras, a method is scored in no table that means one camera and nothing else."""
    strict = make_table("mpjpe_root_camera", groups=[{"each": True}])
    lenient = make_table("mpjpe_root_camera", groups=[{"each": True, "roots": "all"}])
    rooted = of_camera(0, root="predicted", root_cameras=CAMERAS)
    with pytest.raises(ValueError, match="no predictions"):
        score(strict, answered(rooted), truth, resamples=50)
    (found,) = score(lenient, answered(rooted), truth, resamples=50).scores
    assert found.signature.root_cameras == CAMERAS
    assert found.signature.views == f"{CAMERAS[0]}; root from all"
    # one that was handed no root stands in both, one handed a root from what it sees only where that is meant
    bare, own = of_camera(0), of_camera(0, root="predicted", root_cameras=(CAMERAS[0],))
    for pred, tables in ((bare, (strict, lenient)), (own, (strict,))):
        for table in tables:
            assert score(table, answered(pred), truth, resamples=50).scores
    with pytest.raises(ValueError, match="no predictions"):
        score(lenient, answered(own), truth, resamples=50)


def test_a_pose_in_another_frame_than_it_says_is_wrong(judge, of_camera, truth, make_predictions):
    world = make_predictions(truth, cameras=(CAMERAS[0],))
    assert judge(world)[0].value == pytest.approx(0, abs=1e-3)  # it says so
    claimed = replace(world, frame=np.array([CAMERAS[0]] * len(world), dtype=object))
    assert judge(claimed)[0].value > 100
    seen = of_camera(0)
    turned = replace(seen, frame=np.array(["world"] * len(seen), dtype=object))
    assert judge(turned)[0].value > 100


def test_order_and_gaps_of_the_answers(judge, of_camera):
    whole = of_camera(2)
    order = np.random.default_rng(0).permutation(len(whole))[5:]
    found = judge(rows_of(whole, order))[0]
    assert found.value == pytest.approx(0, abs=1e-3)
    assert (found.n_samples, found.n_missing) == (34, 5)


def test_exclusions_keep_rows_and_cameras_together(judge, of_camera):
    found = judge(of_camera(3), exclude=["S9/Walking-1", "S11/Sitting-1"], every=2)[0]
    assert found.value == pytest.approx(0, abs=1e-3)
    assert found.n_samples == 12


def test_the_frame_of_a_camera_that_was_not_handed_over_is_refused(judge, of_camera, truth):
    with pytest.raises(InputError, match=rf"34 records are in the frame of '{CAMERAS[1]}'.*input camera: {CAMERAS[0]}"):
        judge(of_camera(0, frame=CAMERAS[1]))
    with pytest.raises(InputError, match="in the frame of 'view-0'"):
        judge(of_camera(0, frame="view-0"))
    with pytest.raises(InputError, match="in the frame of"):
        judge(of_camera(0), of=replace(truth, seen_by=None))


def test_a_camera_that_does_not_see_the_sample_is_refused(judge, of_camera, truth):
    table = of_camera(0)
    place = truth.seen_by.place.copy()
    place[4, 0] = -1
    with pytest.raises(InputError, match=rf"1 records .* does not see their sample, first '{truth.keys[4]}'"):
        judge(table, of=replace(truth, seen_by=replace(truth.seen_by, place=place)))
