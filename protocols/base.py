"""The contract of a protocol: what it is handed, what it gives back, and how a table names it.

A protocol is one file, ``protocols/<name>.py``, whose class is the file's name in CamelCase; its parameters are its
fields, so the YAML of a table sets them and an unknown one is an error. It states three things that cannot disagree,
because the score stage builds everything else from them:

* ``errors``: one row an evaluated truth pose, the missing ones marked and kept;
* ``estimate``: the number, as a function of how often each group (subject × sequence) counts. All ones give the
  number itself, the bootstrap's multiplicities its interval;
* ``measure``: what exactly that number is.

It knows no table, no file and no set of cameras. Nothing here assumes one person, the world frame or a mean: a protocol
that matches people (AP) or works in a camera's frame implements the same three.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Dataset
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Curve, Measure

Breakdown = dict[str, dict[str, float | None]]


@dataclass(frozen=True, eq=False)
class TruthTable:
    """Annotated people of a split, one a row, in the data set's order.

    Args:
        keys: (N,) str, the sample of each person.
        person: (N,) int32, from 0 within a key.
        joints_mm: (N, J, 3) in the world frame; NaN = not annotated.
        subject: (N,) of the sample's group; categories.
        action: (N,) likewise.
        sequence: (N,) likewise.
        split_keys: every key of the split, those without people and those a table excludes among them.
        skeleton: of the joints.
        dataset: name of the data set.
        split: "train" or "test".
        views: all cameras of the data set in its order.
        manifest: the data set's hash.
        rotations: (N, V, 3, 3) world to camera for each of ``views``, NaN where a camera does not see the sample; None:
            not known, and nothing in a camera's frame can be judged.
        facts: of the split: whose boxes and whose truth; None: not known.
    """

    keys: NDArray[np.object_]
    person: NDArray[np.int32]
    joints_mm: NDArray[np.floating]
    subject: pd.Categorical[Any]
    action: pd.Categorical[Any]
    sequence: pd.Categorical[Any]
    split_keys: NDArray[np.object_]
    skeleton: Skeleton
    dataset: str
    split: str
    views: tuple[str, ...]
    manifest: str
    rotations: NDArray[np.float64] | None = None
    facts: Facts | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def collect(cls, dataset: Dataset, split: str) -> TruthTable:
        """All truth of a split of a data set; InputError if it has none."""
        keys = list(dataset.keys(split))
        truths = [dataset.truth(key).joints_mm for key in keys]
        people = [len(truth) for truth in truths]
        index = {name: v for v, name in enumerate(dataset.views)}
        rotations = np.full((len(keys), len(index), 3, 3), np.nan)
        groups = []
        for of_key, key in zip(rotations, keys, strict=True):
            sample = dataset.sample(key)
            groups.append(sample.group)
            for view in sample.views:
                of_key[index[view.name]] = view.camera.R
        names = np.array(keys, dtype=object)
        none = np.empty((0, len(dataset.skeleton), 3), dtype=np.float32)

        def column(field: str) -> pd.Categorical[Any]:
            return pd.Categorical(np.repeat(np.array([getattr(g, field) for g in groups], dtype=object), people))

        return cls(
            keys=np.repeat(names, people),
            person=np.concatenate([np.arange(n, dtype=np.int32) for n in (*people, 0)]),
            joints_mm=np.concatenate([none, *truths]),
            subject=column("subject"),
            action=column("action"),
            sequence=column("sequence"),
            split_keys=names,
            skeleton=dataset.skeleton,
            dataset=dataset.name,
            split=split,
            views=tuple(dataset.views),
            manifest=dataset.manifest(),
            rotations=rotations if all(n == 1 for n in people) else np.repeat(rotations, people, axis=0),
            facts=dataset.facts(split),
        )

    def take(self, rows: NDArray[np.integer]) -> TruthTable:
        """The table of those rows; the split's keys stay known."""
        return replace(
            self,
            keys=self.keys[rows],
            person=self.person[rows],
            joints_mm=self.joints_mm[rows],
            subject=self.subject[rows],
            action=self.action[rows],
            sequence=self.sequence[rows],
            rotations=None if self.rotations is None else self.rotations[rows],
        )

    @property
    def known(self) -> pd.Index:
        """``split_keys`` as an index, made anew: its hash table is quick to build and large to keep."""
        return pd.Index(self.split_keys, dtype=object)

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """Place of each row's key among ``split_keys``."""
        return np.asarray(self.known.get_indexer(pd.Index(self.keys, dtype=object)), dtype=np.int64)

    def mapped(self, joints: Sequence[str]) -> NDArray[np.floating]:
        """The named joints in that order, (N, len(joints), 3); no copy where they are the skeleton's own."""
        if tuple(joints) == self.skeleton.joints:
            return self.joints_mm
        return self.joints_mm[:, self.skeleton.indices(joints)]


class Protocol(BaseModel, ABC):
    """A way to judge predictions; its parameters are its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever the same predictions would get another number."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Further columns of the predictions that it needs; predictions without them have no score in its tables."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Of the number: mm, %."""

    @property
    def lower_is_better(self) -> bool:
        """Which way is better."""
        return True

    @abstractmethod
    def measure(self, skeleton: Skeleton) -> Measure:
        """What the number is, on poses of a joint set, whatever the rows were shown."""

    @abstractmethod
    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row an evaluated truth pose.

        Columns every protocol has: key, person, subject, action, sequence, ``error`` (this pose's number in ``unit``,
        NaN where a missing pose has none) and ``missing`` (bool). More columns are the protocol's own.

        Raises:
            InputError: predictions that this protocol cannot judge.
        """

    @abstractmethod
    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The number under each row of ``multiplicity``.

        Args:
            table: rows of :meth:`errors` of one seed.
            codes: (N,) group of each row, in [0, G).
            multiplicity: (R, G) how often each group counts.

        Returns:
            (R,) in ``unit``; NaN where nothing can be said.
        """

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """The number by action and by subject: the estimate where only one of them counts. A protocol may add more."""
        return {field: self.by(field, table) for field in ("action", "subject")}

    def by(self, column: str, table: pd.DataFrame) -> dict[str, float | None]:
        """The number for each entry of a column of ``table``: the estimate where only its rows count."""
        codes, names = pd.factorize(table[column], sort=True)
        values = self.estimate(table, codes, np.eye(len(names))) if len(names) else np.empty(0)
        return {
            str(name): float(value) if np.isfinite(value) else None for name, value in zip(names, values, strict=True)
        }

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """Lines to plot from the rows of one or several seeds; default none."""
        return {}

    def summarise(self, table: pd.DataFrame) -> float | None:
        """The number of ``table`` (rows of one seed); None where nothing was predicted."""
        value = self.estimate(table, np.zeros(len(table), dtype=np.int64), np.ones((1, 1)))[0]
        return float(value) if np.isfinite(value) else None


def find_protocol(name: str, parameters: Mapping[str, Any], where: str) -> Protocol:
    """The protocol of protocols/<name>.py with its parameters; InputError names ``where`` and what is wrong."""
    module_name = f"poseboard.protocols.{name}"
    class_name = "".join(part.capitalize() for part in name.split("_"))
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise InputError(f"{where}: protocol", f"there is no protocol {name!r}", "see protocols/") from None
    except AttributeError:
        raise InputError(f"{where}: protocol", f"{module_name} has no {class_name}", "see protocols/base.py") from None
    if not (isinstance(kind, type) and issubclass(kind, Protocol)):
        raise InputError(f"{where}: protocol", f"{name!r} is no protocol", "see protocols/base.py")
    try:
        protocol: Protocol = kind.model_validate(dict(parameters))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        known = ", ".join(kind.model_fields)
        raise InputError(f"{where}: parameters.{field}", first["msg"].lower(), f"parameters: {known}") from None
    return protocol
