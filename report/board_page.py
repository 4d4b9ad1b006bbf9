"""Page of each data set: boards, paired differences, figures and values by action."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from poseboard.report import plots
from poseboard.report.board import Board, boards, main_boards
from poseboard.report.cells import counted
from poseboard.report.formatting import integer, number
from poseboard.report.page import Page, PageFiles, Plot, Site
from poseboard.report.training_cost import cost

DataKey = tuple[str, bool]
"""Data set, and whether it is synthetic."""


MOST_COLUMNS = 12
"""Maximum number of further metrics in one table."""


@dataclass(frozen=True, eq=False)
class FurtherTable:
    """A table of further metrics: of one data set, of one camera or several, with extrinsics or without."""

    title: str
    boards: list[Board]
    calibration_free: bool


@dataclass(frozen=True, eq=False)
class BoardContext:
    """Variables of ``board.html.j2``."""

    mains: dict[DataKey, list[Board]]
    """The columns of the leaderboard."""
    others: list[FurtherTable]
    breakdowns: list[Board]
    compared: list[Board]
    """Boards of the leaderboard with paired differences."""
    differences: str
    """Path of the page with the differences of all tables; empty: there are none."""
    several: list[Board]
    """The same boards of the run with several seeds."""
    several_profile: str
    plots: dict[DataKey, list[Plot]]
    lead: Callable[[Board], str]
    bounds_in: Callable[[Sequence[Board]], list[str]]
    hardware_of: Callable[[Iterable[str], str], list[str]]


def pages(site: Site) -> Iterator[Page]:
    """Yield ``boards/<data set>.html`` for each data set with scores."""
    reference = boards(site.results.reference) if site.results.reference else []
    for dataset, path in site.board_pages.items():
        columns = next((columns for key, columns in site.mains.items() if key[0] == dataset), [])
        yield Page(
            path=path,
            section="Boards",
            title=dataset,
            summary=" ".join(board.title.removesuffix(".") + "." for board in columns) or f"Tables of {dataset}.",
            template="board.html.j2",
            context=partial(_context, site, dataset, [board for board in reference if board.dataset == dataset]),
        )


def _context(site: Site, dataset: str, reference: Sequence[Board], files: PageFiles) -> BoardContext:
    training = site.results.training
    all_boards = [board for board in site.boards if board.dataset == dataset]
    mains = {key: columns for key, columns in site.mains.items() if key[0] == dataset}
    on_board = {id(board) for columns in mains.values() for board in columns}
    return BoardContext(
        mains=mains,
        others=_tables(board for board in all_boards if id(board) not in on_board | site.on_curves),
        breakdowns=[board for columns in mains.values() for board in columns if _has_actions(board)],
        compared=[board for columns in mains.values() for board in columns if board.compares],
        differences=site.difference_pages.get(dataset, ""),
        several=[board for columns in main_boards(reference).values() for board in columns],
        several_profile=site.results.reference.profile if site.results.reference else "",
        plots={
            key: plots.plots_of_dataset(
                site,
                columns,
                [b for b in all_boards if b.data_key == key and (id(b) in on_board or id(b) not in site.on_curves)],
                files,
            )
            for key, columns in mains.items()
        },
        lead=lead,
        bounds_in=lambda columns: list(dict.fromkeys(row.method for board in columns for row in board.bounds)),
        hardware_of=lambda methods, dataset: list(
            dict.fromkeys(name for m in methods for name in cost(training, dataset, m).hardware)
        ),
    )


def lead(board: Board) -> str:
    """Sentence on the first ranked row of a board: value, interval, number of samples, rank and training."""
    if not board.ranked:
        return ""
    row = board.ranked[0]
    score, best = row.score, "is best" if row.bold else "has the best mean"

    def value(figure: float | None) -> str:
        return number(figure, score.unit)

    words = f"By {board.name}, {row.method} {best} with {value(score.value)} {score.unit}"
    if score.ci95:
        words += f" (95 % interval {value(score.ci95[0])} to {value(score.ci95[1])})"
    words += f" over {integer(score.n_samples)} {counted(score)} in {integer(score.n_groups)} sequences"
    if row.rank and row.rank.ci95[1] > 1:
        words += f"; its rank is between {row.rank.ci95[0]} and {row.rank.ci95[1]} (95 %)"
    if row.of_one_training:
        words += ". The value is of one training; "
        if row.training:
            words += f"the standard deviation between trainings is {value(row.training.sd)} {score.unit}"
        else:
            words += "the variation between trainings is not known"
    return f"{words}."


def _tables(further: Iterable[Board]) -> list[FurtherTable]:
    tables: dict[tuple[str, bool, bool, bool], list[Board]] = {}
    for board in further:
        key = (board.dataset, board.synthetic, board.from_one_camera, board.calibration_free)
        tables.setdefault(key, []).append(board)
    made = []
    for dataset, synthetic, one_camera, withheld in sorted(tables):
        boards = tables[dataset, synthetic, one_camera, withheld]
        kind = "Single camera, " if one_camera else "Extrinsics withheld, " if withheld else "Further metrics on "
        for first in range(0, len(boards), MOST_COLUMNS):
            part = f", part {first // MOST_COLUMNS + 1}" if len(boards) > MOST_COLUMNS else ""
            made.append(FurtherTable(f"{kind}{dataset}{part}", boards[first : first + MOST_COLUMNS], withheld))
    return made


def _has_actions(board: Board) -> bool:
    return any(row.score.breakdown.get("action") for row in board.rows)
