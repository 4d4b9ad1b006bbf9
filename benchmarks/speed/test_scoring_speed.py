"""Speed of reading and scoring a million poses with intervals, compared with one pose at a time.

Times are processor seconds, so that other programs on the machine do not affect the ratio.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from poseboard.benchmarks.speed.process import peak_memory_mb
from poseboard.datasets.camera import Camera
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo, read, write
from poseboard.protocols.scoring import score
from poseboard.protocols.table import Table
from poseboard.protocols.views import SeenBy

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import RecordSpeed

POSES, LOOP_POSES, GROUPS = 1_000_000, 5_000, 120
LONGEST_S, MOST_MB = 10.0, 1000.0
CAMERAS = ("a", "b", "c", "d")


def make_truth(poses: int) -> TruthTable:
    group = np.sort(np.arange(poses) % GROUPS)
    sequences = [f"{action}-{trial}" for action in range(GROUPS // 4) for trial in (1, 2)]
    subject, sequence = group // len(sequences), group % len(sequences)
    keys = np.array(
        [f"S{9 + 2 * s}/{sequences[q]}/{i:06d}" for i, (s, q) in enumerate(zip(subject, sequence, strict=True))],
        dtype=object,
    )
    joints = np.random.default_rng(0).standard_normal((poses, 17, 3), dtype=np.float32)
    joints *= 300
    return TruthTable(
        keys=keys,
        person=np.zeros(poses, dtype=np.int32),
        joints_mm=joints,
        subject=pd.Categorical.from_codes(subject, pd.Index(["S9", "S11"])),
        action=pd.Categorical.from_codes(sequence // 2, pd.Index([str(i) for i in range(GROUPS // 4)])),
        sequence=pd.Categorical.from_codes(sequence, pd.Index(sequences)),
        split_keys=keys,
        skeleton=HUMAN36M,
        dataset="human36m",
        split="test",
        views=CAMERAS,
        manifest="m",
        seen_by=SeenBy.collect([[Camera(np.eye(3), np.eye(3), np.zeros(3))] * len(CAMERAS)] * poses, len(CAMERAS)),
    )


def write_predictions(path: Path, poses: int) -> None:
    """Write predictions: the ground truth with 20 mm noise, in another order."""
    truth = make_truth(poses)
    rng = np.random.default_rng(1)
    order = rng.permutation(poses)
    joints = truth.joints_mm[order]
    joints += rng.standard_normal(joints.shape, dtype=np.float32) * 20
    info = PredictionInfo(
        skeleton=HUMAN36M.name, joints=HUMAN36M.joints, dataset="human36m",
        condition=Condition(cameras=CAMERAS), manifest="m", method="noise",
    )  # fmt: skip
    frame = np.full(poses, "world", dtype=object)
    write(path, PoseTable(truth.keys[order], truth.person, np.ones(poses, np.float32), frame, joints, info))


TABLES = [
    Table(id=name, title=name, dataset="human36m", protocol=name) for name in ("mpjpe_relative", "mpjpe_absolute")
]


def score_file(path: Path, poses: int) -> dict[str, float]:
    """Score a file; run in a separate process, so that its peak memory is that of scoring."""
    truth = make_truth(poses)
    before = peak_memory_mb()
    start = time.process_time()
    pred = read(path)
    reading = time.process_time() - start
    scores = [score(table, {pred.info.condition: {0: pred}}, truth).scores[0] for table in TABLES]
    seconds = time.process_time() - start
    values = {score.table: score.value for score in scores if score.value is not None and score.ci95 is not None}
    return {**values, "seconds": seconds, "read_s": reading, "before_mb": before, "peak_mb": peak_memory_mb()}


def score_in_a_loop(path: Path, poses: int) -> dict[str, float]:
    """Reference: one pose at a time from a mapping, like typical evaluation scripts; without an interval."""
    truth = make_truth(poses)
    start = time.process_time()
    rows = {row["key"]: row for row in pd.read_parquet(path).to_dict("records")}
    absolute, relative = [], []
    root = HUMAN36M.root_index
    for key, true in zip(truth.keys, truth.joints_mm.astype(np.float64), strict=True):
        pred = np.asarray(rows[key]["joints_mm"], dtype=np.float64).reshape(17, 3)
        absolute.append(np.sqrt(((pred - true) ** 2).sum(axis=1)).mean())
        relative.append(np.sqrt((((pred - pred[root]) - (true - true[root])) ** 2).sum(axis=1)).mean())
    seconds = time.process_time() - start
    return {"mpjpe_absolute": float(np.mean(absolute)), "mpjpe_relative": float(np.mean(relative)), "seconds": seconds}


@pytest.mark.full_size
def test_a_million_poses(
    tmp_path: Path, own_process: Callable[..., dict[str, float]], record_speed: RecordSpeed
) -> None:
    path, small = tmp_path / "million.parquet", tmp_path / "small.parquet"
    write_predictions(path, POSES)
    write_predictions(small, LOOP_POSES)
    ours = own_process(path, POSES)
    peer = score_in_a_loop(small, LOOP_POSES)
    same = score_file(small, LOOP_POSES)
    worst = max(abs(same[table.protocol] - peer[table.protocol]) for table in TABLES)
    assert worst < 1e-3
    record_speed(
        name="scoring",
        title="Scoring a million poses: read from Parquet, relative and absolute MPJPE with 95 % intervals",
        peer=f"one pose at a time without intervals, {LOOP_POSES} poses scaled to {POSES}",
        aim=1.0,
        ours=ours["seconds"],
        theirs=peer["seconds"] * POSES / LOOP_POSES,
        details={
            "poses": POSES,
            "peak_memory_mb": ours["peak_mb"],
            "of_which_truth_and_libraries_mb": ours["before_mb"],
            "read_s": ours["read_s"],
            "largest_difference_mm": worst,
        },
        kept=ours["seconds"] <= LONGEST_S and ours["peak_mb"] <= MOST_MB,
    )


if __name__ == "__main__":
    print(json.dumps(score_file(Path(sys.argv[1]), int(sys.argv[2]))))
