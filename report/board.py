"""Content of the pages: tables, rows and cells, computed from the results for the templates."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, inf, log10
from typing import Literal

import numpy as np
from pydantic import JsonValue

from poseboard.protocols.decisions import Spread, few_groups, judge, trained, with_training
from poseboard.protocols.records import (
    Curve,
    PairedDifference,
    PublishedRow,
    PublishedTable,
    Rank,
    Score,
    ScoreFile,
    Signature,
    SpeedFile,
    TableComparison,
    TrainingFile,
    TrainingRun,
)
from poseboard.report.results import Examples, Results, table_key

SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def number(value: float | None, unit: str = "mm") -> str:
    """A value with the usual number of decimals of its unit; a dash without a value.

    Example:
        >>> number(22.41), number(4.177, "px"), number(0.3861, "m"), number(None)
        ('22.4', '4.18', '0.386', '–')
    """
    if value is None or not np.isfinite(value):
        return "–"
    if unit in ("mm", "%") or abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.3f}" if unit == "m" else f"{value:.2f}"


def signed(value: float, unit: str = "mm") -> str:
    """A difference with its sign; a difference that would be rounded to zero has two significant digits."""
    size = number(abs(value), unit)
    if value and not float(size):
        size = f"{abs(value):.2g}"
    return ("+" if value > 0 else "−" if value < 0 else "±") + size


def integer(value: float | None) -> str:
    """An integer with thin spaces between thousands."""
    return "–" if value is None else f"{round(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: float | None) -> str:
    """A duration in seconds below two minutes, in minutes below two hours, in hours above."""
    if seconds is None:
        return "–"
    for size, unit in ((7200.0, "h"), (120.0, "min")):
        if seconds >= size:
            return f"{seconds / (3600 if unit == 'h' else 60):.1f} {unit}"
    return f"{seconds:.0f} s"


def file_name(name: str) -> str:
    """A safe file name for any name: the name itself if it is safe, otherwise its safe characters and a hash."""
    if SAFE_NAME.fullmatch(name):
        return name
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32]
    return f"{stem or 'name'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


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
    all_boards = []
    for (dataset, synthetic, table, signature), scored in groups.items():
        comparison = next(
            (
                compared
                for file in results.comparisons
                if (file.dataset, file.synthetic) == (dataset, synthetic)
                for compared in file.tables
                if compared.table == table and str(compared.signature) == signature
            ),
            None,
        )
        ranks = {rank.method: rank for rank in comparison.ranks} if comparison else {}
        if ranks and set(ranks) != {file.method for file, score in scored if score.value is not None}:
            comparison, ranks = None, {}  # it compares other rows
        reference = references.get((dataset, synthetic, table, signature), {})
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
                    axis=Axis.around(ends),
                )
            )
        )
    all_boards = [replace(board, bounds=_bounds(board, all_boards)) for board in all_boards]
    all_boards.sort(
        key=lambda b: (
            *(b.dataset, b.synthetic, table_key(b.table), not b.signature.usual, b.calibration_free, -len(b.rows)),
            *(not b.signature.whole, -camera_count(b.signature), str(b.signature)),
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


def _usual(all_boards: Sequence[Board]) -> Iterator[Board]:
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
    for board in _usual(all_boards):
        by_dataset.setdefault(board.data_key, {}).setdefault(board.table, board)
    return {
        dataset: [board for board in tables.values() if board.headline] or list(tables.values())[:1]
        for dataset, tables in by_dataset.items()
    }


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
        """Error against what is counted, mean over groups of one size; {} for fewer than two sizes."""
        sizes = sorted(set(self.counts))
        if len(sizes) < 2:
            return {}
        curves = {}
        for method in self.methods:
            by_count: dict[int, list[float]] = {count: [] for count in sizes}
            for count, board in zip(self.counts, self.columns, strict=True):
                row = board.row(method)
                if row is not None and row.score.value is not None:
                    by_count[count].append(row.score.value)
            curves[method] = Curve(
                x=[float(count) for count in sizes],
                y=[sum(values) / len(values) if values else None for values in by_count.values()],
                x_label=f"number of {self.over}",
                y_label=f"{metric_label(self.columns[0].signature)}, {self.unit}",
            )
        return curves

    @property
    def bounds(self) -> dict[str, Row]:
        """Rows that are told where the cameras are, of the same weights, by name."""
        return {row.method: row for row in self.columns[-1].bounds}

    def bound_values(self) -> dict[str, float]:
        """Their values, which do not depend on what is counted."""
        return {name: row.score.value for name, row in self.bounds.items() if row.score.value is not None}


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


def camera_count(signature: Signature) -> int:
    """Number of cameras per prediction; the largest if there are several sets."""
    return max(map(len, signature.cameras))


ANY_CAMERAS = {"cameras": (("any",),), "cameras_of_dataset": 1, "root_cameras": (), "frames_per_rig": 1}
"""Replaces cameras and frames per rig of a signature: what remains is equal for tables that differ only in them."""
_METRIC_WORDS = {"root": " of roots", "recall": "recall", "sound": "sound "}
"""Parts of a metric's name that are no abbreviations."""
_ALIGNMENTS = {
    "root": "root-relative",
    "root and scale": "root-relative and scaled",
    "none": "absolute",
    "procrustes": "Procrustes-aligned",
}


def measure(signature: Signature) -> str:
    """Name of what a number measures: metric, alignment and number of cameras.

    Example:
        A signature of metric ``mpjpe<=150mm`` and alignment ``none`` gives "MPJPE clipped at 150 mm, absolute".
    """
    metric = re.sub(r"≤(\S+?)mm", r" clipped at \1 mm", metric_label(signature))
    parts = [re.sub(r"@(\S+?)mm", r" at \1 mm", metric)]
    alignment = signature.alignment.partition(",")[0]
    if not signature.metric.startswith("pa_"):  # says so itself
        parts.append(_ALIGNMENTS.get(alignment, alignment))
    if signature.each_alone and not signature.whole:
        parts.append("one camera")
    elif not signature.whole:
        parts.append(f"{camera_count(signature)} cameras")
    return ", ".join([*parts, *([signature.root_from] if signature.root_from else [])])


def conditions(signature: Signature) -> list[str]:
    """Conditions that distinguish two numbers with one name; none for the usual ones."""
    words = []
    if signature.every > 1:
        words.append(f"every {ordinal(signature.every)} frame")
    if count := len(signature.exclusions):
        words.append(f"without {count} sequence{'s' if count != 1 else ''}")
    if signature.average == "actions":
        words.append("mean of the actions")
    elif signature.average == "worst_subject":
        words.append("worst of the subjects")
    if signature.given:
        words.append(f"true {', '.join(signature.given)} given")
    if signature.trained_on is not None:
        words.append(f"trained on {signature.trained}" if signature.trained_on else "training data not known")
    if signature.extrinsics == "withheld":
        words.append("extrinsics withheld")
    if signature.frames_per_rig > 1:
        words.append(f"{signature.frames_per_rig} frames per rig")
    if signature.perturbation:
        words.append(f"spoiled by {signature.perturbed}")
    return words


def ordinal(count: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 64th."""
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def metric_label(signature: Signature) -> str:
    """The metric as papers write it.

    Example:
        pa_mpjpe -> PA-MPJPE, pck@150mm -> PCK@150mm, mpjpe<=150mm -> MPJPE≤150mm, sound_ap_root@250mm -> sound AP of
        roots@250mm; what is in words, as camera rotation, stays so.
    """
    name, limit = re.fullmatch(r"([^@<>=]*)(.*)", signature.metric, re.DOTALL).groups()  # type: ignore[union-attr]
    parts = [_METRIC_WORDS.get(part, part if " " in part else f"-{part.upper()}") for part in name.split("_")]
    return "".join(parts).replace(" -", " ").strip(" -") + limit.replace("<=", "≤")


Measure = Literal["processor s", "GPU s", "wall s × processes"]
"""Units of training cost, which cannot be converted into each other: user + system time; wall time × GPUs; wall time ×
processes, for files without the other two, which also depends on other programs."""


@dataclass(frozen=True)
class Cost:
    """Cost of a method's training. There is no sum if the trainings that it starts from have another unit."""

    own_s: float | None
    total_s: float | None
    """With the trainings it starts from."""
    measure: Measure | None
    """Unit of its own training, or of the training that it starts from; None without any training."""
    parameters: int | None
    chain: tuple[str, ...]
    hardware: tuple[str, ...]
    """Hardware of all these trainings."""


def cost(training: Mapping[tuple[str, str], TrainingFile], dataset: str, method: str) -> Cost:
    """Seconds of training (mean over seeds) and parameters of a method, following ``after`` back to its start."""
    first = _own_training(training, dataset, method)
    if first is None:
        return Cost(None, None, None, None, (), ())
    chain: list[str] = []
    hardware: dict[str, None] = {}
    measures: list[Measure] = []
    total = 0.0
    name: str | None = method
    while name is not None and name not in chain:
        chain.append(name)
        file = _own_training(training, dataset, name)
        if file is None:
            total = inf
            break
        if file.runs:
            hardware[file.provenance.hardware] = None
            measure, seconds = _mean_seconds(file)
            measures.append(measure)
            total = total + seconds if len(set(measures)) == 1 else inf
        name = file.after
    return Cost(
        own_s=_mean_seconds(first)[1] if first.runs else 0.0,
        total_s=None if total == inf else total,
        measure=measures[0] if measures else None,
        parameters=first.parameters,
        chain=tuple(chain),
        hardware=tuple(hardware),
    )


def _own_training(training: Mapping[tuple[str, str], TrainingFile], dataset: str, method: str) -> TrainingFile | None:
    """The training that gave a method its weights on a data set: of another one, where the two are equal."""
    file = training.get((dataset, method))
    return file if file is None or file.same_as is None else training.get((file.same_as, method), file)


def _mean_seconds(file: TrainingFile) -> tuple[Measure, float]:
    """Unit and mean over seeds, which have one unit because one command trains them on one machine."""
    spent = [_spent(run) for run in file.runs]
    return spent[0][0], sum(seconds for _, seconds in spent) / len(spent)


def _spent(run: TrainingRun) -> tuple[Measure, float]:
    if run.processor_seconds is not None:
        return "processor s", run.processor_seconds
    if run.gpu_seconds is not None:
        return "GPU s", run.gpu_seconds
    return "wall s × processes", run.seconds * run.processes


def measure_of(costs: Iterable[Cost]) -> Measure | None:
    """The most frequent unit of these costs, the first of equals; None without any training."""
    counts = Counter(cost.measure for cost in costs if cost.measure is not None)
    return counts.most_common(1)[0][0] if counts else None


@dataclass(frozen=True)
class PaperTable:
    """A published table and our boards with the same id."""

    table: PublishedTable
    columns: tuple[str, ...]
    ours: tuple[Board, ...]
    """One board per data set with this table."""
    extra: tuple[str, ...]
    """Our methods without a row in the paper."""
    absent: str
    """Why our numbers are absent; empty if they are not, and for collections that no run repeats."""

    @property
    def numbered(self) -> bool:
        """Whether it is a table or figure of a paper (T1, F2), not a collection from several sources."""
        return _is_numbered(self.table.id)

    def cells(self, row: PublishedRow | None, method: str | None = None) -> list[Row | None]:
        """Our row in each board of ``ours``."""
        name = row.method if row is not None else method
        return [board.row_or_bound(name) if name else None for board in self.ours]

    def is_bound(self, method: str) -> bool:
        """Whether a row is told more than those that it stands beside."""
        return any(row.method == method for board in self.ours for row in board.bounds)


def paper_tables(results: Results, all_boards: Sequence[Board]) -> list[PaperTable]:
    """All published tables with our boards of the same id."""
    papers = []
    for table in results.published:
        ours: dict[tuple[str, bool, str], Board] = {}
        for board in _usual(all_boards):
            key = (*board.data_key, board.signature.metric)
            if board.published == table.id and (key not in ours or board.calibration_free > ours[key].calibration_free):
                ours[key] = board  # of a table for both, rows without extrinsics: those with them are no competitors
        named = {row.method for row in table.rows}
        of_ours = [row.method for board in ours.values() for row in (*board.rows, *board.bounds)]
        extra = dict.fromkeys(method for method in of_ours if method not in named)
        columns = dict.fromkeys([*table.sources, *(column for row in table.rows for column in row.values)])
        papers.append(
            PaperTable(
                table=table,
                columns=tuple(c for c in columns if any(c in row.values for row in table.rows)),
                ours=tuple(ours.values()),
                extra=tuple(extra),
                absent=_why_absent(table, results) if not ours and _is_numbered(table.id) else "",
            )
        )
    return papers


def _is_numbered(table: str) -> bool:
    return table_key(table)[0] < 2


def _why_absent(table: PublishedTable, results: Results) -> str:
    known = {file.dataset: file for file in (*results.catalog, *(file for file, _ in results.data))}
    record = known.get(table.dataset)
    if record is None:
        return f"Ours are absent: {table.dataset} was not part of the “{results.profile}” run."
    if record.state == "ready":
        world = " as a synthetic world" if record.synthetic else ""
        return f"Ours are absent: {record.dataset} is ready{world}, but no method of this run is scored on {table.id}."
    detail = (record.detail[:1].upper() + record.detail[1:]).rstrip(".")
    return f"Ours are absent: {record.dataset} is {record.state}. {detail}. Where to get it: {record.obtain}"


@dataclass(frozen=True)
class Overlay:
    """One crop with predicted and true skeleton as SVG paths in crop pixels."""

    view: str
    image: str
    predicted: str
    truth: str
    predicted_joints: tuple[tuple[str, str], ...]
    missing: bool


@dataclass(frozen=True)
class Example:
    """One sample of the examples file: "best", "median" or "worst" by error, with all its views."""

    place: str
    key: str
    error_mm: float
    side_px: int
    overlays: tuple[Overlay, ...]


def pick_examples(error_mm: Sequence[float] | np.ndarray) -> list[tuple[str, int]]:
    """Place and index of the best, median and worst sample by error, each once; no error counts as worst."""
    errors = np.asarray(error_mm, dtype=np.float64)
    order = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    if not len(order):
        return []
    picks: dict[int, str] = {}
    for place, k in (("best", 0), ("worst", len(order) - 1), ("median", (len(order) - 1) // 2)):
        picks.setdefault(int(order[k]), place)
    return sorted(((p, k) for k, p in picks.items()), key=lambda pick: ("best", "median", "worst").index(pick[0]))


def limb_path(points_px: np.ndarray, edges: np.ndarray) -> str:
    """Edges between finite joints as the ``d`` of an SVG path."""
    ends = points_px[edges]
    ends = ends[np.isfinite(ends).all(axis=(1, 2))]
    return "".join(f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" for (x0, y0), (x1, y1) in ends)


def overlay(examples: Examples, sample: int, view: int, image: str) -> Overlay:
    """Predicted and true skeleton of one view."""
    predicted = examples.predicted_px[sample, view]
    finite = predicted[np.isfinite(predicted).all(axis=1)]
    return Overlay(
        view=examples.views[view],
        image=image,
        predicted=limb_path(predicted, examples.edges),
        truth=limb_path(examples.truth_px[sample, view], examples.edges),
        predicted_joints=tuple((f"{x:.1f}", f"{y:.1f}") for x, y in finite),
        missing=not len(finite),
    )


def inputs_in_words(inputs: Mapping[str, JsonValue]) -> list[tuple[str, str]]:
    """Inputs of a method in words, from its score file: (name, value); facts that are not recorded are left out."""
    facts = []
    match inputs.get("views"):
        case [int() as fewest, int() as most] if most == 1:
            facts.append(("cameras", "one at a time"))
        case [int() as fewest, int() as most]:
            facts.append(("cameras", f"{fewest} or more" if most >= 1000 else f"{fewest} to {most}"))
    calibration = [name for name in ("intrinsics", "extrinsics") if inputs.get(name)]
    if "intrinsics" in inputs:
        facts.append(("calibration", " and ".join(calibration) or "none"))
    if inputs.get("images") is False:
        facts.append(("images", "none: given 2D detections alone"))
    elif "crop_px" in inputs:
        side = inputs["crop_px"]
        facts.append(("images", "whole frames" if side is None else f"the person’s crops, {side} px square"))
    roots = {"none": "not given", "predicted": "as another row predicts it", "truth": "the true one"}
    if "root" in inputs:
        facts.append(("root", roots.get(str(inputs["root"]), str(inputs["root"]))))
    if isinstance(window := inputs.get("window"), int):
        facts.append(("frames", "one at a time" if window == 1 else f"{window} in a row"))
    if isinstance(frames := inputs.get("frames_per_rig"), int) and frames > 1:
        facts.append(("frames per rig", f"up to {frames} used together"))
    return facts


def compared_speed(file: SpeedFile) -> str:
    """A timing in words: "5 times as fast as the peer. The aim, at least 3 times as fast, is reached."."""
    if file.ratio is None:
        words = "No peer was timed."
    elif file.ratio >= 1:
        words = f"{file.ratio:.3g} times as fast as the peer."
    else:
        words = f"{1 / file.ratio:.3g} times as slow as the peer."
    if file.aim.strip().lower() in ("", "none"):
        return words
    return f"{words} The aim, {file.aim}, is {'reached' if file.met else 'not reached'}."


_DETAIL_UNITS = {"mb": "MB", "mib": "MiB", "mm": "mm", "s": "s", "px": "px"}


def measured(file: SpeedFile) -> list[str]:
    """Further measurements, each with its unit: "largest difference 4.97e-09 mm"."""
    phrases = []
    for name, value in file.details.items():
        words, _, unit = name.rpartition("_")
        known = unit in _DETAIL_UNITS and words
        text = integer(value) if float(value).is_integer() and abs(value) >= 1000 else f"{value:.3g}"
        phrases.append(
            f"{(words if known else name).replace('_', ' ')} {text}{f' {_DETAIL_UNITS[unit]}' if known else ''}"
        )
    return phrases


def common_commit(files: Iterable[ScoreFile]) -> list[tuple[str, bool, int]]:
    """Known commits of the results, with dirty flag and number of results, most results first."""
    provenances = [file.provenance for file in files]
    counts = Counter((one.git_commit, bool(one.git_dirty)) for one in provenances if one.git_commit is not None)
    return [(commit, dirty, count) for (commit, dirty), count in counts.most_common()]
