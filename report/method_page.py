"""The content of a method's page."""

from __future__ import annotations

from functools import partial
from typing import Any

from PIL import Image

from poseboard.protocols.records import COVERAGE, DrawnPicture, RigPlan, ScoreFile
from poseboard.report import plots
from poseboard.report.board import Board, Row, main_boards
from poseboard.report.drawing import cameras, charts
from poseboard.report.examples import Example, overlay, pick_examples
from poseboard.report.formatting import file_name
from poseboard.report.page import PageFiles, Picture, Plot, Site
from poseboard.report.readme import read_readme
from poseboard.report.results import Entry
from poseboard.report.wording import inputs_in_words

MOST_LISTED = 6
"""Maximum number of values on one data set that are listed without folding some of them."""
_JPEG: dict[str, Any] = {"quality": 90, "subsampling": 0}


def method_context(site: Site, name: str, files: PageFiles) -> dict[str, Any]:
    """Variables of the template ``method.html.j2``; plots and pictures are added to ``files``."""
    entries = [entry for entry in site.results.entries if entry.scores.method == name]
    scores = [entry.scores for entry in entries]
    rows = [(board, row) for board in site.boards if (row := board.row(name))]
    slug = file_name(name)
    folder = site.folders.get(name)
    base = folder.name if folder and folder.is_dir() else name
    return {
        "name": name,
        "files": scores,
        "readme": read_readme(folder / "README.md") if folder and folder.is_dir() else None,
        "base": base,
        "submission": site.results.submissions.get(name)
        if any(file.source == "submission" for file in scores)
        else None,
        "differs": _different_options(site, scores, base) if base != name else {},
        "inputs": next((inputs_in_words(file.inputs) for file in scores if file.inputs is not None), None),
        "rows": rows,
        "numbers": _numbers(rows),
        "beyond": any(board.beyond_bound(row) is not None for board, row in rows),
        "trainings": [_training(site, file, slug, files) for file in scores],
        "published": [(table, row) for table in site.results.published for row in table.rows if row.method == name],
        "breakdowns": _breakdowns(site, rows),
        "examples": [(entry.scores, _examples(entry, slug, files)) for entry in entries],
        "pictures": [picture for entry in entries for picture in _pictures(entry, slug, files)],
        "rigs": [(entry.scores, plan, plot) for entry in entries for plan, plot in _rigs(entry, slug, files)],
        "reliability": _reliability(site, rows, slug, files),
        "level": cameras.LEVEL,
    }


def _different_options(site: Site, scores: list[ScoreFile], base: str) -> dict[str, Any]:
    """Options of a row that differ from the options of the row named like its method."""
    plain = {entry.scores.dataset: entry.scores for entry in site.results.entries if entry.scores.method == base}
    return {
        key: value
        for file in scores
        if file.dataset in plain
        for key, value in file.provenance.options.items()
        if value != plain[file.dataset].provenance.options.get(key)
    }


def _numbers(
    rows: list[tuple[Board, Row]],
) -> dict[tuple[str, bool], tuple[list[tuple[Board, Row]], list[tuple[Board, Row]]]]:
    """By data set, the values of a row that its page lists, and the ones that it folds.

    Of more than `MOST_LISTED` values the page lists those of headline tables, or of the first table without any.
    """
    by_dataset: dict[tuple[str, bool], list[tuple[Board, Row]]] = {}
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


def _training(site: Site, file: ScoreFile, slug: str, files: PageFiles) -> tuple[ScoreFile, Any, Plot | None]:
    """The score file of a row, its training (None: not recorded), and the plot of the losses."""
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


def _breakdowns(
    site: Site, rows: list[tuple[Board, Row]]
) -> list[tuple[bool, list[tuple[Board, str, list[tuple[str, float | None]]]]]]:
    """Values by action, joint, … of the boards on the leaderboard (True) and of the other boards (False)."""
    on_board = {id(board) for columns in main_boards(site.boards).values() for board in columns}
    tables = [
        (board, kind, list(values.items()))
        for board, row in rows
        for kind, values in row.score.breakdown.items()
        if values
    ]
    return [(main, [table for table in tables if (id(table[0]) in on_board) == main]) for main in (True, False)]


def _examples(entry: Entry, slug: str, files: PageFiles) -> list[Example]:
    """The best, the median and the worst example, their crops as files."""
    if (examples := entry.examples) is None:
        return []
    chosen = []
    for place, k in pick_examples(examples.error_mm):
        overlays = []
        for v in range(len(examples.views)):
            image = f"examples/{slug}-{file_name(entry.scores.dataset)}-{place}-{v}.jpg"
            files.add(image, partial(Image.fromarray(examples.images[k, v]).save, format="JPEG", **_JPEG))
            overlays.append(overlay(examples, k, v, image))
        error_mm, side_px = float(examples.error_mm[k]), examples.images.shape[2]
        chosen.append(Example(place, examples.keys[k], error_mm, side_px, tuple(overlays)))
    return chosen


def _pictures(entry: Entry, slug: str, files: PageFiles) -> list[tuple[ScoreFile, DrawnPicture, Picture]]:
    """The pictures that the method drew; missing files are skipped."""
    prefix = f"{slug}-{file_name(entry.scores.dataset)}"
    pictures = [(drawn, files.picture(path, prefix)) for drawn, path in entry.pictures]
    return [(entry.scores, drawn, picture) for drawn, picture in pictures if picture is not None]


def _rigs(entry: Entry, slug: str, files: PageFiles) -> list[tuple[RigPlan, Plot]]:
    """The rigs that a row recovered, each with its plot."""
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


def _reliability(
    site: Site, rows: list[tuple[Board, Row]], slug: str, files: PageFiles
) -> list[tuple[Board, Row, Plot]]:
    """The boards that judge the uncertainty stated by a row, each with its plot."""
    judged = [(board, row) for board, row in rows if row.score.value is not None and COVERAGE in row.score.curves]
    return [
        (
            board,
            row,
            plots.reliability_plot(site, board, row, f"{COVERAGE}-{slug}-{file_name(board.dataset)}-{k}", files),
        )
        for k, (board, row) in enumerate(judged)
    ]
