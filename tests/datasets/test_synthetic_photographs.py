"""Synthetic worlds in the layouts of photographs: their adapters read back what was rendered."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from poseboard.datasets.catalog import catalog, open_dataset
from poseboard.datasets.errors import InputError
from poseboard.datasets.mscoco import MsCoco
from poseboard.datasets.muco import MuCo
from poseboard.datasets.mupots import MuPoTS
from poseboard.datasets.pw3d import Pw3d
from poseboard.datasets.sample import Dataset
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.synthetic import photographs
from poseboard.datasets.synthetic.generation import GenerationOptions
from poseboard.datasets.synthetic.layouts import human36m_coco, mupots
from poseboard.datasets.synthetic.layouts.mscoco import MsCocoLayout
from poseboard.datasets.synthetic.layouts.muco import MuCoLayout
from poseboard.datasets.synthetic.layouts.mupots import MuPoTSLayout
from poseboard.datasets.synthetic.layouts.pw3d import Pw3dLayout
from poseboard.datasets.synthetic.photographs import DEPTHS_MM, direct
from poseboard.datasets.synthetic.renderer import Room, backdrop, render
from poseboard.datasets.synthetic.scene import assemble, make_room
from poseboard.datasets.synthetic.world import direct as world_direct

FRAMES = 2
_SMALL = {"seed": 5, "size_px": [112, 96], "frames": FRAMES}
TINY: dict[str, dict[str, Any]] = {
    "human36m-coco": {"seed": 5, "side_px": 72, "actions": ["Directions"], "train_frames": 1, "test_frames": 1},
    "mscoco": {**_SMALL, "train_scenes": 2, "test_scenes": 2, "people": [2, 4]},
    "muco": {**_SMALL, "train_scenes": 3, "people": [3, 4]},
    "mupots": {**_SMALL, "test_scenes": 3},
    "pw3d": {**_SMALL, "train_scenes": 1, "validation_scenes": 1, "test_scenes": 2, "people": [2, 3]},
}
"""Data set -> options of a small world."""
SPLITS = {"muco": ["train"], "mupots": ["test"], "pw3d": ["train", "validation", "test"]}
"""Splits that have samples, where these are others than train and test."""
LAYOUTS = {
    "mscoco": MsCocoLayout(MsCoco), "muco": MuCoLayout(MuCo), "mupots": MuPoTSLayout(MuPoTS), "pw3d": Pw3dLayout(Pw3d),
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A rendered world and what it was rendered of."""

    name: str
    root: Path
    digest: str
    options: GenerationOptions

    @property
    def splits(self) -> list[str]:
        return SPLITS.get(self.name, ["train", "test"])

    def opened(self, **options: Any) -> Dataset:
        return open_dataset(self.name, {"root": self.root, **options})


def options_of(name: str) -> GenerationOptions:
    kind: type[GenerationOptions] = catalog()[name].writer().WorldOptions
    return kind.model_validate(TINY[name])


def rendered(name: str, root: Path, **changes: Any) -> str:
    options = options_of(name).model_copy(update=changes)
    return str(catalog()[name].writer().generate(options, root))


@pytest.fixture(scope="module", params=sorted(TINY))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    name = request.param
    root = tmp_path_factory.mktemp(name)
    return World(name, root, rendered(name, root), options_of(name))


def content(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def keys(dataset: Dataset) -> Iterator[str]:
    for split in dataset.splits:
        yield from dataset.keys(split)


def test_the_adapter_finds_a_whole_tree(world: World) -> None:
    dataset = world.opened()
    status = dataset.status()
    assert status.state == "ready", status.detail
    assert dataset.synthetic
    for split in world.splits:
        assert 0 < len(dataset.keys(split)) <= world.options.samples(split)
        assert dataset.facts(split).truth == "synthetic"
    manifest = json.loads((world.root / "manifest.json").read_text())
    images = sum(1 for _ in world.root.rglob("*.jpg"))
    assert manifest["counts"]["images"] == world.options.extent.shots == images
    for key in keys(dataset):
        for view in dataset.sample(key).views:
            assert view.pixels().shape == (*view.camera.size[::-1], 3)
    assert (world.root / "contact_sheet.png").stat().st_size > 10_000


def test_people_are_where_they_were_rendered(world: World) -> None:
    """Roots read back, projected by the camera read back, fall on the surface of the same person."""
    if world.name not in LAYOUTS:
        # its figures come from the studio: the test of the studio below compares them
        pytest.skip("is rendered in the studio, which has a test of its own")
    assert isinstance(world.options, photographs.WorldOptions)
    dataset, layout, split = world.opened(), LAYOUTS[world.name], world.splits[-1]
    before = sum(world.options.samples(earlier) for earlier in world.splits[:-1])
    names = [name for name in dataset.skeleton.joints if name in COCO.joints]
    joints = [dataset.skeleton.joints.index(name) for name in names]
    hits = total = 0
    for number in range(world.options.scenes(split)):
        scene = direct(world.options, split, number)
        view = backdrop(scene.room, scene.camera)
        for frame, solids in enumerate(assemble(scene.people, scene.furniture)):
            path = layout.image(split, number, frame, before + number * FRAMES + frame)
            key = next((key for key in dataset.keys(split) if path.endswith(f"{key.removeprefix('test/')}.jpg")), None)
            if key is None:
                continue
            camera, truth = dataset.sample(key).views[0].camera, dataset.truth(key)
            rendered_mm = scene.camera.to_camera(
                np.stack([person.figure.landmarks_mm(names)[frame] for person in scene.people])
            )
            if truth.annotated:
                read_px = camera.project(homogeneous(truth.annotated["camera"][:, joints]))
            else:
                np.testing.assert_allclose(camera.K, scene.camera.K, atol=1e-3)
                read_px = camera.project(truth.joints_mm[:, joints])
            rendered_px = np.stack([project(scene.camera.K, person) for person in rendered_mm])
            distance = np.nanmax(np.abs(read_px[:, None] - rendered_px).reshape(len(read_px), len(rendered_px), -1), -1)
            people = distance.argmin(axis=1)
            assert len(set(people.tolist())) == len(people)
            assert (distance.min(axis=1) < 0.6).all(), "key points of MSCOCO are whole pixels"
            if not truth.annotated:
                np.testing.assert_allclose(truth.joints_mm[:, joints], rendered_mm[people], atol=1e-2)
            ids = render(solids, view, scene.light, 0).ids
            owner = np.where(
                (ids >= 0) & (ids < len(solids.owner)), solids.owner[ids.clip(0, len(solids.owner) - 1)], -1
            )
            for person, points in zip(people.tolist(), read_px, strict=True):
                pixels = np.rint(points[np.isfinite(points).all(axis=1)]).astype(int)
                inside = pixels[((pixels >= 0) & (pixels < np.array(camera.size))).all(axis=1)]
                on = owner[inside[:, 1], inside[:, 0]]
                farther = [
                    o for o in on.tolist() if o >= 0 and rendered_mm[o, :, 2].min() > rendered_mm[person, :, 2].max()
                ]
                assert len(farther) <= 0.2 * len(on), "joints are not seen through somebody who stands farther away"
                hits += int((on == person).sum())
                total += len(on)
    assert total
    assert hits / total > 0.5, "most joints lie on the surface of their own person"


def project(K: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    return (points_mm @ K.T)[:, :2] / points_mm[:, 2:]


def homogeneous(normalised: np.ndarray) -> np.ndarray:
    return np.concatenate([normalised, np.ones((*normalised.shape[:-1], 1))], axis=-1)


def test_the_studio_is_read_back_as_it_was_rendered(world: World) -> None:
    options = world.options
    if not isinstance(options, human36m_coco.WorldOptions):
        # scenes are compared by the tests above, this one knows the studio's takes
        pytest.skip("is of scenes, which the tests above compare")
    dataset, detected = world.opened(), world.opened(boxes="detected")
    assert [len(dataset.keys(split)) for split in ("train", "test")] == [5 * 2, 2 * 2]
    assert detected.status().state == "ready"
    for key in dataset.keys("test"):
        subject, name, _ = key.split("/")
        take = world_direct(options, subject, name)
        joints = dataset.truth(key).joints_mm
        np.testing.assert_allclose(joints, take.people[0].figure.joints_mm[:1], atol=1e-3)
        views = dataset.sample(key).views
        assert len(views) == (3 if key.startswith("S11/Directions-2") else 4), "there is a video that does not exist"
        solids = assemble(take.people, take.furniture)[0]
        for view, other in zip(views, detected.sample(key).views, strict=True):
            picture = render(solids, backdrop(take_room(), view.camera), take.light, 0)
            points = np.rint(view.camera.project(joints[0])).astype(int)
            grown = cv2.dilate(picture.silhouette.astype(np.uint8), np.ones((3, 3), np.uint8))
            assert grown[points[:, 1], points[:, 0]].all()
            np.testing.assert_allclose(
                other.boxes_px[0].reshape(2, 2).mean(0), view.boxes_px[0].reshape(2, 2).mean(0), atol=4
            )
            assert not np.array_equal(view.boxes_px, other.boxes_px)


def take_room() -> Room:
    return make_room(np.random.default_rng(0))


def test_people_stand_before_each_other_at_distances_the_box_does_not_tell(world: World) -> None:
    if world.name in ("human36m-coco", "mscoco"):
        # one rig at one distance, and annotations in the image alone: there is nothing to compare
        pytest.skip("has a rig, or no depths")
    dataset = world.opened()
    depths, focals, overlaps = [], [], 0
    for key in keys(dataset):
        view = dataset.sample(key).views[0]
        focals.append(view.camera.K[0, 0])
        depths += dataset.truth(key).joints_mm[:, dataset.skeleton.root_index, 2].tolist()
        x, y = view.boxes_px[:, None, ::2], view.boxes_px[:, None, 1::2]
        across = np.minimum(x[..., 1], x[..., 1].T) > np.maximum(x[..., 0], x[..., 0].T)
        down = np.minimum(y[..., 1], y[..., 1].T) > np.maximum(y[..., 0], y[..., 0].T)
        overlaps += int((across & down).sum() - len(view.boxes_px)) // 2
    assert min(depths) > DEPTHS_MM[0] - 500
    assert max(depths) < DEPTHS_MM[1] + 500
    assert max(depths) - min(depths) > 1000
    assert max(focals) / min(focals) > 1.1
    assert overlaps or world.name == "muco", "of which people who are close to each other are left out"


def test_equal_options_give_equal_bytes(world: World, tmp_path: Path) -> None:
    assert rendered(world.name, tmp_path) == world.digest
    assert content(tmp_path) == content(world.root)
    assert rendered(world.name, world.root) == world.digest, "a whole world is kept"


@pytest.fixture
def copied(world: World, tmp_path: Path) -> World:
    """A world to spoil, with the times of its files."""
    return World(world.name, Path(shutil.copytree(world.root, tmp_path / "copy")), world.digest, world.options)


def _flip_a_byte(root: Path, kind: str) -> None:
    path = sorted(path for path in root.rglob(f"*{kind}") if path.name != "manifest.json")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("kind", "named"), [(".jpg", "images"), (".json", "labels"), ("gone", r"\.jpg")])
def test_a_world_that_was_changed_is_neither_used_nor_rendered_over(copied: World, kind: str, named: str) -> None:
    if kind == "gone":
        sorted(copied.root.rglob("*.jpg"))[0].unlink()
    else:
        _flip_a_byte(copied.root, kind)
    before = content(copied.root)
    for ask in (copied.opened().manifest, lambda: rendered(copied.name, copied.root)):
        with pytest.raises(InputError, match=rf"^{re.escape(str(copied.root))}: .*{named}"):
            ask()
    assert content(copied.root) == before
    (copied.root / "manifest.json").unlink()  # from here on it is the user's own
    assert not copied.opened().synthetic


@pytest.mark.parametrize("files", [None, ["../../etc/passwd"], ["/etc/passwd"], [7], "data"])
def test_a_manifest_that_does_not_list_files_of_its_tree_is_refused(copied: World, files: Any) -> None:
    path = copied.root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label_files": files}))
    with pytest.raises(InputError, match=r"manifest\.json: "):
        copied.opened().manifest()


def test_the_detector_misses_people_displaces_boxes_and_reports_nobody(tmp_path: Path) -> None:
    options = mupots.WorldOptions(seed=3, size_px=(96, 72), test_scenes=8, frames=3)
    mupots.generate(options, tmp_path)
    annotated = open_dataset("mupots", {"root": tmp_path})
    detected = open_dataset("mupots", {"root": tmp_path, "boxes": "detected"})
    assert detected.status().state == "ready"
    missed = false = displaced = 0
    scores: dict[bool, list[float]] = {True: [], False: []}
    for key in annotated.keys("test"):
        true, view = annotated.sample(key).views[0].boxes_px, detected.sample(key).views[0]
        assert view.box_scores is not None
        overlap = np.array([[_overlap(a, b) for b in true] for a in view.boxes_px]).reshape(
            len(view.boxes_px), len(true)
        )
        hit = (overlap > 0.4).any(axis=1)
        missed += int((~(overlap > 0.3).any(axis=0)).sum())
        false += int((overlap < 0.1).all(axis=1).sum())
        displaced += int((hit & (overlap < 0.98).all(axis=1)).sum())
        for is_hit, score in zip(hit.tolist(), view.box_scores.tolist(), strict=True):
            scores[is_hit].append(score)
    assert missed
    assert false
    assert displaced > len(scores[True]) / 2
    assert np.mean(scores[True]) > np.mean(scores[False]) + 0.1


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    both = float(sides.prod())
    return both / (float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - both)
