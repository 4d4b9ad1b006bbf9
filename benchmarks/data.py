"""The data stage: render the synthetic world where no real tree is given, and record what there is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poseboard.benchmarks.progress import progress
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.catalog import Entry, catalog, open_dataset
from poseboard.datasets.errors import InputError, validated
from poseboard.datasets.sample import Dataset, Status
from poseboard.datasets.synthetic.human36m import WorldOptions, generate
from poseboard.protocols.scores import DataFile


def render(options: Mapping[str, Any], root: Path, processes: int | None = None) -> str:
    """Write the synthetic world with a progress bar; a whole one of the same options is left as it is.

    Args:
        options: fields of WorldOptions.
        root: folder of the tree.
        processes: that render; None for as many as there are cores.

    Returns:
        The manifest's hash.

    Raises:
        InputError: an option is unknown or wrong.
    """
    world = validated(WorldOptions, options, "world")
    with progress(f"render {root.name}") as report:
        return generate(world, root, processes or os.cpu_count() or 1, report)


def prepare(settings: Settings, dataset: str) -> DataFile:
    """Make a data set ready and write results/<profile>/data/<dataset>.json; absence is a state, not an error."""
    given = settings.dataset_options(dataset)
    target = settings.file("data", dataset + ".json")
    if settings.is_absent(dataset) and dataset in catalog():
        record = _absent(catalog()[dataset])
        record.write(target)
        return record
    root = settings.root(dataset)
    if given.get("root") is None:
        render(settings.profile.world, root)
    opened = open_dataset(dataset, {**given, "root": root})
    status = opened.status()
    usable = status.state != "missing"
    pictures = []
    sheet = target.with_name(f"{dataset}-contact-sheet.png")
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.unlink(missing_ok=True)
    if (root / "contact_sheet.png").is_file():
        shutil.copyfile(root / "contact_sheet.png", sheet)
        pictures.append(sheet.name)
    record = DataFile(
        dataset=dataset,
        synthetic=opened.synthetic,
        state=status.state,
        detail=settings.portable(status.detail),
        obtain=status.obtain,
        manifest=opened.manifest() if usable else None,
        counts=_counts(opened) if usable else {},
        pictures=pictures,
    )
    record.write(target)
    return record


def open_named(settings: Settings, dataset: str) -> tuple[Status, Dataset | None]:
    """The status of a data set of params.yaml, and the data set itself unless no folder is named for it.

    Raises:
        InputError: params.yaml does not name it, or an option is wrong.
    """
    options = settings.dataset_options(dataset)
    if settings.is_absent(dataset) and dataset in catalog():
        return catalog()[dataset].status(), None
    opened = open_dataset(dataset, {**options, "root": settings.root(dataset)})
    return opened.status(), opened


def record_others(settings: Settings) -> list[DataFile]:
    """Write results/<profile>/catalog/<name>.json for every known data set of which params.yaml names no copy or world.

    The page takes from it why ours are absent beside a published table, and where the data is to be had.
    """
    folder = settings.results / "catalog"
    records = [_absent(entry) for name, entry in catalog().items() if settings.is_absent(name)]
    folder.mkdir(parents=True, exist_ok=True)
    for left in {path.stem for path in folder.glob("*.json")} - {record.dataset for record in records}:
        (folder / f"{left}.json").unlink()
    for record in records:
        record.write(folder / f"{record.dataset}.json")
    return records


def status_lines(settings: Settings) -> list[str]:
    """A line a data set the suite knows: state, title, what is there or where to get it."""
    lines = []
    for name, entry in catalog().items():
        if not settings.is_absent(name):
            root = settings.root(name)
            synthetic = settings.params.datasets[name].get("root") is None
            options = {**settings.params.datasets[name], "root": root}
            status = entry.status() if entry.adapter is None else open_dataset(name, options).status()
            detail = (
                status.detail if status.state != "missing" or not synthetic else "synthetic world, not rendered yet"
            )
            label = " (synthetic world)" if synthetic and status.state == "ready" else ""
        else:
            status = entry.status(None)
            detail, label = status.detail, ""
        lines.append(f"{status.state:8}{name:16}{entry.title}{label}: {detail}")
        if status.state != "ready":
            lines.append(f"{'':24}get it: {status.obtain}")
    return lines


def _absent(entry: Entry) -> DataFile:
    """The record of a data set of which params.yaml names no folder."""
    status = entry.status(None)
    detail = f"{entry.title} ({entry.licence}): {status.detail}"
    return DataFile(
        dataset=entry.name, synthetic=False, state=status.state, detail=detail, obtain=status.obtain, manifest=None
    )


def _counts(dataset: Dataset) -> dict[str, int]:
    counts = {"cameras": len(dataset.views)}
    for split in ("train", "test"):
        try:
            keys = dataset.keys(split)
        except InputError:
            continue
        groups = [dataset.sample(key).group for key in keys]
        counts |= {
            f"{split} samples": len(keys),
            f"{split} subjects": len({group.subject for group in groups}),
            f"{split} sequences": len({(group.subject, group.sequence) for group in groups}),
        }
    return counts
