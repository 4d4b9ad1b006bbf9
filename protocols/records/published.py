"""Published tables: numbers of the papers, each with its source."""

from __future__ import annotations

from pydantic import Field

from poseboard.protocols.records.record import Record


class PublishedRow(Record):
    """A published row: the numbers that each source prints for it, null where a source does not list it."""

    name: str
    method: str | None = Field(default=None, description="our method of that name, if there is one")
    values: dict[str, int | float | None] = Field(description="column -> number as printed, in the table's unit")
    note: str = ""


class PublishedTable(Record):
    """A table of a paper, transcribed; never averaged, never corrected."""

    id: str
    title: str
    paper: str
    dataset: str
    trained_on: tuple[str, ...] = Field(
        default=(), description="data sets that the weights were trained on, where not on ``dataset``"
    )
    unit: str
    sources: dict[str, str] = Field(description="column -> where it is printed")
    signature: dict[str, str] = Field(description="as far as the source states it")
    rows: list[PublishedRow]
    notes: list[str] = Field(default_factory=list)
