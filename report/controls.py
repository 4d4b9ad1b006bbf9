"""Numbers of a table beside those of its control, which shows the same people as in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poseboard.protocols.decisions import few_groups
from poseboard.protocols.records import Increase
from poseboard.report.board import Board


@dataclass(frozen=True)
class ControlTable:
    """A table and its control.

    Args:
        control: the same people, shown as in training.
        board: of the table that names it.
        increases: method -> by how much its error is larger than in the control, the least first; rows that are not
            ranked in both last.
    """

    control: Board
    board: Board
    increases: dict[str, Increase]

    @property
    def columns(self) -> tuple[Board, Board]:
        """The boards, the control first."""
        return self.control, self.board

    @property
    def methods(self) -> tuple[str, ...]:
        """Those with an increase, in their order; then others, which lack a number in one of the two."""
        return tuple(dict.fromkeys([*self.increases, *(row.method for board in self.columns for row in board.rows)]))

    @property
    def people(self) -> int:
        """The fewest people that an increase is over."""
        return min(increase.n_people for increase in self.increases.values())

    @property
    def few(self) -> bool:
        """Whether these are too few to tell an increase from none."""
        return few_groups(self.people)

    @property
    def trainings(self) -> int:
        """How many the numbers are the mean of."""
        return max(len(increase.seeds) for increase in self.increases.values())


def controls(all_boards: Sequence[Board]) -> list[ControlTable]:
    """Tables with a control of which both are there, in the order of the boards.

    An increase between other numbers than those on the boards, because a row was scored again since, is left out.
    """
    tables = []
    for board in all_boards:
        control = next((one for one in all_boards if _is_control(one, board)), None)
        if board.control is None or control is None:
            continue
        found = [increase for increase in board.control.increases if _is_current(increase, control, board)]
        if found:
            ranked = {row.method for row in control.ranked} & {row.method for row in board.ranked}
            ordered = sorted(found, key=lambda increase: (increase.method not in ranked, increase.value))
            tables.append(ControlTable(control, board, {increase.method: increase for increase in ordered}))
    return tables


def _is_control(one: Board, board: Board) -> bool:
    """Whether a board names the table of ``one``, and all else in their signatures is equal."""
    if board.control is None or (*one.data_key, one.table) != (*board.data_key, board.control.control):
        return False
    return one.signature == board.signature.in_split(one.signature.split)


def _is_current(increase: Increase, control: Board, board: Board) -> bool:
    rows = control.row(increase.method), board.row(increase.method)
    return increase.scores == tuple(None if row is None else row.score.value for row in rows)
