"""What a method that declares no extrinsics can reach from a sample that it is handed: nothing that names a camera.

Each method here cheats by another way that public data offers: names, keys, groups, the order of the views, paths, the
arguments of a reader, the memory map behind a crop, arrays that are shared. None of them finds anything. What code in
this process can still do (open files, walk the stack, read module globals) is stated in benchmarks/handover.py: a row's
code is trusted, and a submission's is not run.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType, ModuleType
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from poseboard.benchmarks import handover
from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import predict
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import (
    FileState,
    Group,
    Image,
    ImageSource,
    Poses,
    ReadImage,
    Sample,
    Status,
    Truth,
    View,
    read_image,
)
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import Inputs

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
UNCALIBRATED = Inputs(views=(1, 9), extrinsics=False)
POOLED = replace(UNCALIBRATED, frames_per_rig=3)
SIDE_PX = 24


def read_with(path: Path, camera: Camera) -> Image:
    """A reader that undistorts, say: it holds the camera."""
    assert camera.R.shape == (3, 3)
    return read_image(path)


class Rig:
    """Four cameras, whose images are given as each adapter gives them."""

    name, skeleton, synthetic, views = "rig", HUMAN36M, True, CAMERAS

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.cameras = {}
        folder.mkdir()
        shape = (len(self.keys("test")), len(CAMERAS), 64, 64, 3)
        self.together = np.memmap(folder / "all.bin", dtype=np.uint8, mode="w+", shape=shape)
        for number, name in enumerate(CAMERAS):
            R = cv2.Rodrigues(np.array([0.1, 0.7 * number, 0.2]))[0]
            self.cameras[name] = Camera(np.diag([60.0, 60.0, 1.0]), R, np.array([0.3, 0.1, 4000.0]), size=(64, 64))
            for key in self.keys("test"):
                path = self.path(key, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                level = 40 * number + int(key[-1])
                self.together[int(key[-1]), number] = level
                cv2.imwrite(str(path), np.full((64, 64, 3), level, dtype=np.uint8))

    def path(self, key: str, name: str) -> Path:
        return self.folder / key / f"{name}.png"

    splits = ("train", "test")

    def facts(self, split: str) -> Facts:
        return Facts(boxes="annotated", truth="synthetic")

    def status(self) -> Status:
        return Status("ready", "", "")

    def manifest(self) -> str:
        return f"rig of {self.kind}"

    def keys(self, split: str) -> list[str]:
        return [f"S9/Walking-1/00000{i}" for i in range(8)] if split == "test" else []

    def image(self, key: str, name: str) -> ImageSource:
        path, camera = self.path(key, name), self.cameras[name]
        if self.kind == "path":
            return path
        if self.kind == "reader":
            return ReadImage(partial(read_with, path, camera), partial(FileState.of, path))
        if self.kind == "closure":
            return lambda: read_with(path, camera)
        return np.asarray(self.together)[int(key[-1]), CAMERAS.index(name)]

    def sample(self, key: str) -> Sample:
        box = np.array([[8.0, 8.0, 40.0, 40.0]])
        views = tuple(View(name, self.cameras[name], self.image(key, name), box) for name in CAMERAS)
        return Sample(key, views, Group("S9", "Walking", "Walking-1"), hand="left")

    def truth(self, key: str) -> Truth:
        return Truth(np.full((1, 17, 3), 5.0 + int(key[-1])))


def level(view: View) -> int:
    """Grey level of an image of one colour, which may lie on a black canvas."""
    pixels = view.pixels()
    return int(np.median(pixels[pixels > 0])) if pixels.any() else 0


def sample_of(given: Handover, key: str) -> Sample:
    """What is handed over of a sample of one person."""
    (sample,) = given.samples(key)
    return sample


KINDS = ("path", "reader", "closure", "array")


def reachable(start: object) -> Iterator[object]:
    """Everything that attributes, items, closures and bases lead to; modules and classes lead everywhere."""
    seen, waiting = set(), [start]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, (type, ModuleType)):
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, FunctionType):  # its globals are its module
            waiting += [cell.cell_contents for cell in value.__closure__ or ()]
        elif isinstance(value, np.ndarray):
            waiting += [value.base, getattr(value, "filename", None)]
        else:
            waiting += gc.get_referents(value)


def telling(sample: Sample, rig: Rig) -> list[object]:
    """What is reachable from a sample and names, or is, a camera, a key, a group or a place on disk."""
    secrets = (*CAMERAS, "S9", "Walking", str(rig.folder))
    found: list[object] = []
    for value in reachable(sample):
        if isinstance(value, Path) or (isinstance(value, (str, bytes)) and any(s in str(value) for s in secrets)):
            found.append(value)
        if isinstance(value, np.memmap):
            found.append(value)
        if isinstance(value, np.ndarray) and value.shape == (3, 3):
            found += [name for name, camera in rig.cameras.items() if np.array_equal(value, camera.R)]
    return found


@pytest.mark.parametrize("frames_per_rig", [1, 3])
@pytest.mark.parametrize("crop_px", [None, SIDE_PX])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_reachable_tells_which_camera_or_frame_it_is(
    tmp_path: Path, kind: str, crop_px: int | None, frames_per_rig: int
) -> None:
    rig = Rig(tmp_path / "rig", kind)
    inputs = replace(UNCALIBRATED, crop_px=crop_px, frames_per_rig=frames_per_rig)
    given = Handover(rig, inputs, tmp_path / "crops", frames_per_rig=frames_per_rig)
    for key in rig.keys("test")[:3]:
        sample = sample_of(given, key)
        assert telling(sample, rig) == []
        shown = [level(view) for view in sample.views]
        assert sorted(shown) == [40 * number + int(key[-1]) for number in range(4)], "the pixels are there"
    # the walk itself finds what a calibrated method is handed
    calibrated = sample_of(Handover(rig, Inputs(views=(1, 9)), tmp_path / "crops"), rig.keys("test")[0])
    assert telling(calibrated, rig)


def test_keys_say_nothing_and_are_others_in_every_condition(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", "path")
    handed = [
        [sample_of(given, key).key for key in rig.keys("test")]
        for given in (Handover(rig, UNCALIBRATED, tmp_path), Handover(rig, UNCALIBRATED, tmp_path))
    ]
    assert len({*handed[0], *handed[1]}) == 16
    again = Handover(rig, UNCALIBRATED, tmp_path)
    assert sample_of(again, rig.keys("test")[0]).key == sample_of(again, rig.keys("test")[0]).key


def test_rigs_have_names_that_say_nothing_and_are_others_in_every_condition(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", "path")
    given = [Handover(rig, POOLED, tmp_path, frames_per_rig=3) for _ in range(2)]
    names = [[sample_of(one, key).rig for key in rig.keys("test")] for one in given]
    assert [len(set(of_one)) for of_one in names] == [3, 3], "eight samples, three at most"
    assert not set(names[0]) & set(names[1])
    keys = {sample_of(given[0], key).key for key in rig.keys("test")}
    assert not keys & set(names[0])


def test_the_views_of_a_rig_are_in_another_order_in_every_group(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", "path")
    inputs = replace(POOLED, frames_per_rig=2)

    def orders() -> dict[str | None, set[tuple[int, ...]]]:
        given, of_rigs = Handover(rig, inputs, tmp_path, frames_per_rig=2), dict[str | None, set[tuple[int, ...]]]()
        for sample in (sample_of(given, key) for key in rig.keys("test")):
            levels = tuple(level(view) // 40 for view in sample.views)
            of_rigs.setdefault(sample.rig, set()).add(levels)
            assert [view.name for view in sample.views] == [f"view-{i}" for i in range(4)]
        return of_rigs

    first = orders()
    assert list(first.values()) == list(orders().values())
    assert all(len(of_rig) == 1 for of_rig in first.values()), "one order a group"
    assert len({order for of_rig in first.values() for order in of_rig}) > 2, "four groups, 24 orders"


def test_the_order_of_the_views_says_nothing_and_comes_out_the_same_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", "path")

    def orders() -> list[tuple[int, ...]]:
        given = Handover(rig, UNCALIBRATED, tmp_path)
        return [tuple(level(view) // 40 for view in sample_of(given, key).views) for key in rig.keys("test")]

    first = orders()
    assert orders() == first
    assert len(Counter(first)) > 4, "eight samples, 24 orders"
    assert max(Counter(order[0] for order in first).values()) < 8


class Sees:
    """Answers with a number that it finds by looking at a sample as ``look`` does; 0 where that brings nothing."""

    def __init__(self, look: Callable[[Sample], float], inputs: Inputs) -> None:
        self.look, self.inputs = look, inputs

    def predict(self, samples: list[Sample]) -> list[Poses]:
        answers = []
        for sample in samples:
            try:
                level = self.look(sample)
            except (AttributeError, TypeError, ValueError, IndexError, KeyError, OSError):
                level = 0.0
            answers.append(Poses(HUMAN36M, np.full((1, 17, 3), level), np.ones(1), "view-0"))
        return answers


def behind(sample: Sample) -> Any:
    return sample.views[0].image


def file_behind(sample: Sample) -> Path:
    """Of the memory map that an image is a view of, however many views lie between."""
    array = behind(sample)
    while not hasattr(array, "filename"):
        array = array.base
    return Path(array.filename)


CHEATS: dict[str, Callable[[Sample], float]] = {
    "name of a camera": lambda s: float(CAMERAS.index(s.views[0].name) + 1),
    "key": lambda s: float(s.key.startswith("S9")),
    "group": lambda s: float(s.group.subject == "S9"),
    "path of an image": lambda s: float(CAMERAS.index(Path(behind(s)).stem) + 1),
    "arguments of a reader": lambda s: float(behind(s).read.args[1].R[0, 0]),
    "closure of a reader": lambda s: float(behind(s).__closure__[0].cell_contents.R[0, 0]),
    "memory map behind a crop": lambda s: float(behind(s).base.nbytes - behind(s).nbytes),
    "file of the memory map": lambda s: float(len(str(file_behind(s)))),
    "rotation": lambda s: float(s.views[0].camera.R[0, 0]),
    "translation": lambda s: float(s.views[0].camera.t[2]),
    "centre of a camera": lambda s: float(s.views[0].camera.centre_mm[0]),
    "root that is not declared": lambda s: float(s.root_mm[0, 0]),  # type: ignore[index]
    "hand that is not declared": lambda s: float(s.hand == "left"),
    "name of a rig": lambda s: float("S9" in s.rig),  # type: ignore[operator]
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_each_cheat_finds_something_where_nothing_is_withheld(tmp_path: Path, cheat: str) -> None:
    levels = []
    for kind in KINDS:
        rig = Rig(tmp_path / kind, kind)
        whole = rig.sample(rig.keys("test")[1])
        open_to_all = replace(whole, root_mm=np.ones((1, 3)), rig="S9")
        (answer,) = Sees(CHEATS[cheat], UNCALIBRATED).predict([open_to_all])
        levels.append(float(abs(answer.joints_mm).max()))
    assert max(levels) > 0


@pytest.mark.parametrize("frames_per_rig", [1, 3])
@pytest.mark.parametrize("crop_px", [None, SIDE_PX])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cheat", CHEATS)
def test_cheating_methods_find_nothing(
    tmp_path: Path, cheat: str, kind: str, crop_px: int | None, frames_per_rig: int
) -> None:
    rig = Rig(tmp_path / "rig", kind)
    inputs = replace(UNCALIBRATED, crop_px=crop_px, frames_per_rig=frames_per_rig)
    given = Handover(rig, inputs, tmp_path / "crops", frames_per_rig=frames_per_rig)
    answers = predict(Sees(CHEATS[cheat], inputs), given, rig.keys("test"))  # type: ignore[arg-type]
    assert [float(abs(answer.joints_mm).max()) for answer in answers] == [0.0] * 8
    assert {answer.frame for answer in answers} <= set(CAMERAS), "the harness still knows whose frame it is"
    assert len({answer.frame for answer in answers}) > 1


@pytest.mark.parametrize("root", ["predicted", "truth"])
def test_roots_in_the_world_are_not_handed_to_a_method_that_is_not_told_where_that_is(
    tmp_path: Path, root: Literal["predicted", "truth"]
) -> None:
    """Roots of a few frames and the pixels of their pelvis give the camera: resection."""
    rig = Rig(tmp_path / "rig", "path")
    roots_mm = {key: np.ones((1, 3)) for key in rig.keys("test")}
    with pytest.raises(InputError, match=r"inputs\.root: is in the world's frame, which needs extrinsics"):
        Handover(rig, replace(UNCALIBRATED, root=root), tmp_path, roots_mm=roots_mm)


def test_a_frame_gets_back_the_name_of_the_camera_whose_pixels_were_seen(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", "path")
    sees = Sees(lambda sample: float(level(sample.views[0])), UNCALIBRATED)
    given = Handover(rig, UNCALIBRATED, tmp_path)
    for key, answer in zip(rig.keys("test"), predict(sees, given, rig.keys("test")), strict=True):  # type: ignore[arg-type]
        assert answer.joints_mm.max() == 40 * CAMERAS.index(answer.frame) + int(key[-1])


def test_what_is_handed_over_is_no_longer_shared(tmp_path: Path) -> None:
    """A method that writes into boxes, roots or pixels spoils nobody else's."""
    rig = Rig(tmp_path / "rig", "array")
    given = Handover(rig, Inputs(views=(1, 9), root="truth", crop_px=SIDE_PX), tmp_path / "crops")
    key = rig.keys("test")[0]
    sample = sample_of(given, key)
    for array in (sample.root_mm, sample.views[0].boxes_px):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    pixels = sample.views[0].image
    assert isinstance(pixels, np.ndarray)
    before = pixels.copy()
    pixels[:] = 255
    np.testing.assert_array_equal(sample_of(given, key).views[0].pixels(), before)


def test_the_hand_is_handed_to_methods_that_declare_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", "path")
    key = rig.keys("test")[0]
    assert sample_of(Handover(rig, Inputs(hand=True), tmp_path), key).hand == "left"
    assert sample_of(Handover(rig, Inputs(), tmp_path), key).hand is None


def test_what_is_kept_between_samples_does_not_grow_with_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "KEPT_VIEWS", 12)
    rig = Rig(tmp_path / "rig", "path")
    given = Handover(rig, Inputs(views=(1, 9)), tmp_path)
    for key in rig.keys("test"):
        sample_of(given, key)
    assert [key for key, _ in given._kept] == rig.keys("test")[-3:]


# --- K, size and order say nothing of the camera; state between calls brings nothing ---


class Gallery:
    """One rig with the lenses of Human3.6M's S9, in many frames with given detections and square boxes in whole pixels.

    Every camera sees its joints in a direction of its own, which a frame shows with noise.
    """

    name, skeleton, synthetic, views, splits = "gallery", HUMAN36M, True, CAMERAS, ("train", "test")
    focal_px = ((1145.05, 1143.78), (1149.68, 1147.59), (1149.14, 1148.79), (1145.51, 1144.77))
    middle_px = ((512.54, 515.45), (508.85, 508.06), (519.82, 501.40), (514.97, 501.88))
    size_px = ((1000, 1002), (1000, 1000), (1000, 1000), (1000, 1002))
    directions = (-0.3, -0.1, 0.1, 0.3)
    noise = 0.04

    def __init__(self, frames: int = 240) -> None:
        self.frames = frames

    facts, status = Rig.facts, Rig.status

    def manifest(self) -> str:
        return f"gallery of {self.frames}"

    def keys(self, split: str) -> list[str]:
        return [f"S9/Walking-1/{i:06d}" for i in range(self.frames)] if split == "test" else []

    def sample(self, key: str) -> Sample:
        rng, views = np.random.default_rng(int(key[-6:])), []
        for name, focal, middle, size, direction in zip(
            CAMERAS, self.focal_px, self.middle_px, self.size_px, self.directions, strict=True
        ):
            K = np.array([[focal[0], 0, middle[0]], [0, focal[1], middle[1]], [0, 0, 1]])
            camera = Camera(K, np.eye(3), np.zeros(3), size=size)
            side, corner = rng.integers(180, 420), rng.integers(100, 500, 2)
            box = np.array([[*corner, *(corner + side)]], dtype=np.float64)
            seen = np.array([direction + self.noise * rng.standard_normal(), 0.0])
            joints_px = np.broadcast_to(camera.image(seen), (1, 17, 2))
            views.append(View(name, camera, None, box, joints_px, np.ones((1, 17))))
        return Sample(key, tuple(views), Group("S9", "Walking", "Walking-1"))

    def truth(self, key: str) -> Truth:
        return Truth(np.full((1, 17, 3), float(int(key[-6:]))))


CALIBRATED = {"crops": Inputs(images=False, crop_px=96), "whole frames": Inputs(images=False)}


def cameras_in_order(given: Handover, key: str) -> list[str]:
    """Names of the cameras of the views as they are handed over: that of the frame of an answer."""
    (sample,) = given.samples(key)
    return [
        given.merge(key, [Poses(HUMAN36M, np.zeros((1, 17, 3)), np.ones(1), view.name)]).frame for view in sample.views
    ]


def lens(view: View) -> dict[str, float]:
    """What K, size and box of a view say in logarithms: none of it changes with the place of the person."""
    K, (left, upper, right, lower) = view.camera.K, view.boxes_px[0]
    shape = np.log((right - left) / (lower - upper))
    aspect = np.log(K[0, 0] / K[1, 1])
    return {"fx/fy": aspect, "fx/fy of a square box": aspect - shape, "size": float(np.log(max(1, *view.camera.size)))}


def most_by_chance(count: int) -> float:
    """Share of ``count`` guesses among four cameras that only one in a thousand guessers exceeds."""
    return 0.25 + 3.09 * np.sqrt(0.25 * 0.75 / count)


@pytest.mark.parametrize("kind", CALIBRATED)
def test_k_and_size_name_the_camera_no_better_than_chance(tmp_path: Path, kind: str) -> None:
    gallery = Gallery()
    told = Handover(gallery, CALIBRATED[kind], tmp_path)
    table = {view.name: view for view in told.samples(gallery.keys("test")[0])[0].views}
    given = Handover(gallery, replace(CALIBRATED[kind], extrinsics=False), tmp_path)
    views = [
        pair
        for key in gallery.keys("test")
        for pair in zip(given.samples(key)[0].views, cameras_in_order(given, key), strict=True)
    ]
    for what in ("fx/fy", "fx/fy of a square box", "size"):

        def look_up(view: View, what: str = what) -> str:
            return min(table, key=lambda name: abs(lens(table[name])[what] - lens(view)[what]))

        if what != "size":
            (other,) = told.samples(gallery.keys("test")[1])
            assert [look_up(view) for view in other.views] == list(CAMERAS), "it names all where nothing is withheld"
        share = np.mean([look_up(view) == camera for view, camera in views])
        assert share < most_by_chance(len(views)), what
    # The nearest view of another frame by everything at once, as somebody would find it who knows these.
    known = np.array([[*np.log(np.diag(view.camera.K)[:2]), *lens(view).values()] for view, _ in views])
    near = np.abs(known[:, None] - known[None]).sum(axis=-1)
    near[np.arange(len(known)) // 4 == np.arange(len(known))[:, None] // 4] = np.inf
    names = np.array([camera for _, camera in views])
    assert np.mean(names[near.argmin(axis=1)] == names) < most_by_chance(len(views))
    assert len({view.camera.size for view, _ in views}) == 1


def test_many_frames_of_a_rig_say_no_more_of_k_than_one(tmp_path: Path) -> None:
    gallery = Gallery(960)
    inputs = Inputs(images=False, crop_px=96, extrinsics=False, frames_per_rig=12)
    given = Handover(gallery, inputs, tmp_path, frames_per_rig=12)
    ratios = [np.log(focal[0] / focal[1]) for focal in gallery.focal_px]
    hits = []
    for rig in given.rigs(gallery.keys("test")):
        of_frames = [[lens(view)["fx/fy"] for view in given.samples(key)[0].views] for key in rig]
        assert np.ptp(of_frames, axis=0).max() < 1e-9, "one factor for a view of a rig: nothing to average"
        for mean, camera in zip(np.mean(of_frames, axis=0), cameras_in_order(given, rig[0]), strict=True):
            hits.append(CAMERAS[np.abs(mean - ratios).argmin()] == camera)
    assert len(hits) == 320
    assert np.mean(hits) < most_by_chance(len(hits))


class Remembers:
    """Answers with the direction in its first view; with ``link`` the mean over all views that it takes for the same.

    It declares one frame per rig, and keeps what it saw between calls.
    """

    def __init__(self, inputs: Inputs, link: Callable[[int, View], object] | None) -> None:
        self.inputs, self.link, self.kept = inputs, link, dict[object, list[float]]()

    def predict(self, samples: list[Sample]) -> list[Poses]:
        answers = []
        for sample in samples:
            seen = [float(view.camera.normalised(view.joints_px[0, 0])[0]) for view in sample.views]  # type: ignore[index]
            for place, view in enumerate(sample.views) if self.link is not None else ():
                assert self.link is not None
                self.kept.setdefault(self.link(place, view), []).append(seen[place])
            known = seen[:1] if self.link is None else self.kept[self.link(0, sample.views[0])]
            frame = "world" if self.inputs.extrinsics else sample.views[0].name
            answers.append(Poses(HUMAN36M, np.full((1, 17, 3), np.mean(known)), np.ones(1), frame))
        return answers


def nearest_lens(_: int, view: View) -> object:
    ratios = [np.log(focal[0] / focal[1]) for focal in Gallery.focal_px]
    return int(np.abs(lens(view)["fx/fy of a square box"] - ratios).argmin())


LINKS: dict[str, Callable[[int, View], object]] = {
    "fx/fy": nearest_lens,
    "size": lambda _, view: view.camera.size,
    "place among the views": lambda place, _: place,
    "name": lambda _, view: view.name,
}


@cache
def errors_of(inputs: Inputs, link: str | None) -> np.ndarray:
    """Error of each answer of a method that links the views of one camera over its calls; None: it keeps nothing."""
    gallery, own = Gallery(), dict(zip(CAMERAS, Gallery.directions, strict=True))
    method = Remembers(inputs, None if link is None else LINKS[link])
    with TemporaryDirectory() as folder:
        answers = predict(method, Handover(gallery, inputs, Path(folder)), gallery.keys("test"))  # type: ignore[arg-type]
    frames = [CAMERAS[0] if answer.frame == "world" else answer.frame for answer in answers]
    return np.array([abs(a.joints_mm[0, 0, 0] - own[name]) for a, name in zip(answers, frames, strict=True)])


@pytest.mark.parametrize("kind", CALIBRATED)
@pytest.mark.parametrize("link", LINKS)
def test_state_that_is_kept_between_calls_gains_nothing(link: str, kind: str) -> None:
    def interval(inputs: Inputs) -> tuple[float, float]:
        """95 %, of what the state adds to the error."""
        more = errors_of(inputs, link) - errors_of(inputs, None)
        half = 1.96 * more.std(ddof=1) / np.sqrt(len(more))
        return more.mean() - half, more.mean() + half

    if link != "size":  # which two cameras share
        assert interval(CALIBRATED[kind])[1] < 0, "it gains where nothing is withheld"
    assert interval(replace(CALIBRATED[kind], extrinsics=False))[1] > 0


class Counts:
    """Answers with the number of its call: who knows the data set's order knows the truth of that sample."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.calls = inputs, 0

    def predict(self, samples: list[Sample]) -> list[Poses]:
        answers = []
        for sample in samples:
            frame = "world" if self.inputs.extrinsics else sample.views[0].name
            answers.append(Poses(HUMAN36M, np.full((1, 17, 3), float(self.calls)), np.ones(1), frame))
            self.calls += 1
        return answers


@pytest.mark.parametrize("views", [(1, 1), (2, 9)])
def test_calls_do_not_follow_the_data_set(tmp_path: Path, views: tuple[int, int]) -> None:
    gallery = Gallery()
    keys, numbers = gallery.keys("test"), np.arange(gallery.frames)

    def places(inputs: Inputs) -> np.ndarray:
        answers = predict(Counts(inputs), Handover(gallery, inputs, tmp_path), keys)  # type: ignore[arg-type]
        return np.array([answer.joints_mm[0, 0, 0] for answer in answers])

    np.testing.assert_array_equal(places(Inputs(views=views, images=False)), numbers)
    inputs = Inputs(views=views, images=False, extrinsics=False)
    drawn = places(inputs)
    assert sorted(drawn) == numbers.tolist()
    assert (drawn == numbers).sum() < 7, "one is expected by chance"
    assert abs(np.corrcoef(drawn, numbers)[0, 1]) < 0.2
    np.testing.assert_array_equal(places(inputs), drawn)
    few = Handover(gallery, inputs, tmp_path).rigs(keys[::3])
    assert [drawn[keys.index(key)] for (key,) in few] == sorted(drawn[::3]), "of fewer samples in the same order"


def test_the_draws_follow_from_the_data_set_and_the_cameras_alone(tmp_path: Path) -> None:
    gallery, inputs = Gallery(24), Inputs(images=False, crop_px=96, extrinsics=False)

    def draws(dataset: Gallery, **options: Any) -> tuple[object, ...]:
        given = Handover(dataset, replace(inputs, **options), tmp_path)
        keys = dataset.keys("test")[:20]
        K = [view.camera.K.tolist() for key in keys for view in given.samples(key)[0].views]
        return given.rigs(keys), [cameras_in_order(given, key) for key in keys], K

    first = draws(gallery)
    assert draws(gallery) == first
    assert draws(gallery, views=(2, 4)) == first, "all methods see the same draws"
    other = draws(Gallery(25))
    assert all(one != another for one, another in zip(first, other, strict=True)), "another truth, another salt"


@pytest.mark.parametrize("frames_per_rig", [1, 7])
def test_answers_do_not_depend_on_chunks(tmp_path: Path, frames_per_rig: int) -> None:
    gallery = Gallery(48)
    inputs = Inputs(images=False, crop_px=96, extrinsics=False, frames_per_rig=frames_per_rig)
    keys = gallery.keys("test")

    def held(answers: list[Poses]) -> list[tuple[str, bytes]]:
        return [(answer.frame, answer.joints_mm.tobytes()) for answer in answers]

    def given() -> Handover:
        return Handover(gallery, inputs, tmp_path, frames_per_rig=frames_per_rig)

    method = Remembers(inputs, None)
    first = held(predict(method, given(), keys))  # type: ignore[arg-type]
    assert held(predict(method, given(), keys, chunk=5)) == first  # type: ignore[arg-type]


def dotted(size: tuple[int, int], at_px: tuple[float, float]) -> View:
    """A view with a soft dot, and a detection there."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    dot = 250 * np.exp(-((x - at_px[0]) ** 2 + (y - at_px[1]) ** 2) / 18)
    image = np.repeat(np.rint(dot).astype(np.uint8)[..., None], 3, axis=2)
    camera = Camera(np.array([[90.0, 0, 50], [0, 91.0, 48], [0, 0, 1]]), np.eye(3), np.zeros(3), size=size)
    box = np.array([[at_px[0] - 20.0, at_px[1] - 20.0, at_px[0] + 20.0, at_px[1] + 20.0]])
    return View("a", camera, image, box, np.array([[at_px]]), np.ones((1, 1)))


@pytest.mark.parametrize("crops", [True, False])
def test_pixels_detections_and_k_are_rescaled_together(crops: bool) -> None:
    sizes = set()
    for number, size in enumerate([(96, 96), (98, 96)] * 8):
        view = dotted(size, (30.0, 61.5))
        sample = Sample(f"S9/Walking-1/{number}", (view,), Group("S9", "Walking", "Walking-1"))
        (after,) = handover.rescale(sample, b"salt", crops=crops).views
        pixels = after.pixels()[..., 0].astype(np.float64)
        assert pixels.shape == after.camera.size[::-1]
        assert after.joints_px is not None
        centre = [(pixels.sum(axis=axis) @ np.arange(pixels.shape[1 - axis])) / pixels.sum() for axis in (0, 1)]
        np.testing.assert_allclose(after.joints_px[0, 0], centre, atol=0.1)
        assert view.joints_px is not None
        ray, before = (one.camera.normalised(one.joints_px[0, 0]) for one in (after, view))  # type: ignore[index]
        np.testing.assert_allclose(ray, before, atol=1e-12)
        factors = after.camera.K[[0, 1], [0, 1]] / view.camera.K[[0, 1], [0, 1]]
        assert (np.abs(factors - 1) <= handover.SCALE).all()
        assert factors[0] != factors[1]
        np.testing.assert_array_equal(after.camera.R, view.camera.R)
        if crops:
            assert after.camera.size == size
            np.testing.assert_array_equal(after.boxes_px, view.boxes_px)
        else:
            sizes.add(after.camera.size)
            np.testing.assert_allclose(after.boxes_px.reshape(2, 2).mean(axis=0), after.joints_px[0, 0], atol=0.6)
            np.testing.assert_allclose(np.diff(after.boxes_px.reshape(2, 2), axis=0), 40, rtol=0.041)
    assert sizes == (set() if crops else {(128, 128)}), "the canvas does not tell a frame from a slightly wider one"


@pytest.mark.parametrize(
    "inputs",
    [
        Inputs(views=(1, 1), crop_px=SIDE_PX, extrinsics=False),
        Inputs(views=(1, 9), crop_px=SIDE_PX, extrinsics=False, intrinsics=False),
        Inputs(views=(1, 9), crop_px=SIDE_PX),
    ],
)
def test_what_is_monocular_calibrated_or_without_k_is_not_rescaled(tmp_path: Path, inputs: Inputs) -> None:
    rig = Rig(tmp_path / "rig", "path")
    key = rig.keys("test")[3]
    whole = {view.name: view.crop(SIDE_PX) for view in rig.sample(key).views}
    given = Handover(rig, inputs, tmp_path / "crops")
    order = CAMERAS if inputs.extrinsics else cameras_in_order(given, key)
    for view, camera in zip(sample_of(given, key).views, order, strict=False):
        np.testing.assert_array_equal(view.pixels(), whole[camera].pixels())
        if inputs.intrinsics:
            np.testing.assert_array_equal(view.camera.K, whole[camera].camera.K)
