"""Transfer: numbers of one table from weights of the data set itself, and from those of another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poseboard.protocols.records import Score
from poseboard.report.board import Board


@dataclass(frozen=True)
class TransferTable:
    """A table with a number per row for each training; all else in the signatures is equal."""

    own: Board
    others: tuple[Board, ...]
    """One per training on other data."""
    methods: tuple[str, ...]
    """With a number of the own training and of another one, best first by the first of the others."""

    @property
    def columns(self) -> tuple[Board, ...]:
        """The boards, the own training first."""
        return (self.own, *self.others)

    @property
    def heads(self) -> tuple[str, ...]:
        """Words for each of `columns`: "trained on human36m"."""
        return tuple(f"trained on {', '.join(one.signature.trained_on or (one.dataset,))}" for one in self.columns)

    @property
    def title(self) -> str:
        """Title of the table."""
        return self.own.title

    def growth(self, board: Board, method: str) -> float | None:
        """The number of another training as a multiple of that of the own one; None unless both are complete."""
        own, other = self.own.row(method), board.row(method)
        if board is self.own or own is None or other is None:
            return None
        return other.over_all / own.over_all if own.over_all and other.over_all is not None else None

    def pairs(self, board: Board) -> dict[str, tuple[Score, Score]]:
        """Method -> its score of the own training and of another one, where both are complete."""
        complete = [{row.method: row.score for row in one.rows if row.score.complete} for one in (self.own, board)]
        return {
            name: (complete[0][name], complete[1][name]) for name in self.methods if all(name in c for c in complete)
        }


def transfers(all_boards: Sequence[Board]) -> list[TransferTable]:
    """Tables in which a row has a number of its own training and one of another, in the order of the boards.

    Rows whose only weights are of other data, imported ones say, have no such pair.
    """
    groups: dict[tuple[str, bool, str, str], list[Board]] = {}
    for board in all_boards:
        rest = str(board.signature.model_copy(update={"trained_on": None}))
        groups.setdefault((*board.data_key, board.table, rest), []).append(board)
    tables = []
    for members in groups.values():
        own = next((board for board in members if board.signature.trained_on is None), None)
        if own is None:
            continue
        others = [b for b in members if b is not own and any(own.row(row.method) is not None for row in b.rows)]
        methods = dict.fromkeys(row.method for b in others for row in b.rows if own.row(row.method) is not None)
        if others:
            tables.append(TransferTable(own, tuple(others), tuple(methods)))
    return tables
