import numpy as np
import pytest

from poseboard.datasets.multi_human_pose import TUM14
from poseboard.datasets.skeleton import COCO, HUMAN36M, Skeleton


@pytest.mark.parametrize("skeleton", [HUMAN36M, COCO, TUM14], ids=lambda s: s.name)
def test_flipping_twice_changes_nothing_and_keeps_limbs(skeleton: Skeleton) -> None:
    order = np.array(skeleton.flip_order)
    assert order[order].tolist() == list(range(len(skeleton)))
    sided = [name for name in skeleton.joints if name.startswith(("left_", "right_"))]
    assert {skeleton.joints[i] for i in np.flatnonzero(order != np.arange(len(skeleton)))} == set(sided)
    limbs = {frozenset(pair) for pair in skeleton.edge_indices}
    assert {frozenset((int(order[a]), int(order[b]))) for a, b in limbs} == limbs


@pytest.mark.parametrize("skeleton", [HUMAN36M, COCO, TUM14], ids=lambda s: s.name)
def test_every_joint_is_on_a_limb(skeleton: Skeleton) -> None:
    assert {joint for edge in skeleton.edges for joint in edge} == set(skeleton.joints)


def test_joints_are_mapped_by_name() -> None:
    names = ["left_knee", "right_wrist"]
    assert [COCO.joints[i] for i in COCO.indices(names)] == names
    assert HUMAN36M.joints[HUMAN36M.root_index] == "pelvis"
    with pytest.raises(ValueError, match="no joint 'chin'"):
        COCO.indices(["chin"])
    with pytest.raises(ValueError, match="no root"):
        _ = COCO.root_index


def test_a_root_is_a_joint_or_the_mean_of_several() -> None:
    poses = np.random.default_rng(0).normal(0, 300, (5, 17, 3))
    np.testing.assert_array_equal(HUMAN36M.root_of(poses), poses[:, 6])
    assert COCO.root_joints == ("left_hip", "right_hip")
    np.testing.assert_allclose(COCO.root_of(poses), (poses[:, 11] + poses[:, 12]) / 2)
    np.testing.assert_allclose(COCO.root_of(poses[0]), (poses[0, 11] + poses[0, 12]) / 2)
    poses[0, 12] = np.nan
    assert np.isnan(COCO.root_of(poses)).any(axis=1).tolist() == [True, False, False, False, False]
    with pytest.raises(ValueError, match="no root"):
        TUM14.root_of(poses[:, :14])


@pytest.mark.parametrize(
    "wrong",
    [
        {"joints": ("a", "a")},
        {"edges": (("a", "z"),)},
        {"root": "z"},
        {"root": ("a", "z")},
        {"flip_pairs": (("a", "z"),)},
    ],
)
def test_a_skeleton_that_names_no_joint_of_its_own_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="skeleton x"):
        Skeleton(**{"name": "x", "joints": ("a", "b"), "edges": (), "root": None, "flip_pairs": (), **wrong})
