"""rays_mlp: both forms of its encoder, random rigs, phases of its training, and what it refuses."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from made_up import SIDE, batch_of, dotted_moment, image_sample, totals_of_steps
from pydantic import ValidationError

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.loop import fit, launch
from poseboard.methods.rays_mlp.augmentation import ColourAugmentation, jittered_square
from poseboard.methods.rays_mlp.losses import focal_loss, heatmap_targets
from poseboard.methods.rays_mlp.method import RaysMlp
from poseboard.methods.rays_mlp.mobileone import SMALL, EncoderSizes, Maps, MobileOnePose, folded
from poseboard.methods.rays_mlp.model import RaysArchitecture, RaysNet, decode_peaks
from poseboard.methods.rays_mlp.published import IMAGENET, published
from poseboard.methods.rays_mlp.rigs import RigRange, directions, in_random_rigs, upright
from poseboard.methods.weights import import_weights

TINY = EncoderSizes(channels=(4, 4, 6, 8, 8), pairs=(1, 1, 2, 1), excited=(0, 0, 1, 1), neck=(8, 8))
MOBILEONE = {"encoder": "mobileone", "image_px": SIDE}
ROOT = HUMAN36M.root_index


def stirred(network):
    """With statistics that are not those of a fresh network."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return network.eval()


def own_checkpoint(training, path):
    Checkpoint("rays_mlp", training.architecture, training.model.state_dict()).save(path)
    return path


@pytest.mark.parametrize("compat", [False, True])
def test_folded_blocks_answer_as_the_branches(compat):
    network = stirred(MobileOnePose(5, TINY, compat=compat))
    images = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    alone = folded(network)
    deployed = MobileOnePose(5, TINY, compat=compat, deploy=True).eval()
    deployed.load_state_dict(alone.state_dict())
    with torch.no_grad():
        for maps in (alone(images), deployed(images)):
            for found, expected in zip(maps, network(images), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert any(key.endswith("rbr_skip.weight") for key in network.state_dict())  # the copy alone was folded


def test_offsets_may_be_negative_and_empty_cells_are_empty():
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.manual_seed(0)
        maps, released = (MobileOnePose(5, TINY, compat=compat).eval()(images) for compat in (False, True))
    assert maps.offsets.min() < 0 <= released.offsets.min()
    assert maps.heatmaps.mean() < 0.2
    torch.testing.assert_close(released.heatmaps.sum(dim=1), torch.ones(1, 16, 16))


@pytest.mark.parametrize("compat", [False, True])
def test_a_perfect_network_finds_every_joint_only_where_peak_and_offset_agree(compat):
    points = torch.rand(1, 9, 2, generator=torch.Generator().manual_seed(1)) * 90 + 2
    targets = heatmap_targets(points, 96, 24, compat=compat)
    offsets = torch.full((1, 9, 2, 24 * 24), 9.0)
    offsets.scatter_(3, targets.cell[..., None, None].expand(-1, -1, 2, 1), targets.offsets[..., None])
    cells, peak, _ = decode_peaks(Maps(targets.heatmaps, offsets.flatten(1, 2).unflatten(-1, (24, 24)), offsets))
    assert torch.equal(peak, torch.ones_like(peak))
    agree = (cells * 4 - points).abs().amax(dim=-1) < 1e-3
    assert bool(agree.all()) != compat


def test_a_certain_network_has_a_finite_loss():
    heatmaps = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert torch.isfinite(focal_loss(heatmaps, 1 - heatmaps))


def test_frozen_stages_stay_as_they_are_unless_compat():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for compat in (False, True):
        network = MobileOnePose(3, TINY, compat=compat)
        network.freeze_stages()
        network.train()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        network(images)
        moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
        assert any(key.startswith("upstage") for key in moved)
        assert any(key.startswith("stage1") for key in moved) == compat
        assert all(not p.requires_grad for p in network.stage2.parameters())


def test_random_rigs_see_the_pose_as_real_cameras_would():
    torch.manual_seed(0)
    poses = torch.randn(3, len(HUMAN36M), 3) * 300
    poses = poses - poses[:, ROOT, None]
    known = torch.ones(3, len(HUMAN36M))
    ranges = RigRange(distance_mm=(3000, 3000), height_mm=(1000, 1000), aim_mm=0, roll_deg=0)
    seen = in_random_rigs(poses, known, views=4, rigs=5, ranges=ranges)
    assert seen.shape == (3, 5, 4, len(HUMAN36M), 3)
    apart = torch.cdist(poses, poses)
    torch.testing.assert_close(torch.cdist(seen, seen), apart[:, None, None].expand(3, 5, 4, -1, -1), rtol=0, atol=0.5)
    root = seen[..., ROOT, :]
    torch.testing.assert_close(root[..., :2], torch.zeros_like(root[..., :2]), rtol=0, atol=1e-2)  # looked at
    height = 1000 + poses[..., 2].amin(dim=1)[:, None, None]
    torch.testing.assert_close(root[..., 2].square(), 3000.0**2 + height.square().expand(3, 5, 4), rtol=1e-4, atol=0)
    up = seen.new_tensor([0, -1, 0])
    higher = ((seen - root[..., None, :]) @ up)[0, 0, 0]
    assert np.corrcoef(higher, poses[0, :, 2])[0, 1] > 0.5  # y points down
    hand = torch.linalg.det((seen - root[..., None, :])[..., :3, :]) / torch.linalg.det(poses[:, :3])[:, None, None]
    torch.testing.assert_close(hand, torch.ones_like(hand), rtol=1e-2, atol=0)  # turned, not mirrored
    assert seen[0, 0, 0].sub(seen[0, 0, 1]).abs().max() > 100


def test_poses_are_set_upright():
    up = torch.nn.functional.normalize(torch.tensor([[0.1, -0.9, 0.3], [0.0, 0.0, 1.0]]), dim=-1)
    turned = upright(up[:, None] * 500, up)
    torch.testing.assert_close(turned[:, 0], torch.tensor([[0.0, 0, 500], [0, 0, 500]]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"distance_mm": (5000, 3000)}, {"height_mm": (2, 1)}, {"distance_mm": (500, 900)}, {"aim_mm": 2000}]
)
def test_rigs_that_cannot_be(wrong):
    with pytest.raises(ValidationError, match=r"above|among"):
        RigRange(**wrong)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"map_steps": 3}, "map_steps.*encoder"),
        ({"recipe": "published"}, "recipe.*encoder"),
        ({"compat": True}, "compat.*encoder"),
        ({**MOBILEONE, "compat": True}, "compat.*recipe"),
        ({"ray_steps": 0, "image_steps": 0}, "ray_steps|image_steps"),
        ({"views": 1}, "views"),
        ({"rigs": "some"}, "rigs"),
        ({"rig_range": {"roll_deg": 270}}, "roll_deg"),
    ],
)
def test_bad_options(options, told):
    with pytest.raises(InputError, match=f"^rays_mlp.*{told}") as error:
        RaysMlp(options, HUMAN36M)
    assert "\n" not in str(error.value)


def test_the_phase_and_its_rate_follow_from_the_step(backbone):
    options = {"map_steps": 4, "ray_steps": 3, "image_steps": 2, "warmup_steps": 0, "recipe": "published"}
    training = RaysMlp(options | MOBILEONE, HUMAN36M).training(None, seed=0)
    assert [training.phase(step)[0] for step in range(11)] == ["maps"] * 4 + ["rays"] * 3 + ["images"] * 4
    rates = []
    for _ in range(training.steps):
        rates.append(tuple(group["lr"] for group in training.optimizer.param_groups))  # fusion, encoder
        training.optimizer.step()
        training.scheduler.step()
    expected = [(0, 1e-4)] * 4 + [(1e-3, 0)] * 3 + [(1e-5, 1e-5)] * 2
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    small = RaysMlp({"ray_steps": 3, "image_steps": 2, "warmup_steps": 0}, HUMAN36M).training(backbone, seed=0)
    assert len(small.optimizer.param_groups) == 1
    assert not any(p.requires_grad for p in small.model.backbone.parameters())


FIGURES = {"loss", "loss/hm", "loss/x3d", "x2d/l1", "x2d/l2", "x3d/l1", "x3d/l2"}


@pytest.mark.parametrize(
    ("options", "of_maps"),
    [
        ({"rigs": "random"}, None),
        ({"rigs": "own"}, None),
        ({**MOBILEONE, "rigs": "random"}, {"loss/hm", "loss/reg"}),
        ({**MOBILEONE, "rigs": "own", "recipe": "published"}, {"loss/hm", "loss/reg"}),
        ({**MOBILEONE, "rigs": "own", "recipe": "published", "compat": True}, {"loss/hm", "loss/reg"}),
    ],
)
def test_each_phase_trains_its_part_and_logs_its_figures(backbone, options, of_maps):
    steps = {"ray_steps": 1, "image_steps": 1, "rigs_per_pose": 2} | ({"map_steps": 1} if of_maps else {})
    training = RaysMlp(options | steps, HUMAN36M).training(backbone, seed=0)
    moments = [dotted_moment(seed, views=4) for seed in range(2)]
    batch = batch_of(training, moments)
    training.model.train()
    names = []
    for _ in range(training.steps):
        before = {key: value.clone() for key, value in training.model.state_dict().items()}
        torch.manual_seed(0)
        training.optimizer.zero_grad()
        losses = training.loss(batch)
        losses["total"].backward()
        assert all(torch.isfinite(value) for value in losses.values())
        assert all(p.grad is not None for p in training.model.parameters() if p.requires_grad)
        training.optimizer.step()
        training.scheduler.step()
        state = training.model.state_dict()
        names.append((set(losses), {key.split(".")[0] for key in state if not torch.equal(state[key], before[key])}))
    joint = options.get("recipe") == "published"
    *first, (of_rays, moved_by_rays), (of_images, moved_by_images) = names
    assert {"loss/x3d", "x3d/l1", "x3d/l2"} <= of_rays
    assert of_images >= FIGURES
    assert "fusion" in moved_by_rays
    if not options.get("compat"):  # with it whatever is trained goes on counting its batches
        assert moved_by_rays == {"fusion"}
    assert moved_by_images == ({"fusion", "backbone"} if joint else {"fusion"})
    if of_maps:
        assert of_maps <= first[0][0]
        assert first[0][1] == {"backbone"}


@pytest.mark.parametrize("options", [{"rigs": "own"}, {**MOBILEONE, "map_steps": 30}])
def test_the_loss_falls(backbone, options):
    options = {"ray_steps": 0 if "map_steps" in options else 30, "image_steps": 0, "warmup_steps": 0} | options
    training = RaysMlp(options | {"rigs_per_pose": 4}, HUMAN36M).training(backbone, seed=0)
    totals = totals_of_steps(training, batch_of(training, [dotted_moment(seed, views=4) for seed in range(3)]), 25)
    assert np.mean(totals[-5:]) < 0.9 * np.mean(totals[:3])


def test_a_training_that_is_cut_short_in_each_phase_ends_the_same(backbone, tmp_path):
    moments = [dotted_moment(seed, views=4) for seed in range(3)]

    class CutError(Exception):
        pass

    def trained(name, cuts=()):
        options = {"map_steps": 2, "ray_steps": 2, "image_steps": 2, "rigs_per_pose": 2, "batch_size": 2}
        for cut in (*cuts, None):

            def progress(step, steps, losses, cut=cut):
                if step == cut:
                    raise CutError

            training = RaysMlp(MOBILEONE | options, HUMAN36M).training(None, seed=0)
            rules = {"seed": 0, "state_path": tmp_path / name, "configuration": {}, "save_every": 1}
            with suppress(CutError):
                return fit(launch(1, "cpu"), training, moments, progress=progress, **rules)
        raise AssertionError("it never ended")

    whole, resumed = trained("whole"), trained("cut", cuts=(1, 3, 5))
    assert all(torch.equal(value, resumed.state[key]) for key, value in whole.state.items())
    assert whole.curve == resumed.curve
    assert {"loss/reg", "x3d/l2", "loss"} <= set(whole.curve)


def test_answers_depend_on_the_order_of_views_and_on_nothing_withheld(backbone, tmp_path):
    training = RaysMlp({}, HUMAN36M).training(backbone, seed=0)
    method = RaysMlp({}, HUMAN36M)
    method.load(own_checkpoint(training, tmp_path / "own.pt"), "cpu")
    assert not method.inputs.extrinsics
    assert method.inputs.views == (4, 4)
    sample = image_sample(0, 4)
    (answer,) = method.predict([sample])
    assert answer.frame == sample.views[0].name
    assert answer.columns == {}
    five = image_sample(0, 5)
    with pytest.raises(InputError, match=r"5 views.* 4"):
        method.predict([five])


def test_the_example_is_a_consistent_rig_also_mirrored(backbone):
    sample, truth = dotted_moment(0, views=5, dist=(0.1, -0.05, 0.001, 0.002, 0.0))
    for flip in (0.0, 1.0):
        training = RaysMlp({"augmentation": {"flip": flip}}, HUMAN36M).training(backbone, seed=0)
        example = training.example(sample, truth, np.random.default_rng(0))
        assert example["images"].shape == (4, SIDE, SIDE, 3)
        pinhole = example["points_px"] + example["lens_px"]
        points_mm, shown = example["points_mm"], example["weights"] > 0
        projected = np.einsum("vij,vkj->vki", example["K"], points_mm)
        projected = projected[..., :2] / projected[..., 2:]
        np.testing.assert_allclose(pinhole[shown], projected[shown], rtol=0, atol=1e-2)
        assert shown.mean() > 0.5
        of_views = [np.linalg.norm(points[:, None] - points, axis=-1) for points in points_mm]
        np.testing.assert_allclose(of_views[0], of_views[3], rtol=0, atol=0.1)
        mirror = HUMAN36M.flip_order if flip else list(range(len(HUMAN36M)))
        own = np.linalg.norm(truth.joints_mm[0][:, None] - truth.joints_mm[0], axis=-1)[mirror][:, mirror]
        np.testing.assert_allclose(of_views[0], own, rtol=0, atol=0.1)
        up = example["up"]
        heights = points_mm[0] @ up
        assert np.corrcoef(heights, truth.joints_mm[0][mirror, 2])[0, 1] > 0.999


def test_the_published_recipe_cuts_crops_from_frames_and_counts_noise_in_their_pixels():
    sample, truth = dotted_moment(0, views=4)
    options = {**MOBILEONE, "recipe": "published", "augmentation": {"flip": 1.0}}
    training = RaysMlp(options, HUMAN36M).training(None, seed=0)
    assert training.inputs.crop_px is None
    assert training.architecture["whole_frames"]
    examples = [training.example(sample, truth, np.random.default_rng(seed)) for seed in range(8)]
    for example in examples:
        np.testing.assert_allclose(example["focal_px"], sample.views[0].camera.K[0, 0])
        assert np.all(example["K"][:, 0, 0] > 0), "no mirror image"
    scales = np.concatenate([example["focal_px"] / example["K"][:, 0, 0] for example in examples])
    assert 1.08 < scales.min() < 1.13  # side of the square by that of the crop
    assert 1.17 < scales.max() <= 1.2
    ours = RaysMlp(MOBILEONE, HUMAN36M).training(None, seed=0)
    assert (training._options.noise_px, ours._options.noise_px) == (2.0, 1.5)
    crop = ours.example(sample, truth, np.random.default_rng(0))
    np.testing.assert_array_equal(crop["focal_px"], np.abs(crop["K"][:, 0, 0]))


def test_directions_of_joints_behind_a_camera_are_finite():
    assert torch.isfinite(directions(torch.tensor([[1.0, 2.0, -5.0], [1.0, 2.0, 0.0]]))).all()


def test_changes_of_colour_are_drawn_and_can_be_turned_off():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    same = ColourAugmentation(probability=0).draw(np.random.default_rng(0)).changed(image)
    np.testing.assert_allclose(same, image, atol=0.05)
    first, again = (ColourAugmentation(probability=1).draw(np.random.default_rng(1)) for _ in range(2))
    assert first == again
    assert np.abs(first.changed(image) - image).max() > 1


def test_boxes_are_shifted_by_shares_of_their_sides():
    assert jittered_square((10, 10, 20, 30), 1.5, (0.5, 0.25)) == (5, 10, 35, 40)


def test_published_files_that_are_refused(tmp_path):
    with torch.device("meta"):
        whole = RaysNet(RaysArchitecture(joints=HUMAN36M.joints, views=4, crop_px=384, encoder=EncoderSizes()))
    state = whole.state_dict()
    file = tmp_path / "pretrain.pth"
    for part, told in (("backbone.", r"pretrain\.pth"), ("fusion.", r"pretrain\.pth")):
        with pytest.raises(InputError, match=told):
            published({key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}, file)
    lacking = dict(state)
    lacking.pop("fusion.embed.0.bias")
    with pytest.raises(InputError, match=r"fusion\.embed\.0\.bias"):
        published(lacking, file)
    with pytest.raises(InputError, match=r"fusion\.more"):
        published(state | {"fusion.more": torch.zeros(1)}, file)
    torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"pretrain\.pth"):
        import_weights("rays_mlp", file)


def test_training_goes_on_from_weights_and_from_labelled_images(tmp_path):
    small = {**MOBILEONE, "map_steps": 1}
    training = RaysMlp(small, HUMAN36M).training(None, seed=0)
    path = own_checkpoint(training, tmp_path / "own.pt")
    again = RaysMlp(small | {"start_weights": str(path)}, HUMAN36M).training(None, seed=5)
    before = training.model.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in again.model.state_dict().items())
    assert not any(p.requires_grad for p in again.model.backbone.stage3.parameters())
    stages = {key: value for key, value in training.model.backbone.state_dict().items() if key.startswith("stage")}
    Checkpoint(IMAGENET, SMALL.plain(), stages).save(tmp_path / "images.pt")
    of_images = RaysMlp(small | {"start_weights": str(tmp_path / "images.pt")}, HUMAN36M).training(None, seed=5)
    found = of_images.model.backbone.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in stages.items())
    assert not any(p.requires_grad for p in of_images.model.backbone.stage0.parameters())
    assert any(p.requires_grad for p in of_images.model.backbone.upstage.parameters())
    with pytest.raises(InputError, match=r"own\.pt.*4 views"):
        RaysMlp(small | {"start_weights": str(path), "views": 3}, HUMAN36M).training(None, seed=0)
    with pytest.raises(InputError, match=r"own\.pt.*coco"):
        RaysMlp(small | {"start_weights": str(path)}, COCO).training(None, seed=0)
    read = Checkpoint.read(path)
    Checkpoint("dlt", read.architecture, read.state).save(tmp_path / "dlt.pt")
    with pytest.raises(InputError, match=r"dlt\.pt"):
        RaysMlp(small | {"start_weights": str(tmp_path / "dlt.pt")}, HUMAN36M).training(None, seed=0)


def test_weights_of_the_release_see_whole_frames_and_answer_alike_as_exported(tmp_path):
    options = {**MOBILEONE, "map_steps": 1, "recipe": "published", "compat": True}
    training = RaysMlp(options, HUMAN36M).training(None, seed=0)
    stirred(training.model)
    assert training.inputs.crop_px is None
    own_checkpoint(training, tmp_path / "own.pt")
    exported = folded(training.model)
    architecture = training.architecture | {"deploy": True}
    Checkpoint("rays_mlp", architecture, exported.state_dict()).save(tmp_path / "exported.pt")
    answers = []
    sample = dotted_moment(0, views=4)[0]
    for name in ("own", "exported"):
        method = RaysMlp({}, HUMAN36M)
        method.load(tmp_path / f"{name}.pt", "cpu")
        assert method.inputs.crop_px is None
        answers.append(method.predict([sample])[0].joints_mm)
    assert np.isfinite(answers[0]).all()
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-3, atol=1e-2)
    with pytest.raises(InputError, match=r"exported\.pt"):
        RaysMlp(MOBILEONE | {"map_steps": 1, "start_weights": str(tmp_path / "exported.pt")}, HUMAN36M).training(
            None, 0
        )
