"""The contract of methods/base.py, for whatever folder of methods/ holds a method.

A new folder is tested as soon as it has a ``method.py``; options that change what it does are added to ``VARIANTS``,
and those that make it do the same in less time to ``SMALL``.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import SIDE, image_sample, person, write_checkpoint
from scipy.spatial.transform import Rotation
from torch.utils.data import default_collate

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Sample, Truth
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.methods.base import Method, Training, answer_skeleton, find_learner, find_method, predicts
from poseboard.methods.checkpoint import Checkpoint, write_tensors
from poseboard.methods.volumetric import v2v

ROOM = Path(__file__).resolve().parents[2] / "methods"
FOLDERS = sorted(path.parent.name for path in ROOM.glob("*/method.py") if predicts(find_learner(path.parent.name)))
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "algebraic": [{"use_confidences": False}, {"recipe": "published"}],
    "dlt": [{"weighting": "peak"}, {"compat": True}],
    "epipolar": [
        {"fusion": "none"},
        {"fusion": "unconstrained"},
        {"recipe": "published"},
        {"triangulation": "pymvg"},
        {"triangulation": "epipolar"},
    ],
    "lifting": [
        {"network": "rotation"},
        {"network": "image_rotation"},
        {"recipe": "published"},
        {"network": "image_rotation", "recipe": "published"},
    ],
    "ransac": [{"compat": True}],
    "volumetric": [{"aggregation": "softmax"}, {"recipe": "published", "voxels": 32}],
}
SMALL: dict[str, dict[str, Any]] = {"volumetric": {"voxels": 16}}
OTHER: dict[str, dict[str, Any]] = {
    "algebraic": {"use_confidences": False},
    "epipolar": {"fusion": "unconstrained"},
    "lifting": {"network": "rotation"},
    "rays_mlp": {"views": 3},
    "volumetric": {"aggregation": "max"},
}
"""Options that need other weights than those of the default options."""
FROM_NOTHING = {"rootnet"}
"""Methods whose training needs nothing to start from."""
CASES = [(name, SMALL.get(name, {}) | options) for name in FOLDERS for options in ({}, *VARIANTS.get(name, []))]
pytestmark = pytest.mark.usefixtures("short_fits")


@pytest.fixture(scope="module", autouse=True)
def _narrow():
    """The published 3D network at a quarter of its widths: the same code, a tenth of the work."""
    wide = v2v.SHAPES["published"]
    narrow = wide._replace(front=4, width=8, levels=tuple(width // 4 for width in wide.levels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(v2v.SHAPES, "published", narrow)
        yield


@dataclass(frozen=True)
class Case:
    """A method with its options, the backbone it starts from, and its own checkpoint."""

    name: str
    options: dict[str, Any]
    start: Path
    checkpoint: Path

    def method(self, skeleton=HUMAN36M) -> Method:
        return find_method(self.name)(self.options, skeleton)

    def loaded(self) -> Method:
        method = self.method()
        method.load(self.checkpoint, "cpu")
        return method

    def training(self, seed=0) -> Training | None:
        return self.method().training(self.start, seed)


def moment(seed: int, views: int) -> tuple[Sample, Truth]:
    """A sample with a root, for the methods that declare one; the others look past it."""
    truth = person(seed)[None]
    sample = image_sample(seed, views, key=f"s{seed}")
    return replace(sample, root_mm=truth[:, HUMAN36M.root_index]), Truth(truth)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def case(request, tmp_path_factory):
    name, options = request.param
    folder = tmp_path_factory.mktemp(name)
    made = Case(name, options, write_checkpoint(folder / "backbone.pt", "backbone"), folder / "own.pt")
    training = made.training()
    if training is None:  # nothing is learned: the start is its checkpoint
        made.checkpoint.write_bytes(made.start.read_bytes())
        return made
    moments = [moment(seed, 3) for seed in range(2)]
    constants = training.finish([sample for sample, _ in moments], [truth for _, truth in moments])
    assert all(isinstance(value, float) for value in constants.values())
    Checkpoint(name, training.architecture, training.model.state_dict(), constants).save(made.checkpoint)
    return made


def test_the_folders_are_found():
    assert {"algebraic", "dlt", "ransac", "volumetric"} <= set(FOLDERS)
    assert set(VARIANTS) | set(SMALL) <= set(FOLDERS)
    assert all((ROOM / name / "README.md").is_file() for name in FOLDERS)
    folders = {path.parent for path in ROOM.glob("*/*.py")}
    assert all((path / "__init__.py").is_file() for path in folders)  # or no import contract sees it


def test_it_is_a_method_and_refuses_options_it_does_not_know(case):
    assert isinstance(case.method(), Method)
    with pytest.raises(InputError, match=f"^{case.name}.*no_such_option") as told:
        find_method(case.name)({**case.options, "no_such_option": 1}, HUMAN36M)
    assert "\n" not in str(told.value)


def test_it_loads_its_own_weights_only(case, tmp_path):
    assert case.loaded().inputs.crop_px == SIDE
    if answer_skeleton(case.loaded(), HUMAN36M) is HUMAN36M:
        with pytest.raises(InputError, match=COCO.name):
            case.method(COCO).load(case.checkpoint, "cpu")
    read = Checkpoint.read(case.checkpoint)
    replace(read, method="another").save(tmp_path / "another.pt")
    write_tensors(tmp_path / "empty.pt", {"format": 1, **replace(read, state=3).__dict__})
    lost = min(key for key in read.state if key.endswith("final_layer.bias"))
    replace(read, state={key: value for key, value in read.state.items() if key != lost}).save(tmp_path / "lacking.pt")
    (tmp_path / "cut.pt").write_bytes(case.checkpoint.read_bytes()[:1000])
    for wrong in ("another.pt", "empty.pt", "cut.pt", "absent.pt"):
        with pytest.raises(InputError, match=wrong):
            case.method().load(tmp_path / wrong, "cpu")
    with pytest.raises(InputError, match=rf"lacking\.pt.*{re.escape(lost)}"):
        case.method().load(tmp_path / "lacking.pt", "cpu")


@pytest.mark.parametrize("case", [(name, SMALL.get(name, {})) for name in OTHER], indirect=True, ids=list(OTHER))
def test_weights_of_other_options_are_refused(case):
    ((option, _),) = OTHER[case.name].items()
    with pytest.raises(InputError, match=option):
        find_method(case.name)({**case.options, **OTHER[case.name]}, HUMAN36M).load(case.checkpoint, "cpu")


def test_images_without_weights_are_refused(case):
    def without_a_checkpoint():
        method = case.method()
        method.load(None, "cpu")
        method.predict([image_sample(0, 3)])

    for call in (without_a_checkpoint, lambda: case.method().predict([image_sample(0, 3)])):
        with pytest.raises(InputError, match=f"^{case.name}"):
            call()


def test_answers_come_in_order_whatever_views_are_there(case):
    counts = (3, 1, 2, 0, 3)
    samples = [moment(seed, views)[0] for seed, views in enumerate(counts)]
    method = case.loaded()
    fewest = method.inputs.views[0]
    answers = method.predict(samples)
    assert len(answers) == len(samples)
    for sample, answer, views in zip(samples, answers, counts, strict=True):
        in_world = method.inputs.extrinsics or not views
        assert answer.frame == ("world" if in_world else sample.views[0].name)
        assert answer.skeleton is answer_skeleton(method, HUMAN36M)
        assert len(answer.score) == 1 or views < fewest
        assert np.isfinite(answer.score).all()
        assert np.isnan(answer.joints_mm).all() if views < fewest else np.isfinite(answer.joints_mm).all()
        alone = method.predict([sample])[0]
        np.testing.assert_allclose(alone.joints_mm, answer.joints_mm, rtol=1e-3, atol=0.5)
    assert len({frozenset(answer.columns) for answer in answers if len(answer.score)}) == 1  # or no file holds them
    assert method.predict([]) == []


def test_prediction_repeats_and_leaves_samples_alone(case):
    sample = moment(0, 4)[0]
    before = [(view.pixels().copy(), view.boxes_px.copy()) for view in sample.views]
    for view in sample.views:  # crops come from a read-only memory map
        view.image.flags.writeable = False
    method = case.loaded()
    first, again = method.predict([sample]), method.predict([sample])
    np.testing.assert_array_equal(first[0].joints_mm, again[0].joints_mm)
    for view, (pixels, boxes) in zip(sample.views, before, strict=True):
        np.testing.assert_array_equal(view.pixels(), pixels)
        np.testing.assert_array_equal(view.boxes_px, boxes)


def test_it_reads_no_part_of_a_camera_that_it_does_not_declare(case):
    method = case.loaded()
    hidden = {"intrinsics": not method.inputs.intrinsics, "extrinsics": not method.inputs.extrinsics}
    whole = [moment(seed, views)[0] for seed, views in enumerate((4, 3))]
    declared = [
        replace(s, views=tuple(replace(view, camera=view.camera.withhold(**hidden)) for view in s.views)) for s in whole
    ]
    for answer, expected in zip(method.predict(declared), method.predict(whole), strict=True):
        np.testing.assert_array_equal(answer.joints_mm, expected.joints_mm)


def at_precision(architecture, precision):
    """Plain values of an architecture, and of those within it, with another precision."""
    return {
        key: at_precision(value, precision) if isinstance(value, dict) else {"precision": precision}.get(key, value)
        for key, value in architecture.items()
    }


def test_predictions_are_float32_however_it_was_trained(case, tmp_path):
    read, answers = Checkpoint.read(case.checkpoint), []
    for precision in ("float32", "bf16"):
        replace(read, architecture=at_precision(read.architecture, precision)).save(tmp_path / "own.pt")
        method = case.method()
        method.load(tmp_path / "own.pt", "cpu")
        answers.append(method.predict([moment(0, 4)[0]])[0].joints_mm)
    np.testing.assert_array_equal(*answers)


def test_turning_the_world_turns_the_answer(case):
    turn = Rotation.from_euler("xyz", [0.4, -1.1, 2.0]).as_matrix()
    sample = image_sample(0, 4)
    views = [replace(view, camera=replace(view.camera, R=view.camera.R @ turn.T)) for view in sample.views]
    method = case.loaded()
    if method.inputs.root != "none":
        pytest.skip("its cube of voxels stands upright in the world")
    here, there = (method.predict([given])[0].joints_mm for given in (sample, replace(sample, views=tuple(views))))
    if not method.inputs.extrinsics:  # it answers in the camera's frame, and sees no world
        np.testing.assert_array_equal(there, here)
        return
    np.testing.assert_allclose(there, here @ turn.T, rtol=1e-3, atol=0.5)
    assert np.abs(there - here).max() > 10


def loss_of(training, batch):
    torch.manual_seed(0)  # as the loop does before every step, for dropout
    return training.loss(batch)


def test_training_is_a_pure_function_of_what_it_is_given(case):
    training = case.training()
    if training is None:
        case.method().load(case.start, "cpu")
        return
    assert isinstance(training, Training)
    assert training.steps > 0
    assert training.batch_size > 0
    assert training.inputs.crop_px == SIDE
    json.dumps(training.architecture)
    state, again = training.model.state_dict(), case.training().model.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in state.items())
    started = Checkpoint.read(case.start).state
    anew = case.name == "epipolar" and case.options.get("recipe") == "published"  # as the release: its last layer
    fresh = [
        key
        for key in state
        if case.name in FROM_NOTHING or key.removeprefix("backbone.") not in started or (anew and "final_layer." in key)
    ]
    assert all(torch.equal(state[key], started[key.removeprefix("backbone.")]) for key in state.keys() - set(fresh))
    other = case.training(seed=1).model.state_dict()
    assert not fresh or not all(torch.equal(state[key], other[key]) for key in fresh)

    each_view = getattr(case.method(), "each_view", False)  # then the harness gives one view at a time
    full, lacking = (moment(seed, 1 if each_view else views) for seed, views in ((0, 4), (1, 2)))
    lacking[1].joints_mm[0, 3] = np.nan  # nobody annotated it
    examples = [training.example(*full, np.random.default_rng(seed)) for seed in (1, 1)]
    assert examples[0].keys() == examples[1].keys()
    assert all(np.array_equal(value, examples[1][key]) for key, value in examples[0].items())

    of_lacking = training.example(*lacking, np.random.default_rng(2))
    assert of_lacking.get("known", np.zeros(1)).sum() in (0, len(HUMAN36M) - 1)
    batch = default_collate([examples[0], of_lacking])
    training.model.train()
    losses, same = loss_of(training, batch), loss_of(training, batch)
    assert all(value.shape == () and torch.isfinite(value) for value in losses.values())
    assert all(torch.equal(value, same[name]) for name, value in losses.items())
    losses["total"].backward()
    gradients = [p.grad for p in training.model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    optimised = [id(p) for group in training.optimizer.param_groups for p in group["params"]]
    assert sorted(optimised) == sorted(id(p) for p in training.model.parameters() if p.requires_grad)
    assert training.optimizer.state_dict()["state"] == {}


def test_training_without_a_start_is_told_unless_nothing_is_learned(case):
    if case.training() is None:
        assert case.method().training(None, 0) is None
        return
    if case.name in FROM_NOTHING:
        assert isinstance(case.method().training(None, 0), Training)
        return
    with pytest.raises(InputError, match="after: backbone"):
        case.method().training(None, 0)
