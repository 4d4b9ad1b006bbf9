"""Speed: our time against a peer's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from poseboard.protocols.records.record import Record


class SpeedFile(Record):
    """A measured ratio: our time against a peer's, in the same run on the same machine."""

    format: Literal[1] = 1
    name: str
    title: str
    peer: str = Field(description="what it is measured against, in words")
    ours_s: float = Field(description="median seconds")
    peer_s: float | None
    ratio: float | None = Field(description="peer_s / ours_s, higher is better")
    aim: str
    met: bool
    details: dict[str, float] = Field(default_factory=dict, description="errors, peak memory in MB, sizes")
    hardware: str
    created: str
