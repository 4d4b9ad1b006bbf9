"""Boards: one table on one data set with its rows in order, computed from the results for the templates.

Complete rows that are not bounds come first, by rank. Below them stand rows with missing predictions, then bounds: both
have a number, no rank and no mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from poseboard.report.wording import WITHHELD, camera_count, conditions, measure, metric_label


@dataclass(frozen=True)
class ValueAxis:
    """The common axis of the intervals of a column."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> ValueAxis | None:
        """The smallest axis with round ends that contains all values; None without values."""
        finite = [value for value in values if np.isfinite(value)]
        if not finite:
            return None
        low, high = min(finite), max(finite)
        least = max((high - low) / 6, abs(high) * 0.01, 1e-9)
        power = 10.0 ** floor(log10(least))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
        return cls(np.floor(low / step) * step, np.ceil(high / step) * step + (step if low == high else 0.0))

    def place(self, value: float) -> str:
        """Position of a value, per cent of the width from the left end."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}"


@dataclass(frozen=True)
class Row:
    """A method in one table."""

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
        """Whether it has a place: its number is over all poses, and it is not a bound."""
        return self.score.complete and not self.file.bound

    @property
    def over_all(self) -> float | None:
        """Its number where that is over all poses, for plots and ratios; None otherwise."""
        return self.score.value if self.score.complete else None

    @property
    def of_one_training(self) -> bool:
        """Whether the number is of a single training."""
        return trained(self.file) and len(self.score.seeds) == 1

    @property
    def between(self) -> float | None:
        """Standard deviation between seeds; None for one seed."""
        values = [seed.value for seed in self.score.seeds if seed.value is not None]
        return Spread.of(values, 1).sd if len(values) > 1 else None

    @property
    def answers(self) -> int:
        """Number of poses to predict, over all seeds."""
        return self.score.n_samples * max(len(self.score.seeds), 1)


class Caveat(NamedTuple):
    """That some boards have too few groups for any significant difference.

    Args:
        boards: with equal numbers of samples and groups, and the same notes.
        notes: of theirs that no earlier caveat says.
    """

    boards: tuple[Board, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """One table on one data set; all rows have the same signature."""

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

    @property
    def name(self) -> str:
        """Name of the measure: "MPJPE, root-relative"."""
        return measure(self.signature)

    @property
    def details(self) -> str:
        """Conditions that distinguish it from tables of the same name, and its id: "every 64th frame · T5"."""
        return " · ".join([*conditions(self.signature), self.table])

    @property
    def details_under_heading(self) -> str:
        """`details` but for that extrinsics are withheld, where the heading above the table says it."""
        return " · ".join([*(words for words in conditions(self.signature) if words != WITHHELD), self.table])

    @property
    def metric(self) -> str:
        """The metric as papers write it."""
        return metric_label(self.signature)

    @property
    def label(self) -> str:
        """Name, conditions and id as plain text."""
        return ", ".join([self.name, *conditions(self.signature)]) + f" ({self.table})"

    @property
    def unit_label(self) -> str:
        """The unit and the caveats, for the labels of plots, because plots are also used without the page."""
        warnings = dict.fromkeys(row.file.warning for row in self.rows if row.file.warning)
        return ", ".join([self.unit, *(["synthetic world"] if self.synthetic else []), *warnings])

    @property
    def data_key(self) -> tuple[str, bool]:
        """Data set, and whether it is synthetic; tables on a page never mix two of them."""
        return self.dataset, self.synthetic

    @property
    def from_one_camera(self) -> bool:
        """Whether predictions are from each camera alone."""
        return self.signature.each_alone

    @property
    def calibration_free(self) -> bool:
        """Whether its rows were not told where their cameras are."""
        return self.signature.extrinsics == "withheld"

    def row(self, method: str) -> Row | None:
        """The row of ``method``, or None."""
        return next((row for row in self.rows if row.method == method), None)

    def row_or_bound(self, method: str) -> Row | None:
        """The row of ``method``, which may be a bound, or None."""
        return next((row for row in (*self.rows, *self.bounds) if row.method == method), None)

    def beyond_bound(self, row: Row) -> float | None:
        """The error of a row as a multiple of that of the same weights with the true cameras; None where not known."""
        for bound in self.bounds:
            if self.unit == "mm" and _same_weights(row.file, bound.file) and row.method != bound.method:
                return row.over_all / bound.over_all if row.over_all and bound.over_all else None
        return None

    @property
    def few(self) -> bool:
        """Whether there are too few groups for any significant difference."""
        pairs = len(self.comparison.ranked_pairs) if self.comparison else 1
        return bool(self.rows) and few_groups(self.rows[0].score.n_groups, pairs)

    @property
    def ranked(self) -> tuple[Row, ...]:
        """Rows with a place, best first."""
        return tuple(row for row in self.rows if row.ranked)

    @property
    def incomplete(self) -> tuple[Row, ...]:
        """Rows whose number is not over all poses."""
        return tuple(row for row in self.rows if row.score.n_left_out)

    def is_bound(self, method: str) -> bool:
        """Whether ``method`` is a bound here: shown, and never ranked."""
        row = self.row(method)
        return row.file.bound if row is not None else any(row.method == method for row in self.bounds)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the table."""
        return tuple(dict.fromkeys(note for row in self.rows for note in row.score.notes))

    def pair(self, a: str, b: str) -> tuple[float, tuple[float, float]] | None:
        """Mean of (a − b) and its interval; None if the two were not compared."""
        paired = self.compared(a, b)
        if paired is None:
            return None
        low, high = paired.ci95
        return (paired.difference, (low, high)) if paired.a == a else (-paired.difference, (-high, -low))

    def compared(self, a: str, b: str) -> PairedDifference | None:
        """The stored comparison of the pair, in either order."""
        pairs = self.comparison.pairs if self.comparison else []
        return next((pair for pair in pairs if {pair.a, pair.b} == {a, b}), None)

    def verdict(self, a: str, b: str) -> str:
        """Whether ``a`` is significantly better than ``b``.

        Returns:
            "better" or "worse" for a significant difference (all pairs of the table considered), "open" for another
            one, "" if the two were not compared.
        """
        if (paired := self.compared(a, b)) is None:
            return ""
        if not paired.decided:
            return "open"
        lower = (paired.difference < 0) == (paired.a == a)
        return "better" if lower == self.lower_is_better else "worse"

    @property
    def decided(self) -> tuple[Row, tuple[Row, ...]] | None:
        """The best ranked row that is significantly better than others, and these, best first; None without any."""
        for row in self.ranked:
            beaten = tuple(other for other in self.ranked if self.verdict(row.method, other.method) == "better")
            if beaten:
                return row, beaten
        return None

    @property
    def finding(self) -> str:
        """A sentence: which row is significantly better than which, by how much; or that nothing is decided, and why.

        Only ranked rows are named.
        """
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
        """Why no difference is significant."""
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
    """The finding of the first of several boards that has one; a sentence that nothing is decided without any."""
    first = next((board for board in columns if board.decided), None)
    if first is not None or len(columns) == 1:
        return (first or columns[0]).finding
    return f"Nothing is decided by these {len(columns)} tables: no difference between two ranked rows is significant."


def _place(file: ScoreFile, score: Score, rank: Rank | None) -> tuple[bool, bool, bool, float, float, str]:
    """Sort key of a row: ranked ones, incomplete ones, those without a number, bounds."""
    value = 0.0 if score.value is None else score.value if score.lower_is_better else -score.value
    place = 0.0 if rank is None else float(rank.rank)
    return file.bound, score.value is None, score.n_left_out > 0, place, value, file.method


def _settled(board: Board) -> Board:
    """A board with places and its bold row."""
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
    """Variation between trainings of a row with one seed, from ``reference``, the same row with several seeds."""
    values = [seed.value for seed in reference.seeds if seed.value is not None] if reference else []
    return Spread.of(values, 1) if len(score.seeds) == 1 and len(values) > 1 else None


def boards(results: Results) -> list[Board]:
    """All boards of all data sets; of one table first the signature with most methods, then with most cameras."""
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
    """Rows of the same table with the true extrinsics and the weights of a row of this one, which has none."""
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
    """Boards of usual numbers; of a data set on which all weights are of others, these are the usual ones."""
    own = {board.data_key for board in all_boards if board.signature.usual}
    for board in all_boards:
        signature = board.signature
        if board.data_key not in own:
            signature = signature.model_copy(update={"trained_on": None})
        if signature.usual:
            yield board


def main_boards(all_boards: Sequence[Board]) -> dict[tuple[str, bool], list[Board]]:
    """The columns of each data set's main board: its headline tables, or its first table without any.

    Weights of other data sets are on it only where no row is trained on the data set itself.
    """
    by_dataset: dict[tuple[str, bool], dict[str, Board]] = {}
    for board in usual_boards(all_boards):
        by_dataset.setdefault(board.data_key, {}).setdefault(board.table, board)
    return {
        dataset: [board for board in tables.values() if board.headline] or list(tables.values())[:1]
        for dataset, tables in by_dataset.items()
    }


def caveats(boards: Iterable[Board]) -> list[Caveat]:
    """Caveats of those of the boards that have too few groups; no note is said twice."""
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
