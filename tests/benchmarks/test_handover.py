"""The steps between a data set and a method, each alone, and the chain of them on made-up people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseboard.benchmarks.handover import (
    Handover,
    choose_cameras,
    count_people,
    crop,
    merge_people,
    one_person,
    poses_of,
    rig_groups,
    truth_of,
    withhold,
)
from poseboard.benchmarks.harness import predict
from poseboard.benchmarks.perturb import perturb
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Group, Poses, Sample, Status, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import Inputs, declared_inputs
from poseboard.protocols.perturbation import Perturbation
from poseboard.protocols.views import SeenBy

J = len(HUMAN36M)
CAMERAS = ("a", "b", "c")


class Crowd:
    """As many people as the number of the frame says, each with a grey level of their own in every image."""

    name, skeleton, synthetic, views, splits = "crowd", HUMAN36M, True, CAMERAS, ("train", "test")

    def facts(self, split: str) -> Facts:
        return Facts(boxes="annotated", truth="synthetic")

    def status(self) -> Status:
        return Status("ready", "", "")

    def manifest(self) -> str:
        return "crowd"

    def keys(self, split: str) -> list[str]:
        return [f"{split}/{people}" for people in (1, 3, 0, 2)]

    def people(self, key: str) -> int:
        return int(key.split("/")[1])

    def sample(self, key: str) -> Sample:
        people = self.people(key)
        left = 20.0 * np.arange(people)
        boxes = np.stack([left, np.zeros(people), left + 16, np.full(people, 16.0)], axis=1)
        image = np.zeros((16, 64, 3), dtype=np.uint8)
        for person in range(people):
            image[:, 20 * person : 20 * person + 16] = 50 + 50 * person
        joints_px = np.tile(left[:, None, None], (1, J, 2))
        views = []
        for number, name in enumerate(CAMERAS):
            camera = Camera(np.diag([60.0, 60.0, 1.0]), np.eye(3), np.array([0, 0, 1000.0 + number]), size=(64, 16))
            views.append(View(name, camera, image, boxes, joints_px, np.ones((people, J))))
        return Sample(key, tuple(views), Group("S1", "Walking", key.split("/", maxsplit=1)[0]))

    def truth(self, key: str) -> Truth:
        people = self.people(key)
        joints_mm = np.full((people, J, 3), 100.0) * np.arange(people)[:, None, None]
        return Truth(joints_mm, {"a": np.ones((people, J), dtype=bool)}, {"a": np.zeros((people, J, 2))})


def handover(folder: Path, inputs: Inputs, cameras: Sequence[str] | None = None, **more: object) -> Handover:
    return Handover(Crowd(), inputs, folder, cameras, **more)  # type: ignore[arg-type]


def plain(sample: Sample) -> list[object]:
    """What a sample holds, by value."""
    held: list[object] = [sample.key, sample.group, sample.hand, sample.root_mm]
    for view in sample.views:
        camera = {name: value for name, value in vars(view.camera).items() if isinstance(value, np.ndarray)}
        held += [view.name, *camera.values(), view.image, view.boxes_px, view.joints_px, view.confidence]
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in held]


# --- each step alone ---


STEPS = {
    "choose cameras": lambda sample: choose_cameras(sample, ("c", "a")),
    "perturb": lambda sample: perturb(sample, Perturbation(kind="detections", severity=3)),
    "one person": lambda sample: one_person(sample, 1),
    "crop": lambda sample: crop(one_person(sample, 1), 8),
    "withhold": lambda sample: withhold(sample, Inputs(extrinsics=False, images=False), b"salt"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_pure(step: str) -> None:
    sample = Crowd().sample("test/3")
    before = plain(sample)
    first, second = STEPS[step](sample), STEPS[step](sample)
    assert plain(sample) == before, "what it is given stays"
    assert plain(first) == plain(second), "it remembers nothing"
    assert plain(first) != before


def test_one_person_has_their_own_boxes_detections_and_root() -> None:
    whole = replace(Crowd().sample("test/3"), root_mm=np.arange(6.0).reshape(2, 3))
    second = one_person(whole, 1)
    assert [view.boxes_px.tolist() for view in second.views] == [[[20, 0, 36, 16]]] * 3
    assert all(view.joints_px is not None and (view.joints_px == 20).all() for view in second.views)
    assert all(view.confidence is not None and view.confidence.shape == (1, J) for view in second.views)
    assert second.root_mm is not None
    assert second.root_mm.tolist() == [[3, 4, 5]]
    third = one_person(whole, 2).root_mm
    assert third is not None
    assert np.isnan(third).all(), "nobody predicted it"
    assert third.shape == (1, 3)


def test_views_that_do_not_show_a_person_are_not_theirs() -> None:
    whole = Crowd().sample("test/2")
    hidden = whole.views[1].boxes_px.copy()
    hidden[1] = np.nan
    undetected = np.array(whole.views[1].joints_px)
    undetected[1] = np.nan
    unseen = replace(whole.views[1], boxes_px=hidden, joints_px=undetected)
    sample = replace(whole, views=(whole.views[0], unseen, whole.views[2]))
    assert [view.name for view in one_person(sample, 0).views] == ["a", "b", "c"]
    assert [view.name for view in one_person(sample, 1).views] == ["a", "c"]
    detected = replace(sample, views=(replace(whole.views[1], boxes_px=hidden),))
    assert [view.name for view in one_person(detected, 1).views] == ["b"], "a detection without a box"
    with pytest.raises(InputError, match="test/2: view b: has a person without a box"):
        crop(one_person(detected, 1), 8)


def test_people_who_are_not_associated_cannot_be_taken_apart(tmp_path: Path) -> None:
    whole = Crowd().sample("test/2")
    assert count_people(whole) == 2
    assert count_people(replace(whole, views=())) == 1
    apart = replace(whole, views=(whole.views[0], one_person(whole, 0).views[1]))
    with pytest.raises(
        InputError, match=r"test/2: people: 2 in a, 1 in b, but the data set declares people as associated"
    ):
        count_people(apart)


class Strangers(Crowd):
    """As many people in every view, in an order of its own: detectors number them."""

    def facts(self, split: str) -> Facts:
        return Facts(boxes="detected", truth="synthetic", associated=False)


def test_equally_many_people_are_not_taken_for_the_same_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="crowd: people: are not associated across views"):
        Handover(Strangers(), Inputs(crop_px=8), tmp_path)
    (sample,) = Handover(Strangers(), Inputs(people="all"), tmp_path).samples("test/3")
    assert [len(view.boxes_px) for view in sample.views] == [3, 3, 3]
    of_one_view = Handover(Strangers(), Inputs(crop_px=8, views=(1, 1)), tmp_path).samples("test/3")
    assert [len(person.views) for person in of_one_view] == [1, 1, 1]


def test_a_stored_crop_is_taken_for_the_image() -> None:
    sample = one_person(Crowd().sample("test/3"), 2)
    stored = np.full((8, 8, 3), 7, dtype=np.uint8)
    cropped = crop(sample, 8, stored=lambda name: stored if name == "b" else None)
    assert [int(view.pixels().max()) for view in cropped.views] == [150, 7, 150]
    assert len({view.camera.K.tobytes() for view in cropped.views}) == 1


# --- perturbations, whose steps test_perturb.py tests ---


def test_crops_follow_a_moved_box_and_roots_do_not(tmp_path: Path) -> None:
    inputs = Inputs(crop_px=8, root="truth")
    moved = handover(tmp_path, inputs, perturbation=Perturbation(kind="boxes", severity=5)).samples("test/1")[0]
    still = handover(tmp_path, inputs).samples("test/1")[0]
    assert not np.array_equal(moved.views[0].camera.K, still.views[0].camera.K)
    assert moved.views[0].pixels().mean() < still.views[0].pixels().mean(), "the background shows"
    np.testing.assert_array_equal(moved.root_mm, still.root_mm)


# --- the chain ---


def test_a_method_that_sees_one_person_never_learns_of_the_others(tmp_path: Path) -> None:
    given_all = handover(tmp_path, Inputs(crop_px=8))
    for key in Crowd().keys("test"):
        shown = given_all.samples(key)
        assert len(shown) == Crowd().people(key)
        assert len({sample.key for sample in shown}) == len(shown)
        for person, sample in enumerate(shown):
            assert len(sample.views) == 3
            assert (sample.key == key) == (len(shown) == 1), "of several a key says nothing"
            for view in sample.views:
                assert view.boxes_px.shape == (1, 4)
                assert view.joints_px is not None
                assert view.joints_px.shape == (1, J, 2)
                np.testing.assert_array_equal(view.pixels(), 50 + 50 * person)
    again = handover(tmp_path, Inputs(crop_px=8))
    assert [s.key for s in again.samples("test/3")] == [s.key for s in given_all.samples("test/3")]


def test_a_method_that_sees_all_people_sees_the_whole_frame(tmp_path: Path) -> None:
    (sample,) = handover(tmp_path, Inputs(people="all")).samples("test/3")
    assert sample.key == "test/3"
    assert [view.boxes_px.shape for view in sample.views] == [(3, 4)] * 3
    with pytest.raises(InputError, match=r"row a: inputs\.people: is all, and a crop shows one person"):
        declared_inputs(Inputs(people="all", crop_px=8), "row a")


class Level:
    """Answers each person by the grey level of their crop, in the frame of the first view; nobody where it is dark."""

    def __init__(self, inputs: Inputs, least: int = 0) -> None:
        self.inputs, self.least = inputs, least

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        answers = []
        for sample in samples:
            level = float(sample.views[0].pixels().max())
            people = int(level >= self.least)
            size = {"size_mm": np.full(people, level)}
            frame = sample.views[0].name if not self.inputs.extrinsics else "world"
            answers.append(Poses(HUMAN36M, np.full((people, J, 3), level), np.ones(people), frame, size))
        return answers


def test_answers_are_put_together_person_by_person(tmp_path: Path) -> None:
    keys = Crowd().keys("test")
    for extrinsics in (True, False):
        inputs = Inputs(crop_px=8, extrinsics=extrinsics)
        answers = predict(Level(inputs), handover(tmp_path, inputs), keys)  # type: ignore[arg-type]
        levels = [answer.joints_mm[:, 0, 0].tolist() for answer in answers]
        assert levels == [[50], [50, 100, 150], [], [50, 100]]
        assert [answer.columns["size_mm"].tolist() for answer in answers if len(answer.score)] == [
            of_sample for of_sample in levels if of_sample
        ]
        assert all((answer.frame in CAMERAS) != extrinsics for answer in answers if len(answer.score))


def test_whoever_is_left_out_keeps_their_place(tmp_path: Path) -> None:
    inputs = Inputs(crop_px=8)
    method = Level(inputs, least=100)
    answers = predict(method, handover(tmp_path, inputs), ["test/1", "test/3"])  # type: ignore[arg-type]
    assert len(answers[0].score) == 0, "of one person nobody is nobody"
    np.testing.assert_array_equal(answers[1].joints_mm[:, 0, 0], [np.nan, 100, 150])
    np.testing.assert_array_equal(answers[1].columns["size_mm"], [np.nan, 100, 150])
    assert answers[1].score.tolist() == [0, 1, 1]


def poses(levels: Sequence[float], frame: str = "world", **columns: np.ndarray) -> Poses:
    joints_mm = np.array(levels).reshape(-1, 1, 1) * np.ones((1, J, 3))
    return Poses(HUMAN36M, joints_mm, np.arange(len(levels), dtype=np.float64), frame, columns)


@given(st.lists(st.floats(-1e5, 1e5), min_size=0, max_size=5), st.sampled_from(["world", "a"]), st.booleans())
def test_what_is_taken_apart_and_put_together_is_the_same(levels: list[float], frame: str, sized: bool) -> None:
    columns = {"size_mm": np.arange(len(levels)) + 0.5, "spread": np.ones((len(levels), 2, 2))} if sized else {}
    answer = poses(levels, frame, **columns)
    again = merge_people([poses_of(answer, person) for person in range(len(levels))], HUMAN36M, "key")
    np.testing.assert_array_equal(again.joints_mm, answer.joints_mm)
    np.testing.assert_array_equal(again.score, answer.score)
    if levels:
        assert again.frame == frame
        assert again.columns.keys() == columns.keys()
        for name, values in columns.items():
            np.testing.assert_array_equal(again.columns[name], values)


def test_answers_that_do_not_fit_together_are_refused() -> None:
    one = poses([1.0])
    for others, problem in (
        ([poses([1.0, 2.0])], "people: 2 predicted for a sample of one person"),
        ([poses([1.0], "a")], "frame: people are predicted in world, a"),
        ([poses([1.0], size_mm=np.ones(1))], "columns: differ between people"),
    ):
        with pytest.raises(InputError, match=f"S9/1: {problem}"):
            merge_people([one, *others], HUMAN36M, "S9/1")


# --- samples that share their cameras ---


class TwoRigs:
    """Two rigs whose samples alternate; ``absent`` names (key, camera) of views that are not there.

    The grey level of an image says which camera took it: 10, 20 or 30.
    """

    name, skeleton, synthetic, views, splits = "rigs", HUMAN36M, True, CAMERAS, ("train", "test")

    def __init__(self, count: int = 14, absent: Sequence[tuple[str, str]] = (), hidden: str = "") -> None:
        self.count, self.absent, self.hidden = count, set(absent), hidden

    def facts(self, split: str) -> Facts:
        return Facts(boxes="annotated", truth="synthetic")

    def status(self) -> Status:
        return Status("ready", "", "")

    def manifest(self) -> str:
        return "rigs"

    def keys(self, split: str) -> list[str]:
        return [f"{split}/{number}" for number in range(self.count)] if split == "test" else []

    def sample(self, key: str) -> Sample:
        rig = int(key.split("/")[1]) % 2
        views = []
        for number, name in enumerate(CAMERAS):
            t = np.array([0.0, 0.0, 1000.0 + 100 * rig + number])
            camera = Camera(np.diag([60.0, 60.0, 1.0]), np.eye(3), t, size=(16, 16))
            image = np.full((16, 16, 3), 10 * (number + 1), dtype=np.uint8)
            box = np.array([[0.0, 0.0, 16.0, 16.0]])
            unseen = np.full((1, 4), np.nan) if (key, name) == (self.hidden, "b") else box
            if (key, name) not in self.absent:
                views.append(View(name, camera, image, unseen))
        return Sample(key, tuple(views), Group("S1", "Walking", "Walking-1"))

    def truth(self, key: str) -> Truth:
        return Truth(np.zeros((1, J, 3)))


def level_of(view: View) -> int:
    """Grey level of an image of one colour, which may lie on a black canvas."""
    pixels = view.pixels()
    return int(np.median(pixels[pixels > 0]))


class Recovers:
    """Says of each view what its image says of the camera, and notes what it is asked."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.calls = inputs, list[list[Sample]]()

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        self.calls.append(list(samples))
        answers = []
        for sample in samples:
            levels = np.array([float(level_of(view)) for view in sample.views])
            columns = {
                "camera_R": levels[None, :, None, None] * np.ones((1, len(levels), 3, 3)),
                "camera_t_mm": levels[None, :, None] * np.ones((1, len(levels), 3)),
                "camera_covariance": levels[None, :, None, None] * np.ones((1, len(levels), 6, 6)),
            }
            joints_mm = np.full((1, J, 3), levels[0])
            answers.append(Poses(HUMAN36M, joints_mm, np.ones(1), sample.views[0].name, columns))
        return answers


POOLED = Inputs(extrinsics=False, frames_per_rig=4)


def cameras_of(sample: Sample) -> dict[str, int]:
    """Name of a view -> level of its image."""
    return {view.name: level_of(view) for view in sample.views}


def test_samples_with_equal_cameras_are_divided_evenly_in_steps() -> None:
    rigs = TwoRigs(14)
    groups = [group.keys for group in rig_groups(map(rigs.sample, rigs.keys("test")), 3)]
    numbers = [[int(key.split("/")[1]) for key in group] for group in groups]
    assert numbers == [[0, 6, 12], [2, 8], [4, 10], [1, 7, 13], [3, 9], [5, 11]]
    assert [len(group.keys) for group in rig_groups(map(rigs.sample, rigs.keys("test")), 100)] == [7, 7]
    one_lacks = TwoRigs(4, absent=[("test/2", "b")])
    whole = rig_groups(map(one_lacks.sample, one_lacks.keys("test")), 100)
    assert [(group.keys, group.cameras) for group in whole] == [
        (("test/0",), CAMERAS), (("test/1", "test/3"), CAMERAS), (("test/2",), ("a", "c"))
    ]  # fmt: skip


@given(st.integers(1, 40), st.integers(1, 12))
def test_every_sample_is_in_one_group_and_groups_are_of_one_size(count: int, most: int) -> None:
    rigs = TwoRigs(count)
    groups = [group.keys for group in rig_groups(map(rigs.sample, rigs.keys("test")), most)]
    assert sorted(key for group in groups for key in group) == sorted(rigs.keys("test"))
    sizes = [len(group) for group in groups if group[0].endswith(("0", "2", "4", "6", "8"))]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-sum(sizes) // most)


@pytest.mark.parametrize("most", [1, 3, 4, 100])
def test_scores_know_which_samples_are_handed_over_together(most: int) -> None:
    rigs = TwoRigs(14, absent=[("test/2", "b")])
    samples = [rigs.sample(key) for key in rigs.keys("test")]
    cameras = [[{v.name: v.camera for v in sample.views}.get(name) for name in CAMERAS] for sample in samples]
    together = SeenBy.collect(cameras, len(CAMERAS)).together(most)
    by_number: dict[int, list[str]] = {}
    for sample, number in zip(samples, together.tolist(), strict=True):
        by_number.setdefault(number, []).append(sample.key)
    assert sorted(map(tuple, by_number.values())) == sorted(group.keys for group in rig_groups(samples, most))


def test_a_group_is_handed_over_whole_and_its_answers_come_back_in_order(tmp_path: Path) -> None:
    rigs, method = TwoRigs(30), Recovers(POOLED)
    keys = rigs.keys("test")
    answers = predict(method, Handover(rigs, POOLED, tmp_path, frames_per_rig=4), keys, chunk=6)  # type: ignore[arg-type]
    names = [{sample.rig for sample in call} for call in method.calls]
    assert not any(a & b for i, a in enumerate(names) for b in names[:i]), "no group is divided between calls"
    assert [len(of_call) for of_call in names] == [1] * 8, "15 samples a rig, four at most, one group a call"
    for call in method.calls:
        for rig in {sample.rig for sample in call}:
            views = [cameras_of(sample) for sample in call if sample.rig == rig]
            assert len(views) in (3, 4)
            assert all(one == views[0] for one in views), "a view is the same camera in all of them"
    orders = {tuple(cameras_of(sample).values()) for call in method.calls for sample in call}
    assert len(orders) > 1, "drawn for each group"
    for answer in answers:
        assert answer.joints_mm[0, 0, 0] == 10 * (CAMERAS.index(answer.frame) + 1)
        np.testing.assert_array_equal(answer.columns["camera_t_mm"][0, :, 0], [10, 20, 30])
        np.testing.assert_array_equal(answer.columns["camera_R"][0, :, 2, 1], [10, 20, 30])
        np.testing.assert_array_equal(answer.columns["camera_covariance"][0, :, 5, 1], [10, 20, 30])
    alone = Recovers(Inputs(extrinsics=False))
    predict(alone, Handover(rigs, alone.inputs, tmp_path, frames_per_rig=4), keys)  # type: ignore[arg-type]
    assert {sample.rig for call in alone.calls for sample in call} == {None}, "it declares one frame per rig"
    assert {len(call) for call in alone.calls} == {1}, "two samples in a call could be found to have the same cameras"
    told = Recovers(Inputs())
    predict(told, Handover(rigs, told.inputs, tmp_path), keys, chunk=6)  # type: ignore[arg-type]
    assert {len(call) for call in told.calls} == {6}


def test_as_many_are_together_as_are_declared_and_offered(tmp_path: Path) -> None:
    rigs = TwoRigs(14)
    for declared, offered, most in ((4, 1, 1), (4, 2, 2), (4, 100, 4), (100, 5, 4), (1, 100, 1)):
        inputs = Inputs(extrinsics=False, frames_per_rig=declared)
        together = Handover(rigs, inputs, tmp_path, frames_per_rig=offered).rigs(rigs.keys("test"))
        assert max(map(len, together)) == most, "seven samples in two groups are four and three"
    given_four = Handover(rigs, POOLED, tmp_path, frames_per_rig=4)
    few = [set(of_rig) for of_rig in given_four.rigs(["test/3", "test/0", "test/4"])]
    assert sorted(few, key=len) == [{"test/3"}, {"test/0", "test/4"}]
    ones = Handover(rigs, POOLED, tmp_path)
    assert len({ones.samples(key)[0].rig for key in rigs.keys("test")}) == 14, "each is alone"


def test_recovered_cameras_are_put_in_the_order_of_the_condition(tmp_path: Path) -> None:
    rigs = TwoRigs(6, absent=[("test/2", "a")], hidden="test/3")
    for inputs in (POOLED, Inputs(extrinsics=False), Inputs(), Inputs(frames_per_rig=3)):
        given = Handover(rigs, inputs, tmp_path, cameras=("c", "a", "b"), frames_per_rig=4)
        answers = predict(Recovers(inputs), given, rigs.keys("test"))  # type: ignore[arg-type]
        t_mm = np.array([answer.columns["camera_t_mm"][0, :, 0] for answer in answers])
        expected = np.tile([30.0, 10.0, 20.0], (6, 1))
        expected[2, 1] = expected[3, 2] = np.nan
        np.testing.assert_array_equal(t_mm, expected)
    (sample,) = Handover(rigs, POOLED, tmp_path, frames_per_rig=4).samples("test/3")
    whole = {f"view-{i}" for i in range(3)}
    assert set(cameras_of(sample)) < whole
    (beside,) = Handover(rigs, POOLED, tmp_path, frames_per_rig=4).samples("test/1")
    assert cameras_of(sample).items() < cameras_of(beside).items(), "a view keeps its name where one is not there"


def test_recovered_cameras_of_other_views_are_refused(tmp_path: Path) -> None:
    given = Handover(TwoRigs(2), POOLED, tmp_path)
    for columns in ({"camera_R": np.zeros((1, 2, 3, 3))}, {"camera_R": np.zeros((1, 3, 9))}):
        answer = Poses(HUMAN36M, np.zeros((1, J, 3)), np.ones(1), "view-0", columns)
        with pytest.raises(InputError, match=r"test/0: camera_R: is .*, for 3 views; return \(people, 3, 3, 3\)"):
            given.merge("test/0", [answer])
    with pytest.raises(InputError, match=r"row a: inputs\.frames_per_rig: is 0; declare 1 or more"):
        declared_inputs(Inputs(frames_per_rig=0), "row a")


# --- training ---


def test_examples_are_of_one_person_with_their_truth(tmp_path: Path) -> None:
    examples = handover(tmp_path, Inputs(crop_px=8)).examples("train")
    assert len(examples) == 1 + 3 + 0 + 2
    seen = []
    for place in range(len(examples)):
        sample, truth = examples[place]
        assert truth.joints_mm.shape == (1, J, 3)
        assert truth.seen["a"].shape == (1, J)
        assert truth.annotated["a"].shape == (1, J, 2)
        seen.append((int(sample.views[0].pixels().max()), float(truth.joints_mm[0, 0, 0])))
    assert seen == [(50, 0), (50, 0), (100, 100), (150, 200), (50, 0), (100, 100)]


def test_each_view_is_an_example_of_its_own(tmp_path: Path) -> None:
    rigs = TwoRigs(3)
    whole, single = (Handover(rigs, Inputs(), tmp_path).examples("test", each_view=each) for each in (False, True))
    expected = [
        (sample.key, view.name) for sample, _ in map(whole.__getitem__, range(len(whole))) for view in sample.views
    ]
    seen = [
        (sample.key, *(view.name for view in sample.views)) for sample, _ in map(single.__getitem__, range(len(single)))
    ]
    assert seen == expected
    assert len(seen) > len(whole)


def test_of_people_whom_no_camera_shows_nothing_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()

    def half_hidden(key: str) -> Sample:
        sample = Crowd().sample(key)
        hidden = np.arange(Crowd().people(key))[:, None] % 2 == 1
        views = [replace(v, boxes_px=np.where(hidden, np.nan, v.boxes_px), joints_px=None) for v in sample.views]
        return replace(sample, views=tuple(views))

    monkeypatch.setattr(crowd, "sample", half_hidden)
    examples = Handover(crowd, Inputs(crop_px=8), tmp_path).examples("train")
    levels = [int(sample.views[0].pixels().max()) for sample, _ in (examples[place] for place in range(len(examples)))]
    assert levels == [50, 50, 150, 50]


def test_boxes_of_people_who_are_not_annotated_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    monkeypatch.setattr(crowd, "truth", lambda key: truth_of(Crowd().truth(key), 0))
    with pytest.raises(InputError, match="train/3: people: 3 boxes and 1 annotated people"):
        Handover(crowd, Inputs(), tmp_path).examples("train")
