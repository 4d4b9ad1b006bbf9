"""Robustness curves: numbers of one table that differ in a perturbation alone, and the areas under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poseboard.protocols.perturbation import SCALES, PerturbationKind, Scale
from poseboard.protocols.records import Curve, Signature
from poseboard.report.board import Board
from poseboard.report.wording import conditions, measure, metric_label


@dataclass(frozen=True)
class Robustness:
    """One kind of perturbation in one table."""

    dataset: str
    synthetic: bool
    table: str
    unit: str
    kind: PerturbationKind
    columns: tuple[Board, ...]
    severities: tuple[int, ...]
    """Severity per column; 0 is the number without a perturbation."""
    area: Board | None
    """Of the numbers that are the area under the curve."""
    methods: tuple[str, ...]
    """Best first, by the area where there is one."""

    @property
    def title(self) -> str:
        """The kind in words: "left right swap"."""
        return self.kind.replace("_", " ")

    @property
    def scale(self) -> Scale:
        """What is done, and how much of it each severity is."""
        return SCALES[self.kind]

    @property
    def boards(self) -> tuple[Board, ...]:
        """The boards of the columns, and last that of the area."""
        return self.columns if self.area is None else (*self.columns, self.area)

    @property
    def heads(self) -> tuple[str, ...]:
        """Words for each of `boards`."""
        named = tuple("unperturbed" if severity == 0 else f"severity {severity}" for severity in self.severities)
        return named if self.area is None else (*named, "area under the curve")

    def curves(self) -> dict[str, Curve]:
        """Error against the severity, of each method; {} for fewer than two severities.

        Numbers with missing predictions are over other poses and are left out.
        """
        if len(self.severities) < 2:
            return {}
        rows = {name: [board.row(name) for board in self.columns] for name in self.methods}
        return {
            name: Curve(
                x=[float(severity) for severity in self.severities],
                y=[None if row is None else row.over_all for row in of_method],
                x_label=f"severity of {self.title}",
                y_label=f"{metric_label(self.columns[0].signature)}, {self.unit}",
            )
            for name, of_method in rows.items()
            if any(row is not None and row.over_all is not None for row in of_method)
        }


@dataclass(frozen=True)
class RobustnessTable:
    """The curves of one table whose numbers agree in everything but the perturbation."""

    curves: tuple[Robustness, ...]
    signature: Signature
    """Of the numbers, without a perturbation."""

    @property
    def of(self) -> Robustness:
        """Any of the curves: data set, table and unit are the same in all."""
        return self.curves[0]

    @property
    def name(self) -> str:
        """Name of the measure."""
        return measure(self.signature)

    @property
    def details(self) -> str:
        """Conditions that distinguish it from tables of the same name, and its id."""
        return " · ".join([*conditions(self.signature), self.of.table])

    @property
    def unperturbed(self) -> Board | None:
        """The board of the numbers without a perturbation."""
        return next((board for board in self.of.columns if board.signature.perturbation is None), None)

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of the numbers without a perturbation."""
        first = [] if self.unperturbed is None else [row.method for row in self.unperturbed.rows]
        spoiled = dict.fromkeys(name for curve in self.curves for name in curve.methods)
        return tuple(dict.fromkeys(name for name in (*first, *spoiled) if name in spoiled))

    def growth(self, curve: Robustness, method: str) -> float | None:
        """The area under a curve as a multiple of the number without a perturbation; None unless both are complete."""
        rows = [None if board is None else board.row(method) for board in (curve.area, self.unperturbed)]
        values = [row.over_all if row is not None else None for row in rows]
        return values[0] / values[1] if values[0] is not None and values[1] else None


def robustness(all_boards: Sequence[Board]) -> list[RobustnessTable]:
    """The tables with curves, those of a data set together, each with its kinds in order of their names."""
    groups: dict[tuple[str, ...], list[Board]] = {}
    for board in all_boards:
        rest = _without_perturbation(board.signature)
        groups.setdefault((board.dataset, str(board.synthetic), board.table, str(rest)), []).append(board)
    of_groups = [(_without_perturbation(members[0].signature), _of_group(members)) for members in groups.values()]
    return [RobustnessTable(tuple(curves), signature) for signature, curves in of_groups if curves]


@dataclass(frozen=True)
class Predicted:
    """What was predicted for robustness curves, beyond what other tables ask for."""

    poses: int
    """Over all rows and conditions; those of several trainings are counted once."""
    conditions: int
    """Perturbed ones, each a kind, a severity and a choice of cameras and samples of a data set."""
    rows: int


def predicted(tables: Sequence[RobustnessTable]) -> Predicted:
    """Predictions under perturbations, each once: tables of other measures on the same conditions share them."""
    poses: dict[tuple[object, ...], int] = {}
    for table in tables:
        shown = table.signature.split, table.signature.cameras, table.signature.every, table.signature.exclusions
        for curve in table.curves:
            for board in curve.columns:
                if board.signature.perturbation is not None:
                    condition = (*board.data_key, board.signature.perturbation, *shown)
                    poses |= {(row.method, *condition): row.score.n_samples for row in board.rows}
    return Predicted(
        poses=sum(poses.values()),
        conditions=len({key[1:] for key in poses}),
        rows=len({key[0] for key in poses}),
    )


def _without_perturbation(signature: Signature) -> Signature:
    return signature.model_copy(update={"perturbation": None, "severities": ()})


def _of_group(members: Sequence[Board]) -> list[Robustness]:
    unperturbed = [board for board in members if board.signature.perturbation is None]
    by_kind: dict[tuple[PerturbationKind, int], list[Board]] = {}
    for board in members:
        if (perturbation := board.signature.perturbation) is not None:
            by_kind.setdefault((perturbation.kind, perturbation.seed), []).append(board)
    curves = []
    for (kind, _), of_kind in sorted(by_kind.items()):
        single = sorted((board for board in of_kind if not board.signature.severities), key=_severity)
        area = next((board for board in of_kind if board.signature.severities), None)
        columns = (*unperturbed, *single)
        if not columns:
            continue
        ordered = columns if area is None else (area, *columns)
        methods = dict.fromkeys(row.method for board in ordered for row in board.rows)
        first = of_kind[0]
        curves.append(
            Robustness(
                *(first.dataset, first.synthetic, first.table, first.unit, kind, columns),
                severities=tuple(map(_severity, columns)),
                area=area,
                methods=tuple(name for name in methods if any(board.row(name) for board in of_kind)),
            )
        )
    return curves


def _severity(board: Board) -> int:
    perturbation = board.signature.perturbation
    return 0 if perturbation is None else perturbation.severity
