"""Published tables of papers, each with our boards of the same table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from poseboard.protocols.records import PublishedRow, PublishedTable
from poseboard.report.board import Board, Row, usual_boards
from poseboard.report.results import Results, table_key

_MOST_COLUMNS = 4
"""Of ours beside a paper's; of more the headline ones are shown, the others have sections of their own."""
_FACTS = {"views": "cameras", "exclusions": "left out"}
"""Fact of a published table -> fact of our signatures, where the names differ."""


@dataclass(frozen=True)
class PaperTable:
    """Table of a paper, and our boards for the same table id."""

    table: PublishedTable
    columns: tuple[str, ...]
    ours: tuple[Board, ...]
    """One board per data set with this table, or the headline ones of many; of a table of transfer also that of the own
    training."""
    extra: tuple[str, ...]
    """Our methods without a row in the paper."""
    elsewhere: tuple[str, ...]
    """Metrics of our further boards, which stand in sections of their own."""
    absent: str
    """Why our numbers are absent; empty if they are not, and for collections that no run repeats."""

    @property
    def numbered(self) -> bool:
        """Whether this is a table or figure of a paper (T1, F2), not a collection from several sources."""
        return _is_numbered(self.table.id)

    @property
    def status(self) -> Literal["real", "synthetic", "published"]:
        """Data of our scores: "real" or "synthetic"; "published" if we have no scores for this table."""
        if not self.ours:
            return "published"
        return "synthetic" if all(board.synthetic for board in self.ours) else "real"

    def stated(self, board: Board) -> list[tuple[str, str, str]]:
        """Facts that the paper states, as (name, published value, our value)."""
        ours = board.signature.facts
        return [(name, words, ours.get(_FACTS.get(name, name), "–")) for name, words in self.table.signature.items()]

    def unstated(self, board: Board) -> list[str]:
        """Facts of our signature that the paper does not state."""
        stated = {_FACTS.get(name, name) for name in self.table.signature}
        return [name for name in board.signature.facts if name not in stated | {"protocol version"}]

    def cells(self, row: PublishedRow | None, method: str | None = None) -> list[Row | None]:
        """Our row in each board of ``ours``; None: the board has no such row."""
        name = row.method if row is not None else method
        return [board.row_or_bound(name) if name else None for board in self.ours]


def paper_tables(results: Results, all_boards: Sequence[Board]) -> list[PaperTable]:
    """Published tables with our boards of the same id."""
    papers = []
    for table in results.published:
        ours: dict[tuple[str, bool, str, tuple[str, ...] | None], Board] = {}
        for board in (*_of_its_training(table, all_boards), *usual_boards(all_boards)):
            training = board.signature.trained_on if table.trained_on else None
            key = (*board.data_key, board.signature.metric, training)
            if board.published == table.id and (key not in ours or board.calibration_free > ours[key].calibration_free):
                ours[key] = board  # of a table for both, rows without extrinsics: those with them are no competitors
        shown = list(ours.values())
        if len(shown) > _MOST_COLUMNS:
            shown = [board for board in shown if board.headline] or shown
        named = {row.method for row in table.rows}
        of_ours = [row.method for board in shown for row in (*board.rows, *board.bounds)]
        extra = dict.fromkeys(method for method in of_ours if method not in named)
        columns = dict.fromkeys([*table.sources, *(column for row in table.rows for column in row.values)])
        papers.append(
            PaperTable(
                table=table,
                columns=tuple(c for c in columns if any(c in row.values for row in table.rows)),
                ours=tuple(shown),
                extra=tuple(extra),
                elsewhere=tuple(dict.fromkeys(board.metric for board in ours.values() if board not in shown)),
                absent=_why_absent(table, results) if not ours and _is_numbered(table.id) else "",
            )
        )
    return papers


def _of_its_training(table: PublishedTable, all_boards: Sequence[Board]) -> list[Board]:
    """Boards with the training data of a published transfer table, which are listed before the usual boards."""
    return [
        board
        for board in all_boards
        if table.trained_on
        and board.signature.trained_on == table.trained_on
        and board.signature.model_copy(update={"trained_on": None}).usual
    ]


def _is_numbered(table: str) -> bool:
    return table_key(table)[0] < 2


def _why_absent(table: PublishedTable, results: Results) -> str:
    known = {file.dataset: file for file in (*results.catalog, *(file for file, _ in results.data))}
    record = known.get(table.dataset)
    if record is None:
        return f"Ours are absent: {table.dataset} was not part of the “{results.profile}” run."
    if record.state == "ready":
        world = " as a synthetic world" if record.synthetic else ""
        return f"Ours are absent: {record.dataset} is ready{world}, but no method of this run is scored on {table.id}."
    detail = (record.detail[:1].upper() + record.detail[1:]).rstrip(".")
    return f"Ours are absent: {record.dataset} is {record.state}. {detail}. Where to get it: {record.obtain}"
