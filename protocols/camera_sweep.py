"""A metric against the number of cameras.

The sets are nested: the table's YAML publishes one order of the cameras, and n cameras are the first n of it, so that
a curve shows what one more camera brings and not which cameras were drawn. The number for each set is the inner
protocol's, under the inner protocol's signature with its set of cameras named: where signatures agree, it is the same
number as in that protocol's own table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.base import Board, Breakdown, Protocol, TruthTable, find_protocol
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.scores import Curve, Signature


class CameraSweep(Protocol):
    """Another protocol, once for each number of cameras.

    Args:
        order: camera names, from the first to the last that is added.
        counts: numbers of cameras, ascending.
        inner: name of the protocol that judges each set.
        parameters: of that protocol.
    """

    name: ClassVar[str] = "camera_sweep"
    version: ClassVar[int] = 1

    order: tuple[str, ...] = Field(min_length=1)
    counts: tuple[int, ...] = Field(min_length=1)
    inner: str = "mpjpe_relative"
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _nested(self) -> CameraSweep:
        if len(set(self.order)) != len(self.order):
            raise ValueError("order names a camera twice")
        if list(self.counts) != sorted(set(self.counts)) or not 1 <= self.counts[0] <= self.counts[-1] <= len(
            self.order
        ):
            raise ValueError(f"counts must ascend within 1 to {len(self.order)}, the cameras in order")
        if self.inner == self.name:
            raise ValueError("a sweep cannot sweep itself")
        return self

    def rule(self) -> Protocol:
        """The protocol that judges each set."""
        return find_protocol(self.inner, self.parameters, f"protocol {self.name}")

    @property
    def unit(self) -> str:
        """Of the inner protocol."""
        return self.rule().unit

    @property
    def lower_is_better(self) -> bool:
        """Of the inner protocol."""
        return self.rule().lower_is_better

    def views(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The first n cameras of the order, for each count; InputError for a camera that the data set lacks."""
        unknown = [name for name in self.order if name not in names]
        if unknown:
            raise InputError(
                f"protocol {self.name}: order", f"no camera {unknown[0]!r}", f"cameras: {', '.join(names)}"
            )
        chosen = [set(self.order[:count]) for count in self.counts]
        return [tuple(name for name in names if name in cameras) for cameras in chosen]

    def signature(self, board: Board, skeleton: Skeleton, views: str) -> Signature:
        """Of the inner protocol, on these cameras."""
        return self.rule().signature(board, skeleton, views)

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """Of the inner protocol."""
        return self.rule().errors(pred, truth)

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Of the inner protocol."""
        return self.rule().estimate(table, codes, multiplicity)

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Of the inner protocol."""
        return self.rule().breakdown(table)

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """Of the inner protocol."""
        return self.rule().curves(table)
