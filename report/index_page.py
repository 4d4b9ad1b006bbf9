"""The content of ``index.html``: what each section shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from poseboard.report import axes, plots
from poseboard.report.board import Board, boards, main_boards
from poseboard.report.formatting import integer, number
from poseboard.report.page import PageFiles, Site
from poseboard.report.papers import paper_tables
from poseboard.report.results import Results
from poseboard.report.training_cost import cost, measure_of


def index_context(site: Site, files: PageFiles) -> dict[str, Any]:
    """Variables of the template ``index.html.j2``; plots and pictures are added to ``files``."""
    results, all_boards = site.results, site.boards
    mains = main_boards(all_boards)
    tables_of = [(axis, tables) for axis in axes.AXES if (tables := axis.tables(all_boards))]
    on_board = {id(board) for columns in mains.values() for board in columns}
    in_sections = axes.not_on_boards((table for _, tables in tables_of for table in tables), all_boards)
    data = [
        (file, [(path.name, files.picture(path, f"data-{file.dataset}")) for path in paths if file.synthetic])
        for file, paths in results.data
    ]
    return {
        "mains": mains,
        "lead": lead,
        "methods_in": _methods,
        "bounds_in": lambda columns: list(dict.fromkeys(row.method for board in columns for row in board.bounds)),
        "measure_in": lambda methods, dataset: measure_of(
            cost(results.training, dataset, method) for method in methods
        ),
        "hardware_of": lambda methods, dataset: list(
            dict.fromkeys(name for m in methods for name in cost(results.training, dataset, m).hardware)
        ),
        "others": _tables(board for board in all_boards if id(board) not in on_board | in_sections),
        "axes": [
            (axis, [(table, [*plots.axis_plots(site, table, k, files)]) for k, table in enumerate(tables, 1)])
            for axis, tables in tables_of
        ],
        "breakdowns": [board for columns in mains.values() for board in columns if _has_actions(board)],
        "compared": _compared(all_boards, on_board),
        "several": _over_seeds(results),
        "several_profile": results.reference.profile if results.reference else "",
        "plots": {
            dataset: plots.plots_of_dataset(
                site,
                columns,
                [b for b in all_boards if b.data_key == dataset and (id(b) in on_board or id(b) not in in_sections)],
                files,
            )
            for dataset, columns in mains.items()
        },
        "papers": paper_tables(results, all_boards),
        "data": data,
        "data_warnings": {file.dataset: file.warnings for file, _ in results.data},
        "without_pictures": any(picture is None for _, pictures in data for _, picture in pictures),
        "catalog": results.catalog,
        "speed": results.speed,
        "recorded_speed": results.recorded_speed,
    }


def lead(board: Board) -> str:
    """A sentence on the first ranked row of a board: value, interval, number of samples, rank and training."""
    if not board.ranked:
        return ""
    row = board.ranked[0]
    score, best = row.score, "is best" if row.bold else "has the best mean"

    def value(figure: float | None) -> str:
        return number(figure, score.unit)

    words = f"By {board.name}, {row.method} {best} with {value(score.value)} {score.unit}"
    if score.ci95:
        words += f" (95 % interval {value(score.ci95[0])} to {value(score.ci95[1])})"
    words += f" over {integer(score.n_samples)} {score.counted} in {integer(score.n_groups)} sequences"
    if row.rank and row.rank.ci95[1] > 1:
        words += f"; its rank is between {row.rank.ci95[0]} and {row.rank.ci95[1]} (95 %)"
    if row.of_one_training:
        words += ". The value is of one training; "
        if row.training:
            words += f"the standard deviation between trainings is {value(row.training.sd)} {score.unit}"
        else:
            words += "the variation between trainings is not known"
    return f"{words}."


def _tables(further: Iterable[Board]) -> dict[tuple[str, bool, bool, bool], list[Board]]:
    """Further boards by the table on the page whose columns they are.

    A table is of one data set, of one camera or of several, and with extrinsics or without.
    """
    tables: dict[tuple[str, bool, bool, bool], list[Board]] = {}
    for board in further:
        key = (board.dataset, board.synthetic, board.from_one_camera, board.calibration_free)
        tables.setdefault(key, []).append(board)
    return {key: tables[key] for key in sorted(tables)}


def _compared(all_boards: Sequence[Board], on_board: set[int]) -> list[tuple[Board, bool]]:
    """Boards with paired differences, and whether each is on the leaderboard; these come first."""
    pairs = [(board, id(board) in on_board) for board in all_boards if board.comparison and board.comparison.pairs]
    return sorted(pairs, key=lambda pair: not pair[1])


def _over_seeds(results: Results) -> list[Board]:
    """The main boards of the run with several seeds; empty without such a run."""
    if results.reference is None:
        return []
    return [board for columns in main_boards(boards(results.reference)).values() for board in columns]


def _methods(columns: Sequence[Board]) -> list[str]:
    return list(dict.fromkeys(row.method for board in columns for row in board.rows))


def _has_actions(board: Board) -> bool:
    return any(row.score.breakdown.get("action") for row in board.rows)
