"""Plots of boards, with their titles and captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from poseboard.protocols.records import COVERAGE, Curve
from poseboard.report.board import Board, Row
from poseboard.report.controls import ControlTable
from poseboard.report.drawing import cameras, charts
from poseboard.report.formatting import file_name
from poseboard.report.page import PageFiles, Plot, Site
from poseboard.report.robustness import RobustnessTable
from poseboard.report.sweeps import Sweep
from poseboard.report.training_cost import cost, measure_of
from poseboard.report.transfers import TransferTable
from poseboard.report.wording import metric_label


def axis_label(board: Board) -> str:
    """Label of the axis of a board's values, for example "MPJPE, root-relative, mm, synthetic world"."""
    return f"{board.name}, {_unit(board)}"


def _caveats(board: Board) -> str:
    """Caveats of a board in the labels of its plots, because plots are also used without the page."""
    warnings = dict.fromkeys(row.file.warning for row in board.rows if row.file.warning)
    return "".join(f", {words}" for words in (*(["synthetic world"] if board.synthetic else []), *warnings))


def _unit(board: Board) -> str:
    return f"{board.unit}{_caveats(board)}"


def _with_caveats(curves: Mapping[str, Curve], board: Board) -> dict[str, Curve]:
    caveats = _caveats(board)
    return {name: curve.model_copy(update={"y_label": f"{curve.y_label}{caveats}"}) for name, curve in curves.items()}


def _slug(board: Board, suffix: str = "") -> str:
    """Start of the file names of a board's plots."""
    return file_name(f"{board.dataset}{'' if board.synthetic else '-real'}{suffix}")


def main_plots(site: Site, board: Board, files: PageFiles) -> Iterator[Plot]:
    """The values of the first board of a data set with their intervals, and against the cost of training."""
    complete = {row.method: row.score for row in board.rows if row.score.complete}
    yield files.plot(
        f"{_slug(board)}-intervals",
        f"{board.name}: value and 95 % interval",
        "Bootstrap over subject × sequence. If intervals overlap, see the paired differences."
        + (" Rows with missing predictions are not shown." if board.incomplete else ""),
        charts.intervals(complete, site.slots, axis_label(board)),
    )
    spent = {row.method: cost(site.results.training, board.dataset, row.method) for row in board.ranked}
    measure = measure_of(spent.values())
    comparable = {
        name: one.total_s for name, one in spent.items() if one.total_s is not None and one.measure in (measure, None)
    }
    costs = {
        row.method: (comparable[row.method], row.score.value)
        for row in board.ranked
        if row.method in comparable and row.score.value is not None
    }
    if costs and measure is not None:
        yield files.plot(
            f"{_slug(board)}-cost",
            f"{board.name} against training cost",
            f"Training in {measure}, including the trainings that a method starts from. Dashed: Pareto front."
            + ("" if len(comparable) == len(spent) else " Rows with another unit are not shown.")
            + _unranked(board),
            charts.error_against_cost(costs, site.slots, axis_label(board), measure),
        )


def _unranked(board: Board) -> str:
    return "" if len(board.ranked) == len(board.rows) else " Rows without a rank are not shown."


def sweep_plots(site: Site, sweep: Sweep, files: PageFiles) -> Iterator[Plot]:
    """The values of a table against the number of cameras or frames."""
    if not (curves := _with_caveats(sweep.curves(), sweep.columns[-1])):
        return
    crowded = len(curves) > charts.CROWDED
    drawing = charts.each if crowded else partial(charts.lines, marks=True, from_zero=False)
    yield files.plot(
        f"{_slug(sweep.columns[0])}-{file_name(sweep.over)}-{file_name(sweep.table.lower())}",
        f"{sweep.name}, against the number of {sweep.over}",
        f"The table by number of {sweep.over} describes each point. Bars: 95 % intervals."
        + (" Grey: the other rows." if crowded else "")
        + (" Thin lines: from the best to the worst set of cameras." if sweep.over_sets else "")
        + (" Dotted: the same weights with the true cameras." if sweep.bounds else ""),
        drawing(
            curves,
            site.slots,
            bounds=sweep.bound_values(),
            ranges=sweep.intervals(),
            widest=sweep.between_sets(),
        ),
    )


def breakdown_plots(site: Site, board: Board, files: PageFiles) -> Iterator[Plot]:
    """The values of a board's ranked rows by action and by joint."""
    for kind in ("action", "joint"):
        scores = {row.method: row.score for row in board.ranked if row.score.breakdown.get(kind)}
        if scores:
            yield files.plot(
                f"{_slug(board)}-{kind}",
                f"{board.name}, by {kind}",
                f"Hardest {kind} on top. Grey bar: from the best to the worst method.{_unranked(board)}",
                charts.breakdown(scores, site.slots, kind, axis_label(board)),
            )


def curve_plots(site: Site, board: Board, files: PageFiles) -> Iterator[Plot]:
    """The curves that come with a board's scores, such as PCK against the threshold."""
    keys = dict.fromkeys(key for row in board.rows for key in row.score.curves)
    for key in keys:
        of_key = {row.method: row.score.curves[key] for row in board.rows if key in row.score.curves}
        curves = {name: curve for name, curve in of_key.items() if any(value is not None for value in curve.y)}
        if key == "cameras" or not curves:  # `sweep_plots` has the cameras
            continue
        curves = _with_caveats(curves, board)
        name = f"{_slug(board)}-{file_name(board.table.lower())}-{file_name(key.lower())}"
        if key == COVERAGE:
            yield files.plot(
                name,
                f"Stated and observed uncertainty ({board.table})",
                f"{board.label}. Below the dashed line a row is overconfident.",
                cameras.reliability(curves, site.slots),
            )
        else:
            is_pck = key == "pck"
            title = "Share of joints within a distance (PCK)" if is_pck else f"{board.name}: {key.replace('_', ' ')}"
            figure = charts.lines(curves, site.slots, marks=not is_pck, from_zero=True)
            yield files.plot(name, title, f"{board.label}.", figure)


def reliability_plot(site: Site, board: Board, row: Row, name: str, files: PageFiles) -> Plot:
    """Stated and observed uncertainty of one row."""
    curve = _with_caveats({row.method: row.score.curves[COVERAGE]}, board)
    title = f"Stated and observed uncertainty ({board.table})"
    return files.plot(name, title, f"{board.label} on {board.dataset}.", cameras.reliability(curve, site.slots))


def robustness_plot(site: Site, table: RobustnessTable, files: PageFiles) -> Plot | None:
    """The curves of a table, one panel per kind; None if no kind has two severities."""
    of_kind = {curve.title: curves for curve in table.curves if (curves := curve.curves())}
    if not of_kind:
        return None
    crowded = len({name for curves in of_kind.values() for name in curves}) > charts.CROWDED
    first = table.of.columns[0]
    withheld = "-withheld" if first.calibration_free else ""
    return files.plot(
        f"{_slug(first)}-robustness-{file_name(table.of.table.lower())}{withheld}",
        f"{table.name}, against the severity of perturbations",
        f"{table.details}. One panel per kind, all with the same axis; severity 0: without a perturbation."
        + (" With many rows a kind has several panels, the other rows in grey." if crowded else ""),
        charts.panels(of_kind, site.slots, f"{metric_label(table.signature)}, {_unit(first)}"),
    )


def transfer_plots(site: Site, table: TransferTable, files: PageFiles) -> list[Plot]:
    """One plot per training on other data, with the values of the own training."""
    own = table.own
    slug = _slug(own, f"-{own.table.lower()}")
    label = f"{metric_label(own.signature)}, {_unit(own)}"
    return [
        files.plot(
            f"{slug}-{k}",
            f"{own.dataset}: {table.heads[0]} and {table.heads[k]}",
            f"{table.title}. Filled: {table.heads[0]}. Outlined: {table.heads[k]}.",
            charts.transfer(table.pairs(other), site.slots, (table.heads[0], table.heads[k]), label),
        )
        for k, other in enumerate(table.others, 1)
    ]


def increase_plot(site: Site, table: ControlTable, number: int, files: PageFiles) -> Plot:
    """The increase of each row's error over the control; ``number`` of the table among the tables with a control."""
    board = table.board
    return files.plot(
        f"{_slug(board, f'-{board.table.lower()}')}-increase-{number}",
        f"{board.name}: increase over the control",
        f"{board.details}, against {table.control.table}, with 95 % interval.",
        charts.intervals(table.increases, site.slots, f"{metric_label(board.signature)}, increase in %", zero=True),
    )


def plots_of_dataset(
    site: Site, columns: Sequence[Board], further: Sequence[Board], sweeps: Sequence[Sweep], files: PageFiles
) -> list[Plot]:
    """All plots of a data set in the section of figures.

    Args:
        site: with the costs of training.
        columns: of the leaderboard; the first one is drawn in detail.
        further: all boards whose curves are drawn.
        sweeps: of the data set.
        files: for the plots.
    """
    return [
        *main_plots(site, columns[0], files),
        *(plot for sweep in sweeps for plot in sweep_plots(site, sweep, files)),
        *breakdown_plots(site, columns[0], files),
        *(plot for board in further for plot in curve_plots(site, board, files)),
    ]
