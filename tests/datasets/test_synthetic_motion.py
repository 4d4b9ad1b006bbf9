from dataclasses import replace

import numpy as np
import pytest

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.datasets.synthetic.body import ANGLES, LIMITS_DEG, flesh, lowest_mm, pose, sample_body, sample_outfit
from poseboard.datasets.synthetic.motion import ACTIONS, move

TIME_S = np.arange(40) * 0.16
BONES = [edge for edge in HUMAN36M.edge_indices if {HUMAN36M.joints[i] for i in edge} != {"thorax", "nose"}]


def _move(action, seed=0, time_s=TIME_S):
    rng = np.random.default_rng(seed)
    body = sample_body(rng)
    return body, move(action, body, time_s, (0.0, 0.0), 800.0, rng)


@pytest.mark.parametrize("action", ACTIONS)
def test_actions_stay_within_limits_on_the_floor_with_stiff_bones(action):
    body, motion = _move(action)
    low, high = np.array([LIMITS_DEG[name] for name in ANGLES]).T
    assert (motion.angles_deg >= low - 1e-9).all()
    assert (motion.angles_deg <= high + 1e-9).all()
    joints = motion.figure.joints_mm
    lengths = np.stack([np.linalg.norm(joints[:, a] - joints[:, b], axis=1) for a, b in HUMAN36M.edge_indices])
    assert np.ptp(lengths, axis=1).max() < 1e-6
    np.testing.assert_allclose(lowest_mm(body, motion.figure), 0, atol=1e-6)
    assert joints[..., 2].min() > 0
    assert np.linalg.norm(motion.root_mm[:, :2], axis=1).max() < 1300
    # It moves, and no limb leaps: hands stay below 6 m/s, bodies below 2.5.
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=2) / np.diff(TIME_S)[:, None]
    assert 20 < speed.max() < 6000
    assert speed[:, HUMAN36M.root_index].max() < 2500


def test_sides_flexion_and_abduction_mean_what_they_say():
    body = sample_body(np.random.default_rng(1))

    def posed(**degrees):
        angles = np.array([[degrees.get(name, 0.0) for name in ANGLES]])
        zero = np.zeros(1)
        return dict(
            zip(HUMAN36M.joints, pose(body, angles, np.zeros((1, 3)), zero, zero, zero).joints_mm[0], strict=True)
        )

    still = posed()
    assert still["left_hip"][1] > 0 > still["right_hip"][1]  # facing +x with z up, left is +y
    assert still["nose"][0] > 50
    assert still["head_top"][2] > still["nose"][2] > still["thorax"][2] > still["spine"][2] > still["pelvis"][2]
    for side, sign in (("left", 1), ("right", -1)):
        raised = posed(**{f"shoulder_flexion_{side}": 90})[f"{side}_elbow"] - still[f"{side}_shoulder"]
        np.testing.assert_allclose(raised, [body.upper_arm, 0, 0], atol=1e-6)
        aside = posed(**{f"shoulder_abduction_{side}": 90})[f"{side}_elbow"] - still[f"{side}_shoulder"]
        np.testing.assert_allclose(aside, [0, sign * body.upper_arm, 0], atol=1e-6)
        kneeling = posed(**{f"knee_{side}": 90})[f"{side}_ankle"] - still[f"{side}_knee"]
        np.testing.assert_allclose(kneeling, [-body.shin, 0, 0], atol=1e-6)
        inward = posed(**{f"elbow_{side}": 90, f"shoulder_rotation_{side}": 60})
        assert sign * (inward[f"{side}_wrist"] - still[f"{side}_elbow"])[1] < -50


def test_who_walks_alternates_legs_and_who_sits_has_level_thighs():
    _, walking = _move("Walking", time_s=np.arange(200) * 0.02)
    hips = [walking.angles_deg[:, ANGLES.index(f"hip_flexion_{side}")] for side in ("left", "right")]
    assert np.corrcoef(*hips)[0, 1] < -0.9
    travelled = np.linalg.norm(np.diff(walking.root_mm[:, :2], axis=0), axis=1).sum()
    assert 3000 < travelled < 8000  # in four seconds
    _, sitting = _move("Sitting")
    joints = sitting.figure.joints_mm
    knee, hip = (joints[:, HUMAN36M.indices([f"left_{part}", f"right_{part}"])] for part in ("knee", "hip"))
    thigh = knee - hip
    assert np.abs(thigh[..., 2] / np.linalg.norm(thigh, axis=-1)).mean() < 0.4


def test_every_joint_lies_in_the_flesh():
    for seed in range(4):
        body, motion = _move("Greeting", seed)
        cones = flesh(body, sample_outfit(np.random.default_rng(seed)), motion.figure).cones
        joints = motion.figure.joints_mm
        share = np.linspace(0, 1, 21)[:, None, None, None]
        centre = cones[..., :3] + share * (cones[..., 3:6] - cones[..., :3])
        radius = cones[..., 6] + share[..., 0] * (cones[..., 7] - cones[..., 6])
        gap = np.linalg.norm(joints[None, :, :, None] - centre[:, :, None], axis=-1) - radius[:, :, None]
        assert gap.min((0, 3)).max() < 25 * body.height / 1720  # the crown of a bald head may stand off a little


def test_eyes_and_ears_turn_with_the_head_and_lie_on_it():
    rng = np.random.default_rng(2)
    for _ in range(10):
        body, outfit = sample_body(rng), sample_outfit(rng)
        low, high = np.array(list(LIMITS_DEG.values())).T
        figure = pose(body, rng.uniform(low, high)[None], np.zeros((1, 3)), *rng.uniform(-180, 180, (3, 1)))
        points = {name: place[0] for name, place in figure.points_mm.items()}
        on_head = {
            name: (points[name] - points["thorax"]) @ figure.frames["head"][0]
            for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
        }
        for part in ("eye", "ear"):
            np.testing.assert_allclose(on_head[f"left_{part}"] * [1, -1, 1], on_head[f"right_{part}"], atol=1e-9)
        assert on_head["left_eye"][1] > 0
        assert on_head["nose"][0] > on_head["left_eye"][0] > on_head["left_ear"][0]
        assert on_head["left_ear"][1] > on_head["left_eye"][1]
        assert on_head["left_eye"][2] > on_head["nose"][2]
        bald = flesh(body, replace(outfit, hair="bald"), figure)
        a, b, ra, rb = bald.cones[0, :, :3], bald.cones[0, :, 3:6], bald.cones[0, :, 6], bald.cones[0, :, 7]
        for name in ("left_eye", "right_eye", "left_ear", "right_ear"):
            share = np.clip(((points[name] - a) * (b - a)).sum(1) / ((b - a) ** 2).sum(1), 0, 1)
            depth = ra + share * (rb - ra) - np.linalg.norm(points[name] - a - share[:, None] * (b - a), axis=1)
            assert depth.max() > -3  # mm outside the flesh
            if name.endswith("eye"):
                assert depth.max() < 3  # nor inside it
