"""Inference cost of rows: time, memory and operations per sample, and the plot of error against time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from poseboard.protocols.records import CostFile, InferenceCost
from poseboard.report.board import Board
from poseboard.report.drawing import charts
from poseboard.report.formatting import file_name, integer
from poseboard.report.page import PageFiles, Plot, Site
from poseboard.report.results import Results


@dataclass(frozen=True)
class Inference:
    """Inference cost of a row, and the file with its record."""

    cost: InferenceCost
    file: CostFile

    @property
    def relative(self) -> float | None:
        """Time per sample as a multiple of the time of the reference row; None without a reference row."""
        reference = next((row for row in self.file.rows if row.method == self.file.reference), None)
        return self.cost.ms_batch / reference.ms_batch if reference and reference.ms_batch else None


def inference(results: Results, dataset: str, method: str) -> Inference | None:
    """Inference cost of a row on a data set, or on the data set where its weights were trained; None: not measured."""
    training = results.training.get((dataset, method))
    for name in (dataset, training.same_as if training else None):
        file = results.costs.get(name or "")
        cost = next((row for row in file.rows if row.method == method), None) if file else None
        if file is not None and cost is not None:
            return Inference(cost, file)
    return None


def costs_on(results: Results, board: Board) -> dict[str, Inference]:
    """Row -> inference cost, for the measured rows of a board."""
    costs = {row.method: inference(results, board.dataset, row.method) for row in board.rows}
    return {name: cost for name, cost in costs.items() if cost is not None}


def workload(file: CostFile) -> str:
    """Conditions of the measurements in a file, in words."""
    clock = "processor time" if file.device == "cpu" else f"wall time on {file.device}"
    threads = f"{file.threads} thread{'s' if file.threads > 1 else ''}"
    words = f"{integer(file.samples)} test samples of {file.dataset}, {clock}, {threads}, {file.hardware}"
    return f"{words}. {file.note.removesuffix('.')}." if file.note else f"{words}."


def cost_plots(site: Site, board: Board, files: PageFiles) -> Iterator[Plot]:
    """Plots of a board's values against the inference time of its ranked rows, with the Pareto front."""
    costs = costs_on(site.results, board)
    points = {
        row.method: (costs[row.method].cost.ms_batch, row.score.value)
        for row in board.ranked
        if row.method in costs and row.score.value is not None
    }
    if len(points) > 1:
        files_of_costs = dict.fromkeys(workload(costs[name].file) for name in points)
        missing = "" if len(points) == len(board.rows) else " Rows without a rank or a cost are not shown."
        yield files.plot(
            file_name(f"{board.dataset}{'' if board.synthetic else '-real'}-inference"),
            f"{board.name} against the time of a prediction",
            f"{' '.join(files_of_costs)} Dashed: Pareto front.{missing}{charts.left_out(len(points))}",
            charts.error_against_cost(
                points,
                site.slots,
                f"{board.name}, {board.unit_label}",
                "prediction, ms per sample",
                lower_is_better=board.lower_is_better,
            ),
        )
