"""Boards: one table on one data set with its rows in order, computed from the results for the templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, inf, log10
from typing import NamedTuple

import numpy as np

from poseboard.protocols.decisions import Spread, few_groups, judge, trained, with_training
from poseboard.protocols.records import (
    ControlComparison,
    PairedDifference,
    Rank,
    Score,
    ScoreFile,
    Signature,
    TableComparison,
)
from poseboard.report.results import Results, table_key
from poseboard.report.wording import WITHHELD, camera_count, conditions, measure, metric_label


@dataclass(frozen=True)
class Axis:
    """The common axis of the intervals of a column."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> Axis | None:
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
    order: int
    rank: Rank | None
    bold: bool = False
    """Whether it is first and significantly better than the next row."""
    few: bool = False
    """Whether it has too few samples for any significant difference; their number is then shown."""
    training: Spread | None = None
    """Variation between trainings, for a row with one seed; None: not known, or the row has several seeds."""

    @property
    def method(self) -> str:
        """Name of the method in its score file."""
        return self.file.method

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
    axis: Axis | None
    control: ControlComparison | None = None
    """How much larger its rows' errors are than in the table's control."""
    bounds: tuple[Row, ...] = ()
    """Where extrinsics are withheld: rows that are told them and have the weights of one of these rows; unranked."""

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
                return row.score.value / bound.score.value if row.score.value and bound.score.value else None
        return None

    @property
    def few(self) -> bool:
        """Whether there are too few groups for any significant difference."""
        pairs = len(self.comparison.pairs) if self.comparison else 1
        return bool(self.rows) and few_groups(self.rows[0].score.n_groups, pairs)

    @property
    def incomplete(self) -> tuple[Row, ...]:
        """Rows whose number is not of all poses."""
        return tuple(row for row in self.rows if row.score.n_left_out)

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
        return "better" if self.ahead(a, b) else "worse"

    def ahead(self, a: str, b: str) -> bool:
        """Whether ``a`` has the better mean on the poses that both predict, significant or not."""
        difference = self.pair(a, b)
        return difference is not None and difference[0] != 0 and (difference[0] < 0) == self.lower_is_better


def _sort_key(score: Score) -> tuple[bool, float]:
    if score.value is None:
        return True, 0.0
    return False, score.value if score.lower_is_better else -score.value


def _in_order(members: Sequence[tuple[ScoreFile, Score]], ranks: Mapping[str, Rank]) -> list[tuple[ScoreFile, Score]]:
    """Best first: by rank, which is computed on the poses that all methods predict, or by value without ranks.

    The value alone would favour a method that leaves out hard poses.
    """

    def key(pair: tuple[ScoreFile, Score]) -> tuple[float, bool, float, str]:
        rank = ranks.get(pair[0].method)
        return (inf if rank is None else rank.rank, *_sort_key(pair[1]), pair[0].method)

    return sorted(members, key=key)


def _complete_first(board: Board) -> list[Row]:
    """Rows in their order; a row with missing predictions comes after every complete row that is not worse.

    The two are compared on the poses that both predict.
    """
    complete = [row for row in board.rows if not row.score.n_left_out]

    def place(row: Row) -> float:
        if not row.score.n_left_out:
            return complete.index(row)
        return (
            max((k for k, other in enumerate(complete) if not board.ahead(row.method, other.method)), default=-1) + 0.5
        )

    return sorted(board.rows, key=place)  # stable


def _settled(board: Board) -> Board:
    """A board with final order, bold row and ranks."""
    rows = _complete_first(board)
    moved = [row.method for row in rows] != [row.method for row in board.rows]
    first = len(rows) > 1 and board.verdict(rows[0].method, rows[1].method) == "better"
    return replace(
        board,
        rows=tuple(
            replace(
                row, order=k, rank=None if moved else row.rank, bold=first and k == 1 and not board.few, few=board.few
            )
            for k, row in enumerate(rows, 1)
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
            groups.setdefault(key, []).append((entry.scores, with_training(score)))
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
    all_boards = []
    for key, scored in groups.items():
        dataset, synthetic, table, _ = key
        comparison = comparisons.get(key)
        ranks = {rank.method: rank for rank in comparison.ranks} if comparison else {}
        if ranks and set(ranks) != {file.method for file, score in scored if score.value is not None}:
            comparison, ranks = None, {}  # it compares other rows
        reference = references.get(key, {})
        if comparison is not None:  # again, with the variation between trainings
            scores = {file.method: score for file, score in scored}
            comparison = judge(comparison, scores, reference, {file.method for file, _ in scored if trained(file)})
            ranks = {rank.method: rank for rank in comparison.ranks}
        members = _in_order(scored, ranks)
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
                        Row(f, s, k, ranks.get(f.method), training=_spread(s, reference.get(f.method)))
                        for k, (f, s) in enumerate(members, 1)
                    ),
                    comparison=comparison,
                    control=increases.get(key),
                    axis=Axis.around(ends),
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
    """Rows of the same table that know the extrinsics, and have the weights of a row of this one, which does not."""
    if not board.calibration_free:
        return ()
    told = str(board.signature.model_copy(update={"extrinsics": "given", "frames_per_rig": 1}))
    return tuple(
        replace(row, rank=None, bold=False)
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
