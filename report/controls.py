"""Numbers of a table beside those of its control, the same people shown as in training, and what rows lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

from poseboard.protocols.records import Loss
from poseboard.report.board import Board


@dataclass(frozen=True)
class ControlTable:
    """A table and its control.

    Args:
        control: the same people, shown as in training.
        other: the table that names it.
        losses: of each row of both, the least first.
    """

    control: Board
    other: Board
    losses: tuple[Loss, ...]

    @property
    def columns(self) -> tuple[Board, Board]:
        """The boards, the control first."""
        return self.control, self.other


def controls(all_boards: Sequence[Board]) -> list[ControlTable]:
    """Tables with a control of which both are there, in the order of the boards.

    A row whose numbers are others than those that were compared, because it was scored again since, is left out.
    """
    tables = []
    for other in all_boards:
        control = next((board for board in all_boards if _is_control(board, other)), None)
        if other.control is None or control is None:
            continue
        losses = [loss for loss in other.control.losses if _is_current(loss, control, other)]
        if losses:
            tables.append(ControlTable(control, other, tuple(sorted(losses, key=lambda loss: loss.value))))
    return tables


def _is_control(board: Board, other: Board) -> bool:
    """Whether ``other`` names the table of ``board``, and all else in their signatures is equal."""
    if other.control is None or (*board.data_key, board.table) != (*other.data_key, other.control.control):
        return False
    return board.signature.model_copy(update={"split": other.signature.split}) == other.signature


def _is_current(loss: Loss, control: Board, other: Board) -> bool:
    rows = control.row(loss.method), other.row(loss.method)
    values = [row.score.value for row in rows if row is not None and row.score.value]
    return len(values) == len(rows) and isclose(100 * (values[1] / values[0] - 1), loss.value, abs_tol=0.01)
