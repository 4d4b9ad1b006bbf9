import multiprocessing
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from poseboard.datasets.crops import CropStore
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import Human36M
from poseboard.datasets.sample import Dataset, FileState, ReadImage, Sample, read_image


def crops_of(tree: Path, folder: Path, side_px: int = 32, box_scale: float = 1.0) -> CropStore:
    return CropStore(Human36M(tree), side_px, box_scale, folder)


def assert_same(store: CropStore, whole: Sample, side_px: int, box_scale: float = 1.0) -> None:
    for view in whole.views:
        expected = view.crop(side_px, box_scale).pixels()
        np.testing.assert_array_equal(store.pixels(whole.key, view.name), expected)


@pytest.fixture
def built(human36m_tree: Path, tmp_path: Path) -> Path:
    """The folder of the crops of the test split."""
    folder = crops_of(human36m_tree, tmp_path).build(Human36M(human36m_tree).keys("test"))
    assert folder is not None
    return folder


@pytest.mark.parametrize("box_scale", [1.0, 1.3])
def test_crops_are_the_views_crops(human36m_tree: Path, tmp_path: Path, box_scale: float) -> None:
    whole = Human36M(human36m_tree)
    store = crops_of(human36m_tree, tmp_path, 24, box_scale)
    for split in ("train", "test"):
        for key in whole.keys(split):
            assert_same(store, whole.sample(key), 24, box_scale)
    assert store.pixels(key, whole.views[0], person=1) is None
    assert store.pixels("no such key", whole.views[0]) is None


def test_a_split_is_decoded_once(human36m_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[tuple[int, int]] = []
    dataset = Human36M(human36m_tree)
    store = CropStore(dataset, 16, 1.0, tmp_path, lambda *tick: ticks.append(tick))
    keys = dataset.keys("test")
    first = store.pixels(keys[0], dataset.views[0])
    assert ticks == [(i + 1, len(keys)) for i in range(len(keys))]
    assert first is not None
    assert not first.flags.writeable
    monkeypatch.setattr("poseboard.datasets.sample.read_image", lambda path: pytest.fail(f"{path} is decoded again"))
    for again in (store, crops_of(human36m_tree, tmp_path, 16)):
        assert all(again.pixels(key, dataset.views[1]) is not None for key in keys)
    assert len(ticks) == len(keys)


def test_other_contents_lie_apart(human36m_tree: Path, tmp_path: Path, labels: dict) -> None:
    keys = Human36M(human36m_tree).keys("test")
    folders = [
        crops_of(human36m_tree, tmp_path).build(keys),
        crops_of(human36m_tree, tmp_path, 16).build(keys),
        crops_of(human36m_tree, tmp_path, 32, 1.2).build(keys),
        crops_of(human36m_tree, tmp_path).build(keys[::2]),
        CropStore(Human36M(human36m_tree, images="original"), 32, 1.0, tmp_path).build(keys),
        CropStore(Human36M(human36m_tree, box_scale=1.2), 32, 1.0, tmp_path).build(keys),
    ]
    assert len(set(folders)) == len(folders)
    assert crops_of(human36m_tree, tmp_path).build(keys) == folders[0]


def test_an_image_that_was_replaced_is_decoded_again(human36m_tree: Path, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(human36m_tree, tmp_path / "tree"))
    keys = Human36M(tree).keys("test")
    view = Human36M(tree).sample(keys[1]).views[2]
    before = crops_of(tree, tmp_path / "crops").build(keys)
    assert before is not None
    held = np.load(before / "crops.npy", mmap_mode="r")
    assert cv2.imwrite(str(view.image), np.zeros((98, 100, 3), np.uint8))
    store = crops_of(tree, tmp_path / "crops")
    black = store.pixels(keys[1], view.name)
    assert black is not None
    assert not black.any()
    assert_same(store, Human36M(tree).sample(keys[2]), 32)
    (kept,) = (path for path in (tmp_path / "crops").iterdir() if path.is_dir())
    assert kept != before
    assert held.any(), "who reads the old ones still can"
    written = (kept / "crops.npy").stat().st_mtime_ns
    assert crops_of(tree, tmp_path / "crops").build(keys) == kept
    assert (kept / "crops.npy").stat().st_mtime_ns == written


def test_the_state_of_an_image_follows_its_file(human36m_tree: Path, tmp_path: Path) -> None:
    view = Human36M(human36m_tree).sample("S9/Walking-1/000017").views[0]
    path = Path(shutil.copy2(str(view.image), tmp_path / "x.jpg"))
    state = replace(view, image=path).image_state()
    assert state == view.image_state() == FileState(path.stat().st_size, path.stat().st_mtime_ns)
    path.write_bytes(path.read_bytes())
    assert replace(view, image=path).image_state() != state
    reader = ReadImage(lambda: read_image(path), lambda: FileState.of(path))
    np.testing.assert_array_equal(replace(view, image=reader).pixels(), view.pixels())
    assert replace(view, image=reader).image_state() == FileState.of(path)
    pixels = view.pixels().copy()
    before = replace(view, image=pixels).image_state()
    pixels[0, 0] ^= 1
    assert replace(view, image=pixels).image_state() != before
    assert replace(view, image=None).image_state() is replace(view, image=lambda: pixels).image_state() is None


def test_nothing_is_stored_where_the_disk_is_small(
    human36m_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=10_000))
    store, whole = crops_of(human36m_tree, tmp_path), Human36M(human36m_tree)
    assert store.pixels(whole.keys("test")[3], whole.views[0]) is None, "the caller makes it"
    assert not list(tmp_path.glob("**/crops.npy"))
    with pytest.raises(InputError, match="disk"):
        store.build(whole.keys("test"))


def test_a_missing_image_leaves_nothing_behind(human36m_tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(human36m_tree, root)
    keys = Human36M(root).keys("test")
    Human36M(root).sample(keys[-1]).views[-1].image.unlink()  # type: ignore[union-attr]
    folder = tmp_path / "crops"
    with pytest.raises(InputError, match=r"img_\d{6}\.jpg: "):
        crops_of(root, folder).build(keys)
    assert [path.suffix for path in folder.iterdir()] in ([], [".lock"])
    assert crops_of(root, folder).build(keys[:-1]) is not None


def test_what_a_killed_build_left_is_swept(human36m_tree: Path, tmp_path: Path, built: Path) -> None:
    expected = np.load(built / "crops.npy")
    partial = built.with_name(built.name + ".partial")
    built.rename(partial)
    (partial / "crops.npy").write_bytes(b"half")
    assert crops_of(human36m_tree, tmp_path).build(Human36M(human36m_tree).keys("test")) == built
    assert not partial.exists()
    np.testing.assert_array_equal(np.load(built / "crops.npy"), expected)


def test_damaged_crops_are_named(human36m_tree: Path, tmp_path: Path, built: Path) -> None:
    whole = (built / "crops.npy").read_bytes()
    (built / "crops.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=re.escape(str(built))):
        crops_of(human36m_tree, tmp_path).build(Human36M(human36m_tree).keys("test"))


def _build(
    tree: Path, folder: Path, barrier: "multiprocessing.synchronize.Barrier", counts: "multiprocessing.Queue[int]"
) -> None:
    ticks: list[int] = []
    cropped = CropStore(Human36M(tree), 32, 1.0, folder, lambda done, _: ticks.append(done))
    barrier.wait(30)
    cropped.build(Human36M(tree).keys("test"))
    counts.put(len(ticks))


def test_two_processes_decode_once(human36m_tree: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, counts = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_build, args=(human36m_tree, tmp_path, barrier, counts)) for _ in range(2)]
    for process in processes:
        process.start()
    ticks = sorted(counts.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert ticks == [0, len(Human36M(human36m_tree).keys("test"))]


class Crowd:
    """Human3.6M with a second person, whose box is 5 px further and whom the first view does not show."""

    def __init__(self, dataset: Dataset) -> None:
        self.name, self.views, self.splits = "crowd", dataset.views, dataset.splits
        self.manifest, self.keys, self._dataset = dataset.manifest, dataset.keys, dataset

    def sample(self, key: str) -> Sample:
        sample = self._dataset.sample(key)
        halves = [np.concatenate([view.boxes_px, view.boxes_px + 5]) for view in sample.views]
        halves[0][1] = np.nan
        views = tuple(replace(view, boxes_px=boxes) for view, boxes in zip(sample.views, halves, strict=True))
        return replace(sample, views=views)


def test_each_of_several_people_has_a_crop_in_the_views_that_show_them(human36m_tree: Path, tmp_path: Path) -> None:
    crowd = Crowd(Human36M(human36m_tree))
    store = CropStore(crowd, 16, 1.0, tmp_path)  # type: ignore[arg-type]
    key = crowd.keys("test")[1]
    for view in crowd.sample(key).views:
        for person in range(2):
            crop = store.pixels(key, view.name, person)
            if person == 1 and view.name == crowd.views[0]:
                assert crop is None
            else:
                np.testing.assert_array_equal(crop, view.crop(16, person=person).pixels())


def test_nonsense_sizes_are_refused(human36m_tree: Path, tmp_path: Path) -> None:
    for side_px, box_scale in ((0, 1.0), (32, 0.0), (32, float("nan"))):
        with pytest.raises(InputError, match=r"^crops: "):
            crops_of(human36m_tree, tmp_path, side_px, box_scale)
