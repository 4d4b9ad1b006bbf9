"""Rows on a data set that has one stage for everything: one that is there only in a user's own copy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from poseboard.benchmarks.data import open_named
from poseboard.benchmarks.settings import BACKBONE, Settings
from poseboard.datasets.errors import InputError
from poseboard.protocols.scores import ComparisonFile

_FOLDERS = ("checkpoints", "training", "predictions", "scores", "errors", "examples")


def run_rows(settings: Settings, dataset: str, methods: Sequence[str]) -> Iterator[str]:
    """Train the backbone, then train, predict and score each row, then compare them; yields the commands as they end.

    Each is the command of its name in a process of its own, so that a training may start further processes, and one
    that was finished before is not done again. Where the data set is absent or has nothing to train on, which is no
    failure, nothing is run; folders that are not there are made, and what an earlier run left stays.

    Raises:
        InputError: a row is not in params.yaml, or a command failed.
    """
    for method in methods:
        settings.entry(method)
    status, opened = open_named(settings, dataset)
    why = f"{settings.portable(status.detail)}; to be had from {status.obtain}" if opened is None else ""
    if opened is not None and not opened.keys("train"):
        why = "it has no training samples; import weights and run `poseboard predict … --checkpoint`"
    if why:
        for folder in _FOLDERS:
            settings.file(folder, dataset).mkdir(parents=True, exist_ok=True)
        if not (compared := settings.file("comparisons", f"{dataset}.json")).exists():
            ComparisonFile(dataset=dataset, synthetic=False, profile=settings.params.profile, tables=[]).write(compared)
        yield f"{dataset}: left out, {why}"
        return
    commands = [("train", dataset, BACKBONE)]
    commands += [(stage, dataset, method) for method in methods for stage in ("train", "predict", "score")]
    for command in (*commands, ("compare", dataset)):
        program = str(Path(sys.executable).with_name("poseboard"))
        done = subprocess.run([program, *command], cwd=settings.home, check=False)
        told = " ".join(command)
        if done.returncode:
            raise InputError(f"poseboard {told}", f"stopped with exit code {done.returncode}", "it says why above")
        yield f"{told}: done"
