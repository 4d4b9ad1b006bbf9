"""Plots of boards, with their titles and captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from poseboard.protocols.records import COVERAGE, Curve
from poseboard.report.axes import AxisTable
from poseboard.report.board import Board, Row
from poseboard.report.drawing import Figure, cameras, charts
from poseboard.report.formatting import file_name
from poseboard.report.inference_cost import cost_plots
from poseboard.report.page import PageFiles, Plot, Site
from poseboard.report.training_cost import cost, measure_of
from poseboard.report.wording import metric_label


def axis_label(board: Board) -> str:
    """Label of the axis of a board's values, for example "MPJPE, root-relative, mm, synthetic world"."""
    return f"{board.name}, {board.unit_label}"


def _with_caveats(curves: Mapping[str, Curve], board: Board) -> dict[str, Curve]:
    caveats = board.unit_label.removeprefix(board.unit)
    return {name: curve.model_copy(update={"y_label": f"{curve.y_label}{caveats}"}) for name, curve in curves.items()}


def _slug(board: Board, suffix: str = "") -> str:
    """Prefix of the file names of a board's plots."""
    return file_name(f"{board.dataset}{'' if board.synthetic else '-real'}{suffix}")


def intervals(site: Site, board: Board) -> Figure:
    """Forest plot of a board's complete rows with their intervals."""
    complete = {row.method: row.score for row in board.rows if row.score.complete}
    return charts.intervals(charts.first(complete), site.slots, axis_label(board))


def main_plots(site: Site, board: Board, files: PageFiles) -> Iterator[Plot]:
    """Plots of a board's values with their intervals, and against the cost of training."""
    yield files.plot(
        f"{_slug(board)}-intervals",
        f"{board.name}: value and 95 % interval",
        "Bootstrap over subject × sequence. If intervals overlap, see the paired differences."
        + (" Rows with missing predictions are not shown." if board.incomplete else "")
        + charts.left_out(len(board.rows)),
        intervals(site, board),
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
            + _unranked(board)
            + charts.left_out(len(costs)),
            charts.error_against_cost(
                costs,
                site.slots,
                axis_label(board),
                f"training, {measure}, with the training it starts from",
                lower_is_better=board.lower_is_better,
            ),
        )
    yield from cost_plots(site, board, files)


def _unranked(board: Board) -> str:
    return "" if len(board.ranked) == len(board.rows) else " Rows without a rank are not shown."


def breakdown_plots(site: Site, board: Board, files: PageFiles) -> Iterator[Plot]:
    """Plots of a board's values by action and by joint, for its ranked rows."""
    for kind in ("action", "joint"):
        scores = {row.method: row.score for row in board.ranked if row.score.breakdown.get(kind)}
        if scores:
            yield files.plot(
                f"{_slug(board)}-{kind}",
                f"{board.name}, by {kind}",
                f"Hardest {kind} on top. Grey bar: from the best to the worst method."
                f"{_unranked(board)}{charts.left_out(len(scores))}",
                charts.breakdown(charts.first(scores), site.slots, kind, axis_label(board)),
            )


def curve_plots(site: Site, board: Board, files: PageFiles) -> Iterator[Plot]:
    """Plots of the curves of a board's scores, such as PCK against the threshold."""
    keys = dict.fromkeys(key for row in board.rows for key in row.score.curves)
    for key in keys:
        of_key = {row.method: row.score.curves[key] for row in board.rows if key in row.score.curves}
        curves = {name: curve for name, curve in of_key.items() if any(value is not None for value in curve.y)}
        if key == "cameras" or not curves:  # `axis_plots` has the cameras
            continue
        left_out, curves = charts.left_out(len(curves)), _with_caveats(charts.first(curves), board)
        name = f"{_slug(board)}-{file_name(board.table.lower())}-{file_name(key.lower())}"
        if key == COVERAGE:
            yield files.plot(
                name,
                f"Stated and observed uncertainty ({board.table})",
                f"{board.label}. Below the dashed line a row is overconfident.{left_out}",
                cameras.reliability(curves, site.slots),
            )
        else:
            is_pck = key == "pck"
            title = "Share of joints within a distance (PCK)" if is_pck else f"{board.name}: {key.replace('_', ' ')}"
            figure = charts.lines(curves, site.slots, marks=not is_pck, from_zero=True)
            yield files.plot(name, title, f"{board.label}.{left_out}", figure)


def reliability_plot(site: Site, board: Board, row: Row, name: str, files: PageFiles) -> Plot:
    """Reliability plot of one row: observed against stated uncertainty."""
    curve = _with_caveats({row.method: row.score.curves[COVERAGE]}, board)
    title = f"Stated and observed uncertainty ({board.table})"
    return files.plot(name, title, f"{board.label} on {board.dataset}.", cameras.reliability(curve, site.slots))


def axis_plots(site: Site, table: AxisTable, number: int, files: PageFiles) -> Iterator[Plot]:
    """Plots of a table along an axis: increases, lines along an ordered axis, or bars beside those of the base.

    Args:
        site: content of the site, with the colours of the rows.
        table: scores along an axis.
        number: index of the table on its axis, for file names.
        files: files of the page, to which the plots are added.
    """
    sweep, board = table.sweeps[0], table.board
    name = f"{_slug(board, f'-{table.axis.name}-{board.table.lower()}')}-{number}"
    metric = metric_label(table.signature)
    if sweep.increases:
        title, caption = f"{table.name}: increase over the control", f"{table.details}, with 95 % interval."
        caption += charts.left_out(len(sweep.increases))
        figure = charts.intervals(charts.first(sweep.increases), site.slots, f"{metric}, increase in %", zero=True)
        yield files.plot(name, title, caption, figure)
    elif table.axis.place is None:
        for k, other in enumerate(sweep.columns):
            if other is sweep.base:
                continue
            heads = sweep.heads[0], sweep.heads[k]
            pairs = sweep.pairs(other)
            figure = charts.transfer(charts.first(pairs), site.slots, heads, f"{metric}, {board.unit_label}")
            caption = f"{board.title}. Filled: {heads[0]}. Outlined: {heads[1]}.{charts.left_out(len(pairs))}"
            yield files.plot(f"{name}-{k}", f"{board.dataset}: {heads[0]} and {heads[1]}", caption, figure)
    elif curves := {one.title: drawn for one in table.sweeps if (drawn := one.curves())}:
        draw = _panels if table.by_title else _lines
        left_out = charts.left_out(max(map(len, curves.values())))
        caption, figure = draw(site, table, {title: charts.first(drawn) for title, drawn in curves.items()})
        yield files.plot(name, f"{table.name}, against the {table.axis.quantity}", caption + left_out, figure)


def _panels(site: Site, table: AxisTable, curves: Mapping[str, Mapping[str, Curve]]) -> tuple[str, Figure]:
    """Caption and figure of a table with one panel per kind of curve."""
    caption = f"{table.details}. One panel per kind, all with the same axis; 0: {table.columns[0].head}."
    if len({name for of_kind in curves.values() for name in of_kind}) > charts.CROWDED:
        caption += " With many rows a kind has several panels, the other rows in grey."
    label = f"{metric_label(table.signature)}, {table.board.unit_label}"
    return caption, charts.panels(curves, site.slots, label)


def _lines(site: Site, table: AxisTable, curves: Mapping[str, Mapping[str, Curve]]) -> tuple[str, Figure]:
    """Caption and figure of a table with one curve per method."""
    (sweep,), (lines,) = table.sweeps, curves.values()
    crowded = len(lines) > charts.CROWDED
    caption = "The table describes each point. Bars: 95 % intervals." + (" Grey: the other rows." if crowded else "")
    caption += " Thin lines: from the best to the worst set of cameras." if sweep.over_sets else ""
    caption += " Dotted: the same weights with the true cameras." if sweep.bounds else ""
    draw = charts.each if crowded else partial(charts.lines, marks=True, from_zero=False)
    bounds = {name: row.over_all for name, row in sweep.bounds.items() if row.over_all is not None}
    ranges, widest = sweep.intervals(), sweep.between_sets()
    return caption, draw(lines, site.slots, bounds=bounds, ranges=ranges, widest=widest)


def plots_of_dataset(site: Site, columns: Sequence[Board], further: Sequence[Board], files: PageFiles) -> list[Plot]:
    """All plots in the section of figures of a data set.

    Args:
        site: content of the site, with the costs of training.
        columns: boards of the leaderboard; the first one is drawn in detail.
        further: all boards whose curves are drawn.
        files: files of the page, to which the plots are added.
    """
    return [
        *main_plots(site, columns[0], files),
        *breakdown_plots(site, columns[0], files),
        *(plot for board in further for plot in curve_plots(site, board, files)),
    ]
