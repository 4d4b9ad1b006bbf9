"""Perturbations: pure, seeded, nothing at severity 0, more with each severity, and consistent with the geometry."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from poseboard.benchmarks.handover import Handover, choose_cameras
from poseboard.benchmarks.perturb import PIXEL_KINDS, changes, perturb
from poseboard.datasets.camera import Camera
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Group, Poses, Sample, Status, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import Inputs
from poseboard.protocols.perturbation import KINDS, SCALES, Perturbation, PerturbationKind

J = len(HUMAN36M)
SIZE = (120, 100)
BOX = (30.0, 20.0, 80.0, 90.0)
FRAMES = 12
X_MM = np.random.default_rng(0).uniform((-300, -300, 2700), (300, 300, 3300), (J, 3))
TEXTURE = np.random.default_rng(1).integers(0, 256, SIZE[::-1])
FLIP = HUMAN36M.flip_order


def scene(frame: int = 5, sequence: str = "Walking-1", views: int = 4) -> Sample:
    """A person before so many cameras, with an image and given detections of each; each frame has its grey level."""
    K = np.array([[150.0, 0, 60], [0, 155.0, 50], [0, 0, 1]])
    image = np.stack([TEXTURE, TEXTURE[::-1], np.full_like(TEXTURE, 10 * frame)], axis=-1).astype(np.uint8)
    shown = []
    for number in range(views):
        camera = Camera(K, np.eye(3), np.array([100.0 * number, 0, 0]), size=SIZE)
        joints_px = camera.project(X_MM)[None] + frame
        shown.append(View("abcdefgh"[number], camera, image, np.array([BOX]), joints_px, np.full((1, J), 0.9)))
    return Sample(f"S9/{sequence}/{frame:06d}", tuple(shown), Group("S9", "Walking", sequence))


def neighbour_of(sample: Sample, frames: int) -> Sample | None:
    frame = int(sample.key[-6:]) + frames
    return scene(frame, sample.group.sequence) if 0 <= frame < FRAMES else None


def spoiled(kind: PerturbationKind, severity: int, seed: int = 0, sample: Sample | None = None) -> Sample:
    whole = scene() if sample is None else sample
    return perturb(
        whole,
        Perturbation(kind=kind, severity=severity, seed=seed),
        FLIP,
        lambda frames: neighbour_of(whole, frames),
    )


def seen(sample: Sample) -> list[object]:
    """All that a sample holds, with the pixels, by value."""
    held: list[object] = [sample.key, sample.group]
    for view in sample.views:
        camera = [array.tolist() for array in (view.camera.K, view.camera.R, view.camera.t, view.camera.dist)]
        arrays = (view.pixels(), view.boxes_px, view.joints_px, view.confidence)
        held += [
            view.name,
            camera,
            [None if array is None else (array.shape, np.ascontiguousarray(array).tobytes()) for array in arrays],
        ]
    return held


@pytest.mark.parametrize("kind", KINDS)
def test_severity_0_is_the_identity(kind: PerturbationKind) -> None:
    whole = scene()
    assert spoiled(kind, 0, sample=whole) is whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_perturbation_is_pure_and_of_its_seed(kind: PerturbationKind) -> None:
    whole = scene()
    before = seen(whole)
    first, again = spoiled(kind, 3, sample=whole), spoiled(kind, 3, sample=whole)
    assert seen(whole) == before, "what it is given stays"
    assert seen(first) == seen(again)
    assert seen(first) == seen(first), "also where pixels are read twice"
    assert seen(first) != before
    assert len({str(seen(spoiled(kind, 2, seed))) for seed in range(8)}) > 1 or kind in (
        "image_blur",
        "image_contrast",
        "image_compression",
    ), "another seed draws something else, where anything is drawn"


@pytest.mark.parametrize("kind", KINDS)
def test_a_perturbation_of_a_view_depends_on_no_other_view(kind: PerturbationKind) -> None:
    """Where as many views are struck as the severity says, the order in which they are is that of all."""
    counted = {"outlier_views", "left_right_swap", "missing_cameras"}
    fewer = choose_cameras(scene(), ("d", "b", "a"))
    if kind not in counted:
        of_all = {view.name: view for view in spoiled(kind, 4).views}
        for view in spoiled(kind, 4, sample=fewer).views:
            assert seen(replace(fewer, views=(view,))) == seen(replace(fewer, views=(of_all[view.name],)))
        return
    struck = struck_by(kind, scene(), 3) if kind != "missing_cameras" else struck_by(kind, scene(), 2)
    of_fewer = struck_by(kind, fewer, 1)
    assert of_fewer <= struck
    assert len(of_fewer) == 1


def struck_by(kind: PerturbationKind, sample: Sample, severity: int, seed: int = 0) -> set[str]:
    """Names of the views that are changed or gone."""
    after = {view.name: view for view in spoiled(kind, severity, seed, sample).views}
    return {view.name for view in sample.views if after.get(view.name) is not view}


@pytest.mark.parametrize("kind", ["outlier_views", "left_right_swap", "missing_cameras"])
def test_as_many_views_are_struck_as_the_severity_says(kind: PerturbationKind) -> None:
    for seed in range(6):
        struck = [struck_by(kind, scene(views=7), severity, seed) for severity in range(6)]
        assert [len(names) for names in struck] == list(range(6))
        assert all(fewer <= more for fewer, more in pairwise(struck)), "some more each time"
    assert len({frozenset(struck_by(kind, scene(), 1, seed)) for seed in range(20)}) == 4, "each view can be"
    least = spoiled(kind, 5, sample=scene(views=3))
    assert len(least.views) == (2 if kind == "missing_cameras" else 3)


def distance(kind: PerturbationKind, severity: int) -> float:
    """How far a perturbation goes, on the average of some seeds and views."""
    moves = []
    for seed in range(12):
        for before, after in zip(scene().views, spoiled(kind, severity, seed).views, strict=True):
            if kind == "detections":
                moves.append(np.abs(np.array(after.joints_px) - np.array(before.joints_px)).mean())
            elif kind == "boxes":
                moves.append(np.abs(after.boxes_px - before.boxes_px).mean())
            elif kind == "intrinsics":
                moves.append(np.abs(after.camera.K - before.camera.K).mean())
            elif kind == "extrinsics":
                moves.append(np.abs(after.camera.centre_mm - before.camera.centre_mm).mean())
            elif kind == "time_shift":
                moves.append(abs(int(after.pixels()[0, 0, 2]) - int(before.pixels()[0, 0, 2])))
            else:
                moves.append(np.abs(after.pixels().astype(float) - before.pixels()).mean())
    return float(np.mean(moves))


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("outlier_views", "left_right_swap", "missing_cameras")])
def test_each_severity_is_more_than_the_one_before(kind: PerturbationKind) -> None:
    distances = [distance(kind, severity) for severity in (0, 1, 2, 3, 4, 5)]
    assert distances[0] == 0
    assert distances == sorted(set(distances))


def test_extrinsics_change_the_pose_of_cameras_and_nothing_else() -> None:
    angles, moves = [], []
    for seed in range(60):
        for before, after in zip(scene().views, spoiled("extrinsics", 5, seed).views, strict=True):
            turn = after.camera.R @ before.camera.R.T
            np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
            angles.append(np.rad2deg(np.arccos((np.trace(turn) - 1) / 2)))
            moves.append(after.camera.centre_mm - before.camera.centre_mm)
            np.testing.assert_array_equal(after.camera.K, before.camera.K)
            np.testing.assert_array_equal(after.boxes_px, before.boxes_px)
            np.testing.assert_array_equal(np.array(after.joints_px), np.array(before.joints_px))
            assert np.array_equal(after.pixels(), before.pixels())
    assert np.sqrt(np.mean(np.square(angles)) / 3) == pytest.approx(SCALES["extrinsics"].amounts[4], rel=0.15)
    assert np.std(moves) == pytest.approx(40, rel=0.1)


def test_intrinsics_change_k_alone() -> None:
    focal = []
    for seed in range(100):
        for before, after in zip(scene().views, spoiled("intrinsics", 5, seed).views, strict=True):
            np.testing.assert_array_equal(after.camera.R, before.camera.R)
            np.testing.assert_array_equal(after.camera.t, before.camera.t)
            np.testing.assert_array_equal(after.boxes_px, before.boxes_px)
            focal.append(np.log(after.camera.K[0, 0] / before.camera.K[0, 0]))
            assert after.camera.K[1, 1] / after.camera.K[0, 0] == pytest.approx(155 / 150)
    assert np.std(focal) == pytest.approx(0.04, rel=0.1)


@pytest.mark.parametrize("kind", ["intrinsics", "extrinsics"])
def test_a_rig_stays_as_it_was_calibrated_for_a_sequence(kind: PerturbationKind) -> None:
    one, other = (spoiled(kind, 3, sample=scene(frame)) for frame in (2, 7))
    elsewhere = spoiled(kind, 3, sample=scene(2, "Walking-2"))
    for of_one, of_other, apart in zip(one.views, other.views, elsewhere.views, strict=True):
        np.testing.assert_array_equal(of_one.camera.P, of_other.camera.P)
        assert not np.array_equal(of_one.camera.P, apart.camera.P)
    assert not np.array_equal(one.views[0].camera.K - 1, one.views[1].camera.K - 1) or kind == "extrinsics"


def test_detections_move_by_a_share_of_the_box() -> None:
    offsets = [
        np.array(after.joints_px) - np.array(before.joints_px)
        for seed in range(40)
        for before, after in zip(scene().views, spoiled("detections", 3, seed).views, strict=True)
    ]
    assert np.std(offsets) == pytest.approx(0.03 * 70, rel=0.05)
    unboxed = replace(scene(), views=(replace(scene().views[0], boxes_px=np.full((1, 4), np.nan)),))
    (view,) = spoiled("detections", 3, sample=unboxed).views
    assert np.isfinite(np.array(view.joints_px)).all(), "by one of their extent where there is no box"


def test_outliers_lie_a_side_of_the_box_elsewhere() -> None:
    for seed in range(10):
        (name,) = struck_by("outlier_views", scene(), 1, seed)
        before = next(view for view in scene().views if view.name == name)
        after = next(view for view in spoiled("outlier_views", 1, seed).views if view.name == name)
        shift = np.array(after.joints_px) - np.array(before.joints_px)
        np.testing.assert_allclose(np.linalg.norm(shift, axis=-1), 70)
        np.testing.assert_allclose(shift.reshape(-1, 2), np.broadcast_to(shift[0, 0], (J, 2)), atol=1e-9)
        np.testing.assert_allclose(after.boxes_px[0] - before.boxes_px[0], np.tile(shift[0, 0], 2))


def test_a_swapped_view_has_every_point_on_its_ray_under_the_other_name() -> None:
    for images in (True, False):
        whole = scene() if images else replace(scene(), views=tuple(replace(v, image=None) for v in scene().views))
        (name,) = struck_by("left_right_swap", whole, 1)
        before = next(view for view in whole.views if view.name == name)
        after = next(view for view in spoiled("left_right_swap", 1, sample=whole).views if view.name == name)
        rays = [view.camera.normalised(np.array(view.joints_px)[0]) for view in (before, after)]
        np.testing.assert_allclose(rays[1], rays[0][FLIP], atol=1e-12)
        np.testing.assert_array_equal(after.camera.R, before.camera.R)
        if not images:
            assert after.camera is before.camera
            continue
        # a pixel keeps its ray, and its colour; a box holds the same pixels, the other way round
        np.testing.assert_array_equal(after.pixels(), before.pixels()[:, ::-1])
        np.testing.assert_allclose(
            after.camera.normalised([SIZE[0] - 1 - 33.0, 44]), before.camera.normalised([33.0, 44])
        )
        crops = [view.crop(70).pixels() for view in (before, after)]
        np.testing.assert_array_equal(crops[1], crops[0][:, ::-1])
        np.testing.assert_allclose(after.camera.project(X_MM)[:, 0], SIZE[0] - 1 - before.camera.project(X_MM)[:, 0])


def test_what_has_no_sides_is_not_swapped() -> None:
    whole = scene()
    assert perturb(whole, Perturbation(kind="left_right_swap", severity=1), range(J)) is whole


def test_what_is_occluded_is_grey_and_not_detected() -> None:
    for severity, share in enumerate(SCALES["occlusion"].amounts, 1):
        for before, after in zip(scene().views, spoiled("occlusion", severity).views, strict=True):
            grey = (after.pixels() == 128).all(axis=-1)
            assert not (before.pixels() == 128).all(axis=-1).any()
            rows, columns = np.flatnonzero(grey.any(axis=1)), np.flatnonzero(grey.any(axis=0))
            assert np.ptp(rows) + 1 == pytest.approx(share / 100 * 70, abs=1)
            assert np.ptp(columns) + 1 == pytest.approx(share / 100 * 50, abs=1)
            assert BOX[0] - 1 <= columns.min() <= columns.max() < BOX[2] + 1
            np.testing.assert_array_equal(after.pixels()[~grey], before.pixels()[~grey])
            hidden = np.isnan(np.array(after.joints_px)).all(axis=-1)
            np.testing.assert_array_equal(np.array(after.confidence) == 0, hidden)
            np.testing.assert_array_equal(np.array(after.joints_px)[~hidden], np.array(before.joints_px)[~hidden])
    bare = replace(scene(), views=tuple(replace(view, confidence=None) for view in scene().views))
    assert all(np.array(view.confidence).min() == 0 for view in spoiled("occlusion", 5, sample=bare).views)


def test_pixels_are_not_read_before_they_are_asked_for(tmp_path: Path) -> None:
    absent = replace(scene(), views=tuple(replace(view, image=tmp_path / "absent.jpg") for view in scene().views))
    for kind in KINDS:
        assert spoiled(kind, 2, sample=absent).views


def test_a_camera_out_of_step_shows_another_frame_and_stays_where_it_is() -> None:
    lags: list[int] = []
    for seed in range(40):
        whole = scene()
        for before, after in zip(whole.views, spoiled("time_shift", 3, seed, whole).views, strict=True):
            assert after.camera is before.camera
            lags.append((int(after.pixels()[0, 0, 2]) - 50) // 10)
            np.testing.assert_allclose(np.array(after.joints_px) - np.array(before.joints_px), lags[-1])
    assert (min(lags), max(lags)) == (-3, 3)
    assert set(lags) == set(range(-3, 4))
    # the same lag all along, as far as there are frames
    first = [int(view.pixels()[0, 0, 2]) // 10 for view in spoiled("time_shift", 5, 1, scene(0)).views]
    later = [int(view.pixels()[0, 0, 2]) // 10 - 5 for view in spoiled("time_shift", 5, 1, scene(5)).views]
    assert first == [max(lag, 0) for lag in later]
    whole = scene()
    alone = perturb(whole, Perturbation(kind="time_shift", severity=5), FLIP)
    assert all(after is before for before, after in zip(whole.views, alone.views, strict=True))


# --- in the chain ---


class Recording:
    """The scene above as a data set: two sequences of so many people before four cameras, every ``step``-th frame."""

    name, skeleton, synthetic, views, splits = "recording", HUMAN36M, True, tuple("abcd"), ("test",)

    def __init__(self, step: int = 1, people: int = 1) -> None:
        self.step, self.people = step, people

    def facts(self, split: str) -> Facts:
        return Facts(boxes="annotated", truth="synthetic")

    def status(self) -> Status:
        return Status("ready", "", "")

    def manifest(self) -> str:
        return "recording"

    def keys(self, split: str) -> list[str]:
        numbers = range(0, FRAMES * self.step, self.step)
        return [f"S9/{sequence}/{frame:06d}" for sequence in ("Walking-1", "Walking-2") for frame in numbers]

    def sample(self, key: str) -> Sample:
        _, sequence, frame = key.split("/")
        whole = replace(scene(int(frame) // self.step, sequence), key=key)
        return replace(whole, views=tuple(self._crowded(view) for view in whole.views))

    def _crowded(self, view: View) -> View:
        people = (self.people, 1)
        joints_px, confidence = np.array(view.joints_px), np.array(view.confidence)
        return replace(
            view,
            boxes_px=np.tile(view.boxes_px, people),
            joints_px=np.tile(joints_px, (*people, 1)),
            confidence=np.tile(confidence, people),
        )

    def truth(self, key: str) -> Truth:
        return Truth(np.tile(X_MM, (self.people, 1, 1)))


def over(folder: Path, inputs: Inputs, kind: PerturbationKind, severity: int, step: int = 1) -> Handover:
    perturbation = Perturbation(kind=kind, severity=severity)
    return Handover(Recording(step), inputs, folder, perturbation=perturbation)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_withheld_stays_withheld(tmp_path: Path, kind: PerturbationKind) -> None:
    blind = Inputs(crop_px=24, intrinsics=False, extrinsics=False)
    key = Recording().keys("test")[5]
    (sample,) = over(tmp_path, blind, kind, 2).samples(key)
    assert sample.key.startswith("sample-")
    assert sample.group.sequence == "withheld"
    for view in sample.views:
        assert view.name.startswith("view-")
        assert not {"K", "R", "t"} & set(vars(view.camera))
        assert isinstance(view.image, np.ndarray)
        assert view.image.base is None
    whole = over(tmp_path, Inputs(extrinsics=False), kind, 2).samples(key)[0]
    for view in whole.views:
        assert type(view.image).__name__ == "_Handle" or isinstance(view.image, np.ndarray)
    unseen = over(tmp_path, Inputs(images=False), kind, 2).samples(key)[0]
    assert all(view.image is None for view in unseen.views)


@pytest.mark.parametrize("kind", KINDS)
def test_crops_are_of_the_pixels_that_were_spoiled(tmp_path: Path, kind: PerturbationKind) -> None:
    key = Recording().keys("test")[5]
    clean = Handover(Recording(), Inputs(crop_px=24), tmp_path).samples(key)[0]
    crops = {view.name: view.pixels() for view in over(tmp_path, Inputs(crop_px=24), kind, 4).samples(key)[0].views}
    same = [np.array_equal(crops[view.name], view.pixels()) for view in clean.views if view.name in crops]
    assert all(same) != (kind in PIXEL_KINDS)


APPLIES: dict[PerturbationKind, tuple[bool, bool, bool]] = {
    # to a row that sees images and cameras, that sees images alone, that sees detections and cameras
    **dict.fromkeys(("boxes", "image_noise", "image_blur"), (True, True, False)),
    **dict.fromkeys(("image_contrast", "image_compression"), (True, True, False)),
    **dict.fromkeys(("detections", "outlier_views", "left_right_swap", "missing_cameras"), (True, True, True)),
    **dict.fromkeys(("occlusion", "time_shift"), (True, True, True)),
    **dict.fromkeys(("intrinsics", "extrinsics"), (True, False, True)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_said_where_a_perturbation_does_not_apply(tmp_path: Path, kind: PerturbationKind) -> None:
    rows = (
        Inputs(crop_px=24),
        Inputs(crop_px=24, intrinsics=False, extrinsics=False),
        Inputs(images=False, people="all"),
    )
    keys = Recording().keys("test")
    applies = tuple(over(tmp_path, inputs, kind, 2).is_perturbed(keys) for inputs in rows)
    assert applies == APPLIES[kind]


def test_frames_far_apart_are_no_neighbours(tmp_path: Path) -> None:
    assert over(tmp_path, Inputs(), "time_shift", 5).is_perturbed(Recording().keys("test"))
    assert not over(tmp_path, Inputs(), "time_shift", 5, step=32).is_perturbed(Recording(32).keys("test"))
    late, crowd = Perturbation(kind="time_shift", severity=5), Recording(people=2)
    each, every = (Handover(crowd, Inputs(people=people), tmp_path, perturbation=late) for people in ("each", "all"))
    assert not each.is_perturbed(crowd.keys("test")), "of several people nobody says who is who"
    assert every.is_perturbed(crowd.keys("test"))


def test_changes_looks_at_what_a_method_declares() -> None:
    whole = scene()
    moved = spoiled("extrinsics", 1, sample=whole)
    assert changes(whole, moved, Inputs())
    assert not changes(whole, moved, Inputs(extrinsics=False))
    assert not changes(whole, scene(), Inputs(images=False)), "equal values are the same"


def test_recovered_cameras_are_those_of_the_views_that_are_left(tmp_path: Path) -> None:
    inputs = Inputs(extrinsics=False)
    given = over(tmp_path, inputs, "missing_cameras", 2)
    for key in Recording().keys("test")[:6]:
        (sample,) = given.samples(key)
        left = [view.name for view in perturb(scene(), Perturbation(kind="missing_cameras", severity=2)).views]
        assert len(sample.views) == len(left) == 2
        columns = {"camera_t_mm": np.array([[[len(view.camera.size), 0, 0] for view in sample.views]], dtype=float)}
        answer = Poses(HUMAN36M, np.zeros((1, J, 3)), np.ones(1), sample.views[0].name, columns)
        named = given.merge(key, [answer])
        assert named.frame in Recording.views
        assert np.isfinite(named.columns["camera_t_mm"][0, :, 0]).sum() == 2
