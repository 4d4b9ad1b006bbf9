"""The data stage: render synthetic worlds for data sets without a folder, and record the state of each data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poseboard.benchmarks.jobs import Report, progress, workers
from poseboard.benchmarks.layout import Layout
from poseboard.benchmarks.params import PARTIAL
from poseboard.datasets.catalog import Entry, catalog
from poseboard.datasets.contact_sheet import write_contact_sheet
from poseboard.datasets.errors import InputError, validated
from poseboard.datasets.files import write_file
from poseboard.datasets.plausibility import Finding, Labels, check_image, findings
from poseboard.datasets.sample import Dataset, Group, Status, images_sha256, skeleton_of_truth
from poseboard.datasets.synthetic.generation import Extent
from poseboard.protocols.records import DataFile

if TYPE_CHECKING:
    from poseboard.benchmarks.plan import DataSource, Plan

_CHECKED_SAMPLES = 2000
"""Maximum number of samples of a data set that the data stage checks."""
_CHECKED_VIEWS = 5000
"""Maximum number of views in these samples."""
_CHECKED_IMAGES = 100
"""Maximum number of images that the data stage reads to check them."""
_PART = 2000
"""Number of consecutive samples that are checked together when everything is checked."""
_SMALL_WORLD_PX = 20_000_000
"""Pixels of a world that one process renders in a few seconds."""


def render(
    layout: str, options: Mapping[str, Any], root: Path, processes: int | None = None, cluster: str | None = None
) -> str:
    """Render a synthetic world with a progress bar; a complete world with the same options is kept.

    Args:
        layout: name of the data set whose published layout is written.
        options: fields of the layout's WorldOptions.
        root: folder of the world.
        processes: number of rendering processes; None: one per core, or one process for a small world.
        cluster: address of a Dask scheduler whose workers render instead; None: this machine renders.

    Returns:
        Hash of the manifest.

    Raises:
        InputError: the layout or an option is unknown, or the value of an option is wrong.
    """
    if layout not in catalog():
        known = ", ".join(name for name, entry in catalog().items() if entry.layout is not None)
        raise InputError(f"layout {layout!r}", "there is no such layout", f"use one of {known}")
    writer = catalog()[layout].writer()
    chosen = validated(writer.WorldOptions, options, f"world of {layout}")
    with progress(f"render {root.name}") as report, workers(processes or _processes(chosen.extent), cluster):
        return str(writer.generate(chosen, root, report))


def _processes(extent: Extent) -> int:
    """Number of rendering processes: one per core, or one if starting them takes longer than rendering."""
    return (os.cpu_count() or 1) if extent.shots * extent.pixels > _SMALL_WORLD_PX else 1


def prepare(source: DataSource, layout: Layout, cluster: str | None = None) -> DataFile:
    """Prepare a data set and write results/<profile>/data/<dataset>.json with a contact sheet.

    A data set without a folder is recorded as missing; this is not an error. If git already has the record of a real
    data set that is missing here, the record is kept.

    Raises:
        InputError: the folder in params.yaml does not exist, files are missing without ``partial: true``, or the labels
            are impossible for people.
    """
    target = layout.dataset_file("data", source.name)
    sheet = target.with_name(f"{source.name}-contact-sheet.png")
    if source.world is not None and source.root is not None:
        render(source.name, source.world, source.root, cluster=cluster)
    status, opened = open_named(source, layout)
    target.parent.mkdir(parents=True, exist_ok=True)
    if opened is None:
        if target.is_file() and (recorded := DataFile.read(target)).state == "ready" and not recorded.synthetic:
            return recorded
        record = _absent(source.name, source.entry, status)
        sheet.unlink(missing_ok=True)
    else:
        warnings = check_data(opened, layout.portable(str(source.root)), f"poseboard data check {source.name}")
        groups = {split: _groups(opened, split) for split in opened.splits}
        write_contact_sheet(
            opened, {key: group for of_split in groups.values() for key, group in of_split.items()}, sheet
        )
        record = DataFile(
            dataset=source.name,
            synthetic=opened.synthetic,
            state=status.state,
            detail=layout.portable(status.detail),
            obtain=status.obtain,
            manifest=opened.manifest(),
            images=images_sha256(opened.sample(key) for of_split in groups.values() for key in of_split),
            counts=_counts(opened, groups),
            pictures=[sheet.name],
            warnings=warnings,
        )
    record.write(target)
    return record


def check_data(dataset: Dataset, where: str, command: str) -> list[str]:
    """Check the plausibility of up to 2000 samples (`datasets.plausibility`).

    Args:
        dataset: data set with or without ground truth.
        where: folder of the data set, for the error message.
        command: command that checks all samples, for the error message.

    Returns:
        Texts of the warnings; one for those of a field and a remedy, with their count.

    Raises:
        InputError: a sample has an impossible value; the message has the first one and its remedy.
    """
    rng = np.random.default_rng(0)
    found: list[tuple[str, Finding]] = []
    for split in dataset.splits:
        keys = dataset.keys(split)
        if not len(keys):
            continue
        views = max(len(dataset.sample(keys[0]).views), 1)
        most = min(_CHECKED_SAMPLES, _CHECKED_VIEWS // views) // len(dataset.splits)
        stride = -(-len(keys) // max(most, 1))
        chosen = keys[int(rng.integers(min(stride, len(keys)))) :: stride]
        labels = _labels(dataset, split, chosen)
        found += [(split, finding) for _, finding in findings(labels)]
        with_images = [(s.key, view) for s in labels.samples for view in s.views if view.image is not None]
        for place in rng.permutation(len(with_images))[: _CHECKED_IMAGES // len(dataset.splits)]:
            found += [(split, finding) for finding in check_image(*with_images[place])]
    errors = [(split, finding) for split, finding in found if finding.is_error]
    if errors:
        split, first = errors[0]
        more = f"; {len(errors) - 1} more: `{command}` lists all" if len(errors) > 1 else ""
        place = f"{where}: {split}: {first.key}: {first.field}" if first.key else f"{where}: {split}: {first.field}"
        raise InputError(place, first.problem, first.remedy + more)
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for split, finding in found:
        alike.setdefault((split, finding.field, finding.remedy), []).append(finding)
    return [
        f"{split}: {min(same, key=lambda finding: finding.key)}{f' ({len(same) - 1} more)' if len(same) > 1 else ''}"
        for (split, _, _), same in alike.items()
    ]


def check_everything(dataset: Dataset, report: Report) -> dict[str, list[tuple[str, Finding]]]:
    """Check all samples and images of a data set.

    Args:
        dataset: data set with or without ground truth.
        report: called with the number of checked samples and the total number.

    Returns:
        Name of a check -> list of (split, finding). Repeated findings are listed once.
    """
    total = sum(len(dataset.keys(split)) for split in dataset.splits)
    found: dict[str, dict[tuple[str, str, str], Finding]] = {}
    done = 0
    for split in dataset.splits:
        keys = dataset.keys(split)
        for start in range(0, len(keys), _PART):
            labels = _labels(dataset, split, keys[start : start + _PART])
            for check, finding in findings(labels):
                found.setdefault(check, {}).setdefault((split, finding.field, finding.remedy), finding)
            for sample in labels.samples:
                for view in sample.views:
                    for finding in check_image(sample.key, view):
                        place = (split, finding.field, sample.key)
                        found.setdefault("images", {}).setdefault(place, finding)
                done += 1
                report(done, total)
    return {name: [(place[0], finding) for place, finding in of.items()] for name, of in found.items()}


def finding_lines(found: Mapping[str, Sequence[tuple[str, Finding]]], most: int = 10) -> Iterator[str]:
    """Findings of `check_everything` as text, errors first: up to ``most`` lines per check, then the total count."""
    for is_error, label in ((True, "error"), (False, "warning")):
        for of_check in found.values():
            alike = [(split, finding) for split, finding in of_check if finding.is_error == is_error]
            yield from (f"{label}: {split}: {finding}" for split, finding in alike[:most])
            if len(alike) > most:
                yield f"{label}: {len(alike) - most} more like the last one"


def _labels(dataset: Dataset, split: str, keys: Sequence[str]) -> Labels:
    samples, truths = [dataset.sample(key) for key in keys], [dataset.truth(key) for key in keys]
    facts, skeleton = dataset.facts(split), skeleton_of_truth(dataset)
    return Labels(samples, truths, skeleton, facts, dataset.skeleton, dataset.views)


def open_named(source: DataSource, layout: Layout) -> tuple[Status, Dataset | None]:
    """Status of a data set of params.yaml, and the opened data set (None: missing).

    Raises:
        InputError: an option is wrong, the folder in params.yaml does not exist, or files are missing without
            ``partial: true``.
    """
    if source.root is None and source.entry is not None:
        default = f"no folder is named for it in params.yaml, and data/{source.name} is not there"
        return replace(source.entry.status(), detail=default), None
    dataset = source.open()
    status, root = dataset.status(), source.root
    if status.state != "ready" and not (status.state == "partial" and source.is_partial) and root is not None:
        where = f"params.yaml: datasets.{source.name}.root" if source.is_named else str(root)
        as_it_is = f", or say `{PARTIAL}: true` there to run on what it has" if status.state == "partial" else ""
        raise InputError(
            where,
            layout.portable(status.detail if root.is_dir() else f"there is no folder {root}"),
            f"complete the folder, or correct or remove its path{as_it_is}; to get the data: {status.obtain}",
        )
    return status, dataset


_CATALOG = "Data sets that the suite knows and params.yaml does not name: one file each, none where it names all.\n"


def record_others(plan: Plan) -> list[DataFile]:
    """Write results/<profile>/catalog/<name>.json for every data set of the catalogue that is not in params.yaml.

    The report uses these files to explain missing results beside a published table and to say how to get the data.
    """
    folder = plan.layout.results / "catalog"
    others = {name: entry for name, entry in _published().items() if name not in plan.params.datasets}
    records = [_absent(name, entry, entry.status()) for name, entry in others.items()]
    folder.mkdir(parents=True, exist_ok=True)
    for left in {path.stem for path in folder.glob("*.json")} - {record.dataset for record in records}:
        (folder / f"{left}.json").unlink()
    for record in records:
        record.write(folder / f"{record.dataset}.json")
    write_file(folder / "README.md", _CATALOG.encode())
    return records


def status_lines(plan: Plan) -> tuple[list[str], bool]:
    """State of every data set of the catalogue and of params.yaml, as text.

    Returns:
        Lines with state, title and content of each data set, and with source and licence if it is not ready; and
        whether any data set is damaged.
    """
    lines, damaged = [], False
    of_params = {name: source.entry for name, source in plan.sources.items()}
    entries = {name: entry for name, entry in {**_published(), **of_params}.items() if entry is not None}
    width = 2 + max(map(len, entries))
    for name, entry in entries.items():
        source = plan.sources.get(name)
        label = ""
        if source is None:
            status = entry.status(None)
            detail = status.detail
        elif source.is_absent:
            status = open_named(source, plan.layout)[0]
            detail = status.detail
        else:
            status, synthetic = source.open().status(), source.world is not None
            is_rendered = status.state != "missing" or not synthetic
            detail = status.detail if is_rendered else "synthetic world, not rendered yet"
            label = " (synthetic world)" if synthetic and status.state == "ready" else ""
        damaged |= status.state == "damaged"
        lines.append(f"{status.state:8}{name:{width}}{entry.title}{label}: {detail}")
        if status.state != "ready":
            lines += [f"{'':{8 + width}}{line}" for line in (f"get it: {status.obtain}", f"licence: {entry.licence}")]
    return lines, damaged


def _published() -> dict[str, Entry]:
    """Published data sets of the catalogue, without the formats for users' recordings."""
    return {name: entry for name, entry in catalog().items() if entry.adapter.is_published}


def _absent(name: str, entry: Entry | None, status: Status) -> DataFile:
    """Record of a missing data set."""
    detail = status.detail if entry is None else f"{entry.title} ({entry.licence}): {status.detail}"
    return DataFile(
        dataset=name, synthetic=False, state=status.state, detail=detail, obtain=status.obtain, manifest=None
    )


def _groups(dataset: Dataset, split: str) -> dict[str, Group]:
    """Key -> group of the samples of a split."""
    return {key: dataset.sample(key).group for key in dataset.keys(split)}


def _counts(dataset: Dataset, of_split: Mapping[str, Mapping[str, Group]]) -> dict[str, int]:
    counts = {"cameras": len(dataset.views)}
    for split, groups in of_split.items():
        counts |= {
            f"{split} samples": len(groups),
            f"{split} subjects": len({group.subject for group in groups.values()}),
            f"{split} sequences": len({(group.subject, group.sequence) for group in groups.values()}),
        }
    return counts
