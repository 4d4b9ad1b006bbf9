"""Weights do not depend on what else a process has trained: each row has bit-equal weights alone and after others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_up import write_checkpoint
from train_rows import SHORT

from poseboard.methods.base import find_learner

PROGRAM = Path(__file__).with_name("train_rows.py")
ROOM = Path(__file__).resolve().parents[2] / "methods"
ROWS = [*sorted(path.parent.name for path in ROOM.glob("*/train.py")), "backbone"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and fitted constants of all rows: by row, trained alone, and in ``all``, one after another."""
    folder = tmp_path_factory.mktemp("rows")
    start = write_checkpoint(folder / "backbone.pt", "backbone")
    jobs = [f"{folder / 'all'}={','.join(ROWS)}", *(f"{folder / row}={row}" for row in ROWS[1:])]
    # With its own number of threads, not the single one of the tests.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, PROGRAM, start, *jobs], check=True, env=environment)
    return folder


@pytest.mark.parametrize("row", ROWS[1:])
def test_a_row_trains_alike_alone_and_after_others(row: str, weights: Path) -> None:
    alone, after = (torch.load(weights / name / f"{row}.pt", weights_only=True) for name in (row, "all"))
    assert alone["constants"] == after["constants"]
    assert alone["state"].keys() == after["state"].keys()
    for name, value in alone["state"].items():
        assert torch.equal(value, after["state"][name]), name


def test_short_options_are_of_rows() -> None:
    assert set(SHORT) <= set(ROWS)
    assert all(callable(find_learner(row)) for row in ROWS)
