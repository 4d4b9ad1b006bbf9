"""The results that the pages show, read from results/ and validated."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from poseboard.protocols.decisions import REFERENCE, same_row
from poseboard.protocols.records import (
    ComparisonFile,
    DataFile,
    DrawnPicture,
    PictureFile,
    PublishedTable,
    Record,
    ResultError,
    RigFile,
    RigPlan,
    ScoreFile,
    SpeedFile,
    TrainingFile,
    row_path,
    row_paths,
)

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True, eq=False)
class Examples:
    """Predictions and truth on the crops of the predictions (N samples, V views, J joints, S px).

    Args:
        images: (N, V, S, S, 3) uint8 RGB.
        predicted_px: (N, V, J, 2) in crop pixels; NaN = not predicted.
        truth_px: (N, V, J, 2) in crop pixels; NaN = not annotated.
        edges: (E, 2) joint indices.
        keys: (N,) sample keys.
        error_mm: (N,) root-relative MPJPE; NaN where nothing was predicted.
        views: (V,) camera names.
    """

    images: NDArray[np.uint8]
    predicted_px: NDArray[np.float64]
    truth_px: NDArray[np.float64]
    edges: NDArray[np.int64]
    keys: list[str]
    error_mm: NDArray[np.float64]
    views: list[str]


@dataclass(frozen=True, eq=False)
class Entry:
    """One method on one data set, with its examples, the pictures that it drew, and rigs that it recovered."""

    scores: ScoreFile
    examples: Examples | None
    pictures: tuple[tuple[DrawnPicture, Path], ...] = ()
    rigs: tuple[RigPlan, ...] = ()


@dataclass(frozen=True, eq=False)
class Results:
    """The content of results/ for one profile; what is absent is empty."""

    profile: str
    entries: tuple[Entry, ...]
    comparisons: tuple[ComparisonFile, ...]
    training: dict[tuple[str, str], TrainingFile]
    data: tuple[tuple[DataFile, tuple[Path, ...]], ...]
    catalog: tuple[DataFile, ...]
    """Known data sets that are not part of the run."""
    published: tuple[PublishedTable, ...]
    speed: tuple[SpeedFile, ...]
    """Comparisons that the run of the profile has measured, and the recorded ones of all others."""
    recorded_speed: frozenset[str]
    """Names of those that are recorded."""
    reference: Results | None = None
    """The run with several seeds of the same rows on the same data; None for that run itself."""


def _read_all(kind: type[RecordT], paths: Iterable[Path]) -> list[tuple[Path, RecordT]]:
    return [(path, kind.read(path)) for path in paths]


def _unique(path: Path, key: object, seen: dict[Any, Path]) -> None:
    if key in seen:
        raise ResultError(f"{path}: method, dataset: {key} already stands in {seen[key]}; remove one of the two")
    seen[key] = path


def _same_profile(path: Path, stated: str, profile: str) -> None:
    if stated != profile:
        raise ResultError(f"{path}: profile: says {stated!r} but lies under {profile!r}; run that profile again")


def picture_beside(path: Path, name: str) -> Path:
    """The picture ``name`` in the folder of ``path``; ResultError for a name with a folder or a link to another one."""
    if Path(name).name != name or "\\" in name or Path(name).suffix.lower() not in PICTURE_SUFFIXES:
        kinds = ", ".join(PICTURE_SUFFIXES)
        raise ResultError(f"{path}: pictures: {name!r} is no plain file name ending in {kinds}")
    if (path.parent / name).is_symlink():  # its target may be private, and pages are published
        raise ResultError(f"{path}: pictures: {name!r} is a symbolic link; put the picture itself there")
    return path.parent / name


def _read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file, read without executing code; ResultError names file and array."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names if name in archive}
    except Exception as error:  # zipfile, zlib and numpy raise many types for damaged or hostile files
        raise ResultError(f"{path}: cannot be read ({str(error).splitlines()[0] if str(error) else error!r})") from None
    if lacking := [name for name in names if name not in arrays]:
        raise ResultError(f"{path}: {lacking[0]}: array is missing")
    return arrays


def _require(
    path: Path, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str]
) -> None:
    """ResultError unless every array has its shape and one of its kinds of dtype (default "f")."""
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in kinds.get(name, "f"):
            raise ResultError(f"{path}: {name}: is {array.dtype} {array.shape}, expected shape {shape}")


def read_examples(path: Path) -> Examples:
    """Read an examples file without executing code; ResultError names file and array."""
    arrays = _read_arrays(path, ("images", "predicted_px", "truth_px", "edges", "keys", "error_mm", "views"))
    n, v, s = (*arrays["images"].shape, 0, 0, 0)[:3]
    j = arrays["truth_px"].shape[2] if arrays["truth_px"].ndim == 4 else 0
    shapes = {
        "images": (n, v, s, s, 3),
        "predicted_px": (n, v, j, 2),
        "truth_px": (n, v, j, 2),
        "edges": (arrays["edges"].shape[0] if arrays["edges"].ndim else 0, 2),
        "keys": (n,),
        "error_mm": (n,),
        "views": (v,),
    }
    _require(path, arrays, shapes, {"images": "u", "edges": "iu", "keys": "U", "views": "U"})
    edges = arrays["edges"].astype(np.int64)
    if edges.size and (edges.min() < 0 or edges.max() >= j):
        raise ResultError(f"{path}: edges: name joints outside 0…{j - 1}")
    return Examples(
        images=arrays["images"].astype(np.uint8),
        predicted_px=arrays["predicted_px"].astype(np.float64),
        truth_px=arrays["truth_px"].astype(np.float64),
        edges=edges,
        keys=[str(key) for key in arrays["keys"]],
        error_mm=arrays["error_mm"].astype(np.float64),
        views=[str(view) for view in arrays["views"]],
    )


def read_pictures(path: Path) -> tuple[tuple[DrawnPicture, Path], ...]:
    """The pictures that a method drew for its page, and their files; ResultError names an invalid file."""
    return tuple((drawn, picture_beside(path, drawn.file)) for drawn in PictureFile.read(path).pictures)


def table_key(table: str) -> tuple[int, int, str]:
    """Order of tables: T1 … T10, F1, F2, then ours by name."""
    match = re.fullmatch(r"([TF])(\d+)", table)
    return ("TF".index(match[1]), int(match[2]), "") if match else (2, 0, table)


def read_results(results: Path, profile: str, rows: Mapping[str, Collection[str]] | None = None) -> Results:
    """Read the results of one profile, and those of profile `REFERENCE` for the same rows on the same data.

    Args:
        results: the results/ folder.
        profile: a folder of it.
        rows: row of the run -> data sets that it runs on; other files of the pipeline are ignored. None: all are read.

    Raises:
        ResultError: a file violates its schema, two files are of the same method, or two rows were scored on different
            states of a data set; the message names the file.
    """
    own = _read_profile(results, profile, rows)
    if profile == REFERENCE or not (results / REFERENCE).is_dir():
        return own
    ours = {(entry.scores.dataset, entry.scores.method): entry.scores for entry in own.entries}
    other = _read_profile(results, REFERENCE, {row: {d for d, m in ours if m == row} for _, row in ours})

    def same(file: ScoreFile) -> bool:
        known = ours.get((file.dataset, file.method))
        of_ours, of_other = ({m: t for (d, m), t in r.training.items() if d == file.dataset} for r in (own, other))
        return known is not None and same_row(known, file, of_ours, of_other)

    entries = tuple(Entry(entry.scores, None) for entry in other.entries if same(entry.scores))
    return replace(own, reference=replace(other, entries=entries) if entries else None)


def _read_profile(results: Path, profile: str, rows: Mapping[str, Collection[str]] | None) -> Results:
    root = results / profile
    entries, seen, states = [], dict[Any, Path](), dict[tuple[str, bool], tuple[str, Path]]()
    for path, file in _read_all(ScoreFile, row_paths(root, "scores")):
        if rows is not None and file.source == "pipeline" and file.dataset not in rows.get(file.method, ()):
            continue
        _same_profile(path, file.profile, profile)
        _unique(path, (file.dataset, file.method), seen)
        manifest = file.provenance.data_manifest
        known, other = states.setdefault((file.dataset, file.synthetic), (manifest, path))
        if manifest != known:
            raise ResultError(
                f"{path}: provenance.data_manifest: is of another state of {file.dataset} than {other}; run `dvc repro`"
            )
        examples = row_path(root, "examples", path.parent.name, path.stem)
        of_method = row_path(root, "predictions", path.parent.name, path.stem) / "pictures" / "pictures.json"
        pictures = (examples.with_suffix("") / "pictures.json", of_method)
        rigs = examples.with_suffix("") / "rigs.json"
        entries.append(
            Entry(
                file,
                read_examples(examples) if examples.is_file() else None,
                tuple(picture for index in pictures if index.is_file() for picture in read_pictures(index)),
                tuple(RigFile.read(rigs).plans) if rigs.is_file() else (),
            )
        )
    training, trained = {}, dict[Any, Path]()
    for path, run in _read_all(TrainingFile, row_paths(root, "training")):
        _same_profile(path, run.profile, profile)
        _unique(path, (run.dataset, run.method), trained)
        training[run.dataset, run.method] = run
    comparisons = _read_all(ComparisonFile, sorted(root.glob("comparisons/*.json")))
    for path, comparison in comparisons:
        _same_profile(path, comparison.profile, profile)
    recorded, measured = (
        {file.name: file for _, file in _read_all(SpeedFile, sorted(folder.glob("speed/*.json")))}
        for folder in (results, root)
    )
    speed = recorded | measured
    published = [table for _, table in _read_all(PublishedTable, sorted(results.glob("published/*.yaml")))]
    return Results(
        profile=profile,
        entries=tuple(entries),
        comparisons=tuple(file for _, file in comparisons),
        training=training,
        data=tuple(
            (file, tuple(picture_beside(path, name) for name in file.pictures if file.synthetic))
            for path, file in _read_all(DataFile, sorted(root.glob("data/*.json")))
        ),
        catalog=tuple(file for _, file in _read_all(DataFile, sorted(root.glob("catalog/*.json")))),
        published=tuple(sorted(published, key=lambda table: table_key(table.id))),
        speed=tuple(speed[name] for name in sorted(speed)),
        recorded_speed=frozenset(file.name for file in speed.values() if file in recorded.values()),
    )


def common_commit(files: Iterable[ScoreFile]) -> list[tuple[str, bool, int]]:
    """Known commits of the results, with dirty flag and number of results, that of the newest result first."""
    provenances = sorted((file.provenance for file in files), key=lambda one: one.created, reverse=True)
    counts = Counter((one.git_commit, bool(one.git_dirty)) for one in provenances if one.git_commit is not None)
    return [(commit, dirty, count) for (commit, dirty), count in counts.items()]
