"""Sweeps: numbers of one table that differ in their cameras or in their frames per rig alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poseboard.protocols.records import Curve
from poseboard.report.board import Board, Row
from poseboard.report.wording import camera_count, measure, metric_label

Range = tuple[float, float]

ANY_CAMERAS = {"cameras": (("any",),), "cameras_of_dataset": 1, "root_cameras": (), "frames_per_rig": 1}
"""Replaces cameras and frames per rig of a signature: what remains is equal for tables that differ only in them."""


@dataclass(frozen=True)
class Sweep:
    """One table with several groups of cameras or of frames per rig; the rest of the signatures is equal."""

    dataset: str
    synthetic: bool
    table: str
    title: str
    unit: str
    columns: tuple[Board, ...]
    counts: tuple[int, ...]
    """Number of cameras, or of frames per rig, per column."""
    over: str
    """What is counted: "cameras", "frames per rig"."""
    methods: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the measure, without cameras."""
        return measure(self.columns[-1].signature.model_copy(update=ANY_CAMERAS))

    def curves(self) -> dict[str, Curve]:
        """Error against what is counted, mean over groups of one size; {} for fewer than two sizes.

        Numbers with missing predictions are over other poses and are left out.
        """
        sizes = sorted(set(self.counts))
        if len(sizes) < 2:
            return {}
        curves = {}
        for method in self.methods:
            by_count: dict[int, list[float]] = {count: [] for count in sizes}
            for count, board in zip(self.counts, self.columns, strict=True):
                row = board.row(method)
                if row is not None and row.over_all is not None:
                    by_count[count].append(row.over_all)
            if not any(by_count.values()):
                continue
            curves[method] = Curve(
                x=[float(count) for count in sizes],
                y=[sum(values) / len(values) if values else None for values in by_count.values()],
                x_label=f"number of {self.over}",
                y_label=f"{metric_label(self.columns[0].signature)}, {self.unit}",
            )
        return curves

    def intervals(self) -> dict[str, list[Range | None]]:
        """The 95 % interval of each point of `curves`; None where there is none, or the point is of several groups."""
        return {
            name: [None if row is None else row.score.ci95 for row in rows] for name, rows in self._points().items()
        }

    def between_sets(self) -> dict[str, list[Range | None]]:
        """From the best to the worst set of cameras of each point, where its number is of random sets; else None."""
        of_rows = self._points()
        return {
            name: [
                None if row is None or (sets := row.score.sets) is None else (sets.lowest, sets.highest) for row in rows
            ]
            for name, rows in of_rows.items()
        }

    @property
    def over_sets(self) -> bool:
        """Whether some number is of several random sets of cameras."""
        return any(row.score.sets for board in self.columns for row in board.rows)

    def _points(self) -> dict[str, list[Row | None]]:
        """The complete row of each method behind each point of `curves`; None where there are several, or none."""
        boards = dict(zip(self.counts, self.columns, strict=True))
        once = [boards[size] if self.counts.count(size) == 1 else None for size in sorted(set(self.counts))]
        rows = {name: [None if board is None else board.row(name) for board in once] for name in self.methods}
        return {name: [row if row and row.score.complete else None for row in of] for name, of in rows.items()}

    @property
    def bounds(self) -> dict[str, Row]:
        """Rows that are told where the cameras are, of the same weights, by name."""
        return {row.method: row for row in self.columns[-1].bounds}

    def bound_values(self) -> dict[str, float]:
        """Their values, which do not depend on what is counted."""
        return {name: row.over_all for name, row in self.bounds.items() if row.over_all is not None}


def sweeps(all_boards: Sequence[Board]) -> list[Sweep]:
    """Groups of boards that differ only in their cameras or in their frames per rig."""
    groups: dict[tuple[str, ...], list[Board]] = {}
    for board in all_boards:
        rest = str(board.signature.model_copy(update=ANY_CAMERAS))
        groups.setdefault((board.dataset, str(board.synthetic), board.table, rest), []).append(board)
    all_sweeps = []
    for members in groups.values():
        if len(members) < 2:
            continue
        columns = sorted(
            members,
            key=lambda b: (
                *(b.signature.whole, camera_count(b.signature), b.signature.views),
                b.signature.frames_per_rig,
            ),
        )
        of_frames = len({board.signature.views for board in columns}) == 1
        methods = dict.fromkeys(row.method for board in reversed(columns) for row in board.rows)
        first = columns[-1]
        all_sweeps.append(
            Sweep(
                *(first.dataset, first.synthetic, first.table, first.title, first.unit),
                columns=tuple(columns),
                counts=tuple(
                    board.signature.frames_per_rig if of_frames else camera_count(board.signature) for board in columns
                ),
                over="frames per rig" if of_frames else "cameras",
                methods=tuple(methods),
            )
        )
    return all_sweeps
