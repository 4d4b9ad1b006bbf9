"""Rows on a data set that has one stage for everything: one that is there only in a user's own copy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from poseboard.benchmarks.data import open_named
from poseboard.benchmarks.settings import BACKBONE, Settings
from poseboard.datasets.errors import InputError
from poseboard.datasets.rhd import RHD_HAND
from poseboard.datasets.skeleton import COCO, HUMAN36M, Skeleton
from poseboard.methods.backbone.train import Backbone
from poseboard.methods.base import Method, find_method
from poseboard.protocols.records import ComparisonFile

_SKELETONS = (HUMAN36M, COCO, RHD_HAND)
"""Of our data sets: a row may be for some of them only."""


def run_rows(settings: Settings, dataset: str, methods: Sequence[str]) -> Iterator[str]:
    """Train the backbone, then train, predict and score each row, then compare them; yields the commands as they end.

    Rows of the profile alone that name the data set under ``datasets`` follow those of ``methods``.

    Each is the command of its name in a process of its own, so that a training may start further processes, and one
    that was finished before is not done again. Where the data set is absent or has nothing to train on, which is no
    failure, nothing is run; folders that are not there are made, and what an earlier run left stays.

    Raises:
        InputError: a row is not in params.yaml, or a command failed.
    """
    of_profile = [name for name, entry in settings.profile.methods.items() if dataset in entry.datasets]
    methods = list(dict.fromkeys([*methods, *of_profile]))
    for method in methods:
        settings.entry(method)
    status, opened = open_named(settings, dataset)
    why = f"{settings.portable(status.detail)}; to be had from {status.obtain}" if opened is None else ""
    if opened is not None and not opened.keys("train"):
        why = "it has no training samples; import weights and run `poseboard predict … --checkpoint`"
    if why:
        if not (compared := settings.dataset_file("comparisons", dataset)).exists():
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


def check_rows(settings: Settings) -> None:
    """Try the options of every row and of the backbone, so that no command runs beside a typo in another row.

    A row whose class cannot be found is left to the commands that use it.

    Raises:
        InputError: a row has an option that its method does not know, or a wrong value for one.
    """
    for name in (BACKBONE, *settings.rows):
        try:
            kind = Backbone if name == BACKBONE else find_method(settings.entry(name).spec)
        except InputError:
            continue
        where = name if name == BACKBONE else f"methods.{name}"
        refused = [error for skeleton in _SKELETONS if (error := _refused(kind, settings.options(name), skeleton))]
        if len(refused) == len(_SKELETONS):
            raise InputError(f"params.yaml: {where}: {refused[0].where}", refused[0].problem, refused[0].remedy)


def _refused(kind: type[Method] | type[Backbone], options: Mapping[str, Any], skeleton: Skeleton) -> InputError | None:
    try:
        kind(options, skeleton)
    except InputError as error:
        return error
    return None
