"""Page of each row: its method, scores, training, pictures and options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from poseboard.protocols.records import (
    COVERAGE,
    DrawnPicture,
    PublishedRow,
    PublishedTable,
    RigPlan,
    ScoreFile,
    TrainingFile,
)
from poseboard.protocols.submissions import Submission
from poseboard.report import plots
from poseboard.report.board import Board, Row
from poseboard.report.drawing import cameras, charts
from poseboard.report.examples import PLACES, Example, overlay
from poseboard.report.formatting import file_name
from poseboard.report.frames_page import address, image_names
from poseboard.report.page import Page, PageFiles, Picture, Plot, Site
from poseboard.report.readme import Readme
from poseboard.report.results import Entry
from poseboard.report.wording import inputs_in_words

MOST_LISTED = 6
"""Maximum number of values on one data set that are listed without folding some of them."""


Numbers = list[tuple[Board, Row]]
"""Values of a row, each with its board."""
Breakdowns = list[tuple[Board, str, list[tuple[str, float | None]]]]
"""Values of a row by action, joint, …, each with its board and kind."""


@dataclass(frozen=True, eq=False)
class FurtherBreakdown:
    """Values of a row on several boards of a data set by action, joint, …: a line per board, a column per name.

    Args:
        kind: what the values are by, such as "action".
        names: names of the columns, such as the actions.
        lines: boards, each with its values.
    """

    kind: str
    names: tuple[str, ...]
    lines: list[tuple[Board, list[float | None]]]


@dataclass(frozen=True, eq=False)
class MethodContext:
    """Variables of ``method.html.j2``."""

    name: str
    files: list[ScoreFile]
    readme: Readme | None
    base: str
    """Row with the default options of the method."""
    submission: Submission | None
    differs: dict[str, Any]
    """Options that differ from those of ``base``."""
    inputs: list[tuple[str, str]] | None
    rows: Numbers
    numbers: dict[tuple[str, bool], tuple[Numbers, Numbers]]
    """By data set, the values that are listed, and the folded ones."""
    beyond: bool
    """Whether any value has the same weights with the true cameras as its bound."""
    trainings: list[tuple[ScoreFile, TrainingFile | None, Plot | None]]
    published: list[tuple[PublishedTable, PublishedRow]]
    breakdowns: Breakdowns
    """Of the boards on the leaderboard."""
    further: list[FurtherBreakdown]
    """Of the other boards without perturbation."""
    examples: list[tuple[ScoreFile, list[Example]]]
    pictures: list[tuple[ScoreFile, DrawnPicture, Picture]]
    rigs: list[tuple[ScoreFile, RigPlan, Plot]]
    reliability: list[tuple[Board, Row, Plot]]
    level: float = cameras.LEVEL


def pages(site: Site) -> Iterator[Page]:
    """Yield ``methods/<row>.html`` for each row with results."""
    for name, path in site.method_pages.items():
        yield Page(
            path=path,
            section="Methods",
            title=name,
            summary=f"All numbers of {name}, its predictions, its training and its provenance.",
            template="method.html.j2",
            context=partial(_context, site, name),
        )


def _context(site: Site, name: str, files: PageFiles) -> MethodContext:
    entries = [entry for entry in site.results.entries if entry.scores.method == name]
    scores = [entry.scores for entry in entries]
    rows = [(board, row) for board in site.boards if (row := board.row(name))]
    slug = file_name(name)
    folder = site.folders.get(name)
    base = folder.name if folder and folder.is_dir() else name
    submitted = any(file.source == "submission" for file in scores)
    breakdowns, further = _breakdowns(site, rows)
    return MethodContext(
        name=name,
        files=scores,
        readme=site.readmes.get(name),
        base=base,
        submission=site.results.submissions.get(name) if submitted else None,
        differs=_different_options(site, scores, base) if base != name else {},
        inputs=next((inputs_in_words(file.inputs) for file in scores if file.inputs is not None), None),
        rows=rows,
        numbers=_numbers(rows),
        beyond=any(board.beyond_bound(row) is not None for board, row in rows),
        trainings=[_training(site, file, slug, files) for file in scores],
        published=[(table, row) for table in site.results.published for row in table.rows if row.method == name],
        breakdowns=breakdowns,
        further=further,
        examples=[(file, _examples(site, file)) for file in scores],
        pictures=[picture for entry in entries for picture in _pictures(entry, slug, files)],
        rigs=[(entry.scores, plan, plot) for entry in entries for plan, plot in _rigs(entry, slug, files)],
        reliability=_reliability(site, rows, slug, files),
    )


def _different_options(site: Site, scores: list[ScoreFile], base: str) -> dict[str, Any]:
    """Options of a row that differ from those of the row ``base``, which is named like its method."""
    plain = {entry.scores.dataset: entry.scores for entry in site.results.entries if entry.scores.method == base}
    return {
        key: value
        for file in scores
        if file.dataset in plain
        for key, value in file.provenance.options.items()
        if value != plain[file.dataset].provenance.options.get(key)
    }


def _numbers(rows: Numbers) -> dict[tuple[str, bool], tuple[Numbers, Numbers]]:
    """Data set -> the values of a row that its page lists openly, and the values in a folded list.

    If there are more than `MOST_LISTED` values, only those of headline tables are listed openly, or those of the first
    table if no table is a headline table.
    """
    by_dataset: dict[tuple[str, bool], Numbers] = {}
    for board, row in rows:
        by_dataset.setdefault(board.data_key, []).append((board, row))
    numbers = {}
    for dataset, pairs in sorted(by_dataset.items()):
        tables = {board.table for board, _ in pairs if board.headline} or {pairs[0][0].table}
        if len(pairs) <= MOST_LISTED:
            tables = {board.table for board, _ in pairs}
        listed = [pair for pair in pairs if pair[0].table in tables]
        numbers[dataset] = (listed, [pair for pair in pairs if pair[0].table not in tables])
    return numbers


def _training(
    site: Site, file: ScoreFile, slug: str, files: PageFiles
) -> tuple[ScoreFile, TrainingFile | None, Plot | None]:
    """Score file of a row, its training record (None: not recorded), and the plot of its losses (None: no losses)."""
    training = site.results.training.get((file.dataset, file.method))
    if training is None or not any(run.curves for run in training.runs):
        return file, training, None
    plot = files.plot(
        f"training-{slug}-{file_name(file.dataset)}",
        f"Training on {' and '.join(training.trained_on)}",
        "Terms of the loss. Faint: mean over a few batches. Bold: running mean.",
        charts.training_curves(training, site.slots[file.method]),
    )
    return file, training, plot


def _breakdowns(site: Site, rows: Numbers) -> tuple[Breakdowns, list[FurtherBreakdown]]:
    """Values by action, joint, … of the boards on the leaderboard, and of the other boards without perturbation."""
    on_board = {id(board) for columns in site.mains.values() for board in columns}
    main: Breakdowns = []
    further: dict[tuple[str, bool, str, tuple[str, ...]], FurtherBreakdown] = {}
    for board, row in rows:
        for kind, values in row.score.breakdown.items():
            if values and id(board) in on_board:
                main.append((board, kind, list(values.items())))
            elif values and board.signature.perturbation is None:
                key = (board.dataset, board.synthetic, kind, tuple(values))
                of_kind = further.setdefault(key, FurtherBreakdown(kind, tuple(values), []))
                of_kind.lines.append((board, list(values.values())))
    return main, list(further.values())


def _examples(site: Site, file: ScoreFile) -> list[Example]:
    """Distinct frames on which a row is best, median and worst, if they have images."""
    examples = site.results.examples.get(file.dataset)
    if examples is None or file.method not in examples.rows:
        return []
    row = examples.rows.index(file.method)
    chosen: dict[int, Example] = {}
    for place, frame in zip(PLACES, examples.picks[row].tolist(), strict=True):
        if frame in examples.pictured and frame not in chosen:
            picture = examples.pictured.index(frame)
            images = image_names(file.dataset, examples)[picture]
            overlays = tuple(overlay(examples, row, picture, view, image) for view, image in enumerate(images))
            error_mm = float(examples.error_mm[row, frame])
            key = examples.keys[frame]
            link = address(file.dataset, key, file.method)
            chosen[frame] = Example(place, key, link, error_mm, examples.side_px, overlays)
    return list(chosen.values())


def _pictures(entry: Entry, slug: str, files: PageFiles) -> list[tuple[ScoreFile, DrawnPicture, Picture]]:
    """Pictures that the method drew; missing files are skipped."""
    prefix = f"{slug}-{file_name(entry.scores.dataset)}"
    pictures = [(drawn, files.picture(path, prefix)) for drawn, path in entry.pictures]
    return [(entry.scores, drawn, picture) for drawn, picture in pictures if picture is not None]


def _rigs(entry: Entry, slug: str, files: PageFiles) -> list[tuple[RigPlan, Plot]]:
    """Rigs that a row recovered, with their plots."""
    file, rigs = entry.scores, []
    for k, plan in enumerate(entry.rigs):
        words = ["synthetic world"] if file.synthetic else []
        words.append(plan.key)
        several = plan.frames_per_rig > 1
        words.append(f"{plan.frames} of up to {plan.frames_per_rig} frames together" if several else "1 frame")
        words += [f"perturbed by {plan.perturbation}"] if plan.perturbation else []
        words += [file.warning] if file.warning else []
        plot = files.plot(
            f"rig-{slug}-{file_name(file.dataset)}-{k}",
            f"{file.dataset}: {plan.place} of {plan.rigs} rigs by rotation error",
            f"{', '.join(words)}.",
            cameras.rig_plan(plan),
        )
        rigs.append((plan, plot))
    return rigs


def _reliability(site: Site, rows: Numbers, slug: str, files: PageFiles) -> list[tuple[Board, Row, Plot]]:
    """Boards that score the stated uncertainty of a row, with their plots."""
    judged = [(board, row) for board, row in rows if row.score.value is not None and COVERAGE in row.score.curves]
    return [
        (
            board,
            row,
            plots.reliability_plot(site, board, row, f"{COVERAGE}-{slug}-{file_name(board.dataset)}-{k}", files),
        )
        for k, (board, row) in enumerate(judged)
    ]
