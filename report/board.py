"""Boards: the ordered rows of one table on one data set, computed from the results for the templates.

Complete rows come first, by rank. Rows with missing predictions follow, and then bounds; both have a score, but no rank
and no mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import floor, log10
from typing import NamedTuple

import numpy as np

from poseboard.protocols.decisions import Spread, few_groups, trained
from poseboard.protocols.records import (
    ControlComparison,
    PairedDifference,
    Rank,
    Score,
    ScoreFile,
    Signature,
    TableComparison,
)
from poseboard.report.formatting import signed
from poseboard.report.results import Results, table_key
from poseboard.report.wording import WITHHELD, camera_count, conditions, kinds_of_inputs, measure, metric_label


@dataclass(frozen=True)
class ValueAxis:
    """Common axis of the interval plots in a column."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> ValueAxis | None:
        """Smallest axis with round ends that contains all values; None without values."""
        finite = [value for value in values if np.isfinite(value)]
        if not finite:
            return None
        low, high = min(finite), max(finite)
        least = max((high - low) / 6, abs(high) * 0.01, 1e-9)
        power = 10.0 ** floor(log10(least))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
        return cls(np.floor(low / step) * step, np.ceil(high / step) * step + (step if low == high else 0.0))

    def place(self, value: float) -> str:
        """Position of a value in percent of the width, from the left end."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}"


@dataclass(frozen=True)
class Row:
    """Row of a board: a method in one table."""

    file: ScoreFile
    score: Score
    order: int | None
    """Place among the ranked rows; None: it is not ranked."""
    rank: Rank | None
    bold: bool = False
    """Whether it is first and significantly better than the next ranked row."""
    few: bool = False
    """Whether it has too few samples for any significant difference; their number is then shown."""
    training: Spread | None = None
    """Variation between trainings, for a row with one seed; None: not known, or the row has several seeds."""
    badge: str = ""
    """Of a submission: "claimed", or "verified" by `poseboard verify`; empty for the suite's rows."""

    @property
    def method(self) -> str:
        """Name of the method in its score file."""
        return self.file.method

    @property
    def ranked(self) -> bool:
        """Whether the row has a rank: its score covers all poses, and it is not a bound."""
        return self.score.complete and not self.file.bound

    @property
    def over_all(self) -> float | None:
        """Score for plots and ratios; None if it does not cover all poses."""
        return self.score.value if self.score.complete else None

    @property
    def of_one_training(self) -> bool:
        """Whether the score is from a single training."""
        return trained(self.file) and len(self.score.seeds) == 1

    @property
    def between(self) -> float | None:
        """Standard deviation between seeds, in the unit of the score; None for one seed."""
        values = [seed.value for seed in self.score.seeds if seed.value is not None]
        return Spread.of(values, 1).sd if len(values) > 1 else None

    @property
    def traits(self) -> dict[str, str]:
        """Traits by which readers filter the rows of a table: name -> values, separated by "; "."""
        file, weights = self.file, self.file.provenance.weights
        if weights and weights.origin == "imported":
            origin = "imported"
        elif trained(file):
            origin = "trained here"
        else:
            origin = "no training" if file.source == "pipeline" else "not stated"
        source = self.badge or "reproduced here"
        return {"inputs": "; ".join(kinds_of_inputs(file.inputs)), "weights": origin, "source": source}

    @property
    def answers(self) -> int:
        """Number of poses to predict, summed over seeds."""
        return self.score.n_samples * max(len(self.score.seeds), 1)


class Caveat(NamedTuple):
    """Caveat: these boards have too few groups for any difference to be significant.

    Args:
        boards: boards with equal numbers of samples and groups, and equal notes.
        notes: notes of the boards, without those of earlier caveats.
    """

    boards: tuple[Board, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """Board: one table on one data set, with rows of equal signature."""

    dataset: str
    synthetic: bool
    table: str
    signature: Signature
    unit: str
    title: str
    headline: bool
    published: str | None
    lower_is_better: bool
    rows: tuple[Row, ...]
    comparison: TableComparison | None
    axis: ValueAxis | None
    control: ControlComparison | None = None
    """How much larger its rows' errors are than in the table's control."""
    bounds: tuple[Row, ...] = ()
    """Where extrinsics are withheld: rows with the true extrinsics and the weights of one of these rows; unranked."""

    @cached_property
    def name(self) -> str:
        """Name of the measure, such as "MPJPE, root-relative"."""
        return measure(self.signature)

    @cached_property
    def facts(self) -> dict[str, str]:
        """Facts of the common signature (`Signature.facts`)."""
        return self.signature.facts

    @cached_property
    def details(self) -> str:
        """Conditions that distinguish boards of the same name, and the table id: "every 64th frame · T5"."""
        return " · ".join([*conditions(self.signature), self.table])

    @cached_property
    def details_under_heading(self) -> str:
        """`details` without the note on withheld extrinsics, which the heading above the table has."""
        return " · ".join([*(words for words in conditions(self.signature) if words != WITHHELD), self.table])

    @cached_property
    def label_in_cells(self) -> str:
        """Name, details and unit, for cells on a narrow screen, where the heads of columns are not shown."""
        details = self.details_under_heading
        return f"{self.name}{'' if details == self.table else f', {details}'}, {self.unit}"

    @property
    def metric(self) -> str:
        """Name of the metric as in papers."""
        return metric_label(self.signature)

    @cached_property
    def label(self) -> str:
        """Name, conditions and table id as plain text."""
        return ", ".join([self.name, *conditions(self.signature)]) + f" ({self.table})"

    @property
    def unit_label(self) -> str:
        """Unit and caveats for the axis labels of plots, which are also used without the page."""
        warnings = dict.fromkeys(row.file.warning for row in self.rows if row.file.warning)
        return ", ".join([self.unit, *(["synthetic world"] if self.synthetic else []), *warnings])

    @property
    def data_key(self) -> tuple[str, bool]:
        """Data set, and whether it is synthetic; a table on a page never mixes different keys."""
        return self.dataset, self.synthetic

    @property
    def from_one_camera(self) -> bool:
        """Whether each prediction has a single camera as input."""
        return self.signature.each_alone

    @property
    def calibration_free(self) -> bool:
        """Whether its rows have no extrinsics as input."""
        return self.signature.extrinsics == "withheld"

    @cached_property
    def _by_method(self) -> dict[str, Row]:
        return {row.method: row for row in self.rows}

    def row(self, method: str) -> Row | None:
        """Row of ``method``; None: the board has none."""
        return self._by_method.get(method)

    def row_or_bound(self, method: str) -> Row | None:
        """Row of ``method``, bounds included; None: the board has none."""
        return self.row(method) or next((row for row in self.bounds if row.method == method), None)

    def beyond_bound(self, row: Row) -> float | None:
        """Error of a row as a multiple of the error of the same weights with true cameras; None: unknown."""
        for bound in self.bounds:
            if self.unit == "mm" and _same_weights(row.file, bound.file) and row.method != bound.method:
                return row.over_all / bound.over_all if row.over_all and bound.over_all else None
        return None

    @cached_property
    def few(self) -> bool:
        """Whether the board has too few groups for any significant difference."""
        pairs = len(self.comparison.ranked_pairs) if self.comparison else 1
        return bool(self.rows) and few_groups(self.rows[0].score.n_groups, pairs)

    @cached_property
    def ranked(self) -> tuple[Row, ...]:
        """Ranked rows, best first."""
        return tuple(row for row in self.rows if row.ranked)

    @cached_property
    def incomplete(self) -> tuple[Row, ...]:
        """Rows whose score does not cover all poses."""
        return tuple(row for row in self.rows if row.score.n_left_out)

    def is_bound(self, method: str) -> bool:
        """Whether ``method`` is a bound on this board, which is listed but never ranked."""
        row = self.row(method)
        return row.file.bound if row is not None else any(row.method == method for row in self.bounds)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Notes of the table."""
        return tuple(dict.fromkeys(note for row in self.rows for note in row.score.notes))

    @property
    def compares(self) -> bool:
        """Whether the board has paired differences."""
        return self.comparison is not None and bool(self.comparison.pairs)

    def pair(self, a: str, b: str) -> tuple[float, tuple[float, float]] | None:
        """Mean difference a − b and its 95 % interval, in the unit of the board; None if not compared."""
        paired = self.compared(a, b)
        if paired is None:
            return None
        low, high = paired.ci95
        return (paired.difference, (low, high)) if paired.a == a else (-paired.difference, (-high, -low))

    @cached_property
    def _by_pair(self) -> dict[tuple[str, str], PairedDifference]:
        pairs = self.comparison.pairs if self.comparison else []
        return {names: pair for pair in pairs for names in ((pair.a, pair.b), (pair.b, pair.a))}

    def compared(self, a: str, b: str) -> PairedDifference | None:
        """Stored comparison of two methods, in either order; None if not compared."""
        return self._by_pair.get((a, b))

    def verdict(self, a: str, b: str) -> str:
        """Whether ``a`` is significantly better than ``b``.

        Returns:
            "better" or "worse" for a significant difference (corrected for all pairs of the table), "open" for a
            difference that is not significant, "" if the two were not compared.
        """
        if (paired := self.compared(a, b)) is None:
            return ""
        if not paired.decided:
            return "open"
        lower = (paired.difference < 0) == (paired.a == a)
        return "better" if lower == self.lower_is_better else "worse"

    @cached_property
    def decided(self) -> tuple[Row, tuple[Row, ...]] | None:
        """Best ranked row that is significantly better than others, and these others, best first; None: no such row."""
        for row in self.ranked if self._by_pair else ():
            beaten = tuple(other for other in self.ranked if self.verdict(row.method, other.method) == "better")
            if beaten:
                return row, beaten
        return None

    @property
    def finding(self) -> str:
        """Sentence on the significant differences between ranked rows, or on why there are none."""
        if self.decided is None:
            return f"Nothing is decided by {self.label}: {self._undecided}."
        row, beaten = self.decided
        others = len(self.ranked) - 1
        which = beaten[0].method
        if len(beaten) > 1:
            every = "both" if others == 2 else f"all {others}"
            which = f"{every if len(beaten) == others else f'{len(beaten)} of {others}'} other ranked rows"
        difference = self.pair(row.method, beaten[0].method)
        assert difference is not None
        sign = 1 if difference[0] > 0 else -1
        values = (sign * difference[0], *sorted(sign * end for end in difference[1]))
        size, low, high = (signed(value, self.unit).removeprefix("+") for value in values)
        unit = "percentage points" if self.unit == "%" else self.unit
        than = "" if len(beaten) == 1 else f" than {beaten[0].method}, the best of them"
        return (
            f"{row.method} is significantly better than {which} by {self.label}: {size} {unit} "
            f"{'lower' if self.lower_is_better else 'higher'}{than} (95 % interval {low} to {high})."
        )

    @property
    def _undecided(self) -> str:
        """Reason why no difference is significant."""
        if len(self.ranked) < 2:
            return "fewer than two rows are ranked"
        if self.comparison is None:
            return "its rows have not been compared"
        pairs = self.comparison.ranked_pairs
        if not pairs:
            return "rows are not compared by it" if self.rows[0].score.n_groups > 1 else "there is one sequence"
        if self.few:
            return "there are too few sequences"
        if all(pair.training == "unknown" for pair in pairs):
            return "the variation between trainings is not known"
        return "no difference between two ranked rows is significant"


def finding(columns: Sequence[Board]) -> str:
    """Finding of the first board with a significant difference, or a sentence that there is none."""
    first = next((board for board in columns if board.decided), None)
    if first is not None or len(columns) == 1:
        return (first or columns[0]).finding
    return f"Nothing is decided by these {len(columns)} tables: no difference between two ranked rows is significant."


def _place(file: ScoreFile, score: Score, rank: Rank | None) -> tuple[bool, bool, bool, float, float, str]:
    """Sort key of a row: ranked rows, incomplete rows, rows without a score, bounds."""
    value = 0.0 if score.value is None else score.value if score.lower_is_better else -score.value
    place = 0.0 if rank is None else float(rank.rank)
    return file.bound, score.value is None, score.n_left_out > 0, place, value, file.method


def _settled(board: Board) -> Board:
    """Board with ranks and its bold row set."""
    places_of = {row.method: k for k, row in enumerate(board.ranked, 1)}
    best = board.ranked[:2]
    decided = len(best) > 1 and board.verdict(best[0].method, best[1].method) == "better"
    return replace(
        board,
        rows=tuple(
            replace(
                row,
                order=places_of.get(row.method),
                bold=decided and row is best[0] and not board.few,
                few=board.few,
            )
            for row in board.rows
        ),
    )


def _spread(score: Score, reference: Score | None) -> Spread | None:
    """Spread between trainings of a row with one seed, taken from ``reference``, the same row with several seeds."""
    values = [seed.value for seed in reference.seeds if seed.value is not None] if reference else []
    return Spread.of(values, 1) if len(score.seeds) == 1 and len(values) > 1 else None


def boards(results: Results) -> list[Board]:
    """Boards of all data sets; boards of one table are sorted by number of methods, then by number of cameras."""
    groups: dict[tuple[str, bool, str, str], list[tuple[ScoreFile, Score]]] = {}
    for entry in results.entries:
        for score in entry.scores.scores:
            key = (entry.scores.dataset, entry.scores.synthetic, score.table, str(score.signature))
            groups.setdefault(key, []).append((entry.scores, score))
    references: dict[tuple[str, bool, str, str], dict[str, Score]] = {}
    for entry in results.reference.entries if results.reference else ():
        for score in entry.scores.scores:
            key = (entry.scores.dataset, entry.scores.synthetic, score.table, str(score.signature))
            references.setdefault(key, {})[entry.scores.method] = score
    comparisons = {
        (file.dataset, file.synthetic, one.table, str(one.signature)): one
        for file in results.comparisons
        for one in file.tables
    }
    increases = {
        (file.dataset, file.synthetic, one.table, str(one.signature)): one
        for file in results.comparisons
        for one in file.controls
    }

    badges = {name: submission.badge for name, submission in results.submissions.items()}

    def badge(file: ScoreFile) -> str:
        return badges.get(file.method, "claimed") if file.source == "submission" else ""

    all_boards = []
    for key, scored in groups.items():
        dataset, synthetic, table, _ = key
        comparison = comparisons.get(key)
        reference = references.get(key, {})
        numbered = {file.method for file, score in scored if score.value is not None}
        compared = [] if comparison is None else [*(rank.method for rank in comparison.ranks), *comparison.unranked]
        if compared and set(compared) != numbered:
            comparison = None  # it compares other rows
        ranks = {rank.method: rank for rank in comparison.ranks} if comparison else {}
        members = sorted(scored, key=lambda pair: _place(pair[0], pair[1], ranks.get(pair[0].method)))
        first = members[0][1]
        ends = [v for _, s in members for v in (s.value, *(s.ci95 or ())) if v is not None]
        all_boards.append(
            _settled(
                Board(
                    dataset=dataset,
                    synthetic=synthetic,
                    table=table,
                    signature=first.signature,
                    unit=first.unit,
                    title=first.title,
                    headline=first.headline,
                    published=first.published,
                    lower_is_better=first.lower_is_better,
                    rows=tuple(
                        Row(
                            f,
                            s,
                            None,
                            ranks.get(f.method),
                            training=_spread(s, reference.get(f.method)),
                            badge=badge(f),
                        )
                        for f, s in members
                    ),
                    comparison=comparison,
                    control=increases.get(key),
                    axis=ValueAxis.around(ends),
                )
            )
        )
    all_boards = [replace(board, bounds=_bounds(board, all_boards)) for board in all_boards]
    all_boards.sort(
        key=lambda b: (
            *(b.dataset, b.synthetic, table_key(b.table), not b.signature.usual, b.calibration_free, -len(b.rows)),
            *(not b.signature.whole, -camera_count(b.signature), b.signature.frames_per_rig, str(b.signature)),
        )
    )
    return all_boards


def _bounds(board: Board, all_boards: Sequence[Board]) -> tuple[Row, ...]:
    """Bounds of a board without extrinsics: rows of the same table with true extrinsics and the weights of its rows."""
    if not board.calibration_free:
        return ()
    told = str(board.signature.model_copy(update={"extrinsics": "given", "frames_per_rig": 1}))
    return tuple(
        replace(row, order=None, rank=None, bold=False)
        for other in all_boards
        if (other.data_key, other.table) == (board.data_key, board.table) and str(other.signature) == told
        for row in other.rows
        if any(_same_weights(row.file, ours.file) for ours in board.rows)
    )


def _same_weights(a: ScoreFile, b: ScoreFile) -> bool:
    """Whether two rows were scored with the same checkpoints, seed by seed."""
    ours = a.provenance.checkpoint_sha256
    return bool(ours) and ours == b.provenance.checkpoint_sha256


def usual_boards(all_boards: Sequence[Board]) -> Iterator[Board]:
    """Boards with a usual signature; if a data set has only weights of other data sets, these count as usual."""
    own = {board.data_key for board in all_boards if board.signature.usual}
    for board in all_boards:
        signature = board.signature
        if board.data_key not in own:
            signature = signature.model_copy(update={"trained_on": None})
        if signature.usual:
            yield board


def main_boards(all_boards: Sequence[Board]) -> dict[tuple[str, bool], list[Board]]:
    """Columns of each data set's main board: its headline tables, or its first table if it has none.

    Weights of other data sets are included only if no row is trained on the data set itself.
    """
    by_dataset: dict[tuple[str, bool], dict[str, Board]] = {}
    for board in usual_boards(all_boards):
        by_dataset.setdefault(board.data_key, {}).setdefault(board.table, board)
    return {
        dataset: [board for board in tables.values() if board.headline] or list(tables.values())[:1]
        for dataset, tables in by_dataset.items()
    }


def column_ids(boards: Iterable[Board]) -> list[str]:
    """Names of columns in links: the ids of their tables, and for further columns of a table also their place.

    Example:
        >>> column_ids([])
        []
    """
    ids: list[str] = []
    counts: dict[str, int] = {}
    for board in boards:
        counts[board.table] = counts.get(board.table, 0) + 1
        ids.append(board.table if counts[board.table] == 1 else f"{board.table}-{counts[board.table]}")
    return ids


def traits_of(boards: Iterable[Board], method: str) -> dict[str, str]:
    """`Row.traits` of a method on the first board that has it."""
    return next((row.traits for board in boards if (row := board.row_or_bound(method))), {})


def badge_of(boards: Iterable[Board], method: str) -> str:
    """`Row.badge` of a method; empty: no board has a badge."""
    return next((row.badge for board in boards if (row := board.row(method)) and row.badge), "")


def caveats(boards: Iterable[Board]) -> list[Caveat]:
    """Caveats of the boards with too few groups, without repeated notes."""
    alike: dict[tuple[object, ...], list[Board]] = {}
    for board in boards:
        if board.few:
            score = board.rows[0].score
            alike.setdefault((score.n_samples, score.counted, score.n_groups, board.notes), []).append(board)
    said: dict[str, None] = {}
    found = []
    for together in alike.values():
        notes = tuple(note for note in together[0].notes if note not in said)
        said |= dict.fromkeys(notes)
        found.append(Caveat(tuple(together), notes))
    return found
