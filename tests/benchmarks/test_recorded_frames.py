"""Recorded frames: which ones, what is in them, and the size of the file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poseboard.benchmarks import examples as recorded
from poseboard.benchmarks.examples import examples
from poseboard.datasets.camera import Camera
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Group, Poses, Sample, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.report.examples import Examples, read_examples

FRAMES, CAMERAS, J = 40, ("a", "b", "c", "d", "e"), len(HUMAN36M)
HOSTILE = "S1/</script>-1"


class Walk:
    """One person, z up, in ten sequences of four frames; the images are noise, which JPEG compresses worst."""

    name, skeleton, views, splits = "walk", HUMAN36M, CAMERAS, ("test",)

    def __init__(self, synthetic: bool) -> None:
        rng = np.random.default_rng(0)
        self.synthetic = synthetic
        self.joints_mm = rng.normal((0, 0, 900), 300, (FRAMES, J, 3))
        self.image = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        side = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # looks along y, z up in the image
        K = np.array([[300.0, 0, 100], [0, 300, 100], [0, 0, 1]])
        dist = np.array([-0.2, 0.05, 0.01, 0, 0])
        self.cameras = [Camera(K, side, np.array([50.0 * k, 900, 5000]), dist, (200, 200)) for k in range(len(CAMERAS))]

    def facts(self, split: str) -> Facts:
        return Facts(boxes="annotated", truth="synthetic")

    def manifest(self) -> str:
        return "walk"

    def keys(self, split: str) -> list[str]:
        return [f"S1/{k // 4}/{k}" for k in range(FRAMES)]

    def sample(self, key: str) -> Sample:
        box = np.array([[50.0, 50, 150, 150]])
        views = (View(name, camera, self.image, box) for name, camera in zip(CAMERAS, self.cameras, strict=True))
        sequence = int(key.split("/")[1])
        return Sample(key, tuple(views), Group("S1", "Walking", HOSTILE if sequence == 0 else f"Walking-{sequence}"))

    def truth(self, key: str) -> Truth:
        return Truth(self.joints_mm[int(key.rsplit("/", 1)[1])][None], {}, {})


def table(dataset: Walk, row: str, scale_mm: float, missing: int = -1) -> PoseTable:
    """Predictions whose error grows with the frame, and in opposite order for odd rows."""
    offset = np.linspace(0.2, 1.0, FRAMES)[:: 1 if row == "even" else -1, None, None] * scale_mm
    joints_mm = dataset.joints_mm + offset * np.where(np.arange(J) % 2, 1, -1)[:, None]
    keys = np.array(dataset.keys("test"), dtype=object)
    kept = np.flatnonzero(np.arange(FRAMES) != missing)
    info = PredictionInfo(
        skeleton=HUMAN36M.name, joints=HUMAN36M.joints, dataset="walk", condition=Condition(cameras=CAMERAS),
        manifest="walk", method=row,
    )  # fmt: skip
    poses = [Poses(HUMAN36M, joints_mm[k : k + 1], np.ones(1), "world") for k in kept]
    return PoseTable.collect(keys[kept].tolist(), poses, info)


def record(folder: Path, synthetic: bool = True) -> tuple[Walk, Examples, int]:
    dataset = Walk(synthetic)
    truth = TruthTable.collect(dataset, "test")  # type: ignore[arg-type]
    tables = {"odd": table(dataset, "odd", 90.0), "even": table(dataset, "even", 60.0, missing=7)}
    content = examples(tables, truth, dataset, "2 cores")  # type: ignore[arg-type]
    assert content is not None
    (folder / "walk.npz").write_bytes(content)
    return dataset, read_examples(folder / "walk.npz"), len(content)


def test_poses_of_all_frames_are_recorded_with_y_up(tmp_path: Path) -> None:
    dataset, known, size = record(tmp_path)
    assert size <= recorded.MOST_BYTES
    assert (known.rows, known.n_frames, known.keys) == (["even", "odd"], FRAMES, dataset.keys("test"))
    assert known.hardware == "2 cores"
    assert np.isnan(known.predicted_mm[0, 7]).all()
    assert np.isfinite(np.delete(known.predicted_mm, 7, axis=1)).all()
    # x is kept, z is y, and y is away from the eye; rounded to whole mm.
    turned = dataset.joints_mm[..., [0, 2, 1]] * (1, 1, -1)
    np.testing.assert_allclose(known.truth_mm, turned, atol=1.01)
    distance = np.linalg.norm(known.predicted_mm[1] - known.truth_mm, axis=2)
    np.testing.assert_allclose(distance, np.sqrt(3) * 90 * np.linspace(1.0, 0.2, FRAMES)[:, None].repeat(J, 1), atol=2)
    assert known.picks.tolist() == [[0, 20, 39], [39, 20, 0]]
    assert {0, 20, 39} <= set(known.pictured)
    assert known.sequences[0] == f"S1/{HOSTILE}"
    centres = known.frusta_mm[0, :, 0]
    np.testing.assert_allclose(centres, [[-50.0 * k, 900, 5000] for k in range(len(CAMERAS))], atol=1)


def test_poses_are_projected_by_the_lens_of_the_crop(tmp_path: Path) -> None:
    dataset, known, _ = record(tmp_path)
    assert [known.views[view] for view in known.picture_views] == ["a", "b", "d", "e"]
    crop = dataset.cameras[3].crop_resize((50, 50, 150, 150), (known.side_px, known.side_px))
    for picture, frame in enumerate(known.pictured):
        expected = crop.project(dataset.joints_mm[frame])
        np.testing.assert_allclose(known.truth_px[picture, 2], expected, atol=0.26)


@pytest.mark.parametrize(("most", "has_images"), [(300_000, True), (90_000, True), (12_000, False)])
def test_no_file_and_no_image_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, has_images: bool
) -> None:
    monkeypatch.setattr(recorded, "MOST_BYTES", most)
    _, known, size = record(tmp_path)
    assert size <= most
    assert bool(known.images) == has_images
    for image in (image for of_frame in known.images for image in of_frame):
        assert len(image) <= recorded.PICTURE_BYTES
        assert Image.open(io.BytesIO(image)).size == (known.side_px, known.side_px)


def test_a_long_split_is_recorded_by_whole_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MOST_FRAMES", 20)
    dataset, known, _ = record(tmp_path)
    assert (len(known.keys), known.n_frames) == (20, FRAMES)
    assert known.keys == [key for key in dataset.keys("test") if key in known.keys]
    assert [known.keys[frame] for frame in known.picks[0]] == ["S1/0/0", "S1/5/20", "S1/9/39"]
    assert sum(known.sequences.count(sequence) == 4 for sequence in set(known.sequences)) >= 3


def test_of_real_people_only_the_chosen_frames_are_recorded_without_images(tmp_path: Path) -> None:
    _, known, _ = record(tmp_path, synthetic=False)
    assert set(known.pictured) == set(range(len(known.keys)))
    assert len(known.keys) < 8
    for image in (image for of_frame in known.images for image in of_frame):
        assert not np.asarray(Image.open(io.BytesIO(image))).any()


def test_the_default_profile_stays_below_4_mb() -> None:
    assert 3 * recorded.MOST_BYTES < 4_000_000
