"""Page that compares two to four rows by paired differences per table, action and joint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from poseboard.protocols.records import PairedDifference
from poseboard.report.board import Board, usual_boards
from poseboard.report.formatting import file_name
from poseboard.report.frames_page import data_path, page_path, shown_examples
from poseboard.report.page import Page, PageFiles, Site

_NOT_SIGNIFICANT = "not significant"


@dataclass(frozen=True)
class ComparedData:
    """Comparable rows of a data set, and the file with their scores."""

    dataset: str
    synthetic: bool
    rows: list[str]
    file: str
    frames: str | None
    """Page of its frames, if any are recorded."""
    frames_data: str


@dataclass(frozen=True)
class CompareContext:
    """Variables of ``compare.html.j2``."""

    compared: list[ComparedData]


def pages(site: Site) -> Iterator[Page]:
    """Yield ``compare.html``."""
    yield Page(
        path="compare.html",
        section="Compare",
        title="Compare rows",
        summary="Paired differences between two to four rows, by table, action and joint.",
        template="compare.html.j2",
        context=partial(_context, site),
        scripts=("site.js", "compare.js"),
    )


def _context(site: Site, files: PageFiles) -> CompareContext:
    usual = {id(board) for board in usual_boards(site.boards)}
    tables: dict[tuple[str, bool], list[Board]] = {}
    for board in site.boards:
        if len(board.rows) > 1:
            tables.setdefault(board.data_key, []).append(board)
    compared = []
    for (dataset, synthetic), boards in tables.items():
        scored = {row.method for board in boards for row in board.rows}
        file = f"compare/{file_name(dataset if synthetic else f'{dataset}-real')}.js"
        files.data(file, [_numbers(board, id(board) in usual) for board in boards])
        rows = [row for row in site.slots if row in scored]
        frames = page_path(dataset) if dataset in shown_examples(site) else None
        compared.append(ComparedData(dataset, synthetic, rows, file, frames, data_path(dataset)))
    return CompareContext(compared)


def _numbers(board: Board, usual: bool) -> dict[str, Any]:
    """Board as JSON values: names, scores with intervals, paired differences, scores by action and joint.

    Args:
        board: the board.
        usual: whether the page shows it unfolded (`usual_boards`).
    """
    place = {row.method: k for k, row in enumerate(board.rows)}
    return {
        "name": board.name,
        "details": board.details,
        "unit": board.unit,
        "usual": usual,
        "rows": list(place),
        "values": [_rounded((row.score.value, *(row.score.ci95 or ()))) for row in board.rows],
        "missing": [row.score.n_missing for row in board.rows],
        "pairs": [
            [place[p.a], place[p.b], *_rounded((p.difference, *p.ci95)), *_verdict(board, p)]
            for p in (board.comparison.pairs if board.comparison else ())
        ],
        "breakdowns": {kind: values for kind in ("action", "joint") if (values := _breakdown(board, kind))},
    }


def _verdict(board: Board, pair: PairedDifference) -> tuple[str, ...]:
    """Verdict of the page on a pair, and a reason if it is not significant although its interval may exclude 0."""
    if pair.decided or board.comparison is None:
        return (board.verdict(pair.a, pair.b),)
    if pair not in board.comparison.ranked_pairs:
        return _NOT_SIGNIFICANT, "bounds and rows with missing predictions are not tested"
    if pair.training == "unknown":
        return _NOT_SIGNIFICANT, "variation between trainings not known"
    if board.few:
        return _NOT_SIGNIFICANT, "too few sequences"
    excludes_zero = pair.ci95[0] > 0 or pair.ci95[1] < 0
    return (_NOT_SIGNIFICANT, "with all pairs of the table considered") if excludes_zero else (_NOT_SIGNIFICANT,)


def _breakdown(board: Board, kind: str) -> dict[str, list[float | None]]:
    """Action or joint -> value of each row."""
    names = dict.fromkeys(name for row in board.rows for name in row.score.breakdown.get(kind, ()))
    return {name: _rounded([row.score.breakdown.get(kind, {}).get(name) for row in board.rows]) for name in names}


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    """Round values to six significant digits, which is more than the page prints."""
    return [None if value is None else float(f"{value:.6g}") for value in values]
