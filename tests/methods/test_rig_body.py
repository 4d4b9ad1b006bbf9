"""Unit and vertical axis of a rig's world, from exact bodies."""

import numpy as np
import pytest

from poseboard.methods.geometry.rig_mistakes.body import BodyEvidence, body_evidence

PARTS = ("shoulder", "hip", "knee", "ankle")
LEFT, RIGHT = (tuple(f"{side}_{part}" for part in PARTS) for side in ("left", "right"))
UP = np.array([0.0, 0.0, 1.0])
ADULT_MM = 1330.0


def legs(chain, up=UP):
    """Joints (F, 4, 3) from shoulder to ankle, of length ``chain``, over frames with the directions ``up`` (F, 3)."""
    heights = chain * np.array([1.0, 0.6, 0.3, 0.0])
    return np.array([100.0, -200, 50]) * chain / ADULT_MM + heights[:, None] * np.atleast_2d(up)[:, None]


def test_the_chain_is_the_mean_of_both_sides():
    joints = np.concatenate([np.full((3, 1, 3), 9e9), legs(1300, [UP] * 3), legs(1340, [UP] * 3)], axis=1)
    evidence = body_evidence(joints, ["nose", *LEFT, *RIGHT])
    assert evidence.chain == pytest.approx(1320)
    assert (evidence.unit, evidence.up_axis) == ("mm", "z")
    np.testing.assert_allclose(evidence.up, UP)


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_one_side_suffices(side):
    other = "right_ankle" if side is LEFT else "left_shoulder"
    joints = np.concatenate([np.full((1, 1, 3), np.nan), legs(1300, [0, 1, 0])], axis=1)
    evidence = body_evidence(joints, [other, *side])
    assert evidence.chain == pytest.approx(1300)
    assert evidence.up_axis == "y"


def test_each_bone_is_a_median_over_the_frames_that_have_it():
    joints = legs(1300, [UP] * 7)
    joints[0, 1] += [0, 0, 5000]  # an outlier and three missing joints
    joints[1, 2] = joints[2, 0] = joints[3, 3] = np.nan
    evidence = body_evidence(joints, LEFT)
    assert evidence.chain == pytest.approx(1300)
    np.testing.assert_allclose(evidence.up, UP)


def test_a_bone_that_no_frame_has_leaves_the_unit_unknown():
    joints = legs(1300, [UP] * 3)
    joints[:, 2] = np.nan
    evidence = body_evidence(joints, LEFT)
    assert np.isnan(evidence.chain)
    assert (evidence.unit, evidence.up_axis) == (None, "z")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [("nose", "left_hip", "left_knee", "left_ankle"), ("a", "b", "c", "d")])
def test_other_joints_are_no_evidence(names):
    evidence = body_evidence(legs(1300), names)
    assert np.isnan(evidence.chain)
    assert np.isnan(evidence.up).all()
    assert evidence.up.shape == (3,)
    assert (evidence.unit, evidence.up_axis) == (None, None)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("cm", 10.0), ("m", 1000.0)])
@pytest.mark.parametrize(("ratio", "accepted"), [(1 / 1.81, False), (1 / 1.79, True), (1.79, True), (1.81, False)])
def test_units_are_those_of_a_body_of_plausible_size(unit, mm, ratio, accepted):
    evidence = body_evidence(legs(ADULT_MM * ratio / mm), LEFT)
    assert evidence.unit == (unit if accepted else None)


def test_a_body_without_size_has_neither_unit_nor_axis():
    evidence = body_evidence(np.zeros((2, 4, 3)), LEFT)
    assert evidence.chain == 0
    assert (evidence.unit, evidence.up_axis) == (None, None)


def test_up_is_a_unit_vector_at_the_median_of_directions():
    tilted = [[0, 0.6, 0.8], [0.6, 0, 0.8], [0, 0, 1], [-0.6, 0, 0.8], [0, 0.6, 0.8]]
    evidence = body_evidence(legs(1300, tilted), RIGHT)
    np.testing.assert_allclose(evidence.up, UP)
    assert evidence.up_axis == "z"
    evidence = body_evidence(legs(1300, [UP, -UP]), RIGHT)
    np.testing.assert_array_equal(evidence.up, 0)
    assert evidence.up_axis is None


def test_up_leads_from_the_ankles_to_the_shoulders_whatever_is_between():
    joints = legs(1300, [[0, 0.6, 0.8], [0, 0, 1]])
    joints[:, 1:3] += [700, 0, 0]  # a crouching person
    joints[1] *= 10  # each frame has the same weight
    np.testing.assert_allclose(body_evidence(joints, LEFT).up, np.array([0, 0.3, 0.9]) / np.sqrt(0.9))


@pytest.mark.parametrize(("degrees", "accepted"), [(34.9, True), (35.1, False)])
@pytest.mark.parametrize(("axis", "sign"), [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)])
def test_the_axis_is_within_35_degrees_of_up(degrees, accepted, axis, sign):
    angle = np.deg2rad(degrees)
    up = np.roll([sign * np.cos(angle), np.sin(angle) * 0.6, -np.sin(angle) * 0.8], axis)
    expected = ("" if sign > 0 else "-") + "xyz"[axis]
    assert BodyEvidence(1.0, None, up).up_axis == (expected if accepted else None)
    assert body_evidence(legs(1300, up), LEFT).up_axis == (expected if accepted else None)
