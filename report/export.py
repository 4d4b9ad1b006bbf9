"""Export of the boards as ``leaderboard.json`` and ``leaderboard.csv``."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from poseboard.protocols.records import ScoreFile
from poseboard.report.board import Board, Row
from poseboard.report.formatting import number
from poseboard.report.inference_cost import inference
from poseboard.report.page import PageFiles, Site
from poseboard.report.results import Results
from poseboard.report.training_cost import cost

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def export(site: Site) -> PageFiles:
    """Files ``leaderboard.json`` and ``leaderboard.csv``, with one line per row of each board, generated lazily."""
    files = PageFiles()
    files.add("leaderboard.json", lambda file: _write_json(_entries(site), file))
    files.add("leaderboard.csv", lambda file: _write_csv(_entries(site), file))
    return files


def _entries(site: Site) -> Iterator[dict[str, Any]]:
    costs: dict[tuple[str, str], dict[str, Any]] = {}
    for board in site.boards:
        signature = str(board.signature)
        for row in board.rows:
            key = board.dataset, row.method
            if key not in costs:
                costs[key] = _costs(site.results, *key)
            yield _entry(site.results.profile, board, row) | costs[key] | {"signature": signature}


def _costs(results: Results, dataset: str, method: str) -> dict[str, Any]:
    """Costs of a row's training and predictions."""
    spent, found = cost(results.training, dataset, method), inference(results, dataset, method)
    predicting = found.cost if found else None
    return {
        "training_s": spent.own_s,
        "training_with_start_s": spent.total_s,
        "training_measure": spent.measure,
        "parameters": spent.parameters,
        "prediction_ms": predicting.ms_batch if predicting else None,
        "prediction_memory_mib": predicting.memory_mib if predicting else None,
        "prediction_gflops": predicting.gflops if predicting else None,
    }


def _entry(profile: str, board: Board, row: Row) -> dict[str, Any]:
    score, file = row.score, row.file
    return {
        "dataset": board.dataset,
        "synthetic": board.synthetic,
        "profile": profile,
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
        "git_commit": _commit(file),
        "created": file.provenance.created,
    }


def _commit(file: ScoreFile) -> str | None:
    commit = file.provenance.git_commit
    return commit if commit is None else commit + ("+dirty" if file.provenance.git_dirty else "")


def _write_json(entries: Iterable[Mapping[str, Any]], file: BinaryIO) -> None:
    start = "["
    for entry in entries:
        file.write(f"{start}\n{json.dumps(entry, ensure_ascii=False, allow_nan=False)}".encode())
        start = ","
    file.write(b"[]\n" if start == "[" else b"\n]\n")


def _write_csv(entries: Iterable[Mapping[str, Any]], file: BinaryIO) -> None:
    file.writelines(line.encode() for line in csv_lines(entries))


def csv_lines(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of a CSV file with a header, from entries with equal keys; no lines without entries."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for place, entry in enumerate(entries):
        if place == 0:
            writer.writerow(entry)
        writer.writerow([spreadsheet_cell(value) if isinstance(value, str) else value for value in entry.values()])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def spreadsheet_cell(text: str) -> str:
    """Remove control characters from a text, and add an apostrophe if a spreadsheet would evaluate it.

    Example:
        >>> spreadsheet_cell("=1+1"), spreadsheet_cell("dlt")
        ("'=1+1", 'dlt')
    """
    # A carriage return or another control character may start a row where the writer does not quote it.
    plain = text if text.isprintable() else _CONTROL.sub(" ", text)
    return f"'{plain}" if plain.lstrip()[:1] in tuple("=+-@") else plain
