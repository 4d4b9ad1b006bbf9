"""Paired differences and values by action as text."""

from __future__ import annotations

import csv
import io

from poseboard.report import grids
from poseboard.report.board import boards
from poseboard.report.formatting import number, signed
from poseboard.report.results import Results


def test_differences_as_text_are_those_of_the_board(found: Results) -> None:
    board = next(board for board in boards(found) if board.table == "T1")
    methods = [row.method for row in board.rows]
    texts = grids.differences(board, "default").texts
    lines = list(csv.DictReader(io.StringIO(texts["CSV"])))
    assert len(lines) == len(methods) * (len(methods) - 1) // 2
    for line in lines:
        pair = board.pair(line["a"], line["b"])
        assert pair == (float(line["difference"]), (float(line["ci_low"]), float(line["ci_high"])))
    _, _, head, _, *rows, _ = texts["Markdown"].split("\n")
    assert head.count("|") == len(methods) + 2
    assert len(rows) == len(methods)
    difference, (low, high) = board.pair(methods[0], methods[1]) or (0.0, (0.0, 0.0))
    words = rf"{signed(difference)} \[{signed(low)}, {signed(high)}\]"
    assert words in rows[0]
    assert words.replace("\\[", "{[}").replace("\\]", "{]}").replace("−", "$-$") in texts["LaTeX"]
    assert r"\caption{MPJPE, root-relative" in texts["LaTeX"]


def test_values_by_action_as_text_are_those_of_the_board(found: Results) -> None:
    board = next(board for board in boards(found) if board.table == "T1")
    grid = grids.actions(board, "default")
    (_, *methods), *rows = grid.rows
    for name, *values in rows:
        of_action = [row.score.breakdown["action"][name] for row in board.rows if row.method in methods]
        assert values == [number(value) for value in of_action]
    assert len(grid.entries) == len(rows) * len(methods)
