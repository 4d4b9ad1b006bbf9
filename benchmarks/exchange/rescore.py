"""Scores of stored predictions after a change of tables or protocols, without any inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

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
from poseboard.report.formatting import number


@dataclass(frozen=True)
class Rescored:
    """Scores of a row before and after scoring again.

    Args:
        run: the row on a data set.
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


def stored(plan: Plan, rows: Sequence[str] = ()) -> list[Run]:
    """Runs with stored predictions files.

    Args:
        plan: rows and data sets.
        rows: names of rows; empty: all.

    Raises:
        InputError: a row is unknown, or no predictions are stored.

    Example:
        >>> [str(run) for run in stored(plan, ["dlt"])]  # doctest: +SKIP
        ['human36m/dlt', 'panoptic/dlt']
    """
    chosen = list(dict.fromkeys(rows)) or list(plan.rows)
    runs = [run for row in chosen for run in plan.runs(row) if any(run.path("predictions").glob("*.parquet"))]
    if not runs:
        where = plan.layout.portable(str(plan.layout.results / "predictions"))
        raise InputError(where, f"has no predictions of {', '.join(chosen[:5])}", "run `poseboard evaluate` first")
    return runs


def rescore(runs: Sequence[Run], doubt: Callable[[str], None] = lambda line: None) -> Iterator[Rescored]:
    """Score runs again and write their scores, then compare the rows of their data sets again.

    Args:
        runs: runs with stored predictions (`stored`).
        doubt: called with a warning if a file seems to have a simple mistake (`score_stage`).

    Raises:
        InputError: predictions are damaged, belong to other data, or come from several runs.

    Example:
        >>> [one.run.row for one in rescore(stored(plan)) if one.changes]  # doctest: +SKIP
        []
    """
    for run in runs:
        before = _recorded(run)
        yield Rescored(run, before, score_stage(run, doubt=doubt).scores)


def compare_again(plan: Plan, runs: Sequence[Run], doubt: Callable[[str], None] = lambda line: None) -> None:
    """Score the submissions on the data sets of some runs again, and compare all scored rows of these data sets.

    Args:
        plan: rows and data sets.
        runs: runs that were scored again.
        doubt: called with a warning if a file seems to have a simple mistake (`score_submissions`).

    Raises:
        InputError: results cannot be compared (`compare_stage`).
    """
    for dataset in dict.fromkeys(run.source.name for run in runs):
        compare_stage(dataset, plan.runs_on(dataset), score_submissions(plan, dataset, doubt))


def score_table(
    plan: Plan, runs: Sequence[Run], table: str, doubt: Callable[[str], None] = lambda line: None
) -> Iterator[Rescored]:
    """Score runs and the submissions on their data sets in one table, without writing files.

    Args:
        plan: rows and data sets.
        runs: runs with stored predictions; runs without predictions for the table are skipped.
        table: id of a table.
        doubt: called with a warning if a file seems to have a simple mistake (`score_stage`).

    Raises:
        InputError: the data sets do not have the table, or predictions are damaged or belong to other data.

    Example:
        >>> [one.after[0].value for one in score_table(plan, stored(plan), "T1")]  # doctest: +SKIP
        [93.1, 58.7]
    """
    ids = list(dict.fromkeys(each.id for run in runs for each in run.tables))
    if table not in ids:
        raise InputError(f"--table {table}", "is not a table on their data sets", did_you_mean(table, ids))
    datasets = dict.fromkeys(run.source.name for run in runs)
    submitted = [each for dataset in datasets for each in submitted_files(plan, dataset)]
    for run, files in [*((run, None) for run in runs), *submitted]:
        of_table = replace(run, tables=tuple(each for each in run.tables if each.id == table))
        if of_table.tables:
            try:
                after = (score_files(of_table, files, doubt) if files else score_stored(of_table, doubt))[0].scores
            except NothingToScoreError:
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
        >>> table_lines(score_table(plan, stored(plan), "T1"))  # doctest: +SKIP
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
