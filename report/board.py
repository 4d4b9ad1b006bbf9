"""What stands on the pages: rows, matrices and cells, worked out from the results before any template sees them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    """A measured value as the field prints it: 22.4 mm, 4.18 px, 0.386 m; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    if unit in ("mm", "%") or abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.3f}" if unit == "m" else f"{value:.2f}"


def signed(value: float, unit: str = "mm") -> str:
    """A difference with its sign, a true minus; one too small for the usual decimals keeps two digits."""
    size = number(abs(value), unit)
    if value and not float(size):
        size = f"{abs(value):.2g}"
    return ("+" if value > 0 else "−" if value < 0 else "±") + size


def integer(value: float | None) -> str:
    """Thousands separated by a thin space."""
    return "–" if value is None else f"{round(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: float | None) -> str:
    """Seconds below two minutes, minutes below two hours, hours above."""
    if seconds is None:
        return "–"
    for size, unit in ((7200.0, "h"), (120.0, "min")):
        if seconds >= size:
            return f"{seconds / (3600 if unit == 'h' else 60):.1f} {unit}"
    return f"{seconds:.0f} s"


def file_name(name: str) -> str:
    """A name from outside as a file name: itself if it is harmless, else its harmless part and a hash."""
    if SAFE_NAME.fullmatch(name):
        return name
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32]
    return f"{stem or 'name'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


@dataclass(frozen=True)
class Axis:
    """A common scale for the intervals of a column; places are per cent of its width."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> Axis | None:
        """The smallest axis with round ends that holds all values; None for no values."""
        finite = [value for value in values if np.isfinite(value)]
        if not finite:
            return None
        low, high = min(finite), max(finite)
        aim = max((high - low) / 6, abs(high) * 0.01, 1e-9)
        power = 10.0 ** floor(log10(aim))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= aim)
        return cls(np.floor(low / step) * step, np.ceil(high / step) * step + (step if low == high else 0.0))

    def place(self, value: float) -> str:
        """Distance from the left end in per cent of the width."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}"


@dataclass(frozen=True)
class Row:
    """A method in one table."""

    file: ScoreFile
    score: Score
    order: int
    rank: Rank | None
    bold: bool = False
    """Whether it is first and decidedly better than the next."""
    few: bool = False
    """Whether its samples are too few to decide anything, so that their number stands beside it."""
    training: Spread | None = None
    """How far trainings of this row of one seed differ; None: not known, or the row is the mean of several."""

    @property
    def method(self) -> str:
        """Name of the method as its file gives it."""
        return self.file.method

    @property
    def of_one_training(self) -> bool:
        """Whether the number is of the weights that one training ended at."""
        return trained(self.file) and len(self.score.seeds) == 1

    @property
    def between(self) -> float | None:
        """Standard deviation between its seeds; None for one."""
        values = [seed.value for seed in self.score.seeds if seed.value is not None]
        return Spread.of(values, 1).sd if len(values) > 1 else None

    @property
    def answers(self) -> int:
        """Poses that were asked for, over all seeds."""
        return self.score.n_samples * max(len(self.score.seeds), 1)


@dataclass(frozen=True)
class Board:
    """One table on one data set: every row has the same signature, and is synthetic or is not."""

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

    @property
    def name(self) -> str:
        """What it measures: "MPJPE, root-relative"."""
        return measure(self.signature)

    @property
    def details(self) -> str:
        """What else tells it from tables of the same name, then its id: "every 64th frame · T5"."""
        return " · ".join([*conditions(self.signature), self.table])

    @property
    def label(self) -> str:
        """Name and details on one line of plain text."""
        return ", ".join([self.name, *conditions(self.signature)]) + f" ({self.table})"

    @property
    def data_key(self) -> tuple[str, bool]:
        """Data set, and whether it is synthetic: boards of two keys never share a table."""
        return self.dataset, self.synthetic

    @property
    def from_one_camera(self) -> bool:
        """Whether each camera answers alone."""
        return self.signature.each_alone

    def row(self, method: str) -> Row | None:
        """The row of ``method``, or None."""
        return next((row for row in self.rows if row.method == method), None)

    @property
    def few(self) -> bool:
        """Whether there are too few groups for any pair to be decided."""
        pairs = len(self.comparison.pairs) if self.comparison else 1
        return bool(self.rows) and few_groups(self.rows[0].score.n_groups, pairs)

    @property
    def incomplete(self) -> tuple[Row, ...]:
        """Rows that lack predictions."""
        return tuple(row for row in self.rows if row.score.n_missing)

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the table."""
        return tuple(dict.fromkeys(note for row in self.rows for note in row.score.notes))

    def pair(self, a: str, b: str) -> tuple[float, tuple[float, float]] | None:
        """Mean of (a − b) with its interval, whichever way round it is stored."""
        paired = self.compared(a, b)
        if paired is None:
            return None
        low, high = paired.ci95
        return (paired.difference, (low, high)) if paired.a == a else (-paired.difference, (-high, -low))

    def compared(self, a: str, b: str) -> PairedDifference | None:
        """The pair as it is stored, one way round or the other."""
        pairs = self.comparison.pairs if self.comparison else []
        return next((pair for pair in pairs if {pair.a, pair.b} == {a, b}), None)

    def verdict(self, a: str, b: str) -> str:
        """Whether ``a`` is better than ``b``.

        Returns:
            "better" or "worse" where that is decided, all pairs of the table considered; "open" where not, "" if not
            compared.
        """
        if (paired := self.compared(a, b)) is None:
            return ""
        if not paired.decided:
            return "open"
        return "better" if self.ahead(a, b) else "worse"

    def ahead(self, a: str, b: str) -> bool:
        """Whether ``a`` has the better mean on the poses that both answered, decided or not."""
        difference = self.pair(a, b)
        return difference is not None and difference[0] != 0 and (difference[0] < 0) == self.lower_is_better


def _sort_key(score: Score) -> tuple[bool, float]:
    if score.value is None:
        return True, 0.0
    return False, score.value if score.lower_is_better else -score.value


def _in_order(members: Sequence[tuple[ScoreFile, Score]], ranks: Mapping[str, Rank]) -> list[tuple[ScoreFile, Score]]:
    """Best first: by rank, which is over the poses that all methods predict; by value alone where there are no ranks.

    Values alone would favour a method that leaves out hard poses.
    """

    def key(pair: tuple[ScoreFile, Score]) -> tuple[float, bool, float, str]:
        rank = ranks.get(pair[0].method)
        return (inf if rank is None else rank.rank, *_sort_key(pair[1]), pair[0].method)

    return sorted(members, key=key)


def _complete_first(board: Board) -> list[Row]:
    """Rows in their order, but that none which lacks predictions stands above one which does not.

    It does where it is better on the poses that both answered.
    """
    complete = [row for row in board.rows if not row.score.n_missing]

    def place(row: Row) -> float:
        if not row.score.n_missing:
            return complete.index(row)
        return (
            max((k for k, other in enumerate(complete) if not board.ahead(row.method, other.method)), default=-1) + 0.5
        )

    return sorted(board.rows, key=place)  # stable


def _settled(board: Board) -> Board:
    """A board with its final order, its bold number and its counts."""
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
    """How far trainings of a row of one seed differ."""
    values = [seed.value for seed in reference.seeds if seed.value is not None] if reference else []
    return Spread.of(values, 1) if len(score.seeds) == 1 and len(values) > 1 else None


def boards(results: Results) -> list[Board]:
    """All boards of all data sets; of a table's signatures the one most methods have, or with most views, first."""
    groups: dict[tuple[str, bool, str, str], list[tuple[ScoreFile, Score]]] = {}
    for entry in results.entries:
        for score in entry.scores.scores:
            key = (entry.scores.dataset, entry.scores.synthetic, score.table, str(score.signature))
            groups.setdefault(key, []).append((entry.scores, with_training(score)))
    others: dict[tuple[str, bool, str, str], dict[str, Score]] = {}
    for entry in results.reference.entries if results.reference else ():
        for score in entry.scores.scores:
            key = (entry.scores.dataset, entry.scores.synthetic, score.table, str(score.signature))
            others.setdefault(key, {})[entry.scores.method] = score
    made = []
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
            comparison, ranks = None, {}  # made of other rows than these
        reference = others.get((dataset, synthetic, table, signature), {})
        if comparison is not None:  # with what is known of other trainings now
            scores = {file.method: score for file, score in scored}
            comparison = judge(comparison, scores, reference, {file.method for file, _ in scored if trained(file)})
            ranks = {rank.method: rank for rank in comparison.ranks}
        members = _in_order(scored, ranks)
        first = members[0][1]
        ends = [v for _, s in members for v in (s.value, *(s.ci95 or ())) if v is not None]
        made.append(
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
    made.sort(
        key=lambda b: (
            *(b.dataset, b.synthetic, table_key(b.table), not b.signature.usual, -len(b.rows)),
            *(not b.signature.whole, -camera_count(b.signature), str(b.signature)),
        )
    )
    return made


def main_boards(all_boards: Sequence[Board]) -> dict[tuple[str, bool], list[Board]]:
    """The columns of the main board of each data set: its headline tables, or its first table where it has none."""
    by_dataset: dict[tuple[str, bool], dict[str, Board]] = {}
    for board in all_boards:
        if board.signature.usual:
            by_dataset.setdefault((board.dataset, board.synthetic), {}).setdefault(board.table, board)
    return {
        dataset: [board for board in tables.values() if board.headline] or list(tables.values())[:1]
        for dataset, tables in by_dataset.items()
    }


@dataclass(frozen=True)
class Sweep:
    """One table under several groups of cameras: everything else in the signature agrees."""

    dataset: str
    synthetic: bool
    table: str
    title: str
    unit: str
    columns: tuple[Board, ...]
    counts: tuple[int, ...]
    """Cameras of each column."""
    methods: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it measures, whatever the cameras."""
        return measure(self.columns[-1].signature.model_copy(update=ANY_CAMERAS))

    def curves(self) -> dict[str, Curve]:
        """Error against the number of cameras, the mean over groups of one size; {} for fewer than two sizes."""
        known = sorted(set(self.counts))
        if len(known) < 2:
            return {}
        made = {}
        for method in self.methods:
            by_count: dict[int, list[float]] = {count: [] for count in known}
            for count, board in zip(self.counts, self.columns, strict=True):
                row = board.row(method)
                if row is not None and row.score.value is not None:
                    by_count[count].append(row.score.value)
            made[method] = Curve(
                x=[float(count) for count in known],
                y=[sum(values) / len(values) if values else None for values in by_count.values()],
                x_label="number of cameras",
                y_label=f"{metric_label(self.columns[0].signature)}, {self.unit}",
            )
        return made


def sweeps(all_boards: Sequence[Board]) -> list[Sweep]:
    """Boards that differ in nothing but their views, gathered."""
    groups: dict[tuple[str, ...], list[Board]] = {}
    for board in all_boards:
        rest = str(board.signature.model_copy(update=ANY_CAMERAS))
        groups.setdefault((board.dataset, str(board.synthetic), board.table, rest), []).append(board)
    all_sweeps = []
    for members in groups.values():
        if len(members) < 2:
            continue
        columns = sorted(members, key=lambda b: (b.signature.whole, camera_count(b.signature), b.signature.views))
        methods = dict.fromkeys(row.method for board in reversed(columns) for row in board.rows)
        first = columns[-1]
        all_sweeps.append(
            Sweep(
                *(first.dataset, first.synthetic, first.table, first.title, first.unit),
                columns=tuple(columns),
                counts=tuple(camera_count(board.signature) for board in columns),
                methods=tuple(methods),
            )
        )
    return all_sweeps


def camera_count(signature: Signature) -> int:
    """How many cameras an answer is from, the most of its sets."""
    return max(map(len, signature.cameras))


ANY_CAMERAS = {"cameras": (("any",),), "cameras_of_dataset": 1, "root_cameras": ()}
"""In place of a signature's own: what is left tells two tables apart that differ in more than cameras."""
_ALIGNMENTS = {"root": "root-relative", "none": "absolute", "procrustes": "Procrustes-aligned"}


def measure(signature: Signature) -> str:
    """What a number measures, as a heading: metric, alignment and how many cameras.

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
    """What else a reader has to know to tell two numbers of one name apart; nothing where all is as usual."""
    words = []
    if signature.every > 1:
        words.append(f"every {ordinal(signature.every)} frame")
    if count := len(signature.exclusions):
        words.append(f"without {count} sequence{'s' if count != 1 else ''}")
    if signature.average == "actions":
        words.append("mean of the actions")
    if signature.given:
        words.append(f"true {', '.join(signature.given)} given")
    if signature.trained_on:
        words.append(f"trained on {signature.trained_on}")
    return words


def ordinal(count: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 64th."""
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def metric_label(signature: Signature) -> str:
    """The metric as the field writes it: pa_mpjpe -> PA-MPJPE, pck@150mm -> PCK@150mm, mpjpe<=150mm -> MPJPE≤150mm."""
    name, limit = re.fullmatch(r"([^@<>=]*)(.*)", signature.metric, re.DOTALL).groups()  # type: ignore[union-attr]
    return name.upper().replace("_", "-") + limit.replace("<=", "≤")


Measure = Literal["processor s", "GPU s", "wall s × processes"]
"""What a training's cost is counted in, each under its own name since none can be turned into another: user + system
time; wall time × GPUs; wall time × processes where a file holds neither, which grows with whatever else was running."""


@dataclass(frozen=True)
class Cost:
    """Training behind a method. Where it and the trainings it starts from were measured differently there is no sum."""

    own_s: float | None
    total_s: float | None
    """With the trainings it starts from."""
    measure: Measure | None
    """Of its own training, or where it has none of what it starts from; None where nothing was trained."""
    parameters: int | None
    chain: tuple[str, ...]
    hardware: tuple[str, ...]
    """Of all these trainings."""


def cost(training: Mapping[tuple[str, str], TrainingFile], dataset: str, method: str) -> Cost:
    """Seconds of training (mean over seeds) and parameters of a method, following ``after`` back to its start."""
    first = training.get((dataset, method))
    if first is None:
        return Cost(None, None, None, None, (), ())
    chain: list[str] = []
    hardware: dict[str, None] = {}
    measures: list[Measure] = []
    total = 0.0
    name: str | None = method
    while name is not None and name not in chain:
        chain.append(name)
        file = training.get((dataset, name))
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


def _mean_seconds(file: TrainingFile) -> tuple[Measure, float]:
    """Over the seeds: they are trained by one command on one machine, and so measured alike."""
    spent = [_spent(run) for run in file.runs]
    return spent[0][0], sum(seconds for _, seconds in spent) / len(spent)


def _spent(run: TrainingRun) -> tuple[Measure, float]:
    if run.processor_seconds is not None:
        return "processor s", run.processor_seconds
    if run.gpu_seconds is not None:
        return "GPU s", run.gpu_seconds
    return "wall s × processes", run.seconds * run.processes


def measure_of(costs: Iterable[Cost]) -> Measure | None:
    """What most of these costs are counted in, the first of equals; None where nothing was trained."""
    counts = Counter(cost.measure for cost in costs if cost.measure is not None)
    return counts.most_common(1)[0][0] if counts else None


@dataclass(frozen=True)
class PaperTable:
    """A published table with ours beside it."""

    table: PublishedTable
    columns: tuple[str, ...]
    ours: tuple[Board, ...]
    """One board a data set that has this table."""
    extra: tuple[str, ...]
    """Methods of ours that the paper has no row for."""
    absent: str
    """Why ours are absent; empty where they are not, and for readings that no run of ours repeats."""

    @property
    def numbered(self) -> bool:
        """Whether it is a table or figure of a paper (T1, F2) rather than a collection of readings."""
        return _is_numbered(self.table.id)

    def cells(self, row: PublishedRow | None, method: str | None = None) -> list[Row | None]:
        """Our row for each board of ``ours``."""
        name = row.method if row is not None else method
        return [board.row(name) if name else None for board in self.ours]


def paper_tables(results: Results, all_boards: Sequence[Board]) -> list[PaperTable]:
    """Every published table with our boards of the same id."""
    made = []
    for table in results.published:
        ours: dict[tuple[str, bool], Board] = {}
        for board in all_boards:
            if board.published == table.id and board.signature.usual:
                ours.setdefault((board.dataset, board.synthetic), board)
        named = {row.method for row in table.rows}
        extra = dict.fromkeys(row.method for board in ours.values() for row in board.rows if row.method not in named)
        columns = dict.fromkeys([*table.sources, *(column for row in table.rows for column in row.values)])
        made.append(
            PaperTable(
                table=table,
                columns=tuple(c for c in columns if any(c in row.values for row in table.rows)),
                ours=tuple(ours.values()),
                extra=tuple(extra),
                absent=_why_absent(table, results) if not ours and _is_numbered(table.id) else "",
            )
        )
    return made


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
    """One crop with both skeletons as SVG paths in crop pixels."""

    view: str
    image: str
    predicted: str
    truth: str
    predicted_joints: tuple[tuple[str, str], ...]
    missing: bool


@dataclass(frozen=True)
class Example:
    """One sample of the examples file: its place by error, and every view drawn."""

    place: str
    key: str
    error_mm: float
    side_px: int
    overlays: tuple[Overlay, ...]


def pick_examples(error_mm: Sequence[float] | np.ndarray) -> list[tuple[str, int]]:
    """Best, median and worst by error, each sample once; samples without an error count as worst."""
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
    """Both skeletons of one view."""
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
    """What a method may see, as its score file records it, in words; a fact that is not recorded is left out."""
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
    return facts


def compared_speed(file: SpeedFile) -> str:
    """A timing in words: "5.0 times as fast as the peer. Aimed at: at least 3 times as fast; reached"."""
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
    """What else was measured, each with its unit: "largest difference 4.97e-09 mm"."""
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
    """Known commits the results come from, with their dirty flag and how many results each made, most first."""
    made = [file.provenance for file in files]
    counts = Counter((one.git_commit, bool(one.git_dirty)) for one in made if one.git_commit is not None)
    return [(commit, dirty, count) for (commit, dirty), count in counts.most_common()]
