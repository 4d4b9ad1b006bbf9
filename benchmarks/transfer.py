"""Weights of one data set on another: which rows have them, and how its world stands to that of their training.

A row is neither trained nor fine-tuned for it: `Condition.trained_on` names the data set whose weights it takes as they
are. It answers in the joints of that data set, which are mapped by name. Worlds differ in where up is, which a network
on voxels of the world learns; the hand-over turns the world that is shown to how it stood in training.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from poseboard.benchmarks.handover import Transfer
from poseboard.benchmarks.harness import Bench
from poseboard.benchmarks.provenance import weights_source
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.camera import Array
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.sample import Dataset
from poseboard.protocols.table import Table

LOOKED_AT = 64
"""Samples of a split, evenly strided, whose cameras tell where up is."""


def transfer(bench: Bench, trained_on: str | None) -> Transfer | None:
    """What differs for weights that were trained on another data set; None for those of the data set itself.

    Args:
        bench: the data set that is shown.
        trained_on: see `Condition`.

    Raises:
        InputError: the other data set is not there.
    """
    if trained_on is None:
        return None
    origin = bench.trained(trained_on).dataset
    return Transfer(origin.skeleton, turn_between(upwards(bench.dataset), upwards(origin)))


def upwards(dataset: Dataset) -> Array:
    """The axis of a data set's world (3,) that is nearest to the vertical of its images, with its sign.

    Example: (0, 0, 1) of Human3.6M, (0, -1, 0) of CMU Panoptic.

    Raises:
        InputError: no sample has a view.
    """
    for split in dataset.splits:
        keys = dataset.keys(split)
        samples = map(dataset.sample, keys[:: max(1, len(keys) // LOOKED_AT)])
        down = [view.camera.R[1] for sample in samples for view in sample.views]
        if down:
            mean = np.mean(down, axis=0)
            axis = int(np.abs(mean).argmax())
            return np.asarray(-np.sign(mean[axis]) * np.eye(3)[axis])
    raise InputError(f"data set {dataset.name}", "no sample has a view, which would tell where up is", "complete it")


def turn_between(a: Array, b: Array) -> Array:
    """The rotation (3, 3) that takes one signed axis to another one, about an axis of the world.

    Example:
        >>> turn_between(np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])) @ [0.0, 0.0, 5.0]
        array([ 0., -5.,  0.])
    """
    if (a == b).all():
        return np.eye(3)
    if (a == -b).all():
        about = np.roll(np.abs(a), 1)
        return np.asarray(2 * np.outer(about, about) - np.eye(3))
    about = np.cross(a, b)
    return np.asarray(np.outer(b, a) - np.outer(a, b) + np.outer(about, about))


def check_transfers(tables: Iterable[Table]) -> None:
    """Refuse tables whose weights of another data set cannot answer them.

    Raises:
        InputError: that data set is unknown, the table's own, or has no joint in common with it.
    """
    known = catalog()
    for table in tables:
        for name in dict.fromkeys(group.trained_on for group in table.groups if group.trained_on is not None):
            where = f"table {table.id}: groups.trained_on"
            if name not in known:
                raise InputError(where, f"no data set {name!r}", did_you_mean(name, known))
            if name == table.dataset:
                raise InputError(where, f"{name} is the data set of the table", "leave it out for its own weights")
            entry = known.get(table.dataset)
            skeletons = [None if one is None else one.skeleton for one in (entry, known[name])]
            joints = [set() if skeleton is None else set(skeleton.joints) for skeleton in skeletons]
            if all(joints) and joints[0].isdisjoint(joints[1]):
                remedy = "name a data set with joints of the same names"
                raise InputError(where, f"{name} and {table.dataset} have no joint in common", remedy)


def no_transfer(settings: Settings, dataset: str, row: str, trained_on: str) -> str:
    """Why a row has no number on a data set with its weights of another one; empty where it has.

    Args:
        settings: params.yaml in one profile.
        dataset: that is tested on.
        row: of params.yaml.
        trained_on: the other data set.
    """
    if settings.is_absent(trained_on):
        return f"there is no copy of {trained_on}"
    if trained_on not in settings.may_run(row):
        return f"it does not run on {trained_on}"
    seeds, source = settings.seeds(row, trained_on), weights_source(settings, trained_on, row)
    why = ""
    if source is None or not all(settings.checkpoint(trained_on, row, seed).is_file() for seed in seeds):
        why = f"it has no weights of {trained_on}"
    elif source.training_data is not None:
        why = f"its weights for {trained_on} were not trained on it alone"
    elif seeds != settings.seeds(row, dataset):
        why = f"its weights for {trained_on} are of other seeds"
    elif settings.entry(row).roots:
        why = "it is handed roots of a published file, which are of other weights"
    return why
