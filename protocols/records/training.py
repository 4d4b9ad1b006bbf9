"""Trainings: curves and cost of the trainings of one row on one data set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from poseboard.protocols.records.provenance import Provenance
from poseboard.protocols.records.record import Name, Record
from poseboard.protocols.records.score import Curve


class TrainingRun(Record):
    """One seed's training."""

    passing = frozenset({"seconds", "processor_seconds", "gpu_seconds"})

    seed: int
    steps: int
    batch_size: int
    processes: int
    seconds: float = Field(description="wall time of all sessions together")
    processor_seconds: float | None = Field(
        default=None,
        description="user + system time of the steps, all processes and sessions; null on a GPU or not measured",
    )
    gpu_seconds: float | None = Field(
        default=None, description="wall time of all sessions x GPUs; null on processors or not measured"
    )
    curves: dict[str, Curve] = Field(description="loss name -> value by step")
    constants: dict[str, float] = Field(description="fitted on the training split after training")


class TrainingFile(Record):
    """The training of one method for one data set; ``runs`` is empty for a method that learns nothing."""

    format: Literal[1] = 1
    method: Name
    dataset: Name
    synthetic: bool
    profile: Name
    after: Name | None = Field(description="whose checkpoint it starts from")
    parameters: int = Field(description="number of learned parameters")
    training_manifests: dict[str, str] = Field(
        default_factory=dict,
        description="data set -> its manifest, of all that it was trained on; empty: this data set alone",
    )
    same_as: Name | None = Field(
        default=None,
        description="data set whose training of the same row is equal in everything: its weights are taken over, and "
        "``runs`` is empty",
    )
    runs: list[TrainingRun]
    provenance: Provenance

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The data sets that it was trained on."""
        weights = self.provenance.weights
        return (weights.trained_on if weights else ()) or (self.dataset,)
