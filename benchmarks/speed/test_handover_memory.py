"""Memory of the hand-over of a large data set: at most 2 GB for 100,000 samples of 31 cameras."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.speed.process import peak_memory_mb
from poseboard.benchmarks.speed.scenes import looking_at, ring
from poseboard.datasets.camera import Camera
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Group, Sample, Status, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import Inputs

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import RecordSpeed

SAMPLES, CAMERAS, MOST_MB = 100_000, 31, 2000.0


class Fabricated:
    """Data set that creates each sample on demand: 2D detections of one person in a ring of cameras."""

    name, skeleton, synthetic = "fabricated", HUMAN36M, True
    splits = ("train", "test")
    views = tuple(f"camera-{number:02d}" for number in range(CAMERAS))

    def __init__(self, samples: int) -> None:
        self.samples = samples
        rng = np.random.default_rng(0)
        self._joints_px = rng.uniform(0, 1000, (CAMERAS, 1, len(HUMAN36M), 2))
        K = np.array([[1145.0, 0, 512], [0, 1145.0, 512], [0, 0, 1]])
        angle = np.linspace(0, 2 * np.pi, CAMERAS, endpoint=False)
        poses = looking_at(ring(angle, 4000, 1000.0), np.array([0, 0, 1000.0]))
        self._cameras = [Camera(K, pose[:, :3], pose[:, 3], size=(1024, 1024)) for pose in poses]

    def status(self) -> Status:
        return Status("ready", "", "")

    def manifest(self) -> str:
        return f"{self.samples} samples"

    def facts(self, split: str) -> Facts:
        return Facts(boxes="detected", truth="synthetic")

    @cached_property
    def _keys(self) -> list[str]:
        return [f"S9/Walking-{i // 1000}/{i:06d}" for i in range(self.samples)]

    def keys(self, split: str) -> Sequence[str]:
        return self._keys if split == "test" else []

    def sample(self, key: str) -> Sample:
        subject, sequence, number = key.split("/")
        joints_px = self._joints_px + float(number) % 7
        boxes_px = np.concatenate([joints_px.min(axis=2), joints_px.max(axis=2)], axis=-1)
        confidence = np.ones((CAMERAS, 1, len(HUMAN36M)))
        views = tuple(
            View(*view)
            for view in zip(self.views, self._cameras, [None] * CAMERAS, boxes_px, joints_px, confidence, strict=True)
        )
        return Sample(key, views, Group(subject, "Walking", sequence))

    def truth(self, key: str) -> Truth:
        return Truth(np.zeros((1, len(HUMAN36M), 3)))


def hand_over(samples: int) -> dict[str, float]:
    """Hand over samples; run in a separate process, so that its peak memory is that of the hand-over."""
    dataset = Fabricated(samples)
    inputs = Inputs(images=False, people="all")
    with tempfile.TemporaryDirectory() as folder:
        handover = Handover(dataset, inputs, Path(folder))
        before = peak_memory_mb()
        start = time.perf_counter()
        views = sum(len(sample.views) for key in dataset.keys("test") for sample in handover.samples(key))
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    unhanded = sum(len(dataset.sample(key).views) for key in dataset.keys("test")[: samples // 10])
    bare = (time.perf_counter() - start) * samples / (samples // 10)
    assert views == 10 * unhanded == samples * CAMERAS
    return {"seconds": seconds, "bare_s": bare, "before_mb": before, "peak_mb": peak_memory_mb()}


@pytest.mark.full_size
def test_memory_does_not_grow_with_the_data_set(
    own_process: Callable[..., dict[str, float]], record_speed: RecordSpeed
) -> None:
    ours = own_process(SAMPLES)
    record_speed(
        name="handover",
        title=f"Handing over {SAMPLES:,} samples of {CAMERAS} cameras",
        peer="the samples as the data set makes them, nothing chosen and nothing withheld",
        aim=None,
        ours=ours["seconds"],
        theirs=ours["bare_s"],
        details={
            "samples": SAMPLES,
            "cameras": CAMERAS,
            "peak_memory_mb": ours["peak_mb"],
            "of_which_libraries_mb": ours["before_mb"],
        },
        kept=ours["peak_mb"] <= MOST_MB,
    )


if __name__ == "__main__":
    print(json.dumps(hand_over(int(sys.argv[1]))))
