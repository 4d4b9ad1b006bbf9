"""Scores of stored predictions after a change of tables or protocols, without any inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from poseboard.benchmarks.exchange.submissions import files_by_dataset
from poseboard.benchmarks.plan import Plan, Run
from poseboard.benchmarks.score import (
    NothingToScoreError,
    compare_stage,
    score_files,
    score_stage,
    score_stored,
    score_submissions,
    submitted_files,
)
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.protocols.records import Score, ScoreFile
from poseboard.protocols.submissions import read_submission, submission_folders
from poseboard.report.formatting import number

Stored = tuple[Run, Sequence[Path]]
"""A row on a data set, or the run of a submission with its predictions files (empty for a row)."""


@dataclass(frozen=True)
class Rescored:
    """Scores of a row or submission before and after scoring again.

    Args:
        run: the row or submission on a data set.
        before: recorded scores; empty: none were recorded.
        after: new scores.
    """

    run: Run
    before: Sequence[Score]
    after: Sequence[Score]

    @property
    def changes(self) -> list[tuple[Score | None, Score | None]]:
        """Pairs (before, after) of scores whose value, interval, counts or signature differ; None: no score."""
        old, new = ({_identity(score): score for score in scores} for scores in (self.before, self.after))
        return [(old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]


def stored(plan: Plan, names: Sequence[str] = (), doubt: Callable[[str], None] = lambda line: None) -> list[Stored]:
    """Rows and submissions with stored predictions, on each of their data sets.

    Args:
        plan: rows and data sets.
        names: names of rows and submissions; empty: all.
        doubt: called with a warning for each submission that cannot be read, unless ``names`` has it.

    Raises:
        InputError: a name is unknown, a named submission cannot be read, or no predictions are stored.

    Example:
        >>> [str(run) for run, _ in stored(plan, ["dlt", "mine"])]  # doctest: +SKIP
        ['human36m/dlt', 'panoptic/dlt', 'human36m/mine']
    """
    folders = {folder.name: folder for folder in submission_folders(plan.home) if folder.name not in plan.rows}
    rows = [name for name in dict.fromkeys(names or plan.rows) if name not in folders]
    runs = [run for row in rows for run in plan.runs(row) if any(run.path("predictions").glob("*.parquet"))]
    listed: list[Stored] = [(run, ()) for run in runs]
    for name in (name for name in folders if not names or name in names):
        try:
            by_dataset = files_by_dataset(read_submission(folders[name]).files, name)
            listed += [(plan.submission(name, dataset), files) for dataset, files in by_dataset.items()]
        except InputError as error:
            if names:
                raise
            doubt(f"{name}: left out, {error}")
    if not listed:
        where = plan.layout.portable(str(plan.layout.results / "predictions"))
        raise InputError(where, f"has no predictions of {', '.join(rows[:5])}", "run `poseboard evaluate` first")
    return listed


def rescore(
    plan: Plan, chosen: Sequence[Stored], doubt: Callable[[str], None] = lambda line: None
) -> Iterator[Rescored]:
    """Score rows again and write their scores, then do so for all submissions on their data sets and compare again.

    Args:
        plan: rows and data sets.
        chosen: rows and submissions (`stored`).
        doubt: called with a warning for each submission that is left out, and if a file seems to have a simple mistake.

    Raises:
        InputError: predictions of a row are damaged, belong to other data, or come from several runs; or results cannot
            be compared (`compare_stage`).

    Example:
        >>> [one.run.row for one in rescore(plan, stored(plan)) if one.changes]  # doctest: +SKIP
        []
    """
    for run, files in chosen:
        if not files:
            before = _recorded(run)
            yield Rescored(run, before, score_stage(run, doubt=doubt).scores)
    for dataset in dict.fromkeys(run.source.name for run, _ in chosen):
        runs = {run.row: run for run, _ in submitted_files(plan, dataset)}
        recorded = {name: _recorded(run) for name, run in runs.items()}
        submitted = score_submissions(plan, dataset, doubt)
        for name, scored in submitted.items():
            after = [score for of_table in scored.values() for score in of_table.scores]
            yield Rescored(runs[name], recorded[name], after)
        compare_stage(dataset, plan.runs_on(dataset), submitted)


def score_table(
    chosen: Sequence[Stored], table: str, doubt: Callable[[str], None] = lambda line: None
) -> Iterator[Rescored]:
    """Score rows and submissions in one table, without writing files.

    Args:
        chosen: rows and submissions (`stored`); those without predictions for the table are skipped.
        table: id of a table.
        doubt: called with a warning for each submission that is left out, and if a file seems to have a simple mistake.

    Raises:
        InputError: the data sets do not have the table, or predictions of a row are damaged or belong to other data.

    Example:
        >>> [one.after[0].value for one in score_table(stored(plan), "T1")]  # doctest: +SKIP
        [93.1, 58.7]
    """
    ids = list(dict.fromkeys(each.id for run, _ in chosen for each in run.tables))
    if table not in ids:
        raise InputError(f"--table {table}", "is not a table on their data sets", did_you_mean(table, ids))
    for run, files in chosen:
        of_table = replace(run, tables=tuple(each for each in run.tables if each.id == table))
        if of_table.tables:
            try:
                after = (score_files(of_table, files, doubt) if files else score_stored(of_table, doubt))[0].scores
            except NothingToScoreError:
                continue
            except InputError as error:
                if not files:
                    raise
                doubt(f"{run}: left out, {error}")
                continue
            yield Rescored(run, [score for score in _recorded(run) if score.table == table], after)


def lines(rescored: Rescored) -> list[str]:
    """One line per changed score of a row: before -> after.

    Example:
        >>> lines(rescored)  # doctest: +SKIP
        ['human36m/dlt T1: 58.7 -> 58.9 mm']
    """
    return [f"{rescored.run} {_change(*pair)}" for pair in rescored.changes]


def table_lines(rescored: Iterable[Rescored]) -> list[str]:
    """Scores of one table, best first, with their intervals, and the recorded score where it differs.

    Example:
        >>> table_lines(score_table(stored(plan), "T1"))  # doctest: +SKIP
        ['human36m/volumetric T1: 58.7 [54.5, 63.0] mm', 'human36m/dlt T1: 93.1 [88.0, 98.2] mm']
    """
    numbered = []
    for one in rescored:
        recorded = {_identity(score): score for score in one.before}
        for score in one.after:
            before, value = recorded.get(_identity(score)), number(score.value, score.unit)
            interval = "" if score.ci95 is None else " [{}, {}]".format(*(number(x, score.unit) for x in score.ci95))
            note = "" if before == score else ", not recorded" if before is None else ", recorded otherwise"
            group = f" {score.signature.views}" if len(one.after) > 1 else ""
            text = f"{one.run} {score.table}{group}: {value}{interval} {score.unit}{note}"
            worst = math.inf if score.lower_is_better else -math.inf
            key = worst if score.value is None else score.value
            numbered.append((str(one.run.source.name), key if score.lower_is_better else -key, text))
    return [text for _, _, text in sorted(numbered)]


def _change(before: Score | None, after: Score | None) -> str:
    score = after or before
    assert score is not None
    old, new = ("no number" if one is None else number(one.value, one.unit) for one in (before, after))
    if before is None or after is None or before.value != after.value:
        return f"{score.table}: {old} -> {new} {score.unit}"
    fields = [name for name in Score.model_fields if getattr(before, name) != getattr(after, name)]
    return f"{score.table}: {new} {score.unit}; {', '.join(fields)} changed"


def _recorded(run: Run) -> Sequence[Score]:
    return ScoreFile.read(run.path("scores")).scores if run.path("scores").is_file() else []


def _identity(score: Score) -> tuple[str, int]:
    return score.table, score.group
