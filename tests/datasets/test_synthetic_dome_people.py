"""The dome of several people: read back as it was rendered, and a detector that misses, errs and invents."""

import json
from pathlib import Path

import numpy as np
import pytest

from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.panoptic_people import CAMERAS, SEQUENCES
from poseboard.datasets.sample import Group, Sample, View
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.synthetic.dome_people import GAP_MM, STAND_MM, detect, direct, places
from poseboard.datasets.synthetic.layouts.panoptic import FROM_STUDIO
from poseboard.datasets.synthetic.layouts.panoptic_people import WorldOptions, generate
from poseboard.methods.geometry.observations import observe
from poseboard.methods.geometry.triangulation import dlt

TINY = WorldOptions(seed=5, width_px=96, frames=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("people")
    generate(TINY, root)
    return root


def test_the_adapter_finds_a_whole_tree_with_its_default_options(world: Path) -> None:
    dataset = open_dataset("panoptic-people", {"root": world})
    status = dataset.status()
    assert (dataset.synthetic, status.state) == (True, "ready"), status.detail
    assert status.detail.endswith("images")
    facts = dataset.facts("test")
    assert (facts.truth, facts.associated) == ("synthetic", False)
    assert dataset.keys("test") == [f"{name}/{number:08d}" for name in SEQUENCES for number in TINY.numbers]
    assert TINY.samples("test") == len(dataset.keys("test"))
    counts = json.loads((world / "manifest.json").read_text())["counts"]
    assert counts == {"sequences": 4, "frames": 8, "images": TINY.extent.shots, "trees": 1}
    assert sum(1 for _ in world.rglob("*.jpg")) == TINY.extent.shots
    assert sum(path.is_dir() for path in world.rglob("*")) == TINY.extent.folders
    view = dataset.sample(dataset.keys("test")[0]).views[0]
    assert view.pixels().shape == (54, 96, 3)
    assert generate(TINY, world) == json.loads((world / "manifest.json").read_text())["sha256"], (
        "nothing is rendered again"
    )


def test_poses_are_read_back_as_they_were_rendered(world: Path) -> None:
    dataset, known = open_dataset("panoptic-people", {"root": world}), 0
    for subject in SEQUENCES:
        people = direct(TINY, subject).people
        assert TINY.people[0] <= len(people) <= TINY.people[1]
        rendered_mm = np.stack([person.figure.landmarks_mm(COCO.joints) @ FROM_STUDIO.T for person in people], axis=1)
        for i, number in enumerate(TINY.numbers):
            joints_mm = dataset.truth(f"{subject}/{number:08d}").joints_mm
            assert joints_mm.shape == rendered_mm[i].shape
            annotated = np.isfinite(joints_mm)
            np.testing.assert_allclose(joints_mm[annotated], rendered_mm[i][annotated], atol=1e-4)
            known += annotated.mean()
    assert known > 0.95 * len(SEQUENCES) * 2, "31 cameras see almost every joint from somewhere"


def test_exact_projections_of_the_people_give_back_the_people() -> None:
    """The oracle of the association: P people in five views, shuffled in each, are P people, where they stand."""
    rng = np.random.default_rng(3)
    options = WorldOptions(seed=7, frames=3)
    for subject in SEQUENCES:
        people = direct(options, subject).people
        cameras = [options.dome(subject)[int(name[3:])] for name in CAMERAS]
        for i in range(3):
            joints_mm = np.stack([person.figure.landmarks_mm(COCO.joints)[i] for person in people])
            views = [
                View(name, camera, None, np.zeros((len(people), 4)), camera.project(rng.permutation(joints_mm)))
                for name, camera in zip(CAMERAS, cameras, strict=True)
            ]
            seen = observe([Sample("one", tuple(views), Group("s", "a", "q"))], COCO, threshold_px=15)
            answers = dlt(seen.P, seen.points_px)
            assert len(answers) == len(people)
            apart = np.linalg.norm(answers[:, None] - joints_mm[None], axis=-1).max(axis=-1)
            assert apart.min(axis=1).max() < 0.1
            assert sorted(apart.argmin(axis=1)) == list(range(len(people)))


def test_people_stand_apart_and_in_the_dome() -> None:
    for seed in range(10):
        stood = places(np.random.default_rng(seed), 5)
        apart = np.linalg.norm(stood[:, None] - stood[None], axis=-1) + 9999 * np.eye(len(stood))
        assert len(stood) >= 3
        assert apart.min() >= GAP_MM
        assert np.linalg.norm(stood, axis=1).max() <= STAND_MM


def test_the_detector_misses_who_is_hidden_and_displaces_what_it_sees() -> None:
    options, rng = WorldOptions(seed=7, frames=1), np.random.default_rng(0)
    people = direct(options, SEQUENCES[0]).people
    joints_mm = np.stack([person.figure.landmarks_mm(COCO.joints)[0] for person in people])
    camera = options.dome(SEQUENCES[0])[3]
    seen = np.ones((len(people), 17), dtype=bool)
    seen[0] = False
    true_px = camera.project(joints_mm)
    near, invented, reports = [], 0, 300
    for _ in range(reports):
        reported = detect(camera, joints_mm, seen, rng)
        assert ((reported[..., :2] >= 0) & (reported[..., :2] < camera.size)).all()
        assert ((reported[..., 2] > 0) & (reported[..., 2] <= 1)).all()
        off = np.linalg.norm(reported[:, None, :, :2] - true_px[None], axis=-1)
        median = np.median(off, axis=-1)
        of = median.argmin(axis=1)
        whole = ((true_px[of] >= 0) & (true_px[of] < np.array(camera.size))).all(axis=(1, 2))
        told = median.min(axis=1) < 12
        assert not (told & (of == 0)).any() or (reported[told & (of == 0), :, 2].mean() < 0.6)
        near += median.min(axis=1)[told & whole].tolist()
        invented += int((reported[..., 2].mean(axis=1) < 0.6).sum())
    assert 0.5 < np.median(near) < 6
    assert 0.1 < invented / reports < 0.35, "false people have low scores"
