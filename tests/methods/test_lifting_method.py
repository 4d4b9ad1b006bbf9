"""Lifting: what its frames are, that mirrored and turned crops fit their poses, that it learns, and what it may see."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import SIDE, cameras, image_sample, person, totals_of_steps
from scipy.spatial.transform import Rotation
from torch.utils.data import default_collate

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.rhd import RHD_HAND
from poseboard.datasets.sample import HANDS, Group, Sample, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.batches.augmentation import NO_AUGMENTATION
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.lifting.canonical import axis_angle_to_matrix, canonicalise, ray_rotation
from poseboard.methods.lifting.method import Lifting
from poseboard.methods.lifting.model import CANONICAL, RELEASED_MAPS, Joints, canonical_indices, mirrored
from poseboard.methods.nets.architecture import Architecture

PLAIN = NO_AUGMENTATION.model_dump()
TINY = {"steps": 4, "batch_size": 2, "warmup_steps": 0}
NETWORKS = ("direct", "rotation", "image_rotation")


@pytest.fixture(scope="module")
def hand_backbone(tmp_path_factory):
    architecture = Architecture(network="small", joints=RHD_HAND.joints, crop_px=SIDE)
    path = tmp_path_factory.mktemp("hand") / "backbone.pt"
    Checkpoint("backbone", architecture.plain(), architecture.build(seed=1).state_dict()).save(path)
    return path


def moment(seed, views=3):
    return image_sample(seed, views, key=f"s{seed}"), Truth(person(seed)[None])


def hand(seed, side):
    rng = np.random.default_rng(seed)
    joints_mm = rng.uniform((-80, -80, 420), (80, 80, 580), (1, 21, 3))
    camera = Camera(np.array([[100.0, 0, 32], [0, 100, 32], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(SIDE, SIDE))
    view = View("camera", camera, rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), np.zeros((1, 4)))
    group = Group("rhd", f"{HANDS[side]} hand", f"h{seed}")
    return Sample(f"h{seed}", (view,), group, hand=HANDS[side]), Truth(joints_mm)


def kabsch_error(a, b):
    """Distance of two poses about their roots after the best proper rotation."""
    return Rotation.align_vectors(a, b)[1]


poses = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=(5, 17, 3)))


@settings(deadline=None, max_examples=30)
@given(poses)
def test_canonical_poses_are_turned_only_and_look_alike_however_the_person_turns(batch):
    axis, plane, _ = canonical_indices(HUMAN36M)
    canonical, R = canonicalise(batch, axis, plane)
    np.testing.assert_allclose(canonical @ R, batch, atol=1e-9)
    np.testing.assert_allclose(R @ np.swapaxes(R, -1, -2), np.broadcast_to(np.eye(3), R.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-9)
    np.testing.assert_allclose(canonical[:, axis, [0, 2]], 0, atol=1e-9)
    assert (canonical[:, axis, 1] < 0).all()
    np.testing.assert_allclose(canonical[:, plane, 2], 0, atol=1e-9)
    assert (canonical[:, plane, 0] > 0).all()
    turns = Rotation.random(5, random_state=0).as_matrix()
    again, _ = canonicalise(batch @ turns, axis, plane)
    np.testing.assert_allclose(again, canonical, atol=1e-7)


def test_a_pose_without_its_frame_is_unknown():
    pose = np.random.default_rng(0).normal(size=(17, 3))
    axis, plane, _ = canonical_indices(HUMAN36M)
    for lost in (axis, plane):
        spoilt = pose.copy()
        spoilt[lost] = np.nan
        assert np.isnan(canonicalise(spoilt, axis, plane)[1]).any()
    spoilt = pose.copy()
    spoilt[plane] = 2 * spoilt[axis]  # on one line with the root
    assert np.isnan(canonicalise(spoilt, axis, plane)[0]).any()


@settings(deadline=None, max_examples=50)
@given(st.tuples(*[st.floats(-3, 3)] * 3))
def test_axis_angle_is_the_rotation_vector(vector):
    found = axis_angle_to_matrix(torch.tensor(vector, dtype=torch.float64))
    np.testing.assert_allclose(found, Rotation.from_rotvec(vector).as_matrix(), atol=2e-4)


def test_axis_angle_has_a_gradient_at_zero():
    vector = torch.zeros(3, requires_grad=True)
    axis_angle_to_matrix(vector)[0, 1].backward()
    assert torch.isfinite(vector.grad).all()
    assert vector.grad[2] == pytest.approx(-1, abs=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.floats(-2000, 3000), st.floats(-2000, 3000))
def test_the_ray_through_the_pixel_becomes_the_axis(x, y):
    K = np.array([[1145.0, 0, 512], [0, 1143, 515], [0, 0, 1]])
    R = ray_rotation(K, (x, y))
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    ray = np.linalg.inv(K) @ (x, y, 1)
    np.testing.assert_allclose(R @ ray, (0, 0, np.linalg.norm(ray)), atol=1e-9)
    angle = np.arccos(ray[2] / np.linalg.norm(ray))
    assert np.linalg.norm(Rotation.from_matrix(R).as_rotvec()) == pytest.approx(angle, abs=1e-7)  # none about the axis


@pytest.mark.parametrize("recipe", ["small", "published"])
def test_targets_are_the_truth_about_the_root(backbone, recipe):
    training = Lifting({"recipe": recipe, "augmentation": PLAIN}, HUMAN36M).training(backbone, 0)
    sample, truth = moment(0)
    root, scale = HUMAN36M.root_index, HUMAN36M.indices(["thorax", "pelvis"])
    views = set()
    for view in sample.views:  # crops come from a read-only memory map
        view.image.flags.writeable = False
    for seed in range(12):
        example = training.example(sample, truth, np.random.default_rng(seed))
        assert example["image"].flags.writeable
        joints_mm = truth.joints_mm[0]
        size = np.linalg.norm(joints_mm[scale[0]] - joints_mm[scale[1]])
        assert example["scale_mm"][0] == pytest.approx(size, rel=1e-5)
        np.testing.assert_allclose(example["canonical"] @ example["R"], example["pose"], atol=1e-4)
        fits = []
        for i, view in enumerate(sample.views):
            turn = view.camera.R
            if recipe == "small":
                turn = ray_rotation(view.camera.K, ((SIDE - 1) / 2,) * 2) @ turn
            want = (joints_mm - joints_mm[root]) @ turn.T / size
            fits += [i] if np.allclose(example["pose"], want, atol=1e-4) else []
        assert len(fits) == 1
        views |= set(fits)
    assert views == {0, 1, 2}


@pytest.mark.parametrize("change", [{"flip": 1.0}, {"rotation_deg": 60.0}, {"flip": 1.0, "rotation_deg": 60.0}])
def test_a_changed_crop_shows_its_changed_pose(backbone, change):
    """A far camera with its axis on the person is nearly orthographic: pixels are the pose's x and y, scaled."""
    options = {"augmentation": {**PLAIN, **change}}
    training = Lifting(options, HUMAN36M).training(backbone, 0)
    joints_mm = person(3)
    joints_mm = joints_mm - joints_mm[HUMAN36M.root_index]
    R = Rotation.random(random_state=5).as_matrix()
    centre = (SIDE - 1) / 2
    K = np.array([[4000.0, 0, centre], [0, 4000, centre], [0, 0, 1]])
    camera = Camera(K, R, np.array([0, 0, 400_000.0]), size=(SIDE, SIDE))
    view = View("far", camera, np.zeros((SIDE, SIDE, 3), dtype=np.uint8), np.zeros((1, 4)))
    example = training.example(
        Sample("s", (view,), Group("S1", "A", "q")), Truth(joints_mm[None]), np.random.default_rng(1)
    )
    seen = example["weights"] > 0
    assert seen.sum() > 10
    drawn = centre + example["pose"][:, :2] * example["scale_mm"] * 4000 / 400_000
    np.testing.assert_allclose(example["points_px"][seen], drawn[seen], atol=0.1)
    plain = joints_mm @ R.T / example["scale_mm"]
    assert not np.allclose(example["pose"], plain, atol=0.05)
    reference = plain * (-1, 1, 1) if "flip" in change else plain
    if "flip" in change:
        reference = reference[HUMAN36M.flip_order]
    assert kabsch_error(example["pose"], reference) < 1e-3
    np.testing.assert_allclose(
        example["pose"][:, 2], plain[HUMAN36M.flip_order if "flip" in change else ..., 2], atol=1e-4
    )


def test_joints_that_nobody_annotated_teach_nothing(backbone):
    training = Lifting({"network": "rotation", "augmentation": PLAIN}, HUMAN36M).training(backbone, 0)
    axis, plane, _ = canonical_indices(HUMAN36M)
    for lost, known, framed in ((0, 16, 16), (plane, 16, 0), (axis, 0, 0), (HUMAN36M.root_index, 0, 0)):
        sample, truth = moment(0)
        truth.joints_mm[0, lost] = np.nan
        example = training.example(sample, truth, np.random.default_rng(0))
        assert (example["known"].sum(), example["framed"].sum()) == (known, framed)
        assert all(np.isfinite(value).all() for value in example.values())
        torch.manual_seed(0)
        assert torch.isfinite(training.loss(default_collate([example]))["total"])


@pytest.mark.parametrize("network", ["direct", "rotation"])
def test_a_fresh_network_tells_poses_apart_in_the_recipe_of_few_steps(backbone, network):
    """Six convolutions of the framework's own weights, the release's, leave little of what they are given."""
    maps = torch.rand(64, len(HUMAN36M), 16, 16, generator=torch.Generator().manual_seed(0))

    def kept(recipe):
        net = Lifting({**TINY, "network": network, "recipe": recipe}, HUMAN36M).training(backbone, 0).model.liftingnet
        branches = [branch for branch in (net.conv1, net.conv2) if branch is not None]
        with torch.no_grad():
            return [float(branch(maps).std(dim=0).mean() / maps.std()) for branch in branches]

    assert all(0.1 < share < 2 for share in kept("small"))
    assert all(share < 0.02 for share in kept("published"))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("recipe", ["small", "published"])
def test_every_network_trains(backbone, network, recipe):
    """One view again and again is learned, by image_rotation too, which in the release had no targets to learn from."""
    rate = 3e-3  # the release's 1e-5 takes longer than a test
    options = {**TINY, "network": network, "recipe": recipe, "augmentation": PLAIN, "learning_rate": rate}
    options["maps"] = "predicted"
    training = Lifting(options, HUMAN36M).training(backbone, 0)
    examples = [training.example(*moment(seed, 1), np.random.default_rng(seed)) for seed in range(2)]
    batch = default_collate(examples)
    training.model.train()
    errors = []
    for step in range(40):
        torch.manual_seed(step)
        training.optimizer.zero_grad()
        losses = training.loss(batch)
        losses["total"].backward()
        missing = [n for n, p in training.model.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing, "several processes wait for gradients that never come"
        training.optimizer.step()
        errors.append(float(losses["error_mm"]))
    # Single steps at this rate go up and down, by how much depends on the processor's order of sums.
    assert np.mean(errors[-10:]) < 0.75 * errors[0]


@pytest.mark.parametrize("recipe", ["small", "published"])
@pytest.mark.parametrize("network", ["direct", "rotation"])
def test_networks_on_drawn_maps_train_without_their_backbone(backbone, hand_backbone, network, recipe):
    options = {**TINY, "network": network, "recipe": recipe, "maps": "drawn", "augmentation": PLAIN}
    options["learning_rate"] = 3e-3
    for skeleton, start, pairs in (
        (HUMAN36M, backbone, [moment(seed, 1) for seed in range(2)]),
        (RHD_HAND, hand_backbone, [hand(seed, seed) for seed in range(2)]),
    ):
        training = Lifting(options, skeleton).training(start, 0)
        assert training.architecture["drawn"] == RELEASED_MAPS[skeleton.name].model_dump()
        before = {name: value.clone() for name, value in training.model.backbone.state_dict().items()}
        batch = default_collate([training.example(*pair, np.random.default_rng(i)) for i, pair in enumerate(pairs)])
        totals = totals_of_steps(training, batch, 30)
        assert all(p.grad is not None for p in training.model.parameters() if p.requires_grad)
        assert totals[-1] < 0.9 * totals[0]
        after = training.model.backbone.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(InputError, match="image_rotation"):
        Lifting({"network": "image_rotation", "maps": "drawn"}, HUMAN36M)


def test_the_published_loss_masks_what_a_crop_does_not_show(backbone, hand_backbone):
    """Of bodies, joints outside the crop and hidden ones; of hands the hidden ones. Maps of bodies are drawn of all."""
    options = {"recipe": "published", "network": "rotation"}
    for skeleton, start, (sample, pose), bodies in (
        (HUMAN36M, backbone, moment(0, 1), True),
        (RHD_HAND, hand_backbone, hand(0, 1), False),
    ):
        training = Lifting(options, skeleton).training(start, 0)
        (view,) = sample.views
        px = view.camera.project(pose.joints_mm[0])
        px[3] = (SIDE - 0.3, 20.0)
        px[4] = (SIDE + 0.3, 20.0)
        seen = np.ones((1, len(skeleton)), dtype=bool)
        seen[0, 5] = False
        truth = replace(pose, seen={view.name: seen}, annotated={view.name: view.camera.normalised(px)[None]})
        inside = ((px >= 0) & (px < SIDE)).all(axis=-1)
        assert inside.sum() > 10
        example = training.example(sample, truth, np.random.default_rng(0))
        expected = seen[0] & inside if bodies else seen[0]
        for field in ("known", "framed"):
            np.testing.assert_array_equal(example[field][:, 0] > 0, expected)
        np.testing.assert_allclose(example["points_px"], px, atol=1e-3)
        np.testing.assert_array_equal(example["drawn"] > 0, True if bodies else seen[0])


def test_a_joint_outside_the_crop_has_an_empty_map(hand_backbone):
    training = Lifting({"maps": "drawn", "augmentation": PLAIN}, RHD_HAND).training(hand_backbone, 0)
    sample, truth = hand(0, 1)
    truth.joints_mm[0, 4] = (4000.0, 0.0, 500.0)
    batch = default_collate([training.example(sample, truth, np.random.default_rng(0))])
    joints = Joints(batch["points_px"], batch["weights"])
    _, maps = training.model(torch.empty(0), batch["side"], joints)
    assert maps.shape == (1, 21, 224, 224)
    empty = (maps == 0).all(dim=(-2, -1))[0]
    assert empty.tolist() == [joint == 4 for joint in range(21)]
    body = RELEASED_MAPS[HUMAN36M.name].draw(batch["points_px"], SIDE, batch["weights"])[0]
    np.testing.assert_allclose(body[4], 0.01, rtol=1e-6)
    assert body[12].max() > 0.9
    # the crop fills the upper left corner, its rows along the map's columns
    x, y = batch["points_px"][0, 12].tolist()
    peak = divmod(int(maps[0, 12].argmax()), 224)
    assert peak == pytest.approx((x * 64 / SIDE, y * 64 / SIDE), abs=1)


def saved(training, folder, **constants):
    path = folder / "lifting.pt"
    samples, truths = zip(*(moment(seed) for seed in range(3)), strict=True)
    found = {**training.finish(samples, truths), **constants}
    Checkpoint("lifting", training.architecture, training.model.state_dict(), found).save(path)
    return path


def withheld(sample):
    """As the harness hands a sample to a method that sees one view and no extrinsics."""
    view = sample.views[0]
    return replace(
        sample, views=(replace(view, name="view-0", camera=view.camera.withhold(intrinsics=False, extrinsics=True)),)
    )


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("recipe", ["small", "published"])
def test_answers_are_about_the_root_in_the_frame_of_the_view(backbone, tmp_path, network, recipe):
    options = {"network": network, "recipe": recipe}
    training = Lifting(options, HUMAN36M).training(backbone, 0)
    method = Lifting(options, HUMAN36M)
    method.load(saved(training, tmp_path), "cpu")
    assert (method.inputs.views, method.inputs.extrinsics, method.inputs.crop_px) == ((1, 1), False, SIDE)
    samples = [withheld(image_sample(seed, 1, key=f"s{seed}")) for seed in range(3)]
    answers = method.predict(samples)
    for answer in answers:
        assert answer.frame == "view-0"
        assert np.ptp(answer.joints_mm) > 1
    training.model.eval()
    images = torch.from_numpy(np.stack([sample.views[0].pixels() for sample in samples]))
    with torch.inference_mode():
        lifted, _ = training.model(training.model.architecture.backbone.prepare(images))
    (size,) = {float(answer.columns["size_mm"][0]) for answer in answers}
    assert size == training.finish(*zip(*(moment(seed) for seed in range(3)), strict=True))["scale_mm"]
    for answer, sample, pose in zip(answers, samples, lifted.pose.double().numpy(), strict=True):
        turn = ray_rotation(sample.views[0].camera.K, ((SIDE - 1) / 2,) * 2) if recipe == "small" else np.eye(3)
        want = size * pose @ turn
        np.testing.assert_allclose(answer.joints_mm[0], want, atol=1e-3)


@pytest.mark.parametrize("network", ["direct", "image_rotation"])
def test_the_median_of_several_views(backbone, tmp_path, network):
    """Each view as it is lifted alone, in the world's axes; samples may have different numbers of views."""
    training = Lifting({"network": network}, HUMAN36M).training(backbone, 0)
    path = saved(training, tmp_path)
    alone, several = Lifting({"network": network}, HUMAN36M), Lifting({"network": network, "views": "median"}, HUMAN36M)
    for method in (alone, several):
        method.load(path, "cpu")
    assert (several.inputs.views[0], several.inputs.extrinsics, several.inputs.root) == (2, True, "predicted")
    assert several.inputs.crop_px == SIDE
    roots = np.random.default_rng(0).normal(size=(3, 1, 3)) * 1000
    samples = [
        replace(image_sample(seed, views, key=f"s{seed}"), root_mm=roots[seed]) for seed, views in enumerate((3, 2, 4))
    ]
    nobody = [replace(samples[0], root_mm=None), replace(samples[0], views=())]
    answers = several.predict([*samples, *nobody])
    for answer, sample, root in zip(answers, samples, roots[:, 0], strict=False):
        assert answer.frame == "world"
        poses = [
            alone.predict([replace(sample, views=(view,))])[0].joints_mm[0] @ view.camera.R for view in sample.views
        ]
        want = np.median(poses, axis=0)
        np.testing.assert_allclose(answer.joints_mm[0], want - want[HUMAN36M.root_index] + root, atol=1e-2)
        assert 0 < answer.score[0] <= 1
    assert all(np.isnan(answer.joints_mm).all() for answer in answers[3:])
    assert several.predict([]) == []


def test_the_size_is_the_median_of_training(backbone):
    training = Lifting({}, HUMAN36M).training(backbone, 0)
    pairs = [moment(seed) for seed in range(5)]
    pairs[0][1].joints_mm[0, HUMAN36M.indices(["thorax"])] = np.nan
    sizes = [np.linalg.norm(np.subtract(*t.joints_mm[0, HUMAN36M.indices(["thorax", "pelvis"])])) for _, t in pairs]
    found = training.finish(*zip(*pairs, strict=True))["scale_mm"]
    assert found == pytest.approx(np.median(sizes[1:]))
    with pytest.raises(InputError, match="size"):
        training.finish(*zip(pairs[0], strict=True))


def test_checkpoints_without_a_size_are_refused(backbone, tmp_path):
    path = saved(Lifting({}, HUMAN36M).training(backbone, 0), tmp_path)
    assert {key.partition(".")[0] for key in Checkpoint.read(path).state} == {"backbone", "liftingnet"}
    read = Checkpoint.read(path)
    replace(read, constants={}).save(path)
    with pytest.raises(InputError, match="scale_mm"):
        Lifting({}, HUMAN36M).load(path, "cpu")


def test_a_joint_set_without_a_frame_cannot_be_trained(backbone):
    with pytest.raises(InputError, match=r"other.*human36m-17, rhd-21"):
        Lifting({}, replace(HUMAN36M, name="other")).training(backbone, 0)
    assert set(CANONICAL) == {HUMAN36M.name, RHD_HAND.name}
    assert [RHD_HAND.joints[i] for i in (12, 20)] == [CANONICAL["rhd-21"].axis, CANONICAL["rhd-21"].plane]
    assert canonical_indices(RHD_HAND) == (12, 20, (12, 11))


@pytest.mark.parametrize("recipe", ["small", "published"])
def test_hidden_joints_are_masked_in_the_published_loss_alone(hand_backbone, recipe):
    sample, truth = hand(0, 0)
    shown = np.arange(21) != 7
    plain = {**TINY, "recipe": recipe, "augmentation": PLAIN}
    training = Lifting(plain, RHD_HAND).training(hand_backbone, 0)
    made = training.example(sample, Truth(truth.joints_mm, {"camera": shown[None]}), np.random.default_rng(0))
    assert made["weights"][7] == 0
    for mask in ("known", "framed"):
        assert made[mask][:, 0].tolist() == (shown if recipe == "published" else np.ones(21)).tolist()


@pytest.mark.parametrize("network", NETWORKS)
def test_hands_are_told_apart(hand_backbone, tmp_path, network):
    options = {**TINY, "network": network, "mirror_right": True}
    training = Lifting({**options, "augmentation": PLAIN}, RHD_HAND).training(hand_backbone, 0)
    assert training.architecture["handed"]
    assert not Lifting({**options, "handed": False}, RHD_HAND).training(hand_backbone, 0).architecture["handed"]
    left, right = (training.example(*hand(1, side), np.random.default_rng(0)) for side in range(2))
    assert (left["side"][0], right["side"][0]) == (0, 1)
    np.testing.assert_array_equal(left["pose"], right["pose"])
    np.testing.assert_allclose(left["canonical"] * (1, 1, -1), right["canonical"], atol=1e-6)
    own = mirrored(torch.from_numpy(right["canonical"])[None], torch.ones(1, 1))[0]
    np.testing.assert_allclose(own.numpy() @ right["R"], right["pose"], atol=1e-5)

    flipping = Lifting({**options, "augmentation": {**PLAIN, "flip": 1.0}}, RHD_HAND).training(hand_backbone, 0)
    assert flipping.example(*hand(1, 0), np.random.default_rng(0))["side"][0] == 1

    path = tmp_path / "lifting.pt"
    Checkpoint("lifting", training.architecture, training.model.state_dict(), {"scale_mm": 25.0}).save(path)
    method = Lifting(options, RHD_HAND)
    method.load(path, "cpu")
    first, second = method.predict([hand(1, 0)[0], hand(1, 1)[0]])
    assert not np.allclose(first.joints_mm, second.joints_mm)
    with pytest.raises(InputError, match=r"lifting: s0: .*handed"):
        method.predict([image_sample(0, 1, key="s0")])


def test_cameras_off_the_axis_do_not_bend_the_answer(backbone, tmp_path):
    """The same crop at another place of the picture: the same pose, as it looks along another ray."""
    training = Lifting({}, HUMAN36M).training(backbone, 0)
    method = Lifting({}, HUMAN36M)
    method.load(saved(training, tmp_path), "cpu")
    sample = image_sample(0, 1)
    view = sample.views[0]
    K = cameras(1, size=SIDE)[0].K.copy()
    K[0, 2] -= 40
    moved = replace(sample, views=(replace(view, camera=replace(view.camera, K=K)),))
    here, there = (answer.joints_mm[0] for answer in method.predict([sample, moved]))
    turn = ray_rotation(K, ((SIDE - 1) / 2,) * 2).T @ ray_rotation(view.camera.K, ((SIDE - 1) / 2,) * 2)
    np.testing.assert_allclose(there, here @ turn.T, atol=1e-3)
    assert np.abs(there - here).max() > 1
