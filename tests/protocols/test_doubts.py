"""Doubts about predictions: wrong units and simple mistakes are named, honest predictions are not doubted."""

from dataclasses import replace

import numpy as np
import pytest

from poseboard.datasets.camera import Camera
from poseboard.datasets.skeleton import HUMAN36M, ROOT
from poseboard.protocols.base import TruthTable
from poseboard.protocols.doubts import doubt
from poseboard.protocols.views import SeenBy

BODY = np.array(
    [
        *([-110, -20, 80], [-105, 20, 500], [-100, 0, 920], [100, 0, 920], [105, 20, 500], [110, -20, 80]),
        *([0, 0, 930], [0, 0, 1180], [0, 0, 1440], [0, 0, 1720]),
        *([-240, 60, 920], [-220, -20, 1160], [-170, 0, 1430], [170, 0, 1430], [220, -20, 1160], [240, 60, 920]),
        [0, 90, 1560],
    ]
)
"""A standing person in the order of `HUMAN36M`."""
UP = np.array([0.0, 0, 3000])
R = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
CAMERA = Camera(np.diag([1000.0, 1000, 1]), R, np.array([0.0, 1000, 4000]), size=(1000, 1000))


@pytest.fixture
def truth(make_truth) -> TruthTable:
    """People who stand anywhere, turned by up to a right angle, before four cameras that are one."""
    table = make_truth()
    rng = np.random.default_rng(3)
    angle = rng.uniform(-np.pi / 4, np.pi / 4, len(table))
    c, s, o, i = np.cos(angle), np.sin(angle), np.zeros(len(table)), np.ones(len(table))
    turn = np.stack([np.stack([c, -s, o], -1), np.stack([s, c, o], -1), np.stack([o, o, i], -1)], 1)
    poses = (BODY + rng.normal(0, 30, (len(table), 17, 3))) @ turn.swapaxes(1, 2)
    poses += rng.uniform((-1500, -1500, 0), (1500, 1500, 0), (len(table), 1, 3))
    seen_by = SeenBy.collect([[CAMERA] * 4] * len(table), 4)
    return replace(table, joints_mm=poses, seen_by=seen_by)


@pytest.fixture
def noisy(truth: TruthTable) -> np.ndarray:
    return truth.joints_mm + np.random.default_rng(1).normal(0, 15, truth.joints_mm.shape)


SWAPPED = HUMAN36M.flip_order
MISTAKES = {
    "the joints are reversed": lambda poses: poses[:, ::-1],
    "left and right are swapped": lambda poses: poses[:, SWAPPED],
    "x is negated": lambda poses: poses * (-1, 1, 1),
    "y is negated and left and right are swapped": lambda poses: poses[:, SWAPPED] * (1, -1, 1),
    "y and z are negated": lambda poses: poses * (1, -1, -1),
    "y and z are swapped": lambda poses: poses[..., [0, 2, 1]],
    "the axes are x, -z, y": lambda poses: poses[..., [0, 2, 1]] * (1, 1, -1),
}
"""What undoes a mistake -> the mistake."""


@pytest.mark.parametrize("in_camera", [False, True])
@pytest.mark.parametrize("undone", MISTAKES)
def test_a_mistake_is_named_with_what_undoes_it(truth, noisy, make_predictions, undone: str, in_camera: bool) -> None:
    poses = CAMERA.to_camera(noisy) if in_camera else noisy
    poses = poses - in_camera * poses[:, [HUMAN36M.root_index]]
    pred = make_predictions(truth, MISTAKES[undone](poses))
    told = doubt(replace(pred, frame=np.full(len(pred), truth.views[1] if in_camera else "world", dtype=object)), truth)
    assert told is not None
    assert ("about the root" in told) == in_camera
    assert "joints_mm: your error" in told
    assert in_camera or " to 24 mm if " in told
    assert told.endswith(f"if {undone}")


def test_honest_predictions_are_not_doubted(truth, noisy, make_predictions) -> None:
    rng = np.random.default_rng(2)
    mean = np.broadcast_to(BODY - BODY[6] + truth.joints_mm[:, 6].mean(axis=0), noisy.shape)
    honest = {
        "right": noisy,
        "poor": truth.joints_mm + rng.normal(0, 150, noisy.shape),
        "far off": truth.joints_mm + rng.normal(0, 800, (len(noisy), 1, 3)),
        "the mean pose": mean,
        "left and right mixed up in half": np.where(rng.random((len(noisy), 1, 1)) < 0.5, noisy, noisy[:, SWAPPED]),
        "at the origin": noisy - noisy[:, [6]],
        "anything": rng.uniform(-1000, 1000, noisy.shape),
        "nothing": np.full(noisy.shape, np.nan),
    }
    for name, poses in honest.items():
        assert doubt(make_predictions(truth, poses), truth) is None, name


def test_a_unit_is_doubted_before_all_else(truth, noisy, make_predictions) -> None:
    for factor, hint in ((1e-3, "metres: multiply them by 1000"), (0.1, "centimetres"), (1e-6, "check the unit")):
        told = doubt(make_predictions(truth, factor * noisy), truth)
        assert told is not None
        assert "the median pose is" in told
        assert hint in told


def test_hands_are_as_large_as_hands(truth, noisy, make_predictions) -> None:
    hands = replace(truth, joints_mm=0.1 * truth.joints_mm)
    assert doubt(make_predictions(hands, 0.1 * noisy), hands) is None
    told = doubt(make_predictions(hands, 1e-4 * noisy), hands)
    assert told is not None
    assert "metres: multiply them by 1000" in told


@pytest.mark.parametrize("frame", ["world", "54138969"])
def test_roots_have_no_height_but_a_distance(truth, noisy, make_predictions, frame: str) -> None:
    """Right roots are not doubted whatever their error; in metres they are."""
    moved = CAMERA.to_camera(noisy) if frame != "world" else noisy + UP
    truth = truth if frame != "world" else replace(truth, joints_mm=truth.joints_mm + UP)
    for factor, hint in ((1, ""), (1.5, ""), (1e-3, "metres: multiply them by 1000"), (1e3, "multiply them by 0.001")):
        pred = make_predictions(truth, factor * moved[:, [6]], joints=ROOT.joints)
        told = doubt(replace(pred, frame=np.full(len(pred), frame, dtype=object)), truth)
        if hint:
            assert told is not None
            assert "the median root is" in told
            assert hint in told
        else:
            assert told is None


def test_people_are_compared_with_the_nearest_prediction(truth, noisy, make_predictions) -> None:
    """In any order, with false ones; a part of the joints missing."""
    away = noisy + UP
    poses = np.where(np.arange(17)[:, None] == 3, np.nan, np.concatenate([away, noisy]))
    pred = make_predictions(truth, poses, keys=np.concatenate([truth.keys, truth.keys]))
    assert doubt(pred, truth) is None
    told = doubt(replace(pred, joints_mm=pred.joints_mm[:, SWAPPED]), truth)
    assert told is not None
    assert told.endswith("if left and right are swapped")


def test_no_common_samples_or_joints_are_not_doubted(truth, noisy, make_predictions) -> None:
    assert doubt(make_predictions(truth, noisy, joints=tuple(f"j{i}" for i in range(17))), truth) is None
    assert doubt(make_predictions(truth, noisy[:0], keys=truth.keys[:0]), truth) is None
    unknown = make_predictions(truth, noisy[:, ::-1])
    assert doubt(replace(unknown, frame=np.full(len(unknown), "nowhere", dtype=object)), truth) is None


def test_roots_of_unknown_truth_are_not_doubted(truth, noisy, make_predictions) -> None:
    unknown = replace(truth, joints_mm=np.full_like(truth.joints_mm, np.nan))
    assert doubt(make_predictions(truth, noisy[:, [6]], joints=ROOT.joints), unknown) is None
