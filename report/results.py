"""Results for the pages, read from results/ and validated."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from poseboard.datasets.errors import InputError
from poseboard.protocols.decisions import REFERENCE, same_row
from poseboard.protocols.records import (
    ComparisonFile,
    CostFile,
    DataFile,
    DrawnPicture,
    PictureFile,
    PublishedTable,
    Record,
    ResultError,
    RigFile,
    RigPlan,
    RunsFile,
    ScoreFile,
    TrainingFile,
    row_path,
    row_paths,
)
from poseboard.protocols.submissions import Submission, read_submission, submission_folders
from poseboard.report.examples import Examples, read_examples

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True, eq=False)
class Entry:
    """Results of one method on one data set: scores, pictures that it drew, and rigs that it recovered."""

    scores: ScoreFile
    pictures: tuple[tuple[DrawnPicture, Path], ...] = ()
    rigs: tuple[RigPlan, ...] = ()


@dataclass(frozen=True, eq=False)
class Results:
    """Content of results/ for one profile; missing files give empty fields."""

    profile: str
    entries: tuple[Entry, ...]
    comparisons: tuple[ComparisonFile, ...]
    examples: Mapping[str, Examples]
    """Data set -> frames that are drawn."""
    training: dict[tuple[str, str], TrainingFile]
    """(data set, row) -> training."""
    data: tuple[tuple[DataFile, tuple[Path, ...]], ...]
    """Data sets of the run, each with its pictures."""
    catalog: tuple[DataFile, ...]
    """Known data sets that are not part of the run."""
    published: tuple[PublishedTable, ...]
    costs: Mapping[str, CostFile] = field(default_factory=dict)
    """Data set -> costs of predictions: those of this run, and recorded ones of the same profile for the others."""
    runs: Mapping[str, str] = field(default_factory=dict)
    """Name of a run in MLflow -> its address on this machine."""
    submissions: Mapping[str, Submission] = field(default_factory=dict)
    """Row -> submission, of those in submissions/ beside results/ that can be read."""
    reference: Results | None = None
    """The run with several seeds of the same rows on the same data; None for this run itself."""


def _read_all(kind: type[RecordT], paths: Iterable[Path]) -> list[tuple[Path, RecordT]]:
    return [(path, kind.read(path)) for path in paths]


def _unique(path: Path, key: object, seen: dict[Any, Path]) -> None:
    if key in seen:
        raise ResultError(f"{path}: method, dataset: {key} is already in {seen[key]}; remove one of the two")
    seen[key] = path


def _same_profile(path: Path, stated: str, profile: str) -> None:
    if stated != profile:
        raise ResultError(f"{path}: profile: is {stated!r}, but the file is under {profile!r}; run that profile again")


def picture_beside(path: Path, name: str) -> Path:
    """Path of the picture ``name`` in the folder of ``path``; raise ResultError for other folders or symbolic links."""
    if Path(name).name != name or "\\" in name or Path(name).suffix.lower() not in PICTURE_SUFFIXES:
        kinds = ", ".join(PICTURE_SUFFIXES)
        raise ResultError(f"{path}: pictures: {name!r} is not a plain file name ending in {kinds}")
    if (path.parent / name).is_symlink():  # its target may be private, and pages are published
        raise ResultError(f"{path}: pictures: {name!r} is a symbolic link; replace it by the picture itself")
    return path.parent / name


def table_key(table: str) -> tuple[int, int, str]:
    """Sort key of a table id: T1 … T10, F1, F2, then our tables by name."""
    match = re.fullmatch(r"([TF])(\d+)", table)
    return ("TF".index(match[1]), int(match[2]), "") if match else (2, 0, table)


def read_results(results: Path, profile: str, rows: Mapping[str, Collection[str]] | None = None) -> Results:
    """Read the results of one profile, and those of profile `REFERENCE` for the same rows on the same data.

    Args:
        results: path of results/.
        profile: name of the profile, a folder in results/.
        rows: row of params.yaml -> its data sets; results of other rows of the pipeline are ignored. None: all rows.

    Raises:
        ResultError: a file violates its schema, two files have the same method, or two rows were scored on different
            versions of a data set; the message names the file.
    """
    own = _read_profile(results, profile, rows)
    if profile == REFERENCE or not (results / REFERENCE).is_dir():
        return own
    scores = {(entry.scores.dataset, entry.scores.method): entry.scores for entry in own.entries}
    other = _read_profile(results, REFERENCE, {row: {d for d, m in scores if m == row} for _, row in scores})

    def same(file: ScoreFile) -> bool:
        of_row = scores.get((file.dataset, file.method))
        ours, theirs = ({m: t for (d, m), t in r.training.items() if d == file.dataset} for r in (own, other))
        return of_row is not None and same_row(of_row, file, ours, theirs)

    entries = tuple(Entry(entry.scores) for entry in other.entries if same(entry.scores))
    return replace(own, reference=replace(other, entries=entries) if entries else None)


def _read_profile(results: Path, profile: str, rows: Mapping[str, Collection[str]] | None) -> Results:
    root = results / profile
    training: dict[tuple[str, str], TrainingFile] = {}
    seen: dict[Any, Path] = {}
    for path, run in _read_all(TrainingFile, row_paths(root, "training")):
        _same_profile(path, run.profile, profile)
        _unique(path, (run.dataset, run.method), seen)
        training[run.dataset, run.method] = run
    comparisons = _read_all(ComparisonFile, sorted(root.glob("comparisons/*.json")))
    for path, comparison in comparisons:
        _same_profile(path, comparison.profile, profile)
    cost_files = _read_all(CostFile, sorted(results.glob("speed/rows/*.json")) + sorted(root.glob("costs/*.json")))
    published = [table for _, table in _read_all(PublishedTable, sorted(results.glob("published/*.yaml")))]
    return Results(
        profile=profile,
        entries=_read_entries(root, profile, rows),
        comparisons=tuple(file for _, file in comparisons),
        examples={path.stem: read_examples(path) for path in sorted(root.glob("comparisons/*.npz"))},
        training=training,
        data=tuple(
            (file, tuple(picture_beside(path, name) for name in file.pictures if file.synthetic))
            for path, file in _read_all(DataFile, sorted(root.glob("data/*.json")))
        ),
        catalog=tuple(file for _, file in _read_all(DataFile, sorted(root.glob("catalog/*.json")))),
        published=tuple(sorted(published, key=lambda table: table_key(table.id))),
        costs={file.dataset: file for _, file in cost_files if file.profile == profile},
        runs=RunsFile.read(root / "mlflow.json").runs if (root / "mlflow.json").is_file() else {},
        submissions=_read_submissions(results.parent),
    )


def _read_submissions(home: Path) -> dict[str, Submission]:
    """Read the submissions by name. Invalid ones are skipped, as in the compare stage, which reports their errors."""
    submissions = {}
    for folder in submission_folders(home):
        with contextlib.suppress(InputError):
            submissions[folder.name] = read_submission(folder)
    return submissions


def _read_entries(root: Path, profile: str, rows: Mapping[str, Collection[str]] | None) -> tuple[Entry, ...]:
    """Read the score files of a profile, with the pictures and rigs of their rows."""
    entries: list[Entry] = []
    seen: dict[Any, Path] = {}
    states: dict[tuple[str, bool], tuple[str, Path]] = {}
    for path, file in _read_all(ScoreFile, row_paths(root, "scores")):
        if rows is not None and file.source == "pipeline" and file.dataset not in rows.get(file.method, ()):
            continue
        _same_profile(path, file.profile, profile)
        _unique(path, (file.dataset, file.method), seen)
        manifest = file.provenance.data_manifest
        first, first_path = states.setdefault((file.dataset, file.synthetic), (manifest, path))
        if manifest != first:
            raise ResultError(
                f"{path}: provenance.data_manifest: differs from that of {first_path}: the two rows were scored on "
                f"different states of {file.dataset}; run `dvc repro`"
            )
        plans = row_path(root, "examples", path.parent.name, path.stem)
        predictions = row_path(root, "predictions", path.parent.name, path.stem)
        indices = (plans / "pictures.json", predictions / "pictures" / "pictures.json")
        rigs = plans / "rigs.json"
        entries.append(
            Entry(
                scores=file,
                pictures=tuple(
                    (drawn, picture_beside(index, drawn.file))
                    for index in indices
                    if index.is_file()
                    for drawn in PictureFile.read(index).pictures
                ),
                rigs=tuple(RigFile.read(rigs).plans) if rigs.is_file() else (),
            )
        )
    return tuple(entries)


def common_commit(files: Iterable[ScoreFile]) -> list[tuple[str, bool, int]]:
    """Commits of the results as (hash, has uncommitted changes, number of results); the most results first."""
    provenances = sorted((file.provenance for file in files), key=lambda provenance: provenance.created, reverse=True)
    counts = Counter((p.git_commit, bool(p.git_dirty)) for p in provenances if p.git_commit is not None)
    return [(commit, dirty, count) for (commit, dirty), count in counts.most_common()]
