"""The contract of a protocol: what it is handed, what it gives back, and how a table names it.

A protocol is one file, ``protocols/<name>.py``, whose class is the file's name in CamelCase; its parameters are its
fields, so the YAML of a table sets them and an unknown one is an error. It states three things that cannot disagree,
because the score stage builds everything else from them:

* ``errors``: one row an evaluated truth pose, the missing ones marked and kept;
* ``estimate``: the number, as a function of how often each group (subject × sequence) counts. All ones give the
  number itself, the bootstrap's multiplicities its interval;
* ``signature``: what exactly that number is.

Nothing here assumes one person, the world frame or a mean: a protocol that matches people (AP), works in a camera's
frame or runs over several sets of cameras implements the same three.
"""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Dataset
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.scores import Curve, Signature

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

    @property
    @abstractmethod
    def unit(self) -> str:
        """Of the number: mm, %."""

    @property
    def lower_is_better(self) -> bool:
        """Which way is better."""
        return True

    def views(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The sets of cameras that predictions are needed for, each in the data set's order; default: all at once."""
        return [tuple(names)]

    @property
    def pools(self) -> bool:
        """Whether all sets of cameras together give one number, instead of one number a set."""
        return False

    def judges(self, info: PredictionInfo) -> bool:
        """Whether this protocol has anything to say about such predictions; others have no score in its tables."""
        return True

    @abstractmethod
    def signature(self, board: Board, skeleton: Skeleton, views: str) -> Signature:
        """What the number of ``board`` is on predictions from the cameras ``views``."""

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


@dataclass(frozen=True)
class ViewSet:
    """Cameras that predictions are made from, each in the data set's order.

    Args:
        cameras: that a method is handed.
        roots: that a root which is handed over beside them was predicted from.
    """

    cameras: tuple[str, ...]
    roots: tuple[str, ...]

    @property
    def plain(self) -> ViewSet:
        """The same cameras for a method that is handed no root, or one from these cameras."""
        return ViewSet(self.cameras, self.cameras)

    def name(self, names: Sequence[str]) -> str:
        """What the files of its predictions carry, out of all cameras ``names``."""
        own = view_set_name(self.cameras, names)
        return own if self.roots == self.cameras else f"{own}-roots-{view_set_name(self.roots, names)}"


class Board(BaseModel):
    """A table that we run: benchmarks/tables/<id>.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    title: str = Field(min_length=1)
    dataset: str
    split: Literal["train", "test"] = "test"
    views: Literal["all"] | tuple[str, ...] = Field(default="all", description="cameras that are used")
    roots: Literal["seen", "all"] = Field(
        default="seen",
        description="cameras that roots are predicted from which a method is handed: those it sees, all",
    )
    exclude: tuple[str, ...] = Field(default=(), description="prefixes of keys left out: S9/Greeting-2")
    every: int = Field(default=1, ge=1, description="of the rows that are left, every k-th from the first")
    protocol: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    published: str | None = Field(default=None, description="id of the published table it stands beside")
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Board:
        """Parse the YAML of a table and check its protocol's parameters; InputError names file and field."""
        try:
            board = cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            known = ", ".join(cls.model_fields)
            raise InputError(f"{path}: {field}", first["msg"].lower(), f"fields: {known}") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(path, f"table cannot be read ({str(error).splitlines()[0]})", "check the file") from None
        find_protocol(board.protocol, board.parameters, str(path))
        return board

    def rule(self) -> Protocol:
        """The protocol with this table's parameters."""
        return find_protocol(self.protocol, self.parameters, f"table {self.id}")

    def view_sets(self, names: Sequence[str]) -> list[ViewSet]:
        """The sets of cameras that predictions are needed for.

        Args:
            names: all cameras of the data set in its order.

        Raises:
            InputError: the table names a camera that the data set does not have.
        """
        used = tuple(names) if self.views == "all" else self.views
        unknown = [name for name in used if name not in names]
        if unknown:
            raise InputError(f"table {self.id}: views", f"no camera {unknown[0]!r}", f"cameras: {', '.join(names)}")
        return [
            ViewSet(cameras, cameras if self.roots == "seen" else tuple(names)) for cameras in self.rule().views(used)
        ]

    def select(self, truth: TruthTable) -> TruthTable:
        """The rows that this table evaluates: exclusions first, then every k-th, in the data set's order."""
        if not self.exclude and self.every == 1:
            return truth
        keep = np.ones(len(truth), dtype=bool)
        if self.exclude:
            prefixes = tuple(prefix.rstrip("/") + "/" for prefix in self.exclude)
            keep = np.array([not key.startswith(prefixes) for key in truth.keys], dtype=bool)
        return truth.take(np.flatnonzero(keep)[:: self.every])

    @property
    def frame_rule(self) -> str:
        """For the signature."""
        return "all" if self.every == 1 else f"every {self.every} from the first"

    @property
    def exclusions(self) -> str:
        """For the signature."""
        return " ".join(self.exclude) or "none"


def view_set_name(cameras: Sequence[str], names: Sequence[str]) -> str:
    """Name of a set of cameras, the same for the same set: "all", or their names, or a hash where those are long."""
    if set(cameras) == set(names):
        return "all"
    ordered = "+".join(name for name in names if name in set(cameras))
    return ordered if len(ordered) <= 64 else f"{len(cameras)}-{hashlib.sha256(ordered.encode()).hexdigest()[:12]}"


def view_text(sets: Sequence[ViewSet], names: Sequence[str], *, spelt: bool = False) -> str:
    """Sets of cameras, out of all cameras ``names``, as the signature of their one number states them.

    "all" or the cameras' names for one set; "each alone" or "each of …" for the several sets that are pooled; what a
    root was predicted from stands behind a semicolon, where that is another set. ``spelt`` names the cameras where they
    are all as well: for a table that names its own, of a data set that may be read with these alone.
    """

    def text(cameras: Sequence[str]) -> str:
        whole = set(cameras) == set(names) and not spelt
        return "all" if whole else ", ".join(name for name in names if name in set(cameras))

    if len(sets) == 1:
        seen = text(sets[0].cameras)
    elif {view_set.cameras for view_set in sets} == {(name,) for name in names}:
        seen = "each alone"
    else:
        seen = "each of " + " / ".join(text(view_set.cameras) for view_set in sets)
    roots = sorted({text(view_set.roots) for view_set in sets if view_set.roots != view_set.cameras})
    return "; ".join([seen, *(f"root from {source}" for source in roots)])


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
