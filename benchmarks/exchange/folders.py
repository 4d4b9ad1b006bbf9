"""Changes between two results folders: results/<profile> of two commits or two machines.

Scores and comparisons are compared value by value. Commits, dates, versions, hardware and hashes of checkpoints are
ignored because they differ between machines even if all scores are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue

from poseboard.benchmarks.exchange.differences import fold, input_of
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.protocols.records import (
    ComparisonFile,
    PairedDifference,
    Record,
    Score,
    ScoreFile,
    row_paths,
)
from poseboard.report.formatting import number, signed

_PROVENANCE = ("options", "data_manifest", "seeds", "weights")
"""Fields of the provenance that are compared."""


class Change(Record):
    """One value that differs between two results folders, A and B."""

    dataset: str
    row: str = Field(description="row, or both rows of a pair as `a - b`")
    table: str = Field(description="empty: the whole file of the row")
    input: str = Field(default="", description="cameras, perturbation and training data of the number")
    unit: str = ""
    field: str = Field(description="field of the file, such as value or breakdown.joint.nose")
    old: JsonValue = Field(description="in A; null: absent")
    new: JsonValue = Field(description="in B; null: absent")

    @property
    def words(self) -> str:
        """Text of the change: field, old value, new value, difference."""
        return f"{self.field} {_value(self.old, self.unit)} -> {_value(self.new, self.unit)}{self.step}"

    @property
    def step(self) -> str:
        """Difference of two numbers with its unit; empty for other values."""
        if isinstance(self.old, int | float) and isinstance(self.new, int | float) and not isinstance(self.new, bool):
            return (
                f" ({signed(self.new - self.old, self.unit).replace('−', '-')}{f' {self.unit}' if self.unit else ''})"
            )
        return ""


class SignatureChange(Record):
    """Score whose signature differs between two results folders."""

    dataset: str
    row: str
    table: str
    facts: dict[str, tuple[str, str]] = Field(description="fact of the signature -> in A, in B")


class FolderChanges(Record):
    """All differences between two results folders, A and B."""

    format: Literal[1] = 1
    a: str
    b: str
    files: tuple[int, int] = Field(description="number of score files in A and B")
    added: list[str] = Field(default_factory=list, description="dataset/row, dataset/row/table or dataset/comparisons")
    gone: list[str] = Field(default_factory=list, description="likewise, only in A")
    signatures: list[SignatureChange] = Field(default_factory=list)
    changes: list[Change] = Field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether the folders have equal results."""
        return not (self.added or self.gone or self.signatures or self.changes)


def is_results_folder(path: Path) -> bool:
    """Whether a path is a results folder, which has a folder of scores."""
    return (path / "scores").is_dir()


def compare_folders(a: Path, b: Path, dataset: str | None = None, tables: Sequence[str] = ()) -> FolderChanges:
    """Compare two results folders.

    Args:
        a: results/<profile> before.
        b: results/<profile> after.
        dataset: data set to compare; None: all.
        tables: ids of the tables to compare; empty: all.

    Raises:
        InputError: a folder has no scores, or neither folder has scores on the data set or in a table.
        ResultError: a file does not follow its schema.

    Example:
        >>> compare_folders(Path("before"), Path("after")).is_equal  # doctest: +SKIP
        True
    """
    for folder in (a, b):
        if not is_results_folder(folder):
            inside = [
                path.parent for pattern in ("*/scores", "results/*/scores") for path in sorted(folder.glob(pattern))
            ]
            remedy = f"name {inside[0]}" if inside else "name a folder results/<profile>"
            raise InputError(folder, "is not a results folder: it has no scores/", remedy)
    names = {path.stem for folder in (a, b) for path in row_paths(folder, "scores")}
    if dataset is not None and dataset not in names:
        raise InputError(f"--dataset {dataset}", "has no scores in either folder", did_you_mean(dataset, sorted(names)))
    of_a, of_b = (_scores(folder, dataset) for folder in (a, b))
    ids = {score.table for files in (of_a, of_b) for file in files.values() for score in file.scores}
    for table in tables:
        if table not in ids:
            raise InputError(f"--table {table}", "has no scores in either folder", did_you_mean(table, sorted(ids)))
    result = FolderChanges(a=str(a), b=str(b), files=(len(of_a), len(of_b)))
    result.added += ["/".join(key) for key in of_b if key not in of_a]
    result.gone += ["/".join(key) for key in of_a if key not in of_b]
    for key, old in of_a.items():
        if (new := of_b.get(key)) is not None:
            compare_files(result, key, old, new, tables)
    both = _comparisons(a, dataset), _comparisons(b, dataset)
    result.added += [f"{name}/comparisons" for name in both[1] if name not in both[0]]
    result.gone += [f"{name}/comparisons" for name in both[0] if name not in both[1]]
    rows = {name: {row for of, row in of_a.keys() & of_b.keys() if of == name} for name, _ in of_a}
    for name, of_before in both[0].items():
        if (of_after := both[1].get(name)) is not None:
            result.changes += _comparison_changes(of_before, of_after, rows.get(name, set()), tables)
    return result


def _scores(folder: Path, dataset: str | None) -> dict[tuple[str, str], ScoreFile]:
    """Data set and row -> scores."""
    paths = [path for path in row_paths(folder, "scores") if dataset in (None, path.stem)]
    return {(path.stem, path.parent.name): ScoreFile.read(path) for path in paths}


def _comparisons(folder: Path, dataset: str | None) -> dict[str, ComparisonFile]:
    paths = [path for path in sorted(folder.glob("comparisons/*.json")) if dataset in (None, path.stem)]
    return {path.stem: ComparisonFile.read(path) for path in paths}


def compare_files(
    result: FolderChanges, key: tuple[str, str], old: ScoreFile, new: ScoreFile, tables: Sequence[str]
) -> None:
    """Compare two score files of one row on one data set, and add their differences to ``result``.

    Args:
        result: differences of two folders; the changes are added to it.
        key: (data set, row).
        old: score file in folder A.
        new: score file in folder B.
        tables: ids of the tables to compare; empty: all.

    Example:
        >>> compare_files(result, ("human36m", "dlt"), before, after, ["T1"])  # doctest: +SKIP
    """
    dataset, row = key
    for field, values in _changed(_facts(old), _facts(new)):
        result.changes.append(Change(dataset=dataset, row=row, table="", field=field, old=values[0], new=values[1]))
    for table in dict.fromkeys(score.table for file in (old, new) for score in file.scores):
        if tables and table not in tables:
            continue
        before, after = ([score for score in file.scores if score.table == table] for file in (old, new))
        pairs, only_old, only_new = _matched(before, after)
        for x, y in pairs:
            if x.signature != y.signature:
                facts = [score.signature.facts for score in (x, y)]
                differing = {
                    name: (facts[0].get(name, "-"), facts[1].get(name, "-"))
                    for name in dict.fromkeys([*facts[0], *facts[1]])
                    if facts[0].get(name) != facts[1].get(name)
                }
                result.signatures.append(SignatureChange(dataset=dataset, row=row, table=table, facts=differing))
            common = {"dataset": dataset, "row": row, "table": table, "input": input_of(y.signature)}
            for field, values in _changed(*(_values(score) for score in (x, y))):
                unit = y.unit if _has_unit(field) else ""
                result.changes.append(Change(**common, unit=unit, field=field, old=values[0], new=values[1]))
        result.gone += [f"{dataset}/{row}/{table} ({input_of(score.signature)})" for score in only_old]
        result.added += [f"{dataset}/{row}/{table} ({input_of(score.signature)})" for score in only_new]


def _facts(file: ScoreFile) -> Mapping[str, Any]:
    values = file.model_dump(mode="json", exclude={"scores", "provenance"})
    return values | file.provenance.model_dump(mode="json", include=set(_PROVENANCE))


def _values(score: Score) -> Mapping[str, Any]:
    return score.model_dump(mode="json", exclude={"signature", "table", "group"})


_WITH_UNIT = ("value", "ci95", "ci95_groups", "seeds", "over_cameras", "difference", "training_sd")


def _has_unit(field: str) -> bool:
    """Whether a field has the unit of the score."""
    first, _, rest = field.partition(".")
    return first in _WITH_UNIT or (first == "breakdown" and rest.startswith(("action.", "subject.", "joint.")))


def _matched(
    before: Sequence[Score], after: Sequence[Score]
) -> tuple[list[tuple[Score, Score]], list[Score], list[Score]]:
    """Pair the scores of one table by signature, then by group; also return the unpaired scores of each side."""
    by_signature = {str(score.signature): score for score in after}
    pairs = [(score, by_signature[key]) for score in before if (key := str(score.signature)) in by_signature]
    first, second = ({id(pair[side]) for pair in pairs} for side in (0, 1))
    left = {score.group: score for score in after if id(score) not in second}
    apart = [(score, left.pop(score.group)) for score in before if id(score) not in first and score.group in left]
    paired = first | {id(score) for score, _ in apart}
    return pairs + apart, [score for score in before if id(score) not in paired], list(left.values())


def _changed(old: Any, new: Any) -> list[tuple[str, tuple[JsonValue, JsonValue]]]:
    """Fields with different values: (field, (old, new))."""
    a, b = dict(_leaves(old)), dict(_leaves(new))
    return [(field, (a.get(field), b.get(field))) for field in dict.fromkeys([*a, *b]) if a.get(field) != b.get(field)]


def _leaves(value: Any, field: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Path and value of each number, text or flag in a JSON value; entries of seeds are named by their seed."""
    items: list[tuple[str, Any]]
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and all(isinstance(each, dict) and {"seed", "value"} == set(each) for each in value):
        items = [(str(each["seed"]), each["value"]) for each in value]
    elif isinstance(value, list):
        items = [(str(place), each) for place, each in enumerate(value)]
    else:
        yield field, value
        return
    for name, each in items:
        yield from _leaves(each, f"{field}.{name}" if field else name)


def _comparison_changes(
    old: ComparisonFile, new: ComparisonFile, rows: set[str], tables: Sequence[str]
) -> Iterator[Change]:
    """Changes of pairs, ranks and increases over a control, for rows that both folders have."""
    before, after = (_of_comparisons(file, rows) for file in (old, new))
    for key in dict.fromkeys([*before, *after]):
        (table, _, row), shown, unit = key, *(after.get(key) or before[key])[1:]
        if tables and table not in tables:
            continue
        values = (of[key][0] if key in of else {} for of in (before, after))
        for field, (was, becomes) in _changed(*values):
            yield Change(
                dataset=new.dataset,
                row=row,
                table=table,
                input=shown,
                unit=unit if _has_unit(field) else "",
                field=f"comparison.{field}",
                old=was,
                new=becomes,
            )


def _of_comparisons(
    file: ComparisonFile, rows: set[str]
) -> dict[tuple[str, str, str], tuple[dict[str, Any], str, str]]:
    """Map (table, signature, name of a pair or row) to its values, input and unit."""
    values: dict[tuple[str, str, str], tuple[dict[str, Any], str, str]] = {}
    for each in file.tables:
        key, shown = str(each.signature), input_of(each.signature)
        for pair in map(_in_order, each.pairs):
            if {pair.a, pair.b} <= rows:
                of_pair = pair.model_dump(mode="json", exclude={"a", "b"})
                values[each.table, key, f"{pair.a} - {pair.b}"] = of_pair, shown, each.unit
        for rank in each.ranks:
            if rank.method in rows:
                of_rank = {"rank": rank.rank, "rank_ci95": list(rank.ci95)}
                values[each.table, key, rank.method] = of_rank, shown, each.unit
    for control in file.controls:
        key, shown = f"{control.control}|{control.signature}", input_of(control.signature)
        for one in control.increases:
            if one.method in rows:
                of_row = {"increase": one.model_dump(mode="json", exclude={"method"})}
                values[control.table, key, one.method] = of_row, shown, "%"
    return values


def _in_order(pair: PairedDifference) -> PairedDifference:
    """Pair with its rows sorted by name, so that another order of rows is not a change."""
    if pair.a < pair.b:
        return pair

    def turned(interval: tuple[float, float] | None) -> tuple[float, float] | None:
        return None if interval is None else (-interval[1], -interval[0])

    update = {
        "a": pair.b,
        "b": pair.a,
        "difference": -pair.difference,
        "ci95": turned(pair.ci95),
        "ci95_groups": turned(pair.ci95_groups),
        "seeds": [
            seed.model_copy(update={"value": None if seed.value is None else -seed.value}) for seed in pair.seeds
        ],
    }
    return pair.model_copy(update=update)


_COUNTS = ("n_samples", "n_missing", "n_left_out", "n_false", "n_unjudged", "n_groups")


def beyond(result: FolderChanges, margin_mm: float = 0.0) -> int:
    """Number of differences beyond a margin.

    Added, missing or changed rows, tables, signatures, pose counts and facts of files always count. With margin 0 all
    other values count, too. With a margin above 0, a score in mm or m counts if it changed by more than the margin;
    intervals, breakdowns, other figures and comparisons do not count.

    Args:
        result: differences of two folders.
        margin_mm: margin in mm; 0: every difference counts.

    Example:
        >>> beyond(compare_folders(Path("before"), Path("after")), 0.01)  # doctest: +SKIP
        0
    """
    counted = len(result.added) + len(result.gone) + len(result.signatures)
    for change in result.changes:
        in_mm = {"mm": 1.0, "m": 1000.0}.get(change.unit)
        if margin_mm == 0 or not change.table or change.field in _COUNTS:
            counted += 1
        elif change.field == "value":
            if not (isinstance(change.old, float) and isinstance(change.new, float)):
                counted += 1  # a number that came or went
            elif in_mm is not None:
                counted += abs(change.new - change.old) * in_mm > margin_mm
    return counted


def folder_lines(result: FolderChanges) -> list[str]:
    """Changes as text of at most `WIDTH` columns: one line per score, and the number of other changed fields.

    Args:
        result: differences of two folders.

    Example:
        >>> folder_lines(compare_folders(Path("before"), Path("before")))[-1]  # doctest: +SKIP
        'nothing differs'
    """
    text = [f"A  {result.a}: {result.files[0]} score files", f"B  {result.b}: {result.files[1]} score files", ""]
    text += [f"only in A: {name}" for name in result.gone]
    text += [f"only in B: {name}" for name in result.added]
    for signature in result.signatures:
        text.append(f"signature differs: {signature.dataset}/{signature.row}/{signature.table}")
        text += [f"  {name}: {a} -> {b}" for name, (a, b) in signature.facts.items()]
    text += [f"{where}  {', '.join(changes)}" for where, changes in grouped(result).items()]
    if result.is_equal:
        text.append("nothing differs")
    return [part for line in text for part in fold(line)]


def grouped(result: FolderChanges) -> dict[str, list[str]]:
    """Changes by place, "dataset/row/table (input)": the score first, then other fields, counted by kind.

    Args:
        result: differences of two folders.

    Example:
        >>> grouped(result)  # doctest: +SKIP
        {'human36m/dlt/T1 (all 4)': ['value 22.4 -> 22.9 (+0.5 mm)', 'breakdown.joint: 17 changes']}
    """
    by_place: dict[str, dict[str, list[Change]]] = {}
    for change in result.changes:
        place = "/".join(filter(None, (change.dataset, change.row, change.table)))
        place += f" ({change.input})" if change.input else ""
        kind, _, _ = change.field.rpartition(".")
        by_place.setdefault(place, {}).setdefault(kind or change.field, []).append(change)
    return {
        place: [
            changes[0].words if len(changes) == 1 else f"{kind}: {len(changes)} changes"
            for kind, changes in sorted(kinds.items(), key=lambda item: item[0] != "value")
        ]
        for place, kinds in by_place.items()
    }


def _value(value: JsonValue, unit: str) -> str:
    if isinstance(value, float):
        return number(value, unit)
    return "absent" if value is None else str(value)
