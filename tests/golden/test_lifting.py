"""Lifting networks against the vectors of epipolar transformers' release."""

import pickle

import numpy as np
import pytest
import torch

from poseboard.datasets.rhd import RHD_HAND, Rhd
from poseboard.methods.lifting.canonical import axis_angle_to_matrix, canonicalise, median_of_views
from poseboard.methods.lifting.model import RELEASED_MAPS, ImageLiftingNet, LiftingNet, pose_loss, rotation_loss
from poseboard.methods.nets.gaussian_maps import gaussian_maps
from poseboard.methods.nets.pose_resnet import PoseResNet

WEIGHT_SEED = 0
MIDDLE_BASE, LITTLE_BASE = 12, 20


@pytest.fixture(scope="module")
def stored(golden_epipolar):
    return golden_epipolar("lifting")


def tensor(stored, name):
    return torch.from_numpy(stored[name])


def hand_maps(stored):
    return torch.from_numpy(np.kron(stored["rhd_heatmap_lowres"], np.ones((8, 8), dtype=np.float32)))


def check(lifted, stored, name, parts=("canonical", "R", "pose")):
    short = {"canonical": "can", "R": "R", "pose": "normed"}
    for part in parts:
        want = stored[f"{name}_{short[part]}"]
        np.testing.assert_allclose(getattr(lifted, part), want, rtol=0, atol=1e-4, err_msg=part)


@torch.inference_mode()
@pytest.mark.parametrize(("name", "joints", "handed"), [("img_rot_rhd", 21, True), ("img_rot_h36m", 17, False)])
def test_image_features(stored, fill_by_rule, name, joints, handed):
    net = ImageLiftingNet(joints, 2048, handed=handed).eval()
    fill_by_rule(net, WEIGHT_SEED)
    check(net(tensor(stored, "feat2048"), tensor(stored, "hand_side") if handed else None), stored, name)


@torch.inference_mode()
def test_direct(stored, fill_by_rule):
    hands = LiftingNet(21, 224, 8, rotation=False, handed=True).eval()
    fill_by_rule(hands, WEIGHT_SEED)
    found = hands(hand_maps(stored), tensor(stored, "hand_side"))
    np.testing.assert_allclose(found.pose, stored["direct_rhd"], rtol=0, atol=1e-4)
    body = LiftingNet(17, 64, 8, rotation=False).eval()
    fill_by_rule(body, WEIGHT_SEED)
    found = body(tensor(stored, "h36m_joint_heatmap"))
    np.testing.assert_allclose(found.pose, stored["direct_h36m"], rtol=0, atol=1e-4)


@torch.inference_mode()
def test_rotation(stored, fill_by_rule):
    side = tensor(stored, "hand_side")
    net = LiftingNet(21, 224, 8, rotation=True, handed=True).eval()
    fill_by_rule(net, WEIGHT_SEED)
    check(net(hand_maps(stored), side), stored, "rot_rhd")
    net = LiftingNet(21, 224, 8, rotation=True, handed=True, mirror_right=True).eval()
    fill_by_rule(net, WEIGHT_SEED)
    check(net(hand_maps(stored), side), stored, "rot_rhd_flip", ("canonical", "pose"))


def test_the_published_tensors(fill_by_rule):
    def shapes(net):
        return {name: tuple(value.shape) for name, value in net.state_dict().items()}

    found = shapes(LiftingNet(17, 64, 8, rotation=True))
    names = [
        *(f"conv{branch}.{layer}" for branch in (1, 2) for layer in (0, 2, 4, 6, 8, 10)),
        *(f"{head}.{layer}" for head in ("poseprior", "viewpoint") for layer in (0, 3, 6)),
    ]
    assert set(found) == {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    assert found["poseprior.0.weight"] == (512, 128)
    assert found["viewpoint.0.weight"] == (256, 256)
    hands = shapes(LiftingNet(21, 224, 8, rotation=True, handed=True))
    assert hands["poseprior.0.weight"] == (512, 2048 + 2)
    assert hands["viewpoint.0.weight"] == (256, 4096 + 2)
    assert shapes(ImageLiftingNet(21, 2048, handed=True)) == {
        "poseprior.weight": (63, 2050),
        "poseprior.bias": (63,),
        "viewpoint.weight": (3, 2050),
        "viewpoint.bias": (3,),
    }


@torch.inference_mode()
def test_pooled_features_of_the_resnet(stored, fill_by_rule):
    net = PoseResNet(50, 17).eval()
    fill_by_rule(net, WEIGHT_SEED)
    images = torch.from_numpy(np.kron(stored["r50_img_lowres"], np.ones((4, 4), dtype=np.float32)))
    want = stored["r50_feat"]
    np.testing.assert_allclose(net(images).deepest.mean(dim=(-2, -1)), want, rtol=1e-3, atol=1e-3 * want.mean())


def test_axis_angle(stored):
    found = axis_angle_to_matrix(tensor(stored, "axis_angle"))
    np.testing.assert_allclose(found, stored["rot_mat"], rtol=0, atol=1e-5)


@pytest.fixture
def palms(stored, tmp_path):
    """(2, 21, 3) mm: both recorded hands through the files of the data set."""
    xyz = stored["hand_xyz42"]
    entry = {"uv_vis": np.ones((42, 3)), "xyz": xyz, "K": np.diag([300.0, 300.0, 1.0])}
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "anno_training.pickle").write_bytes(pickle.dumps({0: entry}))
    return Rhd(tmp_path, hands="both").truth("training/00000").joints_mm


def test_the_palm_stands_for_the_wrist(stored, palms):
    np.testing.assert_allclose(palms.reshape(42, 3), 1000 * stored["palm_xyz42"], rtol=1e-12, atol=1e-9)
    assert not np.allclose(palms[:, 0], 1000 * stored["hand_xyz42"][[0, 21]])


def test_canonical_hand(stored, palms):
    hand = palms[0] / 1000
    scale = np.linalg.norm(hand[12] - hand[11])
    assert scale == pytest.approx(float(stored["scale"]), rel=1e-12)
    normed = (hand - hand[0]) / scale
    np.testing.assert_allclose(normed, stored["normed21"], rtol=0, atol=1e-6)
    canonical, R = canonicalise(normed, MIDDLE_BASE, LITTLE_BASE)
    np.testing.assert_allclose(canonical, stored["canonical21"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(R, stored["rot_canonical_to_normed"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(canonical * (1, 1, -1), stored["canonical_flipped"], rtol=0, atol=1e-6)


def test_maps_of_hands_are_drawn_as_the_release_has_them(stored):
    """Recorded joints are (row, column)."""
    points = torch.from_numpy(stored["rhd_hw"][:, ::-1].copy())
    maps = RELEASED_MAPS[RHD_HAND.name].draw(points, 256)
    assert maps.shape == (21, 224, 224)
    np.testing.assert_allclose(maps[:, ::8, ::8], stored["rhd_heatmap_step8"], rtol=0, atol=2e-6)
    # of crops of another size, the same
    again = RELEASED_MAPS[RHD_HAND.name].draw(points * 96 / 256, 96)
    np.testing.assert_allclose(again, maps, rtol=0, atol=2e-6)


def test_maps_of_joints_that_are_not_known(golden_epipolar):
    target = golden_epipolar("target")
    points, known = (torch.from_numpy(target[name]) for name in ("hw", "vis"))
    found = gaussian_maps(points, (56, 48), 25, known)
    np.testing.assert_allclose(found, target["heatmap_valid_56x48_s25"], rtol=0, atol=2e-6)


def test_poses_of_several_views_in_the_worlds_axes(stored):
    turned, median = median_of_views(stored["mv_in"].astype(np.float64), stored["mv_R"].astype(np.float64))
    np.testing.assert_allclose(turned, stored["mv_out"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(median, np.median(stored["mv_out"], axis=0), rtol=0, atol=1e-4)


def test_losses(stored):
    canonical = tensor(stored, "img_rot_rhd_can")
    found = pose_loss(canonical, tensor(stored, "loss_target"), tensor(stored, "loss_vis"))
    assert found.item() == pytest.approx(float(stored["xyz_loss"]), rel=1e-5)
    rotation = rotation_loss(tensor(stored, "img_rot_rhd_R"), tensor(stored, "loss_rot_target"), torch.ones(2))
    assert rotation.item() == pytest.approx(float(stored["rot_loss"]), rel=1e-5)
