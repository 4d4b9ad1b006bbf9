"""What a run amounts to before it starts: its stages, and about how long each takes.

Times of trainings come from their records, scaled by the number of samples, of the profile in force or of another one
in which the row and all that it starts from are the same but in size. Those of other stages were measured by the last
run in the same profile in this checkout (`benchmarks.stage_times`), or are assumed of their kind. A training of which
nothing comparable was measured has no time. What was measured on another machine, or beside other work, can be off by
several times: the figures are for planning a coffee or a night.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from poseboard.benchmarks.data import world
from poseboard.benchmarks.matching import datasets_of
from poseboard.benchmarks.settings import Settings
from poseboard.benchmarks.stage_times import StageTimes, announced
from poseboard.methods.sizes import training_samples
from poseboard.protocols.records import DataFile, ResultError, TrainingFile, row_path

OTHER_STAGE_S = 15.0
"""Assumed of a stage of no kind below that no earlier run has timed."""
START_S = 3.0
"""Of a process that imports torch, on top of what a training recorded."""
ASSUMED_S = {
    "begin": 3.0,
    "data": 5.0,
    "evaluate": 9.0,
    "compare": 5.0,
    "speed": 120.0,
    "report": 10.0,
}
"""Seconds of a stage by its kind, the first word of its name: those that train nothing."""
RENDER_S_PER_MEGAPIXEL = 0.22
"""Processor time of a world's frame, its undistorted copy included; measured on two cores of an AMD EPYC."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage of dvc.yaml.

    Args:
        name: as DVC says it, "train@dlt".
        seconds: estimate of its wall time; None where nothing comparable was measured.
        basis: where that is from, for the reader.
    """

    name: str
    seconds: float | None
    basis: str


def plan(settings: Settings) -> list[PlannedStage]:
    """Every stage of the pipeline in a profile, in the order of dvc.yaml; DVC leaves out those that are up to date."""
    names = [name for stage, entry in _pipeline(settings).items() for name in _expanded(settings, stage, entry)]
    times = StageTimes(settings.stage_times).read()
    return [_estimated(settings, name, times) for name in names]


def total(stages: Sequence[PlannedStage]) -> tuple[float, int]:
    """The seconds of all stages that have a time, and how many have none.

    Example:
        >>> total([PlannedStage("report", 10.0, "assumed"), PlannedStage("train@dlt", None, "not measured")])
        (10.0, 1)
    """
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    return sum(known), len(stages) - len(known)


def up_to_date(stages: Sequence[PlannedStage], status: str, waiting: Collection[str] = ()) -> set[str] | None:
    """The names of the stages that DVC would skip, as far as one can say before the others have run.

    Args:
        stages: of the run.
        status: what ``dvc status --json`` printed: stage -> what has changed of it, only those that changed.
        waiting: stages that will run though DVC cannot say so yet.

    Returns:
        None where DVC could not say.

    Example:
        >>> stages = [PlannedStage("begin", 3.0, "assumed"), PlannedStage("report", 10.0, "assumed")]
        >>> up_to_date(stages, '{"begin": []}')
        {'report'}
    """
    try:
        changed = json.loads(status)
    except json.JSONDecodeError:
        return None
    return {stage.name for stage in stages}.difference(changed, waiting) if isinstance(changed, dict) else None


def dependencies(settings: Settings) -> dict[str, list[Path]]:
    """The files and folders that each stage depends on, but the code of a row."""
    return {
        name: [
            settings.home
            / dep.replace("${run.profile}", settings.params.profile).replace("${key}", name.partition("@")[2])
            for dep in entry.get("do", entry).get("deps", ())
        ]
        for stage, entry in _pipeline(settings).items()
        for name in _expanded(settings, stage, entry)
    }


def _pipeline(settings: Settings) -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml."""
    stages: dict[str, dict[str, Any]] = yaml.safe_load((settings.home / "dvc.yaml").read_text(encoding="utf-8"))[
        "stages"
    ]
    return stages


def _expanded(settings: Settings, stage: str, entry: Mapping[str, Any]) -> list[str]:
    if "foreach" not in entry:
        return [stage]
    items: Mapping[str, Any] = getattr(settings.params, entry["foreach"].strip("${}"))
    return [f"{stage}@{item}" for item in items]


def trained_rows(settings: Settings) -> dict[str, list[str]]:
    """Data set -> rows that run on it, for the data sets that are there.

    Example: {"human36m": ["backbone", "dlt", ...], "rhd": ["backbone", "lifting", "lifting_image"], ...}
    """
    rows: dict[str, list[str]] = {}
    for row in settings.rows:
        for dataset in datasets_of(settings, row):
            rows.setdefault(dataset, []).append(row)
    return rows


def _estimated(settings: Settings, name: str, times: Mapping[str, float]) -> PlannedStage:
    kind, _, item = name.partition("@")
    if kind == "train":
        return _training(settings, name, item)
    if kind == "data" and settings.is_world(item) and not settings.root(item).exists():
        return PlannedStage(name, START_S + _rendering_s(settings, item), "assumed, with the rendering of the world")
    if name in times:
        return PlannedStage(name, times[name], "as the last run measured")
    return PlannedStage(name, ASSUMED_S.get(kind, OTHER_STAGE_S), "assumed")


def _training(settings: Settings, name: str, row: str) -> PlannedStage:
    """From the records of earlier trainings; a data set on which the row learns nothing takes no time."""
    seconds, profiles, unknown = START_S, [], []
    own = [dataset for dataset in datasets_of(settings, row) if settings.weights(row, dataset) is None]
    for dataset in dict.fromkeys(settings.trained_as(row, dataset) or dataset for dataset in own):
        learns = any(_has_samples(settings, source) for source in settings.train_on(row, dataset))
        if settings.weights(row, dataset) is not None or not learns:
            continue
        measured = _measured(settings, dataset, row)
        if measured is None:
            unknown.append(dataset)
        else:
            seconds += measured[1]
            profiles.append(measured[0])
    if unknown:
        return PlannedStage(name, None, f"nothing comparable was measured on {', '.join(unknown)}")
    of = ", ".join(dict.fromkeys(profiles))
    return PlannedStage(name, seconds, f"from the {of} profile's last" if profiles else "nothing is trained")


def _measured(settings: Settings, dataset: str, row: str) -> tuple[str, float] | None:
    """Profile and seconds of a comparable training; None where there is none."""
    for profile, record in training_records(settings, dataset, row):
        if not record.runs:
            return profile, 0.0
        seconds = _scaled(record, settings, dataset, row)
        if seconds is not None and _is_comparable(settings, profile, dataset, row):
            return profile, seconds
    return None


def _is_comparable(settings: Settings, profile: str, dataset: str, row: str) -> bool:
    """Whether a row and all that it starts from were trained in a profile with the words and switches they have here.

    Numbers may differ: steps and batches are scaled, and the others are taken to cost alike.
    """
    of: str | None = row
    while of is not None:
        path = row_path(settings.home / "results" / profile, "training", of, dataset)
        try:
            recorded = TrainingFile.read(path).provenance.options
        except ResultError:
            return False
        ours = settings.options(of, dataset)
        if any(isinstance(ours[key], str | bool) and ours[key] != recorded[key] for key in ours.keys() & recorded):
            return False
        of = settings.after(of)
    return True


def _has_samples(settings: Settings, dataset: str) -> bool:
    """Whether a data set can be trained on, as far as its stage has counted or the options of its world say."""
    if settings.is_absent(dataset):
        return False
    try:
        return DataFile.read(settings.dataset_file("data", dataset)).counts.get("train samples", 1) > 0
    except ResultError:
        options = world(settings, dataset)
        return options is None or options.samples("train") > 0


def training_records(settings: Settings, dataset: str, row: str) -> Iterator[tuple[str, TrainingFile]]:
    """Profile and record of what was trained of a row, the profile in force first; those that can be read."""
    own = settings.params.profile
    others = sorted(path.name for path in (settings.home / "results").glob("*") if path.name != own)
    for profile in (own, *others):
        path = row_path(settings.home / "results" / profile, "training", row, dataset)
        if path.is_file():
            with contextlib.suppress(ResultError):
                yield profile, TrainingFile.read(path)


def _rendering_s(settings: Settings, dataset: str) -> float:
    options = world(settings, dataset)
    assert options is not None
    megapixels = options.extent.shots * options.extent.pixels / 1e6
    return megapixels * RENDER_S_PER_MEGAPIXEL / (os.cpu_count() or 1)


def _scaled(record: TrainingFile, settings: Settings, dataset: str, row: str) -> float | None:
    """Recorded wall time per sample times the samples of this profile."""
    runs = record.runs
    seen = sum(run.steps * run.batch_size for run in runs)
    samples = training_samples(settings.options(row, dataset), runs[0].steps, runs[0].batch_size)
    if samples is None:
        return None
    return sum(run.seconds for run in runs) / max(seen, 1) * samples * len(settings.profile.seeds)


class Countdown:
    """Follows what DVC says and counts stages down.

    Args:
        stages: of the run.
    """

    def __init__(self, stages: list[PlannedStage]) -> None:
        self.left = {stage.name: stage for stage in stages}
        self.total = len(stages)

    def line(self, said: str) -> str | None:
        """For a line of DVC's that starts a stage: which it is, and about how long the rest takes.

        Example: "stage 3 of 38, about 12 min left if none is skipped"
        """
        stage = announced(said)
        if stage is None or stage[0] not in self.left:
            return None
        seconds, unknown = total(list(self.left.values()))
        del self.left[stage[0]]
        if stage[1] == "skipped":
            return None
        left = "less than a minute" if seconds < 60 else f"about {seconds / 60:.0f} min"
        left += f" and {unknown} trainings of unknown length" if unknown else ""
        return f"stage {self.total - len(self.left)} of {self.total}, {left} left if none is skipped"
