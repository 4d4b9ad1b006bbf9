import numpy as np
import pytest
import torch
from made_up import SIDE, batch_of, totals_of_steps
from made_up import dotted_moment as moment

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Truth
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.backbone.method import Backbone
from poseboard.methods.batches.augmentation import NO_AUGMENTATION, Augmentation, augment, transform_points
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.heatmap_training import HeatmapTraining
from poseboard.methods.nets.training import warmup_cosine

TINY = {"image_px": SIDE, "steps": 4, "batch_size": 4, "warmup_steps": 0}


def test_a_few_steps_reduce_the_loss():
    training = Backbone(TINY, HUMAN36M).training(None, seed=0)
    totals = totals_of_steps(training, batch_of(training, map(moment, range(4))), 8)
    assert totals[-1] < 0.9 * totals[0]


def test_weights_are_a_function_of_the_seed():
    first, again, other = (Backbone(TINY, HUMAN36M).training(None, seed=s).model.state_dict() for s in (3, 3, 4))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    Backbone(TINY, HUMAN36M).training(None, seed=0)
    assert torch.equal(torch.rand(3), wanted)


def test_flip_mirrors_the_crop_and_swaps_left_and_right():
    flip = {**NO_AUGMENTATION.model_dump(), "flip": 1.0}
    training = Backbone({**TINY, "augmentation": flip}, HUMAN36M).training(None, seed=0)
    sample, truth = moment(0, views=1)
    example = training.example(sample, truth, np.random.default_rng(0))
    np.testing.assert_array_equal(example["image"], sample.views[0].pixels()[:, ::-1])
    seen = sample.views[0].camera.project(truth.joints_mm[0])
    left, right = HUMAN36M.indices(["left_knee", "right_knee"])
    for mirrored, original in ((left, right), (right, left)):
        wanted = [SIDE - 1 - seen[original, 0], seen[original, 1]]
        np.testing.assert_allclose(example["points_px"][mirrored], wanted, atol=1e-4)


def test_without_augmentation_the_crop_and_the_projection_are_left():
    training = Backbone({**TINY, "augmentation": NO_AUGMENTATION.model_dump()}, HUMAN36M).training(None, seed=0)
    sample, truth = moment(2, views=1, dist=(0.1, 0, 0.01, 0, 0))
    example = training.example(sample, truth, np.random.default_rng(0))
    np.testing.assert_array_equal(example["image"], sample.views[0].pixels())
    seen = sample.views[0].camera.project(truth.joints_mm[0])
    known = example["weights"] > 0
    assert known.sum() > 8
    np.testing.assert_allclose(example["points_px"][known], seen[known], atol=1e-4)


def test_joints_annotated_as_hidden_do_not_count():
    training = Backbone({**TINY, "augmentation": NO_AUGMENTATION.model_dump()}, HUMAN36M).training(None, seed=0)
    sample, truth = moment(0)
    shown = training.example(sample, truth, np.random.default_rng(0))["weights"]
    hidden = int(np.argmax(shown))
    seen = {view.name: np.arange(len(HUMAN36M))[None] != hidden for view in sample.views}
    again = training.example(sample, Truth(truth.joints_mm, seen), np.random.default_rng(0))["weights"]
    assert np.flatnonzero(again != shown).tolist() == [hidden]
    assert again[hidden] == 0


def test_unknown_and_outside_joints_do_not_count():
    training = Backbone({**TINY, "augmentation": NO_AUGMENTATION.model_dump()}, HUMAN36M).training(None, seed=0)
    sample, truth = moment(0)
    joints = truth.joints_mm.copy()
    joints[0, 0], joints[0, 1] = np.nan, (0, 0, 9000)
    example = training.example(sample, Truth(joints), np.random.default_rng(0))
    assert example["weights"][:2].tolist() == [0, 0]
    assert np.isfinite(example["points_px"]).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_augmentation_moves_pixels_as_its_matrix_says(mirrored):
    settings = Augmentation(rotation_deg=30, scale=0.2, shift=0.1, brightness=0, colour=0)
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    image[25:28, 38:41] = 255
    moved, A = augment(image, settings, np.random.default_rng(3), mirrored=mirrored)
    mass = moved[..., 0] / moved[..., 0].sum()
    centre = [(mass.sum(0) * np.arange(SIDE)).sum(), (mass.sum(1) * np.arange(SIDE)).sum()]
    np.testing.assert_allclose(transform_points(A, np.array([39.0, 26.0])), centre, atol=0.1)
    assert (np.linalg.det(A) < 0) == mirrored


def test_continued_from_a_checkpoint(tmp_path):
    first = Backbone(TINY, HUMAN36M).training(None, seed=0)
    path = tmp_path / "backbone.pt"
    Checkpoint("backbone", first.architecture, first.model.state_dict()).save(path)
    wider = {**TINY, "image_px": 96}
    for second in (
        Backbone(wider, HUMAN36M).training(path, seed=9),
        Backbone({**wider, "start_weights": str(path)}, HUMAN36M).training(None, seed=9),
    ):
        assert isinstance(second, HeatmapTraining)
        state = second.model.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in first.model.state_dict().items())
        assert second.inputs.crop_px == SIDE
    with pytest.raises(InputError, match=r"backbone: start_weights: .*absent\.pt"):
        Backbone({"start_weights": "absent.pt"}, HUMAN36M).training(None, seed=0)


def test_the_rate_rises_then_falls_to_nothing():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = warmup_cosine(optimizer, steps=20, warmup_steps=4)
    rates = []
    for _ in range(20):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    top = int(np.argmax(rates))
    assert 0 < rates[0] < 0.3
    assert 3 <= top <= 5
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.02


@pytest.mark.parametrize(("field", "value"), [("architecture", "resnet7"), ("image_px", 50), ("colour", 1)])
def test_wrong_options_are_named(field, value):
    with pytest.raises(InputError, match=rf"backbone\W+{field}"):
        Backbone({field: value}, HUMAN36M)
