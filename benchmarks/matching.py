"""Which data sets a row runs on: those that its `on` names, or every one that fits it and that a table is run on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from poseboard.benchmarks.handover import can_be_taken_apart, taken
from poseboard.benchmarks.harness import Bench
from poseboard.benchmarks.predicting import asked, splits_on
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Dataset
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, Method, find_learner, predicts


@dataclass(frozen=True)
class Place:
    """A data set and a row that may run on it.

    Args:
        dataset: its name in params.yaml.
        left_out: why the row does not run there; empty where it does.
    """

    dataset: str
    left_out: str = ""


def places(settings: Settings, row: str) -> Iterator[Place]:
    """The data sets of a row in the order of params.yaml, those it is left out of among them, with the reason.

    A data set that the row names and that is not there is left out as well: that is a normal run.

    Args:
        settings: params.yaml in one profile.
        row: of it.

    Raises:
        InputError: there is no such row, its class cannot be found, or a data set is there and cannot be read.
    """
    on = settings.on(row)
    for dataset in settings.params.datasets:
        if on is not None and dataset not in on:
            continue
        if settings.is_absent(dataset):
            entry = catalog().get(dataset)
            where = f"; to be had from {entry.obtain}" if entry is not None else ""
            yield Place(dataset, f"no folder is named and data/{dataset} is not there{where}")
        else:
            yield Place(dataset, "" if on is not None else _misfit(settings, row, dataset))


def datasets_of(settings: Settings, row: str) -> list[str]:
    """The data sets that a row runs on in the profile in force."""
    return [place.dataset for place in places(settings, row) if not place.left_out]


def _misfit(settings: Settings, row: str, dataset: str) -> str:
    """Why a row that names no data set does not run on one that is there; empty where it does."""
    after = settings.after(row)
    if after is not None and dataset not in datasets_of(settings, after):
        return f"{after}, whose weights it starts from, does not run on it"
    kind = find_learner(settings.entry(row).spec)
    starting = [settings.on(name) for name, entry in settings.rows.items() if entry.after == row]
    if starting and not predicts(kind) and not any(on is None or dataset in on for on in starting):
        return "no row that starts from it runs on it"
    entry = catalog().get(dataset)
    if entry is None or entry.skeleton is None:
        return "there is no adapter for it"
    try:
        learner = kind(settings.options(row, dataset), entry.skeleton)
    except InputError as error:  # what no data set's joints allow `check_rows` has refused
        return f"{error.where}: {error.problem}"
    return _unshown(settings, dataset, taken(learner.inputs, row)) if isinstance(learner, Method) else ""


def _unshown(settings: Settings, dataset: str, inputs: Inputs) -> str:
    """What a data set that is there cannot show that a method asks for; empty where there is nothing."""
    if not (splits := splits_on(dataset, settings.params.profile)):
        return "no table is run on it"
    if not settings.root(dataset).exists():
        return ""  # a world that is not rendered yet, which the stages will see
    fewest, most = inputs.views
    data = Bench.open(settings, dataset).dataset
    offered = [
        condition
        for split in splits
        for condition in asked(dataset, settings.params.profile, data.views, split, in_world=inputs.extrinsics)
    ]
    if not any(fewest <= len(condition.cameras) <= most for condition in offered):
        return f"it takes {fewest} to {most} views, and no table on it offers that"
    if fewest > 1 and not can_be_taken_apart(data, inputs):
        return "its people are not associated over its views, and the row sees one person at a time"
    first = next((data.sample(key) for split in splits for key in data.keys(split)), None)
    blind = first is not None and all(view.image is None and view.joints_px is None for view in first.views)
    return "it needs images, and there are none" if blind and inputs.images else ""


def shows_people(dataset: Dataset, splits: Iterable[str]) -> bool:
    """Whether any view has a box or a 2D detection, false positives included.

    Args:
        dataset: that is read as far as the first such view.
        splits: of it.
    """
    views = (view for split in splits for key in dataset.keys(split) for view in dataset.sample(key).views)
    return any(len(view.boxes_px) or view.joints_px is not None for view in views)


def check_rows(settings: Settings) -> None:
    """Try the options of every row, so that no command runs beside a typo in another row.

    An option has to suit the joints of one data set that the row may run on. A row whose class cannot be found is left
    to the commands that use it.

    Raises:
        InputError: a row has an option that it does not know, or a wrong value for one.
    """
    known = {name: entry.skeleton for name, entry in catalog().items() if name in settings.params.datasets}
    for row in settings.rows:
        refused = [_refused(settings, row, name, skeleton) for name, skeleton in known.items() if skeleton is not None]
        if refused and all(refused) and (error := refused[0]) is not None:
            raise InputError(f"params.yaml: methods.{row}: {error.where}", error.problem, error.remedy)


def _refused(settings: Settings, row: str, dataset: str, skeleton: Skeleton) -> InputError | None:
    try:
        kind = find_learner(settings.entry(row).spec)
    except InputError:
        return None
    try:
        kind(settings.options(row, dataset), skeleton)
    except InputError as error:
        return error
    return None
