"""What a run will write, in bytes, before it starts.

Crops follow from the data's counts exactly, worlds and checkpoints to a few per cent; the rest is small and assumed per
row and sample. A part that is there already is not written again, so what is to come is what is missing of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from poseboard.benchmarks.data import world
from poseboard.benchmarks.plan import trained_rows, training_records
from poseboard.benchmarks.predicting import splits_on
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.synthetic.generation import Extent
from poseboard.methods.base import find_learner, predicts
from poseboard.methods.sizes import PUBLISHED_CROP_PX, assumed_parameters, crop_px, have_same_recipe
from poseboard.protocols.records import DataFile, ResultError

BLOCK = 4096
"""Bytes that a file system hands out at once: a file takes half of one more than it holds, a folder one."""
WEIGHT_BYTES = 4
STATE_BYTES = 12
"""Per parameter of what resumes a training: the weight and the two moments of Adam."""
SHEET_BYTES = 6_000_000
"""A contact sheet."""
ANSWER_BYTES = 2_500
"""Per row, seed and test sample: predictions under every condition, the errors of every table."""
ROW_BYTES = 2_500_000
"""Per row and seed whatever the number of samples: the headers of those files, and what is drawn of the row."""
PAGE_BYTES = 5_000_000
"""The page with its figures, and the store of MLflow without its runs."""
RUN_BYTES = 100_000
"""Of a run in MLflow with its artifacts."""


@dataclass(frozen=True)
class DiskPart:
    """Something that a run writes.

    Args:
        name: for the reader.
        bytes: estimate of a whole run.
        present: bytes that are there already.
    """

    name: str
    bytes: float
    present: int

    @property
    def to_come(self) -> float:
        """Bytes that the run still has to write."""
        return max(0.0, self.bytes - self.present)


@dataclass(frozen=True)
class _Extent:
    """How much there is of a data set: samples of each split, cameras of a sample."""

    samples: dict[str, int]
    cameras: int

    @property
    def answered(self) -> int:
        """Samples that rows answer: all but those of the training."""
        return sum(self.samples.values()) - self.samples["train"]


def disk_plan(settings: Settings, free: int) -> list[DiskPart]:
    """What a run of the profile in force writes, largest contents first by kind.

    A data set of the user's own whose `data` stage has not run yet is left out: how large it is nobody knows before.

    Args:
        settings: params.yaml in one profile.
        free: bytes free on the disk; crops are not kept where they would fill more than half of it.

    Raises:
        InputError: the options of the world are wrong.
    """
    extents = {name: extent for name in settings.params.datasets if (extent := _extent(settings, name)) is not None}
    rows = {name: of for name, of in trained_rows(settings).items() if name in extents}
    trained = [
        (_parameters(settings, dataset, row), _learns(settings, dataset, row))
        for dataset in rows
        for row in rows[dataset]
    ]
    seeds = len(settings.profile.seeds)
    weights = seeds * sum(n * (WEIGHT_BYTES + STATE_BYTES * learns) for n, learns in trained)
    # A checkpoint that is taken over is one object in the cache.
    distinct = seeds * sum(n * (WEIGHT_BYTES + STATE_BYTES) for n, learns in trained if learns)
    answers = seeds * sum(
        ROW_BYTES + ANSWER_BYTES * extents[dataset].answered
        for dataset in rows
        for row in rows[dataset]
        if predicts(find_learner(settings.entry(row).spec))
    )
    data, results = settings.home / "data", settings.results
    answered = ("predictions", "errors", "examples")
    return [
        DiskPart("synthetic worlds", _world_bytes(settings), _world_present(settings)),
        DiskPart("crops", *_crops(settings, rows, extents, data / "crops", free)),
        DiskPart("checkpoints", weights, size(results / "checkpoints")),
        DiskPart("predictions and errors", answers, sum(size(results / kind) for kind in answered)),
        DiskPart("copies in DVC's cache", distinct + answers, size(settings.home / ".dvc" / "cache")),
        DiskPart(
            "page, contact sheets, MLflow",
            PAGE_BYTES + SHEET_BYTES * len(extents) + RUN_BYTES * seeds * 2 * len(trained),
            size(results / "leaderboard") + size(results / "data") + size(settings.home / "mlruns"),
        ),
    ]


def size(path: Path) -> int:
    """Bytes that a file or a folder takes on the disk; 0 where there is none."""
    if not path.is_dir():
        return path.stat().st_blocks * 512 if path.is_file() else 0
    return sum(p.lstat().st_blocks * 512 for p in (path, *path.rglob("*")))


def image_bytes(side_px: float) -> float:
    """Of a rendered frame as JPEG of quality 92; fitted to worlds of 96 to 1000 px, within 4 % from 192 px on.

    Example:
        >>> round(image_bytes(1000) / 1000)
        209
    """
    return 0.185 * side_px**2 + 23 * side_px + 900


def _extent(settings: Settings, dataset: str) -> _Extent | None:
    """Of a synthetic world by its options, of other data by what the data stage has counted."""
    splits = dict.fromkeys(("train", "test", *splits_on(dataset, settings.params.profile)))
    if (options := world(settings, dataset)) is not None:
        return _Extent({split: options.samples(split) for split in splits}, options.extent.views)
    if settings.is_absent(dataset):
        return None
    try:
        counts = DataFile.read(settings.dataset_file("data", dataset)).counts
    except (ResultError, OSError):
        return None
    return _Extent({split: counts.get(f"{split} samples", 0) for split in splits}, counts.get("cameras", 0))


def _worlds(settings: Settings) -> Iterator[tuple[str, Extent]]:
    for dataset in settings.params.datasets:
        if (options := world(settings, dataset)) is not None:
            yield dataset, options.extent


def _world_bytes(settings: Settings) -> float:
    total = 0.0
    for _, extent in _worlds(settings):
        images = extent.trees * extent.shots
        total += images * (image_bytes(extent.pixels**0.5) + BLOCK / 2) + extent.folders * BLOCK + SHEET_BYTES
    return total


def _world_present(settings: Settings) -> int:
    return sum(size(settings.root(dataset)) for dataset, _ in _worlds(settings))


def _crops(
    settings: Settings, rows: dict[str, list[str]], extents: dict[str, _Extent], folder: Path, free: int
) -> tuple[float, int]:
    """Bytes of the crops of every side that some row sees, and of those that are there."""
    total, present = 0.0, 0
    for dataset, of in rows.items():
        extent = extents[dataset]
        for side in {_crop_px(settings, dataset, row) for row in of}:
            for samples in extent.samples.values():
                needed = samples * extent.cameras * 3 * side**2
                total += needed if 2 * needed <= free else 0
            present += sum(size(path) for path in folder.glob(f"{dataset}-{side}px-*"))
    return total, present


def _crop_px(settings: Settings, dataset: str, row: str) -> int:
    after, own = settings.after(row), crop_px(settings.options(row, dataset))
    if own is not None:
        return own
    return PUBLISHED_CROP_PX if after is None else _crop_px(settings, dataset, after)


def _learns(settings: Settings, dataset: str, row: str) -> bool:
    """Whether a row is trained, as its last record says; one without a record counts as trained."""
    if settings.trained_as(row, dataset) is not None:
        return False
    return settings.weights(row, dataset) is None and all(
        record.runs for _, record in training_records(settings, dataset, row)
    )


def _parameters(settings: Settings, dataset: str, row: str) -> int:
    dataset = settings.trained_as(row, dataset) or dataset
    options = settings.options(row, dataset)
    for _, record in training_records(settings, dataset, row):
        if have_same_recipe(options, record.provenance.options):
            return record.parameters
    return assumed_parameters(options)


def lines(parts: Sequence[DiskPart], free: int) -> Iterator[str]:
    """The parts of a run as a table, and whether they fit.

    Example:
        >>> print(*lines([DiskPart("crops", 2.5e8, 10**8)], 10**9), sep=" | ")
        crops  0.25 GB, 0.10 GB there | disk: about 0.2 GB to come (estimate), 1.0 GB free
    """
    width = max(len(part.name) for part in parts)
    for part in parts:
        yield f"{part.name:{width}}  {part.bytes / 1e9:.2f} GB, {part.present / 1e9:.2f} GB there"
    needed = sum(part.to_come for part in parts)
    fits = "" if needed < free else ": it does not fit"
    yield f"disk: about {needed / 1e9:.1f} GB to come (estimate), {free / 1e9:.1f} GB free{fits}"
