"""A row that learns nothing takes over a checkpoint: one process of a group writes the copy."""

from typing import Any

import pytest


@pytest.mark.parametrize("rank", ["RANK", "SLURM_PROCID"])
def test_only_the_first_process_copies(workspace: Any, monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    folder = workspace.folder / "results/smoke"
    copy, record = folder / "checkpoints/dlt/human36m/seed0.pt", folder / "training/dlt/human36m.json"
    copy.unlink()
    record.unlink()
    monkeypatch.setenv(rank, "1")
    assert workspace.must("train", "human36m", "dlt").out == ""
    assert not copy.exists()
    assert not record.exists()
    monkeypatch.setenv(rank, "0")
    workspace.must("train", "human36m", "dlt")
    assert copy.read_bytes() == (folder / "checkpoints/backbone/human36m/seed0.pt").read_bytes()
    assert record.is_file()
