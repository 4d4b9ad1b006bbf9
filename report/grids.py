"""Paired differences and values by action as text for papers and spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from poseboard.report.board import Board
from poseboard.report.drawing import charts
from poseboard.report.export import csv_lines
from poseboard.report.formatting import number, signed
from poseboard.report.sheet import latex_text, markdown_text


@dataclass(frozen=True)
class Grid:
    """Table of a board with a row or column per method.

    Args:
        caption: measure, data set, unit and kind of the table.
        rows: cells as text, the head first; empty: no value.
        entries: lines of its CSV file, with unrounded values.
        signature: signature of all values. It is long, so only the first line of the CSV file has it.
    """

    caption: str
    rows: list[list[str]]
    entries: list[dict[str, Any]]
    signature: str

    @property
    def texts(self) -> dict[str, str]:
        """The grid in the formats that readers copy: name of the format -> text."""
        lines = [entry | {"signature of all lines": self.signature * (k == 0)} for k, entry in enumerate(self.entries)]
        return {"CSV": "".join(csv_lines(lines)), "LaTeX": self._latex, "Markdown": self._markdown}

    @property
    def _latex(self) -> str:
        head, *body = (" & ".join(map(latex_text, cells)) + r" \\" for cells in self.rows)
        columns = "r" * (len(self.rows[0]) - 1)
        top = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(self.caption)}}}"]
        table = [rf"\begin{{tabular}}{{l{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
        return "\n".join(["% Needs \\usepackage{booktabs}.", *top, *table, r"\end{tabular}", r"\end{table}", ""])

    @property
    def _markdown(self) -> str:
        head, *body = (f"| {' | '.join(map(markdown_text, cells))} |" for cells in self.rows)
        rule = f"|:--{'|--:' * (len(self.rows[0]) - 1)}|"
        return "\n".join([markdown_text(self.caption), "", head, rule, *body, ""])


def differences(board: Board, profile: str) -> Grid:
    """Paired differences of a board, row − column, as on its page."""
    methods = _methods(board)
    rows, entries = [["Row − column", *methods]], []
    for k, a in enumerate(methods):
        cells = [a]
        for b in methods:
            pair, verdict = board.pair(a, b), board.verdict(a, b).replace("open", "")
            if pair is None:
                cells.append("")
                continue
            difference, (low, high) = pair
            interval = f"[{signed(low, board.unit)}, {signed(high, board.unit)}]"
            cells.append(f"{signed(difference, board.unit)} {interval} {verdict}".rstrip())
            values = {"a": a, "b": b, "difference": difference, "ci_low": low, "ci_high": high}
            if b in methods[k:]:
                entries.append(_origin(board, profile) | values | {"a_is": verdict or "not significantly different"})
        rows.append(cells)
    kind = "paired differences with 95 % intervals; “better” and “worse”: significant, all pairs considered"
    return Grid(f"{_caption(board, profile)}: {kind}.", rows, entries, str(board.signature))


def actions(board: Board, profile: str) -> Grid:
    """Values of a board by action, as on its page."""
    values = {row.method: row.score.breakdown.get("action", {}) for row in board.rows if row.method in _methods(board)}
    names = sorted({action for of_row in values.values() for action in of_row})
    rows = [["Action", *values]]
    rows += [[name, *(number(of_row.get(name), board.unit) for of_row in values.values())] for name in names]
    entries = [
        _origin(board, profile) | {"action": name, "method": method, "value": of_row.get(name)}
        for name in names
        for method, of_row in values.items()
    ]
    return Grid(f"{_caption(board, profile)}: values by action.", rows, entries, str(board.signature))


def _methods(board: Board) -> Sequence[str]:
    return [row.method for row in board.rows[: charts.MOST_DRAWN]]


def _caption(board: Board, profile: str) -> str:
    world = "synthetic world (rendered people)" if board.synthetic else "real data"
    return f"{board.label} on {board.dataset}, {board.unit}, {world}, profile {profile}"


def _origin(board: Board, profile: str) -> dict[str, Any]:
    of_board = {"dataset": board.dataset, "synthetic": board.synthetic, "profile": profile, "table": board.table}
    return of_board | {"unit": board.unit}
