"""Data sets at the time of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from poseboard.datasets.facts import DataState
from poseboard.protocols.records.record import Name, Record


class DataFile(Record):
    """Status of one data set at the time of a run."""

    format: Literal[1] = 1
    dataset: Name
    synthetic: bool
    state: DataState
    detail: str
    obtain: str
    manifest: str | None
    images: str | None = Field(default=None, description="SHA-256 over the sizes of the images, see images_sha256")
    counts: dict[str, int] = Field(default_factory=dict, description="samples by split, images, subjects, …")
    pictures: list[str] = Field(
        default_factory=list,
        description="files beside this one: contact sheets. Pages show those of synthetic data only",
    )
