"""Small trainings as their own program, which can kill themselves with SIGKILL at a given step: for test_loop.py."""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from launching import draw_otherwise, under_a_name_of_its_own
from torch import nn

from poseboard.datasets.sample import Group, Sample, Truth
from poseboard.methods.base import Inputs
from poseboard.methods.loop import fit, launch


class ToySamples:
    def __len__(self) -> int:
        return 37

    def __getitem__(self, place: int) -> tuple[Sample, Truth]:
        truth = Truth(np.random.default_rng(place).standard_normal((1, 17, 3)))
        return Sample(str(place), (), Group("S1", "Walking", "Walking-1")), truth


class ToyTraining:
    inputs = Inputs()
    batch_size = 8

    def __init__(self, steps: int, kill_at: int | None, busy_s: float, idle_s: float) -> None:
        torch.manual_seed(5)
        self.architecture: dict[str, int] = {}
        self.steps, self.kill_at, self.seen = steps, kill_at, 0
        self.busy_s, self.idle_s = busy_s, idle_s
        self.model: nn.Module = nn.Sequential(
            nn.Linear(51, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 51)
        )
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> dict[str, np.ndarray]:
        clean = truth.joints_mm.reshape(-1).astype(np.float32)
        return {"noisy": clean + rng.normal(0, 0.3, 51).astype(np.float32), "clean": clean}

    def loss(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.seen == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1
        began = time.process_time()
        while time.process_time() < began + self.busy_s:
            pass
        time.sleep(self.idle_s)
        return {"total": ((self.model(batch["noisy"]) - batch["clean"]) ** 2).mean()}

    def finish(self, samples: object, truths: object) -> dict[str, float]:
        return {}


def train(folder: Path, given: argparse.Namespace, processes: int) -> None:
    folder.mkdir(exist_ok=True)
    fabric = launch(processes, "cpu")
    last = fabric.global_rank == fabric.world_size - 1
    training = ToyTraining(30, given.kill_at if last else None, given.busy if last else 0.0, given.idle)
    result = fit(
        fabric,
        training,
        ToySamples(),
        seed=3,
        state_path=folder / "state.pt",
        configuration={"learning_rate": given.learning_rate},
        save_every=7,
        workers=given.workers,
    )
    if fabric.is_global_zero:
        times = {"seconds": result.seconds, "processor": result.processor_seconds, "gpu": result.gpu_seconds}
        torch.save({"state": result.state, "curve": result.curve, "times": times}, folder / "final.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill-at", type=int, default=None)
    parser.add_argument("--busy", type=float, default=0.0, help="processor seconds a step of the last process")
    parser.add_argument("--idle", type=float, default=0.0, help="seconds that each step waits")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    # One process after another, each a fork of this one.
    processes, codes = int(os.environ.get("WORLD_SIZE", "1")), []
    for number, words in enumerate(json.loads(sys.argv[1])):
        given = parser.parse_args(words)
        if (child := os.fork()) == 0:
            draw_otherwise(number)
            if processes > 1:
                under_a_name_of_its_own(str(number))
            train(given.folder, given, processes)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if (rank := os.environ.get("RANK", "0")) == "0":  # which writes all files of a training
            shutil.copytree(given.folder, given.folder.with_name(f"left-by-{number}"))
        Path(sys.argv[2]).with_suffix(f".{rank}").write_text(json.dumps(codes))
