"""The boards as data: ``leaderboard.json`` and ``leaderboard.csv``."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from poseboard.protocols.records import ScoreFile
from poseboard.report.board import Board, Row
from poseboard.report.formatting import number
from poseboard.report.page import PageFiles, Site
from poseboard.report.results import Results
from poseboard.report.training_cost import cost


def export(site: Site) -> PageFiles:
    """One entry per row of each board."""
    entries = [_entry(site.results, board, row) for board in site.boards for row in board.rows]
    files = PageFiles()
    text = json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files.add("leaderboard.json", text.encode())
    files.add("leaderboard.csv", _csv(entries).encode())
    return files


def _entry(results: Results, board: Board, row: Row) -> dict[str, Any]:
    score, file = row.score, row.file
    spent = cost(results.training, board.dataset, row.method)
    return {
        "dataset": board.dataset,
        "synthetic": board.synthetic,
        "profile": results.profile,
        "warning": file.warning,
        "table": board.table,
        "title": score.title,
        "method": row.method,
        "source": file.source,
        "bound": file.bound,
        "rank": row.rank.rank if row.rank else row.order,
        "rank_low": row.rank.ci95[0] if row.rank else None,
        "rank_high": row.rank.ci95[1] if row.rank else None,
        "value": score.value,
        "unit": score.unit,
        "training_sd": row.training.sd if row.training else row.between,
        "training_seeds": row.training.seeds if row.training else len(score.seeds),
        "decidedly_best": row.bold,
        "ci95_low": score.ci95[0] if score.ci95 else None,
        "ci95_high": score.ci95[1] if score.ci95 else None,
        "n_samples": score.n_samples,
        "n_missing": score.n_missing,
        "n_left_out": score.n_left_out,
        "n_false": score.n_false,
        "n_unjudged": score.n_unjudged,
        "secondary": "; ".join(f"{name}: {number(figure, '')}" for name, figure in score.secondary.items()),
        "counted": score.counted,
        "n_groups": score.n_groups,
        "training_s": spent.own_s,
        "training_with_start_s": spent.total_s,
        "training_measure": spent.measure,
        "parameters": spent.parameters,
        "signature": str(score.signature),
        "git_commit": _commit(file),
        "created": file.provenance.created,
    }


def _commit(file: ScoreFile) -> str | None:
    commit = file.provenance.git_commit
    return commit if commit is None else commit + ("+dirty" if file.provenance.git_dirty else "")


def _csv(entries: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    if entries:
        writer = csv.DictWriter(buffer, list(entries[0]), lineterminator="\n")
        writer.writeheader()
        for entry in entries:
            writer.writerow(
                {name: spreadsheet_cell(value) if isinstance(value, str) else value for name, value in entry.items()}
            )
    return buffer.getvalue()


def spreadsheet_cell(text: str) -> str:
    """Text without control characters, and with an apostrophe where a spreadsheet would evaluate it.

    Example:
        >>> spreadsheet_cell("=1+1"), spreadsheet_cell("dlt")
        ("'=1+1", 'dlt')
    """
    # A carriage return or another control character may start a row where the writer does not quote it.
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)
    return f"'{plain}" if plain.lstrip()[:1] in tuple("=+-@") else plain
