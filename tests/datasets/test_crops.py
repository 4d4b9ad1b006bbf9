import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from poseboard.datasets.crops import CroppedDataset
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import Human36M
from poseboard.datasets.sample import Dataset, FileState, ReadImage, Sample, read_image


def crops_of(tree: Path, folder: Path, side_px: int = 32, box_scale: float = 1.0) -> CroppedDataset:
    return CroppedDataset(Human36M(tree), side_px, box_scale, folder)


def assert_same(cropped: Sample, whole: Sample, side_px: int, box_scale: float = 1.0) -> None:
    assert (cropped.key, cropped.group) == (whole.key, whole.group)
    assert [v.name for v in cropped.views] == [v.name for v in whole.views]
    for view, full in zip(cropped.views, whole.views, strict=True):
        expected = full.crop(side_px, box_scale)
        np.testing.assert_array_equal(view.pixels(), expected.pixels())
        np.testing.assert_array_equal(view.camera.P, expected.camera.P)
        assert view.boxes_px.tolist() == [[0, 0, side_px, side_px]]
        assert view.camera.size == (side_px, side_px)


@pytest.mark.parametrize("box_scale", [1.0, 1.3])
def test_crops_are_the_views_crops(human36m_tree: Path, tmp_path: Path, box_scale: float) -> None:
    whole = Human36M(human36m_tree)
    cropped = crops_of(human36m_tree, tmp_path, 24, box_scale)
    assert isinstance(cropped, Dataset)
    for split in ("train", "test"):
        assert cropped.keys(split) == whole.keys(split)
        for key in whole.keys(split):
            assert_same(cropped.sample(key), whole.sample(key), 24, box_scale)
            np.testing.assert_array_equal(cropped.truth(key).joints_mm, whole.truth(key).joints_mm)
    assert (cropped.manifest(), cropped.status(), cropped.views) == (whole.manifest(), whole.status(), whole.views)


def test_a_split_is_decoded_once(human36m_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[tuple[int, int]] = []
    cropped = CroppedDataset(Human36M(human36m_tree), 16, 1.0, tmp_path, lambda *tick: ticks.append(tick))
    keys = cropped.keys("test")
    first = cropped.sample(keys[0])
    assert ticks == [(i + 1, len(keys)) for i in range(len(keys))]
    assert not first.views[0].pixels().flags.writeable
    monkeypatch.setattr("poseboard.datasets.sample.read_image", lambda path: pytest.fail(f"{path} is decoded again"))
    for again in (cropped, crops_of(human36m_tree, tmp_path, 16)):
        for key in keys:
            again.sample(key).views[0].pixels()
    assert len(ticks) == len(keys)


def test_other_contents_lie_apart(human36m_tree: Path, tmp_path: Path, labels: dict) -> None:
    keys = Human36M(human36m_tree).keys("test")
    folders = [
        crops_of(human36m_tree, tmp_path).build(keys),
        crops_of(human36m_tree, tmp_path, 16).build(keys),
        crops_of(human36m_tree, tmp_path, 32, 1.2).build(keys),
        crops_of(human36m_tree, tmp_path).build(keys[::2]),
        CroppedDataset(Human36M(human36m_tree, images="original"), 32, 1.0, tmp_path).build(keys),
        CroppedDataset(Human36M(human36m_tree, box_scale=1.2), 32, 1.0, tmp_path).build(keys),
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
    cropped = crops_of(tree, tmp_path / "crops")
    assert not cropped.sample(keys[1]).views[2].pixels().any()
    assert_same(cropped.sample(keys[2]), Human36M(tree).sample(keys[2]), 32)
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


def test_keys_outside_the_splits_built_are_decoded_on_demand(
    human36m_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=10_000))
    cropped, whole = crops_of(human36m_tree, tmp_path), Human36M(human36m_tree)
    key = whole.keys("test")[3]
    assert_same(cropped.sample(key), whole.sample(key), 32)
    assert not list(tmp_path.glob("**/crops.npy"))
    with pytest.raises(InputError, match="do not fit on the disk"):
        cropped.build(whole.keys("test"))


def test_a_missing_image_leaves_nothing_behind(human36m_tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(human36m_tree, root)
    keys = Human36M(root).keys("test")
    Human36M(root).sample(keys[-1]).views[-1].image.unlink()  # type: ignore[union-attr]
    folder = tmp_path / "crops"
    with pytest.raises(InputError, match=r"img_\d{6}\.jpg: image cannot be read"):
        crops_of(root, folder).build(keys)
    assert [path.suffix for path in folder.iterdir()] in ([], [".lock"])
    assert crops_of(root, folder).build(keys[:-1]) is not None


def test_what_a_killed_build_left_is_swept(human36m_tree: Path, tmp_path: Path) -> None:
    keys = Human36M(human36m_tree).keys("test")
    built = crops_of(human36m_tree, tmp_path).build(keys)
    assert built is not None
    expected = np.load(built / "crops.npy")
    partial = built.with_name(built.name + ".partial")
    built.rename(partial)
    (partial / "crops.npy").write_bytes(b"half")
    (partial / "rows.npy").unlink()
    assert crops_of(human36m_tree, tmp_path).build(keys) == built
    assert not partial.exists()
    np.testing.assert_array_equal(np.load(built / "crops.npy"), expected)


def test_damaged_crops_are_named(human36m_tree: Path, tmp_path: Path) -> None:
    keys = Human36M(human36m_tree).keys("test")
    built = crops_of(human36m_tree, tmp_path).build(keys)
    assert built is not None
    whole = (built / "crops.npy").read_bytes()
    (built / "crops.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="delete this folder"):
        crops_of(human36m_tree, tmp_path).build(keys)


def _build(
    tree: Path, folder: Path, barrier: "multiprocessing.synchronize.Barrier", counts: "multiprocessing.Queue[int]"
) -> None:
    ticks: list[int] = []
    cropped = CroppedDataset(Human36M(tree), 32, 1.0, folder, lambda done, _: ticks.append(done))
    barrier.wait(30)
    cropped.build(cropped.keys("test"))
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


class Given:
    """Human3.6M without images but with 2D detections of ``people`` people."""

    def __init__(self, dataset: Dataset, people: int, detections: bool = True) -> None:
        self.name, self.skeleton, self.synthetic, self.views = "given", dataset.skeleton, True, dataset.views
        self.status, self.manifest, self.keys, self.truth = (
            dataset.status,
            dataset.manifest,
            dataset.keys,
            dataset.truth,
        )
        self.splits, self.facts = dataset.splits, dataset.facts
        self._dataset, self._people, self._detections = dataset, people, detections

    def sample(self, key: str) -> Sample:
        sample = self._dataset.sample(key)
        views = tuple(
            replace(
                view,
                image=None,
                boxes_px=np.repeat(view.boxes_px, self._people, axis=0),
                joints_px=np.full((self._people, 17, 2), 20.0) if self._detections else None,
            )
            for view in sample.views
        )
        return replace(sample, views=views)


def test_detections_move_with_a_crop_that_has_no_image(human36m_tree: Path, tmp_path: Path) -> None:
    dataset = Given(Human36M(human36m_tree), people=1)
    cropped = CroppedDataset(dataset, 32, 1.0, tmp_path)
    key = dataset.keys("test")[0]
    for view, full in zip(cropped.sample(key).views, dataset.sample(key).views, strict=True):
        assert view.image is None
        left, upper, right, _ = full.boxes_px[0]
        np.testing.assert_allclose(view.joints_px[0, 0], (20 - np.array([left, upper])) * 32 / (right - left))
    assert cropped.build(dataset.keys("test")) is None


@pytest.mark.parametrize("people", [0, 2])
def test_several_people_are_passed_through_with_their_detections(
    human36m_tree: Path, tmp_path: Path, people: int
) -> None:
    dataset = Given(Human36M(human36m_tree), people)
    key = dataset.keys("test")[0]
    for view, full in zip(
        CroppedDataset(dataset, 32, 1.0, tmp_path).sample(key).views, dataset.sample(key).views, strict=True
    ):
        np.testing.assert_array_equal(view.joints_px, full.joints_px)
        np.testing.assert_array_equal(view.camera.P, full.camera.P)
    with pytest.raises(InputError, match=f"has {people} people"):
        CroppedDataset(Given(Human36M(human36m_tree), people, detections=False), 32, 1.0, tmp_path).sample(key)


def test_nonsense_sizes_are_refused(human36m_tree: Path, tmp_path: Path) -> None:
    for side_px, box_scale in ((0, 1.0), (32, 0.0), (32, float("nan"))):
        with pytest.raises(InputError, match="must be above 0"):
            crops_of(human36m_tree, tmp_path, side_px, box_scale)
