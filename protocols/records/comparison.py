"""Comparisons: paired differences, ranks and increases on one data set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from poseboard.protocols.records.record import Name, Record
from poseboard.protocols.records.score import SeedValue
from poseboard.protocols.records.signature import Signature


class PairedDifference(Record):
    """Mean of (a - b) over the poses that have a number for both, with its paired interval (`protocols.decisions`)."""

    a: str
    b: str
    difference: float
    ci95: tuple[float, float] = Field(
        description="of this pair alone: over subject × sequence, and over trainings as far as `training` knows them"
    )
    n_samples: int
    n_groups: int
    seeds: list[SeedValue] = Field(
        default_factory=list, description="the difference of equal seeds, where both have it"
    )
    ci95_groups: tuple[float, float] | None = Field(default=None, description="over subject × sequence alone")
    training: Literal["none", "own", "reference", "prior", "unknown"] | None = Field(
        default=None,
        description="source of the variation between trainings: nothing is trained; these seeds; results/seeds; the "
        "other pairs of the table; not known, and nothing is decided; null: not judged",
    )
    training_sd: float | None = Field(
        default=None, description="standard deviation between seeds of the difference, moderated by the other pairs"
    )
    training_seeds: int = Field(default=0, description="seeds of this pair that it is estimated from")
    training_df: float | None = Field(
        default=None, description="its degrees of freedom; null: not judged, or not known"
    )
    decided: bool | None = Field(
        default=None, description="whether one is better, all pairs of the table considered; null: not judged"
    )


class Rank(Record):
    """A method's place with the interval of places that the decided pairs leave it; 1 is best."""

    method: str
    rank: int
    ci95: tuple[int, int]


class TableComparison(Record):
    """Paired differences and ranks within one table: same signature, same samples."""

    table: Name
    signature: Signature
    unit: str
    pairs: list[PairedDifference]
    ranks: list[Rank]
    unranked: list[str] = Field(
        default_factory=list, description="rows with a number and no rank: bounds, and those that are not complete"
    )
    marks: Literal["holm", "step-down"] | None = Field(
        default=None, description="how the decided pairs hold simultaneously; holm: in older files; null: not judged"
    )

    @property
    def ranked_pairs(self) -> list[PairedDifference]:
        """Pairs of two ranked rows, the family in which marks hold simultaneously; no other pair is ever decided."""
        unranked = set(self.unranked)
        return [pair for pair in self.pairs if unranked.isdisjoint((pair.a, pair.b))]


class Increase(Record):
    """Increase of a method's error over the control, in percent (`protocols.controls`)."""

    method: str
    value: float
    ci95: tuple[float, float] | None = Field(
        description="over people, the same in both numbers, and over trainings where there are several seeds; null: "
        "there is one person, or the protocol states none"
    )
    ci95_people: tuple[float, float] | None = Field(
        default=None, description="over people alone, where there are several seeds"
    )
    n_samples: int = Field(description="poses with a number in both, in every seed")
    n_people: int
    seeds: list[SeedValue]
    scores: tuple[float, float] = Field(description="the numbers of the control and of the table that were compared")


class ControlComparison(Record):
    """Increases of the errors over a control: the same people in the same poses, on the split of the training."""

    table: Name
    control: Name = Field(description="id of the table that the numbers are compared with")
    signature: Signature = Field(description="of the numbers in the table; those in the control differ in the split")
    increases: list[Increase]


class ComparisonFile(Record):
    """All comparisons of one data set."""

    format: Literal[1] = 1
    dataset: Name
    synthetic: bool
    profile: Name
    tables: list[TableComparison]
    controls: list[ControlComparison] = Field(default_factory=list)
