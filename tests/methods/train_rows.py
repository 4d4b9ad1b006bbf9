"""Train rows, for test_independent_rows.py.

Arguments: the checkpoint of a backbone, and for each process to train in FOLDER=ROW,ROW,…: its rows, one after another,
and the folder for their weights. Processes are forks of this one, which has imported the methods and computed nothing.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from made_up import dotted_moment

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import find_learner
from poseboard.methods.loop import fit, launch

SHORT: dict[str, dict[str, Any]] = {
    "backbone": {"image_px": 64},
    "volumetric": {"voxels": 16},
    "rays_mlp": {"views": 3, "map_steps": 0, "ray_steps": 1, "image_steps": 2, "rigs_per_pose": 2},
}
"""Options of rows whose trainings need others than few steps."""


class Moments:
    """Made-up samples, of one view each for rows that learn from single views."""

    def __init__(self, each_view: bool) -> None:
        self._moments = [dotted_moment(seed) for seed in range(3)]
        if each_view:
            self._moments = [(replace(sample, views=sample.views[:1]), truth) for sample, truth in self._moments]

    def __len__(self) -> int:
        return len(self._moments)

    def __getitem__(self, place: int):
        return self._moments[place]


def train(row: str, start: Path, folder: Path) -> None:
    options = {"batch_size": 2} | SHORT.get(row, {})
    if row != "rays_mlp":
        options |= {"steps": 3}
    learner = find_learner(row)(options, HUMAN36M)
    training = learner.training(None if row == "backbone" else start, 0)
    assert training is not None
    moments = Moments(getattr(learner, "each_view", False))
    state_path = folder / f"{row}.state.pt"
    result = fit(launch(1, "cpu"), training, moments, seed=0, state_path=state_path, configuration={"row": row})
    assert len(result.curve["total"]) == training.steps
    samples, truths = zip(*moments, strict=True)
    torch.save({"state": result.state, "constants": training.finish(samples, truths)}, folder / f"{row}.pt")


if __name__ == "__main__":
    start = Path(sys.argv[1])
    jobs = [(Path(folder), rows.split(",")) for folder, _, rows in (word.partition("=") for word in sys.argv[2:])]
    for row in {row for _, rows in jobs for row in rows}:
        find_learner(row)
    for folder, rows in jobs:
        folder.mkdir()
        if (child := os.fork()) == 0:
            for row in rows:
                train(row, start, folder)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{folder}: training failed")
