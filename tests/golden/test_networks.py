import numpy as np
import pytest
import torch

from poseboard.methods.algebraic.model import AlgebraicTriangulation
from poseboard.methods.geometry.triangulation import dlt
from poseboard.methods.nets import losses
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.detector import decode_heatmaps
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.methods.nets.soft_argmax import soft_argmax_2d, soft_argmax_3d
from poseboard.methods.nets.starting_weights import load_backbone
from poseboard.methods.volumetric.losses import voxel_cross_entropy
from poseboard.methods.weights import import_weights

pytestmark = pytest.mark.usefixtures("weights_are_given")


def noise(seed, shape):
    values = np.random.default_rng(int(seed)).standard_normal(tuple(shape))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize(("depth", "tolerance"), [(50, 1e-4), (152, 1e-3)])
def test_pose_resnet(golden, fill_by_rule, depth, tolerance):
    stored = golden("pose_resnet")
    tag = f"r{depth}_"
    net = PoseResNet(depth, 17, alg_confidences=True, vol_confidences=True).eval()
    fill_by_rule(net, stored["weight_seed"])
    with torch.inference_mode():
        out = net(noise(stored[tag + "image_seed"], stored[tag + "image_shape"]))
    found = {
        "heatmaps": out.heatmaps,
        "features_every32nd_channel": out.features[:, ::32],
        "alg_confidences": out.alg_confidences,
        "vol_confidences": out.vol_confidences,
    }
    for name, value in found.items():
        want = stored[tag + name]
        np.testing.assert_allclose(value, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)
    assert out.features.abs().mean() == pytest.approx(float(stored[tag + "features_mean_abs"]), rel=tolerance)


@pytest.mark.parametrize(
    ("name", "multiplier", "softmax"), [("softmax_x1", 1, True), ("softmax_x100", 100, True), ("relu", 1, False)]
)
def test_softargmax_2d(golden, name, multiplier, softmax):
    stored = golden("softargmax_2d")
    coordinates, maps = soft_argmax_2d(torch.from_numpy(stored["heatmaps"]), multiplier, softmax)
    np.testing.assert_allclose(coordinates, stored[f"coords_{name}"], rtol=0, atol=1e-3)
    want = stored[f"probs_{name}" if softmax else "maps_relu"]
    np.testing.assert_allclose(maps[:, :2], want, rtol=0, atol=1e-5)


def test_softargmax_3d(golden):
    stored = golden("softargmax_3d")
    volumes, positions = torch.from_numpy(stored["volumes"]), torch.from_numpy(stored["coord_volumes"])
    index, p = soft_argmax_3d(volumes)
    np.testing.assert_allclose(index, stored["index_coords_softmax"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(p[:, :1], stored["probs_softmax"], rtol=0, atol=1e-5)
    index, _ = soft_argmax_3d(volumes, softmax=False)
    np.testing.assert_allclose(index, stored["index_coords_relu"], rtol=0, atol=1e-3)
    world, _ = soft_argmax_3d(volumes, positions)
    np.testing.assert_allclose(world, stored["world_coords_softmax"], rtol=0, atol=0.01)
    world, _ = soft_argmax_3d(volumes, positions, softmax=False, unnormalised_relu=True)
    want = stored["world_coords_relu_unnormalised"]  # sums of both signs, so the largest is what rounding is of
    np.testing.assert_allclose(world, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


KEYPOINT_LOSSES = {
    "mse": losses.keypoint_mse,
    "mse_smooth_400": lambda p, t, v: losses.keypoint_mse_smooth(p, t, v, 400.0),
    "mae": losses.keypoint_mae,
    "l2": losses.keypoint_l2,
}


@pytest.mark.parametrize("name", KEYPOINT_LOSSES)
@pytest.mark.parametrize("scaled", [False, True])
def test_keypoint_losses(golden, name, scaled):
    stored = golden("losses")
    scale = float(stored["scale_keypoints_3d"]) if scaled else 1.0
    suffix = "_scaled" if scaled else ""
    predicted = torch.from_numpy(stored["pred"]).requires_grad_()
    truth, validity = torch.from_numpy(stored["gt"]), torch.from_numpy(stored["validity"])
    loss = KEYPOINT_LOSSES[name](predicted * scale, truth * scale, validity)
    assert loss.item() == pytest.approx(float(stored[name + suffix]), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert torch.isfinite(gradient).all()
    want = stored[f"{name}{suffix}_grad"]
    known = np.isfinite(want)
    np.testing.assert_allclose(gradient.numpy()[known], want[known], rtol=1e-4, atol=1e-12)
    nothing = KEYPOINT_LOSSES[name](predicted, truth, torch.zeros_like(validity))
    assert nothing.item() == float(stored[f"{name}_all_invalid"])


def test_voxel_cross_entropy(golden):
    stored = golden("losses")
    positions, volumes = torch.from_numpy(stored["ce_coord_volumes"]), torch.from_numpy(stored["ce_volumes"])
    n = len(volumes)
    truth, validity = torch.from_numpy(stored["gt"])[:n], torch.from_numpy(stored["validity"])[:n]
    found = voxel_cross_entropy(positions, volumes, truth, validity)
    assert found.item() == pytest.approx(float(stored["ce"]), rel=1e-5)


JOINTS = tuple(f"joint_{i}" for i in range(17))


def alg_net(golden, fill_by_rule, confidences, multiplier=100.0, softmax=True):
    stored = golden("alg_net")
    side = int(stored["image_shape"][-1])
    architecture = Architecture.published("resnet50", JOINTS, alg_confidences=confidences).model_copy(
        update={"crop_px": side, "multiplier": multiplier, "softmax": softmax}
    )
    model = AlgebraicTriangulation(architecture, architecture.build(seed=0)).eval()
    fill_by_rule(model, stored["weight_seed"])
    return stored, model, noise(stored["image_seed"], stored["image_shape"])


@pytest.mark.parametrize("variant", ["conf", "noconf", "conf_m10", "noconf_relu"])
def test_algebraic(golden, fill_by_rule, variant):
    multiplier = {"conf_m10": 10.0, "noconf_relu": 1.0}.get(variant, 100.0)
    stored, model, images = alg_net(
        golden, fill_by_rule, variant.startswith("conf"), multiplier, softmax=variant != "noconf_relu"
    )
    if variant == "noconf_relu":
        model.backbone.final_layer.bias.data += float(stored["noconf_relu_final_bias_shift"])
    P = torch.from_numpy(stored["P"])
    valid = torch.ones(P.shape[:2], dtype=torch.bool)
    with torch.inference_mode():
        joints_mm, weights, views = model(images.flatten(0, 1), P, valid)
        _, maps = soft_argmax_2d(views.heatmaps, multiplier, variant != "noconf_relu")
    shape = (*P.shape[:2], *views.points_px.shape[1:])
    want = {name: stored[f"{variant}_{name}"] for name in ("keypoints_2d", "confidences", "heatmaps_joint0")}
    np.testing.assert_allclose(views.points_px.reshape(shape), want["keypoints_2d"], rtol=0, atol=0.05)
    np.testing.assert_allclose(weights, want["confidences"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        maps[:, 0], want["heatmaps_joint0"].reshape(maps[:, 0].shape), rtol=0, atol=1e-3 * want["heatmaps_joint0"].max()
    )
    # Raw joints are far and ill-conditioned, so 3D is compared from the stored 2D.
    stored_2d, stored_weights = torch.from_numpy(want["keypoints_2d"]), torch.from_numpy(want["confidences"])
    from_stored = dlt(P.double(), stored_2d.double(), stored_weights.double(), homogeneous=True)
    np.testing.assert_allclose(from_stored, stored[f"{variant}_keypoints_3d_f64_from_2d"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(joints_mm, stored[f"{variant}_keypoints_3d"], rtol=0, atol=1.5)


def test_ransac_reads_whole_heatmap_pixels(golden, fill_by_rule):
    stored, model, images = alg_net(golden, fill_by_rule, confidences=False)
    with torch.inference_mode():
        heatmaps = model.backbone(images.flatten(0, 1)).heatmaps
        points, _ = decode_heatmaps(model.architecture, heatmaps, "argmax")
    np.testing.assert_array_equal(points.reshape(stored["ransac_keypoints_2d"].shape), stored["ransac_keypoints_2d"])


@pytest.mark.parametrize("method", ["algebraic", "algebraic_no_conf", "ransac"])
def test_published_layout_loads_whole(golden, fill_by_rule, tmp_path, method):
    _, model, images = alg_net(golden, fill_by_rule, confidences=method == "algebraic")
    file = tmp_path / "weights.pth"
    torch.save({f"module.{key}": value for key, value in model.state_dict().items()}, file)
    checkpoint = import_weights(method, file)
    architecture = Architecture.of(checkpoint, file)
    assert (architecture.network, architecture.crop_px, architecture.channels) == ("resnet50", 384, "bgr")
    net = load_backbone(architecture, checkpoint, file).eval()
    with torch.inference_mode():
        assert torch.equal(net(images[0, :1]).heatmaps, model.backbone(images[0, :1]).heatmaps)
