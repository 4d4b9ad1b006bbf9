"""Paired differences of two results: rows of params.yaml or predictions files.

A difference is B - A on the poses with an error in both results, as in the compare stage
(:mod:`poseboard.protocols.comparison`). Significance is tested as in :mod:`poseboard.protocols.decisions`, with two
exceptions:

* If the spread between trainings is unknown, the compare stage does not test a pair of trained rows. Here the pair is
  tested for these weights only, and ``training`` is "unknown".
* Incomplete results are compared on the poses that both predict. B is never better if it lacks more poses than A.
  The numbers of A and B are over all poses that each predicts, so their difference is not B - A.

Each table is tested at 5 % by itself. Intervals of actions and joints are over subject × sequence only and are not
tested.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from poseboard.benchmarks.plan import Plan
from poseboard.benchmarks.score import read_scored, read_trainings, reference_scores, score_files
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.protocols import bootstrap, predictions
from poseboard.protocols.base import Protocol
from poseboard.protocols.comparison import BySeed, compare, paired_differences, records_by_seed
from poseboard.protocols.decisions import few_groups, judge, trained
from poseboard.protocols.records import PairedDifference, Record, Score, ScoreFile, Signature
from poseboard.protocols.scoring import Scored
from poseboard.protocols.single_person import JOINT_COLUMN, SinglePerson
from poseboard.protocols.table import Table
from poseboard.report.formatting import number, signed

Verdict = Literal["better", "worse", "undecided", "few groups"]
Interval = tuple[float, float]


class EntryDifference(Record):
    """Difference B - A of one action or joint."""

    name: str
    a: float | None = Field(description="number of A")
    b: float | None = Field(description="number of B")
    difference: float | None = Field(description="B - A on common poses; null: fewer than two common groups")
    ci95: Interval | None = Field(description="of the difference, over subject × sequence")
    n_groups: int


class TableDifference(Record):
    """Difference B - A of two scores with equal signatures in one table."""

    dataset: str
    table: str
    title: str
    headline: bool
    signature: Signature
    unit: str
    lower_is_better: bool
    a: float | None = Field(description="number of A, over all of its poses; null: no pose is predicted")
    b: float | None = Field(description="number of B, over all of its poses; null: no pose is predicted")
    difference: float | None = Field(
        description="B - A on common poses; null: fewer than two common groups, or a protocol without intervals"
    )
    ci95: Interval | None = Field(description="of the difference; over trainings, too, if their spread is known")
    n_samples: int = Field(description="common poses or samples")
    n_groups: int = Field(description="common groups, subject × sequence")
    training: str | None = Field(description="source of the spread between trainings (`PairedDifference.training`)")
    verdict: Verdict = Field(description="of B; few groups: not even unanimous groups could decide")
    left_out: tuple[float, float] = Field(description="poses without a prediction per seed, of A and B")
    actions: list[EntryDifference]
    joints: list[EntryDifference]

    @property
    def decided(self) -> bool:
        """Whether B is significantly better or worse than A."""
        return self.verdict in ("better", "worse")


class SignatureDifference(Record):
    """Table in which the scores of A and B have different signatures and are not comparable."""

    dataset: str
    table: str
    facts: dict[str, tuple[str, str]] = Field(description="fact of the signature -> of A, of B")


class Differences(Record):
    """All differences between the results A and B."""

    format: Literal[1] = 1
    a: str
    b: str
    warnings: list[str] = Field(default_factory=list, description="of profiles whose numbers must not be quoted")
    tables: list[TableDifference] = Field(default_factory=list)
    other_signature: list[SignatureDifference] = Field(default_factory=list)
    only_a: list[str] = Field(default_factory=list, description="tables with a number of A only, as dataset/table")
    only_b: list[str] = Field(default_factory=list, description="tables with a number of B only")


@dataclass(frozen=True, eq=False)
class Side:
    """One of two compared results on a data set.

    Args:
        label: name of the row or file, for messages.
        record: score file of the result.
        tables: table -> scores and errors of each pose.
        reference: scores of the same row in a run with several seeds; empty: none.
    """

    label: str
    record: ScoreFile
    tables: Mapping[str, Scored]
    reference: Sequence[Score] = field(default_factory=list)


def differences(
    a: Side, b: Side, tables: Sequence[Table], resamples: int = bootstrap.RESAMPLES
) -> tuple[list[TableDifference], list[SignatureDifference]]:
    """Compare two results on one data set.

    Args:
        a: the first result.
        b: the second result, scored on the same version of the data set.
        tables: tables to compare; tables that A or B lacks are skipped.
        resamples: number of bootstrap resamples.

    Returns:
        Differences of scores with equal signatures, in the order of ``tables``; and the tables without such scores.

    Raises:
        InputError: A and B were scored on different versions of the data set.

    Example:
        >>> [difference.verdict for difference in differences(before, after, tables)[0]]  # doctest: +SKIP
        ['better', 'undecided']
    """
    if a.record.provenance.data_manifest != b.record.provenance.data_manifest:
        raise InputError(
            f"{a.label} and {b.label}",
            f"were scored on different states of data set {a.record.dataset}",
            f"run `poseboard evaluate {a.record.dataset} ROW` again for the older one",
        )
    sides = {"A": a, "B": b}
    learned = [name for name, side in sides.items() if trained(side.record)]
    reference = {name: side.reference for name, side in sides.items() if side.reference}
    common, apart = [], []
    for table in tables:
        if any(table.id not in side.tables for side in sides.values()):
            continue
        scored = {name: side.tables[table.id] for name, side in sides.items()}
        by_signature = {
            name: {str(score.signature): score for score in of_side.scores} for name, of_side in scored.items()
        }
        compared = compare(table, scored, resamples, learned=learned, reference=reference)
        for comparison in compared:
            key = str(comparison.signature)
            scores = {name: of_side[key] for name, of_side in by_signature.items()}
            several = {
                name: score
                for name, of_row in reference.items()
                for score in of_row
                if _is_same_number(score, scores[name])
            }
            unknown = any(pair.training == "unknown" for pair in comparison.pairs)
            # incomplete results are compared on common poses, so both take part
            judged = judge(comparison.model_copy(update={"unranked": []}), scores, several, () if unknown else learned)
            pair = next((_b_minus_a(pair) for pair in judged.pairs), None)
            records = {name: records_by_seed(scored[name], scores[name]) for name in sides}
            difference = _table_difference(a.record.dataset, table.rule(), scores, records, pair, resamples)
            common.append(difference.model_copy(update={"training": "unknown"}) if unknown else difference)
        of_both = by_signature["A"].keys() & by_signature["B"].keys() - {str(one.signature) for one in compared}
        for key in (key for key in by_signature["A"] if key in of_both):
            scores = {name: of_side[key] for name, of_side in by_signature.items()}
            if _lacks_one_number(scores):
                records = {name: records_by_seed(scored[name], scores[name]) for name in sides}
                common.append(_table_difference(a.record.dataset, table.rule(), scores, records, None, resamples))
        if not compared and not by_signature["A"].keys() & by_signature["B"].keys():
            apart.append(_signature_difference(a.record.dataset, table.id, scored))
    return common, apart


def _lacks_one_number(scores: Mapping[str, Score]) -> bool:
    """Whether only one side predicts a pose. Points of a curve are not compared, only the area below it."""
    signature = scores["A"].signature
    is_point = signature.perturbation is not None and not signature.severities
    return not is_point and sum(score.value is None for score in scores.values()) == 1


def _is_same_number(score: Score, other: Score) -> bool:
    return score.table == other.table and str(score.signature) == str(other.signature)


def _b_minus_a(pair: PairedDifference) -> PairedDifference:
    """Pair with its difference as B - A."""
    if pair.a == "B":
        return pair
    low, high = pair.ci95
    return pair.model_copy(update={"a": "B", "b": "A", "difference": -pair.difference, "ci95": (-high, -low)})


def _table_difference(
    dataset: str,
    protocol: Protocol,
    scores: Mapping[str, Score],
    records: Mapping[str, BySeed],
    pair: PairedDifference | None,
    resamples: int,
) -> TableDifference:
    a, b = scores["A"], scores["B"]
    left_out = (a.n_left_out / len(a.seeds), b.n_left_out / len(b.seeds))
    return TableDifference(
        dataset=dataset,
        table=a.table,
        title=a.title,
        headline=a.headline,
        signature=a.signature,
        unit=a.unit,
        lower_is_better=a.lower_is_better,
        a=a.value,
        b=b.value,
        difference=None if pair is None else pair.difference,
        ci95=None if pair is None else pair.ci95,
        n_samples=0 if pair is None else pair.n_samples,
        n_groups=min(a.n_groups, b.n_groups) if pair is None else pair.n_groups,
        training=None if pair is None else pair.training,
        verdict=_verdict(pair, a.lower_is_better, leaves_out_more=left_out[1] > left_out[0]),
        left_out=left_out,
        actions=_entries("action", protocol, scores, records, resamples),
        joints=_entries("joint", protocol, scores, records, resamples),
    )


def _verdict(pair: PairedDifference | None, lower_is_better: bool, *, leaves_out_more: bool) -> Verdict:
    if pair is None:
        return "undecided"
    if few_groups(pair.n_groups):
        return "few groups"
    if not pair.decided:
        return "undecided"
    if (pair.difference < 0) != lower_is_better:
        return "worse"
    return "undecided" if leaves_out_more else "better"


def _entries(
    kind: Literal["action", "joint"],
    protocol: Protocol,
    scores: Mapping[str, Score],
    records: Mapping[str, BySeed],
    resamples: int,
) -> list[EntryDifference]:
    """Differences by action or joint, in the order of A's breakdown; empty if a side has none."""
    of_a, of_b = (scores[name].breakdown.get(kind, {}) for name in ("A", "B"))
    entries = []
    for name in (name for name in of_a if name in of_b):
        selected = {
            side: {seed: _records_of(kind, name, protocol, rows) for seed, rows in by_seed.items()}
            for side, by_seed in records.items()
        }
        known = all(rows is not None for by_seed in selected.values() for rows in by_seed.values())
        pairs = paired_differences(protocol, selected, resamples) if known else []  # type: ignore[arg-type]  # none is None
        pair = next(map(_b_minus_a, pairs), None)
        entries.append(
            EntryDifference(
                name=name,
                a=of_a[name],
                b=of_b[name],
                difference=None if pair is None else pair.difference,
                ci95=None if pair is None else pair.ci95,
                n_groups=0 if pair is None else pair.n_groups,
            )
        )
    return entries


def _records_of(
    kind: Literal["action", "joint"], name: str, protocol: Protocol, rows: pd.DataFrame
) -> pd.DataFrame | None:
    """Records of an action, or all records with the errors of a joint; None if joint errors are not stored."""
    if kind == "action":
        return rows[rows["action"].astype(str) == name].reset_index(drop=True)
    column = f"{JOINT_COLUMN}{name}"
    if not isinstance(protocol, SinglePerson) or column not in rows:
        return None
    return rows.assign(error=protocol.joint_values(rows[column].to_numpy(), rows["missing"].to_numpy(dtype=bool)))


def _signature_difference(dataset: str, table: str, scored: Mapping[str, Scored]) -> SignatureDifference:
    """Facts that differ between the signatures of the first scores of A and B."""
    a, b = (scored[name].scores[0].signature.facts for name in ("A", "B"))
    facts = {
        name: (a.get(name, "-"), b.get(name, "-")) for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)
    }
    return SignatureDifference(dataset=dataset, table=table, facts=facts)


def failures(result: Differences, margin_mm: float = 0.0) -> list[str]:
    """One line per table in which B is significantly worse than A by more than a margin, or lacks more poses.

    Args:
        result: differences of A and B.
        margin_mm: the whole 95 % interval must exceed this margin, in mm. With a margin above 0, only tables in mm or m
            count.

    Example:
        >>> failures(result, 0.5)  # doctest: +SKIP
        ['human36m T1 +1.2 [0.8, 1.7] mm']
    """
    texts = []
    for one in result.tables:
        where = f"{one.dataset} {one.table}"
        if one.left_out[1] > one.left_out[0]:
            texts.append(f"{where} leaves out {one.left_out[1]:g} poses instead of {one.left_out[0]:g}")
        elif one.verdict == "worse" and one.ci95 is not None and one.difference is not None:
            bound = one.ci95[0] if one.lower_is_better else -one.ci95[1]
            in_mm = {"mm": 1.0, "m": 1000.0}.get(one.unit)
            if margin_mm == 0 or (in_mm is not None and bound * in_mm > margin_mm):
                texts.append(f"{where} {_signed(one.difference, one.unit)} {_interval(one.ci95, one.unit)} {one.unit}")
    return texts


WIDTH = 100
"""Maximum width of the printed tables, in characters."""


def lines(result: Differences, named: Sequence[str] = ()) -> list[str]:
    """Differences as lines of text, at most `WIDTH` columns wide.

    Args:
        result: differences of A and B.
        named: ids of tables to list by action and joint; empty: the tables of the main board.

    Example:
        >>> lines(result)[0]  # doctest: +SKIP
        'A  dlt'
    """
    text = [f"A  {result.a}"[:WIDTH], f"B  {result.b}"[:WIDTH], *result.warnings]
    for dataset in dict.fromkeys(one.dataset for one in result.tables):
        of_dataset = [one for one in result.tables if one.dataset == dataset]
        text += ["", _row(dataset, "input", "A", "B", "B - A", "95 % CI", "", "B is")]
        for one in of_dataset:
            numbers = (number(one.a, one.unit), number(one.b, one.unit), _signed(one.difference, one.unit))
            verdict = one.verdict if one.verdict != "undecided" else "incomplete" if any(one.left_out) else ""
            text.append(
                _row(one.table, input_of(one.signature), *numbers, _interval(one.ci95, one.unit), one.unit, verdict)
            )
        text += _left_out_lines(of_dataset)
        for one in of_dataset:
            if one.table in named if named else one.headline and one.signature.usual and one.signature.whole:
                for kind, entries in (("action", one.actions), ("joint", one.joints)):
                    if entries:
                        text += ["", _row(f"{one.table}, {kind}", "", "A", "B", "B - A", "95 % CI", "", "groups")]
                        text += [_entry_row(entry, one.unit) for entry in entries]
    text += ["", *_LEGEND]
    if any(one.training == "unknown" for one in result.tables):
        text.append("The spread between trainings is not known: intervals and verdicts hold for these weights only.")
    for apart in result.other_signature:
        text.append(f"{apart.dataset} {apart.table}: not compared, signatures differ")
        text += [f"  {name}: {a} | {b}" for name, (a, b) in apart.facts.items()]
    for side, only in (("A", result.only_a), ("B", result.only_b)):
        if only:
            text.append(f"only {side}: {', '.join(only)}")
    return [part.rstrip() for line in text for part in fold(line)]


def _left_out_lines(tables: Sequence[TableDifference]) -> list[str]:
    """Numbers of left-out poses, and the tables with these numbers."""
    by_count: dict[tuple[float, float], dict[str, None]] = {}
    for one in tables:
        if any(one.left_out):
            by_count.setdefault(one.left_out, {})[one.table] = None
    text = [f"A leaves out {a:g} poses, B {b:g}: {', '.join(names)}" for (a, b), names in by_count.items()]
    if text:
        text.append("There A and B are over all poses that each predicts, B - A is over the poses of both.")
    return text


_LEGEND = (
    "B - A on the poses that both predict, 95 % CI over subject x sequence. A verdict needs more than",
    "an interval without 0: a test that allows for the number of groups; few groups: none is possible.",
)


def _row(name: str, shown: str, a: str, b: str, difference: str, ci95: str, unit: str, verdict: str) -> str:
    """One line of a table, at most 100 columns wide."""
    cells = f"{_short(name, 24):<24} {_short(shown, 14):<14} {a:>7} {b:>7} {difference:>8}  {ci95:<18} {unit:<4} "
    return (cells + verdict).replace("–", "-")


def input_of(signature: Signature) -> str:
    """Input of a score in a few words: cameras, perturbation and training data set.

    Example:
        >>> input_of(score.signature)  # doctest: +SKIP
        '2 of 4 noise area'
    """
    views = signature.views
    if not signature.whole and not signature.each_alone:
        views = f"{max(map(len, signature.cameras))} of {signature.cameras_of_dataset}"
        views += f", {len(signature.cameras)} sets" if len(signature.cameras) > 1 else ""
    kind = signature.perturbation
    perturbed = "" if kind is None else f"{kind.kind} {'area' if signature.severities else kind.severity}"
    elsewhere = f"from {signature.trained}" if signature.trained_on is not None else ""
    return " ".join(filter(None, (views, perturbed, elsewhere)))


def _entry_row(entry: EntryDifference, unit: str) -> str:
    numbers = (number(entry.a, unit), number(entry.b, unit), _signed(entry.difference, unit))
    groups = str(entry.n_groups) if entry.n_groups else ""
    return _row(f"  {entry.name}", "", *numbers, _interval(entry.ci95, unit), unit, groups)


def _signed(value: float | None, unit: str) -> str:
    return "-" if value is None else signed(value, unit).replace("−", "-").replace("±", "")


def _interval(ci95: Interval | None, unit: str) -> str:
    return "-" if ci95 is None else f"[{_signed(ci95[0], unit)}, {_signed(ci95[1], unit)}]"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def fold(line: str) -> list[str]:
    """Break a line at `WIDTH` columns; the following lines are indented.

    Example:
        >>> fold("short")
        ['short']
    """
    return (
        [line] if len(line) <= WIDTH else textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    )


@dataclass(frozen=True)
class Source:
    """Source of results: a row of params.yaml or predictions files.

    Args:
        name: name of the row, or method in the metadata of the files.
        files: predictions files; empty for a row.
        datasets: data sets with results.
        label: name of the source in messages.
    """

    name: str
    files: tuple[Path, ...]
    datasets: tuple[str, ...]
    label: str


def find_source(plan: Plan, argument: str) -> Source:
    """Find the row or the predictions files that an argument names. A row takes precedence over a file.

    Args:
        plan: rows and data sets.
        argument: a row, a Parquet file, or a folder of Parquet files of one method.

    Raises:
        InputError: the argument is no row or file, the row has no scores, or the files are from several methods.

    Example:
        >>> find_source(plan, "mine.parquet").datasets  # doctest: +SKIP
        ('human36m',)
    """
    path = Path(argument)
    if argument in plan.rows:
        on = tuple(name for name in plan.params.datasets if plan.layout.row_path("scores", argument, name).is_file())
        if not on:
            where = plan.layout.portable(str(plan.layout.results))
            raise InputError(f"row {argument}", f"has no scores in {where}", f"run `poseboard evaluate {argument}`")
        return Source(argument, (), on, f"row {argument}")
    files = tuple(sorted(path.glob("*.parquet"))) if path.is_dir() else (path,) if path.suffix == ".parquet" else ()
    if not files:
        remedy = f"{did_you_mean(argument, plan.rows)}; or a .parquet file, or two results folders"
        raise InputError(f"{argument!r}", "is neither a row of params.yaml nor a predictions file", remedy)
    infos = [predictions.read(file).info for file in files]
    for file, info in zip(files, infos, strict=True):
        for name in ("method", "dataset"):
            if getattr(info, name) != (first := getattr(infos[0], name)):
                problem = f"is {getattr(info, name)!r}, that of {files[0]} is {first!r}"
                raise InputError(f"{file}: metadata.{name}", problem, "compare files of one method and data set")
    return Source(infos[0].method, files, (infos[0].dataset,), f"{argument} ({infos[0].method})")


def common_datasets(plan: Plan, a: Source, b: Source, dataset: str | None) -> list[str]:
    """Data sets on which two sources are compared.

    Args:
        plan: rows and data sets.
        a: the first source.
        b: the second source.
        dataset: name of one data set; None: all on which both sources have results.

    Raises:
        InputError: the data set is unknown, a source has no results on it, or the sources share no data set.

    Example:
        >>> common_datasets(plan, find_source(plan, "dlt"), find_source(plan, "ransac"), None)  # doctest: +SKIP
        ['human36m', 'panoptic']
    """
    if dataset is not None:
        plan.source(dataset)
    common = [name for name in a.datasets if name in b.datasets and dataset in (None, name)]
    if common:
        return common
    for source in (a, b):
        if dataset is not None and dataset not in source.datasets:
            problem = f"has results of {', '.join(source.datasets)}, not of {dataset}"
            raise InputError(source.label, problem, f"choose --dataset {source.datasets[0]}")
    problem = f"are of different data sets: {', '.join(a.datasets)} | {', '.join(b.datasets)}"
    raise InputError(f"{a.label} and {b.label}", problem, "name two results on one data set")


def read_side(plan: Plan, source: Source, dataset: str, tables: Sequence[Table], doubt: Callable[[str], None]) -> Side:
    """Read the scores and errors of a row, or score predictions files.

    Args:
        plan: rows and data sets.
        source: the row or the files.
        dataset: one of its data sets.
        tables: tables to read or to score.
        doubt: called with a warning if a file seems to have a simple mistake (`score_stage`).

    Raises:
        InputError: errors of the row are missing or do not match its scores, or predictions cannot be scored.
        ResultError: a result file does not follow its schema.

    Example:
        >>> read_side(plan, find_source(plan, "dlt"), "human36m", tables, print).record.method  # doctest: +SKIP
        'dlt'
    """
    if source.files:
        run = replace(plan.submission(source.name, dataset), tables=tuple(tables))
        record, scored = score_files(run, source.files, doubt)
        return Side(source.label, record, scored)
    run = plan.run(source.name, dataset)
    record = ScoreFile.read(run.path("scores"))
    wanted = {table.id for table in tables}
    recorded = {name: of_table for name, of_table in read_scored(run, record).items() if name in wanted}
    return Side(source.label, record, recorded, reference_scores(run, record, read_trainings(run.layout, dataset)))


def compare_sources(
    plan: Plan,
    a: str,
    b: str,
    dataset: str | None = None,
    tables: Sequence[str] = (),
    doubt: Callable[[str], None] = lambda line: None,
) -> Differences:
    """Compare two rows or files in all tables that both have.

    Args:
        plan: rows and data sets.
        a: name of a row, or path of a predictions file.
        b: name of a row, or path of a predictions file.
        dataset: name of one data set; None: all on which both have results.
        tables: ids of the tables; empty: all.
        doubt: called with a warning if a file seems to have a simple mistake.

    Raises:
        InputError: a name is unknown, results are missing or of different data, or A and B share no table.

    Example:
        >>> compare_sources(plan, "dlt", "mine.parquet").tables[0].difference  # doctest: +SKIP
        -0.5
    """
    sources = find_source(plan, a), find_source(plan, b)
    names = common_datasets(plan, *sources, dataset)
    on = {name: plan.submission(sources[0].name, name).tables for name in names}
    ids = list(dict.fromkeys(table.id for of_dataset in on.values() for table in of_dataset))
    for table in tables:
        if table not in ids:
            raise InputError(f"--table {table}", f"is not a table on {', '.join(names)}", did_you_mean(table, ids))
    result = Differences(a=sources[0].label, b=sources[1].label)
    for name in names:
        chosen = [table for table in on[name] if not tables or table.id in tables]
        if not chosen:
            continue
        of_a, of_b = (read_side(plan, source, name, chosen, doubt) for source in sources)
        common, apart = differences(of_a, of_b, chosen)
        result.tables += common
        result.other_signature += apart
        result.only_a += [f"{name}/{one}" for one in of_a.tables if one not in of_b.tables]
        result.only_b += [f"{name}/{one}" for one in of_b.tables if one not in of_a.tables]
        warnings = (f"profile {of.record.profile}: {of.record.warning}" for of in (of_a, of_b) if of.record.warning)
        result.warnings += [warning for warning in dict.fromkeys(warnings) if warning not in result.warnings]
    if not result.tables:
        raise InputError(
            f"{result.a} and {result.b}", "have no number of the same table and signature", _remedy(result)
        )
    return result


def _remedy(result: Differences) -> str:
    """Reason why two results are not comparable: the differing facts of their signatures, or their tables."""
    if result.other_signature:
        first = result.other_signature[0]
        facts = ", ".join(f"{name}: {a} | {b}" for name, (a, b) in first.facts.items())
        return f"predict both under the same condition; in {first.table} they differ in {facts}"
    listed = (", ".join(only[:5]) or "none" for only in (result.only_a, result.only_b))
    return "predict both under the same condition; tables of A: {}; of B: {}".format(*listed)
