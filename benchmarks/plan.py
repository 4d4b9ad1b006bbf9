"""What a run amounts to before it starts: its stages, and about how long each takes.

Times of trainings come from their records, which are scaled by the number of samples and taken from whichever profile
has some. Those of other stages were measured by the last run in the same profile in this checkout
(`benchmarks.stage_times`), or are assumed of their kind. What was measured on another machine, or beside other work,
can be off by several times: the figures are for planning a coffee or a night.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

from poseboard.benchmarks.settings import BACKBONE, WORLDS, Settings
from poseboard.benchmarks.stage_times import StageTimes, announced
from poseboard.datasets.errors import validated
from poseboard.datasets.synthetic.layouts.human36m import WorldOptions
from poseboard.datasets.synthetic.world import CAMERAS
from poseboard.protocols.records import ResultError, TrainingFile, row_path

OTHER_STAGE_S = 15.0
"""Assumed of a stage of no kind below that no earlier run has timed."""
START_S = 3.0
"""Of a process that imports torch, on top of what a training recorded."""
ASSUMED_S = {
    "names": 2.0,
    "data": 5.0,
    "detections": 5.0,
    "predict": 5.0,
    "score": 4.0,
    "compare": 5.0,
    "speed": 120.0,
    "report": 10.0,
}
"""Seconds of a stage by its kind, the first word of its name: those that train nothing."""
RENDER_S_PER_MEGAPIXEL = 0.22
"""Processor time of a world's frame, its undistorted copy included; measured on two cores of an AMD EPYC."""
_TRAINING = re.compile(r"(?:train-(?P<dataset>[^@]+)@(?P<row>.+)|(?P<row_>backbone)-(?P<dataset_>.+))")
_TOGETHER = re.compile(r"\$\{poseboard\} run (\S+) (.+)")
"""The command of a data set that has one stage for everything."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage of dvc.yaml.

    Args:
        name: as DVC says it, "train-human36m@dlt".
        seconds: estimate of its wall time.
        basis: where that is from, for the reader.
    """

    name: str
    seconds: float
    basis: str


def plan(settings: Settings) -> list[PlannedStage]:
    """Every stage of the pipeline in a profile, in the order of dvc.yaml; DVC leaves out those that are up to date."""
    names = [name for stage, entry in _stages(settings).items() for name in _expanded(settings, stage, entry)]
    times = StageTimes(settings.stage_times).read()
    return [_estimated(settings, name, times) for name in names]


def up_to_date(stages: Sequence[PlannedStage], status: str) -> set[str] | None:
    """The names of the stages that DVC would skip, as far as it can say before the others have run.

    Args:
        stages: of the run.
        status: what ``dvc status --json`` printed: stage -> what has changed of it, only those that changed.

    Returns:
        None where DVC could not say.

    Example:
        >>> stages = [PlannedStage("names", 2.0, "assumed"), PlannedStage("report", 10.0, "assumed")]
        >>> up_to_date(stages, '{"names": []}')
        {'report'}
    """
    try:
        changed = json.loads(status)
    except json.JSONDecodeError:
        return None
    return {stage.name for stage in stages} - changed.keys() if isinstance(changed, dict) else None


def _expanded(settings: Settings, stage: str, entry: Mapping[str, Any]) -> list[str]:
    if "foreach" not in entry:
        return [stage]
    value: Any = entry["foreach"]
    if isinstance(value, str):
        keys = value.strip("${}").split(".")
        value = {"methods": settings.params.methods, "detections": settings.params.detections}
        for key in keys:
            value = value.get(key, {})
    return [f"{stage}@{item}" for item in value]


def trained_rows(settings: Settings) -> dict[str, list[str]]:
    """Data set -> rows that the pipeline trains on it, the backbone among them, as dvc.yaml has them.

    Example: {"human36m": ["backbone", "dlt", ...], "rhd": ["backbone", "lifting", "lifting_image"], ...}
    """
    rows: dict[str, list[str]] = {}
    for stage, entry in _stages(settings).items():
        for name in _expanded(settings, stage, entry):
            if training := _TRAINING.fullmatch(name):
                of = rows.setdefault(training["dataset"] or training["dataset_"], [])
                of.append(training["row"] or training["row_"])
        if together := _TOGETHER.search(str(entry.get("cmd", ""))):
            of_profile = (row for row, own in settings.profile.methods.items() if together[1] in own.datasets)
            rows[together[1]] = [BACKBONE, *together[2].split(), *of_profile]
    return rows


def _stages(settings: Settings) -> dict[str, Any]:
    stages = yaml.safe_load((settings.home / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return cast("dict[str, Any]", stages)


def _estimated(settings: Settings, name: str, times: Mapping[str, float]) -> PlannedStage:
    training = _TRAINING.fullmatch(name)
    if training is not None:
        dataset, row = training["dataset"] or training["dataset_"], training["row"] or training["row_"]
        if (stage := _training(settings, name, dataset, row)) is not None:
            return stage
    kind, _, dataset = name.partition("-")
    if kind == "data" and dataset in WORLDS and not settings.is_named(dataset) and not settings.root(dataset).exists():
        return PlannedStage(name, START_S + _rendering_s(settings), "assumed, with the rendering of the world")
    if name in times:
        return PlannedStage(name, times[name], "as the last run measured")
    return PlannedStage(name, ASSUMED_S.get(re.split("[-@]", name)[0], OTHER_STAGE_S), "assumed")


def _training(settings: Settings, name: str, dataset: str, row: str) -> PlannedStage | None:
    """From the record of an earlier training; None where there is none, or where the row trains nothing."""
    for profile, record in training_records(settings, dataset, row):
        if not record.runs:
            return None
        seconds = _scaled(record, settings, row)
        if seconds is not None:
            return PlannedStage(name, seconds, f"from the {profile} profile's last")
    return None


def training_records(settings: Settings, dataset: str, row: str) -> Iterator[tuple[str, TrainingFile]]:
    """Profile and record of what was trained of a row, the profile in force first; those that can be read."""
    own = settings.params.profile
    others = sorted(path.name for path in (settings.home / "results").glob("*") if path.name != own)
    for profile in (own, *others):
        path = row_path(settings.home / "results" / profile, "training", row, dataset)
        if path.is_file():
            with contextlib.suppress(ResultError):
                yield profile, TrainingFile.read(path)


def _rendering_s(settings: Settings) -> float:
    world = validated(WorldOptions, settings.profile.world, "world")
    moments = world.moments("train") + world.moments("test")
    megapixels = moments * len(CAMERAS) * world.side_px**2 / 1e6
    return megapixels * RENDER_S_PER_MEGAPIXEL / (os.cpu_count() or 1)


def _scaled(record: TrainingFile, settings: Settings, row: str) -> float | None:
    """Recorded wall time per sample times the samples of this profile, and the start of a process."""
    runs = record.runs
    options = settings.options(row)
    seen = sum(run.steps * run.batch_size for run in runs)
    steps, batch_size = options.get("steps"), options.get("batch_size")
    if isinstance(steps, Mapping):  # epochs; without their moments only the data set knows how long they are
        if not isinstance(steps.get("moments"), int) or not isinstance(steps.get("epochs"), int):
            return None
        samples = float(steps["epochs"] * steps["moments"])
    else:
        samples = float(steps or runs[0].steps) * float(batch_size or runs[0].batch_size)
    count = len(settings.profile.seeds)
    return START_S + sum(run.seconds for run in runs) / max(seen, 1) * samples * count


class Countdown:
    """Follows what DVC says and counts stages down.

    Args:
        stages: of the run.
    """

    def __init__(self, stages: list[PlannedStage]) -> None:
        self.left = {stage.name: stage.seconds for stage in stages}
        self.total = len(stages)

    def line(self, said: str) -> str | None:
        """For a line of DVC's that starts a stage: which it is, and about how long the rest takes.

        Example: "stage 3 of 60, about 12 min left if none is skipped"
        """
        stage = announced(said)
        if stage is None or stage[0] not in self.left:
            return None
        seconds = sum(self.left.values())
        del self.left[stage[0]]
        if stage[1] == "skipped":
            return None
        left = "less than a minute" if seconds < 60 else f"about {seconds / 60:.0f} min"
        return f"stage {self.total - len(self.left)} of {self.total}, {left} left if none is skipped"
