"""Provenance: where a result and the weights behind it come from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, field_validator

from poseboard.protocols.records.record import Record


class Weights(Record):
    """Where a checkpoint comes from, and what it is."""

    origin: Literal["trained", "imported"] = Field(description="trained here, or taken from a file of params.yaml")
    file: str | None = Field(default=None, description="that an imported one was taken from")
    file_sha256: str | None = Field(default=None, description="of that file")
    architecture: dict[str, JsonValue] = Field(default_factory=dict, description="as the checkpoint itself says")
    trained_on: tuple[str, ...] = Field(
        default=(),
        description="data sets that they were trained on; empty: of weights trained here the file's own alone, "
        "of imported ones not known",
    )

    def stated(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options of an imported row as they are in force: none but those given, and the checkpoint's own first.

        Example:
            >>> Weights(origin="imported", architecture={"voxels": 64}).stated({"voxels": 32, "aggregation": "sum"})
            {'voxels': 64, 'aggregation': 'sum'}
        """
        return {key: self.architecture.get(key, value) for key, value in options.items()}

    @property
    def training_data(self) -> tuple[str, ...] | None:
        """As predictions state it: None for the data set that they are of, empty where it is not known.

        Example:
            >>> Weights(origin="trained").training_data, Weights(origin="imported").training_data
            (None, ())
        """
        return None if self.origin == "trained" and not self.trained_on else self.trained_on


class Provenance(Record):
    """Where a result comes from."""

    passing = frozenset({"git_commit", "git_dirty", "created", "mlflow_run"})

    git_commit: str | None = Field(description="null: not known, as outside of a git checkout")
    git_dirty: bool | None = Field(description="whether the code had uncommitted changes; null: not known")
    options: dict[str, JsonValue] = Field(
        default_factory=dict, description="of the method, in force when this was made: given ones and defaults"
    )
    params_sha256: str = Field(description="of the options")
    data_manifest: str
    checkpoint_sha256: dict[str, str] = Field(description="'seed<k>' -> hash of the checkpoint file; empty if none")
    weights: Weights | None = Field(
        default=None, description="where the checkpoint comes from; null in older files, and where there is none"
    )
    seeds: list[int]
    versions: dict[str, str]
    hardware: str
    created: str = Field(description="ISO 8601, UTC")
    mlflow_run: str = Field(description="name of the run that `poseboard sync` writes for this file")

    def says_what(self, old: Self) -> bool:
        """Not where this one is known to be made without uncommitted changes and the older one is not."""
        return super().says_what(old) and (self.git_dirty is not False or old.git_dirty is False)

    @field_validator("created")
    @classmethod
    def _a_moment(cls, created: str) -> str:
        if datetime.fromisoformat(created).year < 1970:
            raise ValueError("is before 1970")
        return created
