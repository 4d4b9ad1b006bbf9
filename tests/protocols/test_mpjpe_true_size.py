"""Lifted poses at the true size: scale, root, limit, and which predictions are judged."""

from dataclasses import replace

import numpy as np
import pytest
from predicted import answered, seen_by

from poseboard.datasets.errors import InputError
from poseboard.datasets.rhd import RHD_HAND
from poseboard.protocols.mpjpe_true_size import MpjpeTrueSize
from poseboard.protocols.scoring import score

SIZE = ("middle_base", "middle_lower")
UNIT_MM = 31.0


@pytest.fixture
def truth(make_truth):
    table = make_truth(skeleton=RHD_HAND)
    turns = np.broadcast_to(np.diag([1.0, -1.0, -1.0]), (len(table), len(table.views), 3, 3))
    return replace(table, seen_by=seen_by(turns))


@pytest.fixture
def lifted(truth, make_predictions):
    """The truth in one camera's frame, every pose scaled to have the size UNIT_MM, with ``more`` units added."""

    def make(more=0.0, **info):
        about_root = (truth.joints_mm - truth.joints_mm[:, [0]]) * (1.0, -1.0, -1.0)
        first, second = (truth.joints_mm[:, RHD_HAND.joints.index(name)] for name in SIZE)
        size_mm = np.linalg.norm(first - second, axis=-1)
        made = make_predictions(
            truth,
            UNIT_MM * (about_root / size_mm[:, None, None] + more),
            cameras=truth.views[:1],
            **{"size_mm": UNIT_MM, **info},
        )
        return replace(made, frame=np.array([truth.views[0]] * len(made), dtype=object)), size_mm

    return make


@pytest.fixture
def judge(truth, make_table):
    def run(pred, of=None, **parameters):
        table = make_table("mpjpe_true_size", groups=[{"each": True}], size=SIZE, **parameters)
        return score(table, answered(pred), of or truth, resamples=50)

    return run


def test_only_the_size_may_be_wrong(judge, lifted):
    table, _ = lifted()
    (found,) = judge(table).scores
    assert found.value == pytest.approx(0, abs=1e-3)
    assert (found.signature.given, found.signature.root, found.n_missing) == (("size",), "palm", 0)
    assert "true root and size" in found.signature.alignment
    twice = replace(table, joints_mm=2 * table.joints_mm, columns={"size_mm": 2 * table.column("size_mm")})
    assert judge(twice).scores[0].value == pytest.approx(0, abs=1e-3)


def test_what_is_off_counts_in_true_millimetres_up_to_the_limit(judge, lifted):
    more = np.zeros((len(RHD_HAND), 3))
    more[3, 0] = 0.01
    table, size_mm = lifted(more)
    assert judge(table).scores[0].value == pytest.approx(0.01 * size_mm.mean() / 21, rel=1e-4)
    table, _ = lifted(100 * more)
    assert judge(table, limit_mm=40).scores[0].value == pytest.approx(40 / 21, rel=1e-4)
    # a root that is not at 0 is an error, of every joint here
    table, _ = lifted(0.01)
    assert judge(table).scores[0].value == pytest.approx(0.01 * np.sqrt(3) * size_mm.mean(), rel=1e-4)


def test_what_is_missing_or_has_no_size(judge, lifted, truth):
    table, _ = lifted()
    table.joints_mm[2, 5] = np.nan
    (found,) = judge(table).scores
    assert (found.n_samples, found.n_missing) == (len(truth), 1)
    flat = truth.joints_mm.copy()
    flat[4, RHD_HAND.joints.index(SIZE[0])] = flat[4, RHD_HAND.joints.index(SIZE[1])]
    flat[6, RHD_HAND.joints.index(SIZE[0])] = np.nan
    assert judge(table, of=replace(truth, joints_mm=flat)).scores[0].n_samples == len(truth) - 2


def test_predictions_of_their_own_size_have_no_score(judge, lifted, truth):
    table, _ = lifted(size_mm=None)
    with pytest.raises(ValueError, match="no predictions"):
        judge(table)
    with pytest.raises(InputError, match=r"size_mm: column is absent"):
        MpjpeTrueSize(size=SIZE).errors(table, truth)


def test_a_size_between_joints_there_are_not(lifted, truth, make_table):
    pred, _ = lifted()
    table = make_table("mpjpe_true_size", size=("thorax", "pelvis"))
    with pytest.raises(InputError, match="size: 'thorax' is not a joint of rhd-21"):
        table.rule().errors(pred, truth)
    with pytest.raises(InputError, match="size needs 'middle_lower' among the joints"):
        make_table("mpjpe_true_size", size=SIZE, joints=("palm", "middle_base")).rule()
