"""Axes along which scores of a table vary, such as the number of cameras, with their tables and plots.

An axis is an entry of `AXES`: the varying fields of the signature, the position of a score, and texts for the page.
Its page, tables and plots are generated from these. A score that is alone on an axis is only on the boards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from poseboard.protocols.decisions import few_groups
from poseboard.protocols.perturbation import SCALES
from poseboard.protocols.records import Curve, Increase, Score, Signature
from poseboard.report.board import Board, Row
from poseboard.report.formatting import integer
from poseboard.report.wording import camera_count, conditions, measure, metric_label

Range = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """Property that varies between scores of a table that are equal in all other facts.

    Args:
        name: file name of the page, and part of the names of the plots.
        heading: heading of the page.
        quantity: name of the varying property, as the axis label of plots.
        ignored: varying fields of the signature -> common value that replaces them.
        explain: function from the tables to the paragraphs of the page.
        head: function from a board to the head of its column.
        place: function from a board to its position in a line plot; None: the values have no order.
        base: function that tells whether a board is the base, of which other scores are multiples; None: no base.
        title: function from a board to the name of its curve, if several curves share a base; empty: one curve.
        detail: function from a board to its full description below the table.
        terms: terms in the tables -> explanations.
        groups: function that groups boards to tables; None: a table has boards that differ only in ``ignored``.
        on_boards: function that tells whether a board is also listed among the further metrics of its data set.
    """

    name: str
    heading: str
    quantity: str
    ignored: Mapping[str, Any]
    explain: Callable[[Sequence[AxisTable]], Iterable[str]]
    head: Callable[[Board], str]
    place: Callable[[Board], float] | None = None
    base: Callable[[Board], bool] | None = None
    title: Callable[[Board], str] = field(default=lambda board: "")
    detail: Callable[[Board], str] = field(default=lambda board: "")
    terms: Callable[[Sequence[AxisTable]], Mapping[str, str]] = field(default=lambda tables: {})
    groups: Callable[[Sequence[Board]], Iterable[Sequence[Board]]] | None = None
    on_boards: Callable[[Board], bool] = field(default=lambda board: False)

    def without(self, signature: Signature) -> Signature:
        """Signature without the varying fields: equal for scores that differ only along this axis."""
        return signature.model_copy(update=dict(self.ignored))

    def tables(self, all_boards: Sequence[Board]) -> list[AxisTable]:
        """Tables of this axis, in the order of the boards."""
        groups = self._alike(all_boards) if self.groups is None else self.groups(all_boards)
        return [table for members in groups if (table := self._table(members)) is not None]

    def _alike(self, all_boards: Sequence[Board]) -> Iterable[Sequence[Board]]:
        groups: dict[tuple[object, ...], list[Board]] = {}
        for board in all_boards:
            groups.setdefault((*board.data_key, board.table, str(self.without(board.signature))), []).append(board)
        return groups.values()

    def _table(self, members: Sequence[Board]) -> AxisTable | None:
        base = next((board for board in members if self.base is not None and self.base(board)), None)
        if self.base is not None and base is None:
            return None
        by_title: dict[str, list[Board]] = {}
        for board in members:
            if board is not base and (base is None or any(base.row(row.method) for row in board.rows)):
                by_title.setdefault(self.title(board), []).append(board)
        sweeps = []
        for title, boards in sorted(by_title.items()):
            area = next((board for board in boards if board.signature.severities), None)
            columns = [*([base] if base else []), *(board for board in boards if board is not area)]
            if len(columns) + (area is not None) > 1:
                sweeps.append(Sweep(self, title, tuple(sorted(columns, key=self._order)), base, area))
        return AxisTable(self, tuple(sweeps)) if sweeps else None

    def _order(self, board: Board) -> tuple[object, ...]:
        """Sort key of a column: the base first, all cameras last."""
        is_base = self.base is not None and self.base(board)
        place = 0.0 if self.place is None else self.place(board)
        return not is_base, board.signature.whole, place, board.signature.views


@dataclass(frozen=True)
class Sweep:
    """Scores of a table along an axis: one curve per method.

    Args:
        axis: the axis.
        title: kind of the curve if several curves share a base, such as "left right swap"; empty: one curve.
        columns: one board per position, in order.
        base: the column of which other scores are multiples; None: no base.
        area: board with the area under the curve; None: no area.
    """

    axis: Axis
    title: str
    columns: tuple[Board, ...]
    base: Board | None = None
    area: Board | None = None

    @property
    def boards(self) -> tuple[Board, ...]:
        """All columns, and the area at the end."""
        return self.columns if self.area is None else (*self.columns, self.area)

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """Column heads of `boards`; full descriptions if the short heads are not unique."""
        short = [self.axis.head(board) for board in self.columns]
        heads = short if len(set(short)) > 1 else [self.axis.detail(board) for board in self.columns]
        return tuple(heads) if self.area is None else (*heads, "area under the curve")

    @property
    def places(self) -> tuple[float, ...]:
        """Position of each of `columns`; empty for an axis without an order."""
        return () if self.axis.place is None else tuple(self.axis.place(board) for board in self.columns)

    @cached_property
    def increases(self) -> dict[str, Increase]:
        """Method -> increase of its error over the base, as computed by the compare stage; smallest increase first.

        Increases of outdated scores are skipped. Rows that are not ranked on both boards come last.
        """
        if self.base is None or len(self.columns) != 2 or (control := self.columns[1].control) is None:
            return {}
        current = [increase for increase in control.increases if self._is_current(increase)]
        ranked = [{row.method for row in board.ranked} for board in self.columns]
        ordered = sorted(current, key=lambda one: (not all(one.method in names for names in ranked), one.value))
        return {increase.method: increase for increase in ordered}

    def _is_current(self, increase: Increase) -> bool:
        rows = [board.row(increase.method) for board in self.columns]
        return increase.scores == tuple(None if row is None else row.score.value for row in rows)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods by increase, then by the area or the last column; with a base, only methods with a score in it."""
        from_last = (*((self.area,) if self.area else ()), *reversed(self.columns))
        names = dict.fromkeys([*self.increases, *(row.method for board in from_last for row in board.rows)])
        if self.base is None:
            return tuple(names)
        rest = [board for board in self.boards if board is not self.base]
        return tuple(name for name in names if self.base.row(name) and any(board.row(name) for board in rest))

    def growth(self, board: Board | None, method: str) -> float | None:
        """Score of a method on a board as a multiple of its score in the base; None unless both are complete."""
        if board is None or self.base is None or board is self.base or self.increases:
            return None
        values = [row.over_all if (row := one.row(method)) else None for one in (board, self.base)]
        return values[0] / values[1] if values[0] is not None and values[1] else None

    def pairs(self, board: Board) -> dict[str, tuple[Score, Score]]:
        """Method -> scores in the base and in ``board``, for methods with complete scores in both."""
        complete = [
            {row.method: row.score for row in one.rows if row.score.complete} for one in (self.base, board) if one
        ]
        return {
            name: (complete[0][name], complete[1][name]) for name in self.methods if all(name in c for c in complete)
        }

    def curves(self) -> dict[str, Curve]:
        """Method -> curve of its scores; several scores at one position are averaged.

        Scores with missing predictions are skipped, because they are over other poses. Empty for fewer than two
        positions.
        """
        places = sorted(set(self.places))
        if len(places) < 2:
            return {}
        curves = {}
        for method in self.methods:
            at: dict[float, list[float]] = {place: [] for place in places}
            for place, board in zip(self.places, self.columns, strict=True):
                row = board.row(method)
                if row is not None and row.over_all is not None:
                    at[place].append(row.over_all)
            if any(at.values()):
                curves[method] = Curve(
                    x=[float(place) for place in places],
                    y=[sum(values) / len(values) if values else None for values in at.values()],
                    x_label=self.axis.quantity,
                    y_label=f"{metric_label(self.columns[0].signature)}, {self.columns[-1].unit_label}",
                )
        return curves

    def intervals(self) -> dict[str, list[Range | None]]:
        """Method -> 95 % interval of each point of `curves`; None: no interval, or several scores at the position."""
        return {name: [row.score.ci95 if row else None for row in rows] for name, rows in self._points().items()}

    def between_sets(self) -> dict[str, list[Range | None]]:
        """Method -> range from the best to the worst random set of cameras at each point of `curves`; None: no sets."""
        return {
            name: [(sets.lowest, sets.highest) if row and (sets := row.score.sets) else None for row in rows]
            for name, rows in self._points().items()
        }

    def _points(self) -> dict[str, list[Row | None]]:
        """Method -> complete row of each point of `curves`; None: several rows, or none."""
        boards = dict(zip(self.places, self.columns, strict=True))
        single = [boards[at] if self.places.count(at) == 1 else None for at in sorted(set(self.places))]
        rows = {name: [board.row(name) if board else None for board in single] for name in self.methods}
        return {name: [row if row and row.score.complete else None for row in of] for name, of in rows.items()}

    @property
    def over_sets(self) -> bool:
        """Whether any score is a mean over random sets of cameras."""
        return any(row.score.sets for board in self.columns for row in board.rows)

    @property
    def bounds(self) -> dict[str, Row]:
        """Bounds by name: rows with true extrinsics and the weights of a row without extrinsics, beside this axis."""
        return {row.method: row for row in self.columns[-1].bounds} if self.base is None else {}


class Column(NamedTuple):
    """Column of the table of an axis.

    Args:
        head: head of the column.
        note: small text below the head.
        board: scores of the column; None: no scores.
    """

    head: str
    note: str
    board: Board | None


@dataclass(frozen=True)
class AxisTable:
    """Table of an axis: scores that differ only along the axis.

    Args:
        axis: the axis.
        sweeps: one sweep, or one per kind of curve, all with the same base.
    """

    axis: Axis
    sweeps: tuple[Sweep, ...]

    @property
    def board(self) -> Board:
        """Last board, for the facts that all boards share: data set, table, unit, direction."""
        return self.sweeps[0].columns[-1]

    @property
    def base(self) -> Board | None:
        """Board of which other scores are multiples; None: no base."""
        return self.sweeps[0].base

    @property
    def by_title(self) -> bool:
        """Whether the table has a column per kind of curve instead of a column per position."""
        return any(sweep.title for sweep in self.sweeps)

    @property
    def signature(self) -> Signature:
        """Signature of the scores without the varying fields."""
        return self.axis.without(self.board.signature)

    @property
    def name(self) -> str:
        """Name of the measure."""
        return measure(self.signature)

    @property
    def details(self) -> str:
        """Conditions that distinguish this table from tables of the same name, and the table id."""
        return " · ".join([*conditions(self.signature), self.board.table])

    @property
    def boards(self) -> tuple[Board, ...]:
        """Boards of all sweeps."""
        return tuple({id(board): board for sweep in self.sweeps for board in sweep.boards}.values())

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the table: the base and the area of each kind of curve, or all positions."""
        if not self.by_title:
            sweep = self.sweeps[0]
            return tuple(Column(head, "", board) for head, board in zip(sweep.heads, sweep.boards, strict=True))
        base = [Column(self.axis.head(self.base), "", self.base)] if self.base else []
        return (*base, *(Column(s.title, ", ".join(f"{at:g}" for at in s.places), s.area) for s in self.sweeps))

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods in the order of the only sweep, or in the order of the base."""
        swept = dict.fromkeys(name for sweep in self.sweeps for name in sweep.methods)
        if len(self.sweeps) == 1 or self.base is None:
            return tuple(swept)
        return tuple(dict.fromkeys(name for name in (*(row.method for row in self.base.rows), *swept) if name in swept))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the tables, if they are compared with a base."""
        return tuple(dict.fromkeys(note for board in reversed(self.boards) for note in board.notes if self.base))

    @property
    def people(self) -> int:
        """Smallest number of people of any increase; 0 without increases."""
        return min((increase.n_people for increase in self.sweeps[0].increases.values()), default=0)

    @property
    def few(self) -> bool:
        """Whether the number of people is too small for any significant increase."""
        return bool(self.people) and few_groups(self.people)


def not_on_boards(tables: Iterable[AxisTable], all_boards: Sequence[Board]) -> set[int]:
    """Python ids of boards that are listed only on the page of an axis, not among a data set's further metrics."""
    aside, withheld = set(), set()
    for table in tables:
        aside |= {id(board) for board in table.boards if not table.axis.on_boards(board)}
        if table.base is None and table.board.calibration_free:
            withheld.add((*table.board.data_key, table.board.table))
    # rows with extrinsics stand there as bounds of those without
    told = {id(board) for board in all_boards if (*board.data_key, board.table) in withheld}
    return aside | told


def _severity(board: Board) -> float:
    perturbation = board.signature.perturbation
    return 0.0 if perturbation is None else float(perturbation.severity)


def _kind(board: Board) -> str:
    perturbation = board.signature.perturbation
    return "" if perturbation is None else perturbation.kind.replace("_", " ")


def _explain_robustness(tables: Sequence[AxisTable]) -> Iterable[str]:
    """Paragraphs of the robustness page, with the number of predictions; tables share those of equal conditions."""
    poses: dict[tuple[object, ...], int] = {}
    for board in (board for table in tables for sweep in table.sweeps for board in sweep.columns):
        signature = board.signature
        if signature.perturbation is not None:
            shown = signature.perturbation, signature.split, signature.cameras, signature.every, signature.exclusions
            poses |= {(row.method, *board.data_key, *shown): row.score.n_samples for row in board.rows}
    rows, perturbed = len({key[0] for key in poses}), len({key[1:] for key in poses})
    return (
        "The same rows with the same weights, on perturbed inputs. Each kind of perturbation has a curve against its "
        "severity, from 0 (none) to at most 5. The area under the curve is divided by the range of severities, so it "
        "is the mean error over the range, in the unit of the error. ×: the area as a multiple of the number without "
        "the perturbation. Intervals are over sequences, of one training. A row whose inputs a kind does not change "
        "has no number there.",
        f"The curves take {integer(sum(poses.values()))} predicted poses beyond those of the other tables: "
        f"{integer(rows)} rows under up to {integer(perturbed)} perturbed conditions. Tables of another measure on the "
        "same conditions share their predictions.",
    )


def _kinds(tables: Sequence[AxisTable]) -> Mapping[str, str]:
    titles = sorted({sweep.title for table in tables for sweep in table.sweeps})
    scales = {kind.replace("_", " "): scale for kind, scale in SCALES.items()}
    return {title: f"{scales[title].meaning}. Severities 1 to 5: {scales[title]}." for title in titles}


def _with_controls(all_boards: Sequence[Board]) -> Iterable[Sequence[Board]]:
    """Pairs of a control's board and a board, for which the compare stage computed an increase."""
    for board in all_boards:
        control = next((other for other in all_boards if _is_control(other, board)), None)
        if control is not None and Sweep(SPLIT, "", (control, board), control).increases:
            yield control, board


def _is_control(control: Board, board: Board) -> bool:
    """Whether ``board`` names the table of ``control``, and their signatures are otherwise equal."""
    if board.control is None or (*control.data_key, control.table) != (*board.data_key, board.control.control):
        return False
    return control.signature == board.signature.in_split(control.signature.split)


def _explain_controls(tables: Sequence[AxisTable]) -> Iterable[str]:
    trainings = max(len(increase.seeds) for table in tables for increase in table.sweeps[0].increases.values())
    over = f"over people and over {trainings} trainings" if trainings > 1 else "over people, of one training"
    return (
        "The same people in the same poses, in two splits: as in training (the control), and otherwise. So neither "
        "people nor actions make the difference. Increase of the error over that of the control, in percent. "
        f"Intervals are {over}, each of one row. The people are the same for all rows: rows whose intervals "
        "overlap may differ all the same.",
    )


CAMERAS = Axis(
    "cameras",
    "Number of cameras",
    "number of cameras",
    {"cameras": (("any",),), "cameras_of_dataset": 1, "root_cameras": ()},
    explain=lambda tables: (
        "The same rows with the same weights, on fewer cameras. ± between sets: over random sets.",
    ),
    head=lambda board: f"{(count := camera_count(board.signature))} camera{'s' if count > 1 else ''}",
    place=lambda board: float(camera_count(board.signature)),
    detail=lambda board: board.signature.views,
)
FRAMES = Axis(
    "frames",
    "Number of frames per rig",
    "number of frames per rig",
    {"frames_per_rig": 1},
    explain=lambda tables: (
        "The most frames of one rig that a row without extrinsics uses together to find its cameras. Below, unranked: "
        "the same weights with the true cameras. ×: the error of a row as a multiple of that.",
    ),
    head=lambda board: f"{(frames := board.signature.frames_per_rig)} frame{'s' if frames > 1 else ''} per rig",
    place=lambda board: float(board.signature.frames_per_rig),
    detail=lambda board: board.signature.views,
)
SEVERITY = Axis(
    "robustness",
    "Robustness",
    "severity of perturbations",
    {"perturbation": None, "severities": ()},
    explain=_explain_robustness,
    head=lambda board: f"severity {severity:g}" if (severity := _severity(board)) else "unperturbed",
    place=_severity,
    base=lambda board: board.signature.perturbation is None,
    title=_kind,
    detail=lambda board: board.signature.perturbed or "as the data set is",
    terms=_kinds,
)
TRAINING = Axis(
    "transfer",
    "Transfer",
    "data set of the training",
    {"trained_on": None},
    explain=lambda tables: (
        "The same rows on one data set, with the weights of their training on it and with those of their training on "
        "another one, without fine-tuning. Joints are mapped by name, and a table judges those that both data sets "
        "have; the world is turned so that up is where it was in training. ×: the error as a multiple of that of the "
        "own training. Intervals are over sequences, of one training.",
    ),
    head=lambda board: f"trained on {', '.join(board.signature.trained_on or (board.dataset,))}",
    base=lambda board: board.signature.trained_on is None,
)
SPLIT = Axis(
    "rigs",
    "Unseen rigs",
    "split",
    {},
    explain=_explain_controls,
    head=lambda board: board.table if board.control else f"Control ({board.table})",
    base=lambda board: board.control is None,
    groups=_with_controls,
    on_boards=lambda board: board.control is not None,
)
AXES = (CAMERAS, FRAMES, SEVERITY, TRAINING, SPLIT)
"""In the order of their pages."""
