"""Robustness curves: numbers of one table that differ in the severity of a perturbation alone, and their area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poseboard.protocols.records import Curve
from poseboard.report.board import Board
from poseboard.report.wording import measure, metric_label


@dataclass(frozen=True)
class Robustness:
    """One kind of perturbation in one table."""

    dataset: str
    synthetic: bool
    table: str
    unit: str
    kind: str
    columns: tuple[Board, ...]
    severities: tuple[int, ...]
    """Severity per column; 0 is the number without a perturbation."""
    area: Board | None
    """Of the numbers that are the area under the curve."""
    methods: tuple[str, ...]
    """Best first, by the area where there is one."""

    @property
    def name(self) -> str:
        """Name of the measure."""
        return measure(self.columns[0].signature)

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
        """Error against the severity, of each method; {} for fewer than two severities."""
        if len(self.severities) < 2:
            return {}
        rows = {name: [board.row(name) for board in self.columns] for name in self.methods}
        return {
            name: Curve(
                x=[float(severity) for severity in self.severities],
                y=[None if row is None else row.score.value for row in of_method],
                x_label=f"severity of {self.kind}",
                y_label=f"{metric_label(self.columns[0].signature)}, {self.unit}",
            )
            for name, of_method in rows.items()
        }


def robustness(all_boards: Sequence[Board]) -> list[Robustness]:
    """The curves of all tables, by table, then by kind."""
    groups: dict[tuple[str, ...], list[Board]] = {}
    for board in all_boards:
        rest = board.signature.model_copy(update={"perturbation": None, "severities": ()})
        groups.setdefault((board.dataset, str(board.synthetic), board.table, str(rest)), []).append(board)
    return [curve for members in groups.values() for curve in _of_group(members)]


def _of_group(members: Sequence[Board]) -> list[Robustness]:
    unperturbed = [board for board in members if board.signature.perturbation is None]
    by_kind: dict[tuple[str, int], list[Board]] = {}
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
