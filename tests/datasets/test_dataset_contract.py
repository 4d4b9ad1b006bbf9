"""The contract of `Dataset`, for whatever adapter the catalog can open: made-up trees in the published layouts."""

import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_trees import write_made_up

from poseboard.datasets.camera import Camera
from poseboard.datasets.catalog import catalog, open_dataset
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.human36m import LABELS
from poseboard.datasets.sample import Dataset

ADAPTERS = sorted(catalog())
HOLDS_NUMBERS = {
    "campus": Path("actorsGT.mat"),
    "human36m": LABELS,
    "human36m-coco": Path("annotations/Human36M_subject9_camera.json"),
    "human36m-rigs": LABELS,
    "human36m-toolbox": Path("annot/h36m_validation.pkl"),
    "mpii": Path("annotations/train.json"),
    "mscoco": Path("annotations/person_keypoints_val2017.json"),
    "muco": Path("data/MuCo-3DHP.json"),
    "mupots": Path("data/MuPoTS-3D.json"),
    "panoptic": Path("171204_pose6/calibration_171204_pose6.json"),
    "panoptic-people": Path("160906_band4/calibration_160906_band4.json"),
    "pw3d": Path("data/3DPW_validation.json"),
    "rhd": Path("evaluation/anno_evaluation.pickle"),
    "rig": Path("detections.parquet"),
    "shelf": Path("pred_shelf_maskrcnn_hrnet_coco.pkl"),
}
"""The file of each tree whose change must change the manifest."""

FACTS = {
    "campus": Facts(boxes="detected", truth="annotated", associated=False),
    "human36m": Facts(boxes="annotated", truth="motion capture"),
    "human36m-coco": Facts(boxes="true joints", truth="motion capture"),
    "human36m-rigs": Facts(boxes="annotated", truth="motion capture"),
    "human36m-toolbox": Facts(boxes="true joints", truth="triangulated"),
    "mpii": Facts(boxes="true joints", truth="annotated"),
    "mscoco": Facts(boxes="annotated", truth="annotated"),
    "muco": Facts(boxes="true joints", truth="motion capture"),
    "mupots": Facts(boxes="true joints", truth="motion capture"),
    "panoptic": Facts(boxes="true joints", truth="triangulated"),
    "panoptic-people": Facts(boxes="detected", truth="triangulated", associated=False),
    "pw3d": Facts(boxes="true joints", truth="motion capture"),
    "rhd": Facts(boxes="true joints", truth="synthetic", hand=True),
    "rig": Facts(boxes="detected", truth="none", rate_hz=60.0),
    "shelf": Facts(boxes="detected", truth="annotated", associated=False),
}
"""Of the test split of each tree as it is opened without options."""


@pytest.fixture(scope="module", params=ADAPTERS)
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Name of a data set and a folder with one in its published layout; tests do not change it."""
    if request.param in ("human36m", "human36m-rigs"):  # one layout
        return request.param, request.getfixturevalue("human36m_tree")
    folder = tmp_path_factory.mktemp(request.param)
    write_made_up(request.param, folder)
    return request.param, folder


@pytest.fixture
def opened(tree: tuple[str, Path]) -> Callable[[], Dataset]:
    """Opens the data set anew."""
    name, folder = tree
    return lambda: open_dataset(name, {"root": folder})


def arrays(value: Any) -> Iterator[np.ndarray]:
    """Every array that can be reached from a sample."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from arrays(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from arrays(getattr(value, field.name))


def every_key(dataset: Dataset) -> list[str]:
    return [key for split in dataset.splits for key in dataset.keys(split)]


def ask_for_everything(dataset: Dataset) -> None:
    for key in every_key(dataset):
        dataset.sample(key)
        dataset.truth(key)


def test_it_says_what_it_is(opened: Callable[[], Dataset], tree: tuple[str, Path]) -> None:
    dataset = opened()
    assert isinstance(dataset, Dataset)
    assert dataset.name == tree[0]
    assert not dataset.synthetic
    assert len(set(dataset.views)) == len(dataset.views) >= 1
    assert dataset.status().state in ("ready", "partial")


def test_it_says_what_its_numbers_depend_on(opened: Callable[[], Dataset], tree: tuple[str, Path]) -> None:
    dataset = opened()
    assert {"train", "test"} <= set(dataset.splits)
    assert len(set(dataset.splits)) == len(dataset.splits)
    facts = {split: dataset.facts(split) for split in dataset.splits}
    assert facts["test"] == FACTS[tree[0]]
    for split in dataset.splits:
        told = any(dataset.sample(key).hand is not None for key in dataset.keys(split))
        assert not dataset.keys(split) or told == facts[split].hand


def test_keys_are_unique_stable_and_in_one_split(opened: Callable[[], Dataset]) -> None:
    dataset, again = opened(), opened()
    keys = every_key(dataset)
    assert keys
    assert len(set(keys)) == len(keys)
    assert keys == every_key(again)
    with pytest.raises(InputError, match="holdout"):
        dataset.keys("holdout")


def test_a_key_that_is_none_is_told(opened: Callable[[], Dataset]) -> None:
    dataset = opened()
    for key in ("", "no/such/key", "../" + every_key(dataset)[0], every_key(dataset)[0] + " "):
        for ask in (dataset.sample, dataset.truth):
            with pytest.raises(InputError, match=re.escape(repr(key))):
                ask(key)


def test_samples_are_well_formed_and_repeat(opened: Callable[[], Dataset]) -> None:
    dataset, again = opened(), opened()
    for key in every_key(dataset):
        sample = dataset.sample(key)
        assert sample.key == key
        assert sample.group == again.sample(key).group
        names = [view.name for view in sample.views]
        assert names == [name for name in dataset.views if name in names]
        assert len(names) >= 1
        for view in sample.views:
            assert isinstance(view.camera, Camera)
            assert view.boxes_px.dtype == np.float64
            assert view.boxes_px.shape[1:] == (4,)
            if view.joints_px is None:
                assert view.image is not None
                continue
            assert view.joints_px.shape == (len(view.boxes_px), len(dataset.skeleton), 2)
            assert view.confidence is None or view.confidence.shape == view.joints_px.shape[:2]
        for one, other in zip(arrays(sample), arrays(again.sample(key)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_truth_has_a_place_for_each_joint_and_is_not_in_the_sample(opened: Callable[[], Dataset]) -> None:
    dataset = opened()
    for key in every_key(dataset):
        in_views = dataset.truth(key).annotated.values()
        truth = dataset.truth(key).joints_mm
        assert truth.dtype == np.float64
        assert truth.ndim == 3
        assert truth.shape[2] == 3
        placed = [np.isfinite(truth).all(axis=(1, 2)), *(np.isfinite(p).any(axis=(1, 2)) for p in in_views)]
        assert np.any(placed) or not len(truth)
        np.testing.assert_array_equal(truth, opened().truth(key).joints_mm)
        sample = dataset.sample(key)
        assert sample.root_mm is None
        known = truth[np.isfinite(truth)]
        for array in arrays(sample):
            assert not np.isin(known, array).any()


def test_the_manifest_stays_until_the_numbers_change(
    opened: Callable[[], Dataset], tree: tuple[str, Path], tmp_path: Path
) -> None:
    manifest = opened().manifest()
    assert re.fullmatch("[0-9a-f]{64}", manifest)
    assert opened().manifest() == manifest
    name, folder = tree
    shutil.copytree(folder, tmp_path / "copy")
    assert open_dataset(name, {"root": tmp_path / "copy"}).manifest() == manifest
    path = tmp_path / "copy" / HOLDS_NUMBERS[name]
    if HOLDS_NUMBERS[name] == LABELS:  # told by the content of its labels, not by the bytes of the pickle
        labels = np.load(path, allow_pickle=True).item()  # written by ourselves a moment ago
        labels["table"]["keypoints"][0, 0, 0] += 1
        np.save(path, np.array(labels, dtype=object), allow_pickle=True)
    else:
        with path.open("ab") as file:
            file.write(b".")
    assert open_dataset(name, {"root": tmp_path / "copy"}).manifest() != manifest


def test_damage_is_told_in_one_line(tree: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = tree
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "empty").mkdir()
    for absent in ("nowhere", "file", "empty"):
        status = open_dataset(name, {"root": tmp_path / absent}).status()
        assert (status.state, bool(status.detail), bool(status.obtain)) == ("missing", True, True)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for path in (path for path in copy.rglob("*") if path.is_file() and path.suffix not in (".jpg", ".png")):
        whole = path.read_bytes()
        for content in (b"", b"\x00nonsense", b"[" * 100_000, b"\xff\xfe\x00", whole[: len(whole) // 2], whole[:-20]):
            path.write_bytes(content)
            dataset = open_dataset(name, {"root": copy})
            assert dataset.status().state == "damaged"
            with pytest.raises(InputError) as caught:
                ask_for_everything(dataset)
            assert path.name in str(caught.value)
            assert "\n" not in str(caught.value)
        path.write_bytes(whole)
