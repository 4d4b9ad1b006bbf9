"""RootNet's items, network, loss, schedule and mixture of data sets against the reference implementation's numbers."""

import numpy as np
import pytest
import torch
from filled_weights import filled

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import View
from poseboard.methods.batches.mixing import DRAWN, drawn_anew, half_and_half
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.training import Epochs, Length
from poseboard.methods.rootnet.crop import PersonCrop, distance_prior_mm
from poseboard.methods.rootnet.model import JOINTS, RootArchitecture, RootNet, coordinate_loss
from poseboard.methods.rootnet.published import published
from poseboard.methods.rootnet.train import NO_CHANGE, Change, person_example
from poseboard.methods.weights import import_weights

pytestmark = pytest.mark.usefixtures("weights_are_given")

PATCH_PX = 64


def sized(text):
    return tuple(int(side) for side in text.split("x") if side)


@pytest.fixture(scope="module")
def snapshot(golden_rootnet, tmp_path_factory):
    """A snapshot file as the release writes it, with the weights of the rule."""
    file = golden_rootnet("network")
    state = filled(file["keys"].tolist(), [sized(shape) for shape in file["shape"].tolist()])
    first = [float(value.flatten()[0]) for value in state.values()]
    np.testing.assert_allclose(first, file["first"], rtol=1e-6)
    path = tmp_path_factory.mktemp("rootnet") / "snapshot_19.pth.tar"
    network = {f"module.{key}": value for key, value in state.items()}
    torch.save({"epoch": 19, "network": network, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


@pytest.fixture(scope="module")
def imported(snapshot):
    return import_weights("rootnet", snapshot)


def network_of(imported):
    architecture = RootArchitecture.model_validate(imported.architecture)
    net = RootNet(architecture, architecture.backbone.build(seed=0))
    net.load_state_dict(imported.state)
    return net.eval()


@pytest.fixture(scope="module")
def net(imported):
    return network_of(imported)


def test_snapshots_load_strictly(imported, snapshot):
    assert imported.method == "rootnet"
    assert imported.architecture["raw_input"] is True
    assert imported.architecture["backbone"]["network"] == "resnet50"
    assert sum(value.numel() for key, value in imported.state.items() if not _counted(key)) == 33_997_634
    state = {key.removeprefix("module."): value for key, value in torch.load(snapshot)["network"].items()}
    for spoil, told in (
        (lambda s: s.pop("root.depth_layer.bias"), r"depth_layer\.bias"),
        (lambda s: s.update({"root.extra": torch.zeros(1)}), r"root\.extra"),
        (lambda s: s.update({"depth_layer.bias": torch.zeros(1)}), r"unknown\.depth_layer\.bias"),
        (lambda s: s.update({"root.xy_layer.weight": torch.zeros(2, 256, 1, 1)}), "final_layer.weight"),
        (lambda s: [s.pop(key) for key in list(s) if key.startswith("root.")], "backbone"),
    ):
        spoilt = dict(state)
        spoil(spoilt)
        with pytest.raises(InputError, match=told):
            published(spoilt, snapshot)
    old = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    assert published(old, snapshot).state.keys() == imported.state.keys()


def _counted(key):
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.parametrize("tag", ["sq128", "rect"])
def test_forward(golden_rootnet, net, tag):
    file = golden_rootnet("network")
    images = net.architecture.prepare(torch.from_numpy(file[f"{tag}_img_rgb"]))
    k_mm = torch.from_numpy(file[f"{tag}_k"])[:, 0]
    with torch.no_grad():
        root = net(images, k_mm)
        out = net.backbone(images)
    coord, gamma = file[f"{tag}_coord"], file[f"{tag}_gamma"][:, 0]
    np.testing.assert_allclose(root.cells, coord[:, :2], rtol=0, atol=2e-3)
    np.testing.assert_allclose(root.gamma, gamma, rtol=1e-4)
    np.testing.assert_allclose(root.depth_mm, coord[:, 2], rtol=1e-4)
    np.testing.assert_allclose(root.heatmaps[:, None], file[f"{tag}_heatmap"], rtol=0, atol=2e-3)
    logits = file[f"{tag}_heatmap_logit"]
    np.testing.assert_allclose(out.heatmaps, logits, rtol=0, atol=1e-4 * np.ptp(logits))
    for found, name in (
        (out.deepest[:, ::32].mean(dim=(2, 3)), "feat_mean"),
        (out.deepest[:, :32, 0], "feat_slice"),
        (out.features[:, :8, :8, :8], "deconv_slice"),
    ):
        expected = file[f"{tag}_{name}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_one_step_of_training(golden_rootnet, imported):
    file = golden_rootnet("network")
    net = network_of(imported).train()
    images = net.architecture.prepare(torch.from_numpy(file["tr_img_rgb"]))
    root = net(images, torch.from_numpy(file["tr_k"])[:, 0])
    of_each = coordinate_loss(
        root.coordinates, *(torch.from_numpy(file[f"tr_{name}"]) for name in ("target", "vis", "have_depth"))
    )
    np.testing.assert_allclose(of_each.detach(), file["tr_loss"], rtol=2e-3)
    of_each.mean().backward()
    for found, name in (
        (net.depth_layer.weight, "tr_grad_depth_w"),
        (net.depth_layer.bias, "tr_grad_depth_b"),
        (net.backbone.final_layer.weight, "tr_grad_xy_w"),
    ):
        np.testing.assert_allclose(found.grad.flatten(), file[name], rtol=0, atol=1e-2 * np.abs(file[name]).max())
    names = dict(net.named_parameters())
    renamed = {"root.deconv_layers": "backbone.deconv_layers", "root.xy_layer": "backbone.final_layer"}
    for key, norm in zip(file["tr_grad_norm_keys"].tolist(), file["tr_grad_norm"], strict=True):
        if key == "root.xy_layer.bias":
            continue
        ours = key.replace("root.depth_layer", "depth_layer")
        for theirs, own in renamed.items():
            ours = ours.replace(theirs, own)
        np.testing.assert_allclose(names[ours].grad.norm(), norm, rtol=2e-2, err_msg=key)
    np.testing.assert_allclose(net.backbone.bn1.running_mean, file["tr_bn1_running_mean"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.backbone.bn1.running_var, file["tr_bn1_running_var"], rtol=1e-4)


def test_loss(golden_rootnet):
    file = golden_rootnet("train")
    found = torch.from_numpy(file["pred"]).requires_grad_()
    losses = coordinate_loss(found, *(torch.from_numpy(file[name]) for name in ("target", "vis", "have_depth")))
    np.testing.assert_allclose(losses.detach(), file["loss"], rtol=1e-5)
    np.testing.assert_allclose(float(losses.detach().mean()), file["loss_mean"], rtol=1e-5)
    losses.mean().backward()
    np.testing.assert_allclose(found.grad, file["grad"], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["default", "two", "three"])
def test_schedule(golden_rootnet, name):
    file = golden_rootnet("train")
    rates = file[f"lr_{name}"]
    per_epoch = 3
    length = Length(Epochs(epochs=len(rates), moments=per_epoch * 4), batch_size=4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    scheduler = length.falling(optimizer, file[f"lr_dec_{name}"].tolist(), shares=())
    found = []
    for _ in range(length.steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(found, np.repeat(rates, per_epoch), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", list("abcd"))
def test_mixture(golden_rootnet, name):
    file = golden_rootnet("train")
    sizes = file[f"mix_{name}_len3d"].tolist(), file[f"mix_{name}_len2d"].tolist()
    epoch = half_and_half(*sizes)
    assert len(epoch) == int(file[f"mix_{name}_total"])
    expected = file[f"mix_{name}_map"]
    drawn = (expected == DRAWN).any(axis=1)
    np.testing.assert_array_equal(epoch[~drawn], expected[~drawn])
    np.testing.assert_array_equal(epoch[:, 0], expected[:, 0])
    assert (epoch[drawn, 2] == DRAWN).all()
    chosen = drawn_anew(epoch, sizes, np.random.default_rng(0))
    np.testing.assert_array_equal(chosen[~drawn], epoch[~drawn])
    for kind, number, element in chosen.tolist():
        assert 0 <= element < sizes[kind][number]


def item(file, i):
    """A view of the recorded image and focal lengths, and the recorded crop."""
    image = np.ascontiguousarray(file["img_bgr"][i][..., ::-1])
    height, width = image.shape[:2]
    (fx, fy), box = file["f"][i], file["bbox"][i]
    camera = Camera(
        np.array([[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(width, height)
    )
    return View("a", camera, image, np.array([[0.0, 0, 1, 1]])), PersonCrop(box, camera)


def close(patch, expected, gains):
    """Within a grey level of the warp, in all but one in a hundred pixels."""
    step = 5.5 / 4.46 * np.max(gains)
    assert np.mean(np.abs(patch - expected) > 1e-2) <= 0.01
    assert np.abs(patch - expected).max() <= step


def test_items(golden_rootnet):
    file = golden_rootnet("item")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    raw = RootArchitecture(backbone=Architecture(network="small", joints=JOINTS, crop_px=PATCH_PX), raw_input=True)
    for i in range(len(file["bbox"])):
        view, crop = item(file, i)
        rotation, flip, *gains = file["aug"][i].tolist()
        change = Change(rotation, bool(flip), np.array(gains))
        x, y, depth = file["root_img"][i].tolist()
        root = np.array([x, y]), depth if file["have_depth"][i] else float("nan"), 1.0
        example = person_example(view, root, crop, change, PATCH_PX)
        np.testing.assert_allclose(example["k_mm"], file["train_k"][i][0], rtol=1e-6)
        np.testing.assert_allclose(example["root"][:2], file["train_root"][i][:2], rtol=0, atol=1e-3)
        np.testing.assert_array_equal(example["visible"], file["train_vis"][i])
        np.testing.assert_array_equal(example["has_depth"], file["train_depthflag"][i])
        if file["have_depth"][i]:
            np.testing.assert_allclose(example["root"][2], file["train_root"][i][2], rtol=1e-6)
        plain = Change(rotation, bool(flip))
        A = plain.affine(crop.box_xywh, view.camera.size[0], (PATCH_PX, PATCH_PX))
        warped = plain.patch(view.pixels(), A, (PATCH_PX, PATCH_PX))
        close(warped, file["train_patch_raw_rgb"][i].astype(np.float64), [1.0])
        for image, tag, factors in (
            (example["image"], "train", gains),
            (
                NO_CHANGE.patch(view.pixels(), NO_CHANGE.affine(crop.box_xywh, 160, (PATCH_PX,) * 2), (PATCH_PX,) * 2),
                "test",
                [1.0],
            ),
        ):
            patch = raw.prepare(torch.from_numpy(image)[None])[0].numpy()
            expected = file[f"{tag}_patch"][i]
            np.testing.assert_allclose(patch.min(), expected.min(), atol=5.5)
            levels = [value * std[:, None, None] + mean[:, None, None] for value in (patch, expected)]
            close(*levels, factors)
        assert distance_prior_mm(file["f"][i], crop.box_xywh[2] * crop.box_xywh[3]) == pytest.approx(
            file["test_k"][i][0], rel=1e-6
        )


def test_from_network_output_to_the_camera(golden_rootnet):
    """Section 8 over recorded outputs: boxes as processed, cells of 64, millimetres; and 3DPW in metres."""
    for name, factor in (("eval_h36m", 1.0), ("eval_pw3d", 1000.0)):
        file = golden_rootnet(name)
        for i in range(len(file["pred"])):
            (fx, fy), (cx, cy) = file["f"][i].tolist(), file["c"][i].tolist()
            camera = Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.eye(3), np.zeros(3))
            x, y, depth = file["pred"][i].astype(np.float64)
            found = PersonCrop(file["bbox"][i], camera).root_mm(np.array([x, y]) / 64, depth * factor) / factor
            np.testing.assert_allclose(found, file["dump_root_cam"][i], rtol=0, atol=1e-2 / factor)
