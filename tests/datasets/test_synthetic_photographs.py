"""Synthetic worlds in the layouts of photographs: their adapters read back what was rendered."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from poseboard.datasets.boxes import cut_boxes
from poseboard.datasets.catalog import catalog, open_dataset
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Dataset
from poseboard.datasets.synthetic import photographs
from poseboard.datasets.synthetic.generation import generate
from poseboard.datasets.synthetic.layouts import mupots
from poseboard.datasets.synthetic.photographs import DEPTHS_MM, direct
from poseboard.datasets.synthetic.renderer import backdrop, render
from poseboard.datasets.synthetic.scene import assemble

TINY: dict[str, dict[str, Any]] = {
    "muco": {"train_scenes": 3, "people": [2, 4]},
    "mupots": {"test_scenes": 3},
}
"""Data set -> options of a small world, to which size, frames and seed come."""
FRAMES = 2


@dataclass(frozen=True)
class World:
    """A rendered world and what it was rendered of."""

    name: str
    root: Path
    digest: str
    options: photographs.WorldOptions

    def opened(self, **options: Any) -> Dataset:
        return open_dataset(self.name, {"root": self.root, **options})


def options_of(name: str) -> photographs.WorldOptions:
    kind: type[photographs.WorldOptions] = catalog()[name].writer().WorldOptions
    return kind.model_validate({"seed": 5, "size_px": [112, 96], "frames": FRAMES, **TINY[name]})


def rendered(name: str, root: Path, processes: int = 1, **changes: Any) -> str:
    options = options_of(name).model_copy(update=changes)
    return str(catalog()[name].writer().generate(options, root, processes))


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
    scenes = {split: world.options.scenes(split) for split in world.options.splits}
    for split, count in scenes.items():
        assert 0 < len(dataset.keys(split)) <= count * FRAMES == world.options.samples(split)
        assert dataset.facts(split).truth == "synthetic"
    manifest = json.loads((world.root / "manifest.json").read_text())
    assert manifest["counts"]["images"] == world.options.extent.shots == FRAMES * sum(scenes.values())
    assert (world.root / "contact_sheet.png").stat().st_size > 10_000


def test_people_are_where_they_were_rendered(world: World) -> None:
    """Roots read back, projected by the camera read back, fall on the surface of the same person."""
    dataset = world.opened()
    layout = {"muco": "MuCoLayout", "mupots": "MuPoTSLayout"}[world.name]
    writer = getattr(import_module(f"poseboard.datasets.synthetic.layouts.{world.name}"), layout)(None)
    (split,) = world.options.splits[-1:]
    of_root = dataset.skeleton.root_index
    hits = total = 0
    for number in range(world.options.scenes(split)):
        scene = direct(world.options, split, number)
        view = backdrop(scene.room, scene.camera)
        for frame, solids in enumerate(assemble(scene.people, scene.furniture)):
            path = writer.image(split, number, frame, number * FRAMES + frame)
            key = next((k for k in keys(dataset) if path.endswith(f"{k}.jpg")), None)
            if key is None:
                continue
            truth = dataset.truth(key)
            camera = dataset.sample(key).views[0].camera
            np.testing.assert_allclose(camera.K, scene.camera.K, atol=1e-3)
            pelvis = np.stack([person.figure.points_mm["pelvis"][frame] for person in scene.people])
            rendered_mm = scene.camera.to_camera(pelvis)
            people = [int(np.linalg.norm(rendered_mm - root, axis=1).argmin()) for root in truth.joints_mm[:, of_root]]
            assert len(set(people)) == len(people)
            np.testing.assert_allclose(truth.joints_mm[:, of_root], rendered_mm[people], atol=1e-2)
            ids = render(solids, view, scene.light, 0).ids
            for person, joints in zip(people, truth.joints_mm, strict=True):
                pixels = np.rint(camera.project(joints)).astype(int)
                inside = ((pixels >= 0) & (pixels < np.array(camera.size))).all(axis=1)
                owners = [
                    solids.owner[i] if 0 <= i < len(solids.owner) else -1 for i in ids[tuple(pixels[inside].T[::-1])]
                ]
                behind = [
                    0 <= owner != person and rendered_mm[owner, 2] > rendered_mm[person, 2] + 900 for owner in owners
                ]
                assert not any(behind), "a joint is seen through somebody who stands farther away"
                hits += owners.count(person)
                total += len(owners)
    assert total
    assert hits / total > 0.5, "most joints lie on the surface of their own person"


def test_people_stand_before_each_other_at_distances_the_box_does_not_tell(world: World) -> None:
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


def test_every_annotated_box_can_be_cropped(world: World) -> None:
    dataset = world.opened()
    for key in keys(dataset):
        view = dataset.sample(key).views[0]
        boxes = np.concatenate([view.boxes_px[:, :2], view.boxes_px[:, 2:] - view.boxes_px[:, :2]], axis=1)
        assert np.isfinite(cut_boxes(boxes, view.camera.size)).all()


def test_equal_options_give_equal_bytes(world: World, tmp_path: Path) -> None:
    # The code that starts processes is of no layout: one of them shows that the number of processes does not count.
    assert rendered(world.name, tmp_path, processes=2 if world.name == "mupots" else 1) == world.digest
    assert content(tmp_path) == content(world.root)
    assert rendered(world.name, world.root) == world.digest, "a whole world is kept"


def test_another_seed_is_another_world(world: World, tmp_path: Path) -> None:
    few = {f"{split}_scenes": 1 for split in world.options.splits} | {"frames": 1}
    digests = [rendered(world.name, tmp_path, seed=seed, **few) for seed in (5, 6, 5)]
    assert digests[0] == digests[2] != digests[1]


@pytest.fixture
def copied(world: World, tmp_path: Path) -> World:
    """A world to spoil, with the times of its files."""
    return World(world.name, Path(shutil.copytree(world.root, tmp_path / "copy")), world.digest, world.options)


def _flip_a_byte(root: Path, kind: str) -> None:
    path = sorted(path for path in root.rglob(f"*{kind}") if path.name != "manifest.json")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("kind", "named"), [(".jpg", "images of .* are not"), (".json", "the labels are not"), ("gone", "cannot be read")]
)
def test_a_world_that_was_changed_is_neither_used_nor_rendered_over(copied: World, kind: str, named: str) -> None:
    if kind == "gone":
        sorted(copied.root.rglob("*.jpg"))[0].unlink()
    else:
        _flip_a_byte(copied.root, kind)
    before = content(copied.root)
    for ask in (copied.opened().manifest, lambda: rendered(copied.name, copied.root)):
        with pytest.raises(InputError, match=rf"was changed after it was generated: .*{named}.*; remove the folder"):
            ask()
    assert content(copied.root) == before
    (copied.root / "manifest.json").unlink()  # from here on it is the user's own
    assert not copied.opened().synthetic


@pytest.mark.parametrize("files", [None, ["../../etc/passwd"], ["/etc/passwd"], [7], "data"])
def test_a_manifest_that_does_not_list_files_of_its_tree_is_refused(copied: World, files: Any) -> None:
    path = copied.root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label_files": files}))
    with pytest.raises(InputError, match=r"manifest\.json: does not list the files of a generated world"):
        copied.opened().manifest()


def test_a_tree_of_somebody_else_is_left_alone(world: World, tmp_path: Path) -> None:
    theirs = tmp_path / "data" / "real.jpg"
    theirs.parent.mkdir()
    theirs.write_bytes(b"real")
    with pytest.raises(InputError, match="not generated here"):
        rendered("mupots", tmp_path)
    assert theirs.read_bytes() == b"real"


@pytest.mark.parametrize(
    "wrong",
    [
        {"people": (3, 2)}, {"focal": (2, 1)}, {"frames": 0}, {"train_scenes": 1}, {"test_scenes": 0}, {"colour": 1},
        {"size_px": (10, 10)},
    ],
)  # fmt: skip
def test_options_refuse_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        mupots.WorldOptions(**wrong)


def test_the_detector_misses_people_displaces_boxes_and_reports_nobody(tmp_path: Path) -> None:
    options = mupots.WorldOptions(seed=3, size_px=(96, 72), test_scenes=8, frames=3)
    generate(mupots.MuPoTSLayout(lambda root: open_dataset("mupots", {"root": root})), options, tmp_path)
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
