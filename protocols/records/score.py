"""Scores: the numbers of one row on one data set, with everything needed to read them."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, JsonValue, model_validator

from poseboard.protocols.records.provenance import Provenance
from poseboard.protocols.records.record import Name, Record
from poseboard.protocols.records.signature import Signature

COVERAGE = "coverage"
"""Of `Score.curves`: percent of the true values in the region of a level, against that level in percent."""


class Curve(Record):
    """A line for a plot."""

    x: list[float]
    y: list[float | None]
    x_label: str
    y_label: str


class SeedValue(Record):
    """The number of one training seed."""

    seed: int
    value: float | None


@dataclass(frozen=True)
class CameraSets:
    """How far the numbers of several sets of cameras are apart.

    Args:
        count: of the sets.
        sd: standard deviation between them.
        lowest: of the numbers.
        highest: of the numbers.
    """

    count: int
    sd: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> CameraSets:
        """Of two numbers or more.

        Example:
            >>> CameraSets.of([40.0, 50.0, 60.0])
            CameraSets(count=3, sd=10.0, lowest=40.0, highest=60.0)
        """
        return cls(len(values), statistics.stdev(values), min(values), max(values))


class Score(Record):
    """One number with everything needed to read it."""

    table: Name = Field(description="id of the table it belongs to: file in benchmarks/tables/")
    group: int = Field(default=0, ge=0, description="which of the table's groups of conditions, in its order")
    title: str
    published: str | None = Field(default=None, description="id of the published table it stands beside")
    headline: bool = Field(default=False, description="whether it is a column of its data set's main board")
    protocol: Name = Field(description="key of the protocol: file in protocols/")
    signature: Signature
    unit: str
    lower_is_better: bool = True
    value: float | None = Field(description="mean over seeds; null where every prediction is missing")
    ci95: tuple[float, float] | None = Field(
        description="over subject × sequence, and over the seeds where there are several (`protocols.decisions`)"
    )
    ci95_groups: tuple[float, float] | None = Field(
        default=None, description="of several seeds: over subject × sequence alone, with these weights as they are"
    )
    n_samples: int = Field(
        description="truth poses, or what else the protocol has answered, of one seed; their mean, rounded, where "
        "seeds differ, as predicted people may"
    )
    n_missing: int = Field(description="those of them without a usable prediction, over all seeds")
    n_left_out: int = Field(
        description="those of the missing that the number is not over; the others count in it as wrong. Older files "
        "lack it: there it is all missing poses, and no missing people"
    )
    n_false: int = Field(
        default=0, description="predicted people that nothing supports, over all seeds, where the protocol counts them"
    )
    n_unjudged: int = Field(
        default=0, description="predicted people of images whose people are not annotated, over all seeds"
    )
    counted: Literal["poses", "people"] = Field(
        default="poses", description="what n_samples and the counts beside it count: true poses, or people as predicted"
    )
    n_groups: int = Field(description="subject × sequence groups that the bootstrap resamples")
    over_cameras: list[float | None] = Field(
        default_factory=list,
        description="of random sets of cameras: the number of each set alone, in the order of the signature's cameras",
    )
    seeds: list[SeedValue]
    breakdown: dict[str, dict[str, float | None]] = Field(
        default_factory=dict, description="'action' -> value by action, 'joint' -> value by joint, 'subject' -> …"
    )
    secondary: dict[str, float | None] = Field(
        default_factory=dict,
        description="figures to read with the number, by name (unit): coverage and size of regions, predicted people "
        "per true person",
    )
    curves: dict[str, Curve] = Field(default_factory=dict, description="'pck' -> share of joints below a threshold, …")
    notes: list[str] = Field(default_factory=list, description="of the table, for whoever reads the number")

    @property
    def sets(self) -> CameraSets | None:
        """How far the numbers of its random sets of cameras are apart; None for fewer than two of them."""
        values = [value for value in self.over_cameras if value is not None]
        return CameraSets.of(values) if len(values) > 1 else None

    @property
    def complete(self) -> bool:
        """Whether there is a number and it is over all poses or people: only such a number has a rank."""
        return self.value is not None and self.n_left_out == 0

    @model_validator(mode="before")
    @classmethod
    def _of_older_file(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "n_left_out" not in values:
            all_left_out = values.get("counted", "poses") == "poses"
            return {**values, "n_left_out": values.get("n_missing", 0) if all_left_out else 0}
        return values


class ScoreFile(Record):
    """All numbers of one method on one data set."""

    format: Literal[1] = 1
    method: Name
    dataset: Name
    synthetic: bool
    profile: Name
    warning: str = Field(default="", description="of the profile, where its numbers are not meant to be read")
    source: Literal["pipeline", "submission"] = "pipeline"
    bound: bool = Field(
        default=False, description="whether the row is a bound that others are read against: shown, and never ranked"
    )
    inputs: dict[str, JsonValue] | None = Field(
        default=None, description="what the method was allowed to see, as its predictions say; null in older files"
    )
    scores: list[Score]
    provenance: Provenance

    def scores_sha256(self) -> str:
        """SHA-256 of all numbers with their tables, signatures, seeds and counts."""
        scores = [score.model_dump(mode="json") for score in self.scores]
        return hashlib.sha256(json.dumps(scores, sort_keys=True).encode()).hexdigest()
