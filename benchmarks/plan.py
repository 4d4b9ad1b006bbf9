"""What a run amounts to before it starts: its stages, and about how long each takes.

Only trainings have recorded times, which are scaled by their number of samples and taken from whichever profile has
some. What was measured on another machine, or beside other work, can be off by several times; every other stage counts
what is assumed of its kind. So the figures are for planning a coffee or a night, and no measurement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from poseboard.benchmarks.settings import Settings
from poseboard.protocols.scores import ResultError, TrainingFile

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
_TRAINING = re.compile(r"(?:train-(?P<dataset>[^@]+)@(?P<row>.+)|(?P<row_>backbone)-(?P<dataset_>.+))")


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
    stages = yaml.safe_load((settings.home / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    names = [name for stage, entry in stages.items() for name in _expanded(settings, stage, entry)]
    return [_estimated(settings, name) for name in names]


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


def _estimated(settings: Settings, name: str) -> PlannedStage:
    found = _TRAINING.fullmatch(name)
    if found is None:
        return PlannedStage(name, ASSUMED_S.get(re.split("[-@]", name)[0], OTHER_STAGE_S), "assumed")
    dataset, row = found["dataset"] or found["dataset_"], found["row"] or found["row_"]
    own = settings.params.profile
    others = sorted(path.name for path in (settings.home / "results").glob("*") if path.name != own)
    for profile in (own, *others):
        path = settings.home / "results" / profile / "training" / dataset / f"{row}.json"
        seconds = _scaled(path, settings, row) if path.is_file() else None
        if seconds is not None:
            return PlannedStage(name, seconds, f"from the {profile} profile's last")
    return PlannedStage(name, OTHER_STAGE_S, "assumed")


def _scaled(path: Path, settings: Settings, row: str) -> float | None:
    """Recorded wall time per sample times the samples of this profile, and the start of a process."""
    try:
        runs = TrainingFile.read(path).runs
    except ResultError:
        return None
    if not runs:
        return START_S
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
        started = re.match(r"Running stage '([^']+)'", said)
        skipped = re.match(r"Stage '([^']+)' didn't change", said)
        name = started[1] if started else skipped[1] if skipped else None
        if name not in self.left:
            return None
        seconds = sum(self.left.values())
        del self.left[name]
        if not started:
            return None
        left = "less than a minute" if seconds < 60 else f"about {seconds / 60:.0f} min"
        return f"stage {self.total - len(self.left)} of {self.total}, {left} left if none is skipped"
