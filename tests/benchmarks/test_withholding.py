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
from functools import partial
from pathlib import Path
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


def sample_of(given: Handover, key: str) -> Sample:
    """What is handed over of a sample of one person."""
    (sample,) = given.shown(key)
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
    inputs = replace(UNCALIBRATED, crop_px=crop_px, window=2, frames_per_rig=frames_per_rig)
    given = Handover(rig, inputs, tmp_path / "crops", frames_per_rig=frames_per_rig)
    for key in rig.keys("test")[:3]:
        sample = sample_of(given, key)
        assert telling(sample, rig) == []
        assert len(sample.past) == (key != rig.keys("test")[0])
        shown = [int(view.pixels()[0, 0, 0]) for view in sample.views]
        assert sorted(shown) == [40 * number + int(key[-1]) for number in range(4)], "the pixels are there"
        for before in sample.past:
            assert [view.name for view in before.views] == [view.name for view in sample.views]
            cameras = [int(view.pixels()[0, 0, 0]) // 40 for view in before.views]
            assert cameras == [value // 40 for value in shown], "in the order of the sample's own views"
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
            levels = tuple(int(view.pixels()[0, 0, 0]) // 40 for view in sample.views)
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
        return [tuple(int(v.pixels()[0, 0, 0]) // 40 for v in sample_of(given, k).views) for k in rig.keys("test")]

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
    "samples before": lambda s: float(len(s.past)),
    "name of a rig": lambda s: float("S9" in s.rig),  # type: ignore[operator]
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_each_cheat_finds_something_where_nothing_is_withheld(tmp_path: Path, cheat: str) -> None:
    levels = []
    for kind in KINDS:
        rig = Rig(tmp_path / kind, kind)
        whole = rig.sample(rig.keys("test")[1])
        open_to_all = replace(whole, root_mm=np.ones((1, 3)), past=(rig.sample(rig.keys("test")[0]),), rig="S9")
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
    sees = Sees(lambda sample: float(sample.views[0].pixels()[0, 0, 0]), UNCALIBRATED)
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
