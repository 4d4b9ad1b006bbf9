"""The contract of a protocol: its inputs, its results, and how a table names it.

A protocol is one file, ``protocols/<name>.py``, whose class is the file's name in CamelCase; its parameters are its
fields, so the YAML of a table sets them and an unknown one is an error. It states three things that cannot disagree,
because the score stage builds everything else from them:

* ``errors``: one row per record, the missing ones marked and kept;
* ``estimate``: the number, as a function of how often each group (subject × sequence) counts. All ones give the
  number itself, the bootstrap's multiplicities its interval;
* ``measure``: what exactly that number is.

It also declares five things:

* ``records``: whether a record is a true pose or a predicted person. True poses are the same for every method;
* ``paired_on``: what two methods are compared on. Truth poses are paired one by one. Predicted people cannot be:
  methods are then compared on the samples that all of them have a number for, with all their records there;
* ``several_people``: whether it matches several people of a sample;
* ``any_frame``: whether it judges poses in a camera's frame, or only those in the world's. A protocol decides this, not
  the data set and not the method;
* ``points``: the kind of 2D points that it judges by.

It knows no table, no file and no set of cameras. Nothing here assumes one person, the world frame or a mean: a protocol
that matches people (AP) or works in a camera's frame implements the same three.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Dataset, skeleton_of_truth
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import bootstrap
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Curve, Measure
from poseboard.protocols.views import PointsKind, PointsOfSplit, SeenBy, ViewPoints

Breakdown = dict[str, dict[str, float | None]]


@dataclass(frozen=True, eq=False)
class TruthTable:
    """Annotated people of a split, one a row, in the data set's order; and what its views hold.

    Args:
        keys: (N,) str, the sample of each person.
        person: (N,) int32, from 0 within a key.
        joints_mm: (N, J, 3) in the world frame; NaN = not annotated. A person with only 2D annotations is a row of
            NaN.
        subject: (N,) of the sample's group; categories.
        action: (N,) likewise.
        sequence: (N,) likewise.
        split_keys: (S,) every key of the split, those without people and those a table excludes among them.
        skeleton: of the joints; predictions may have another.
        dataset: name of the data set.
        split: of the data set.
        views: (V) names of all cameras of the data set in its order.
        manifest: the data set's hash.
        seen_by: the camera behind each view of each of ``split_keys``; None: not known, and nothing can be judged in a
            camera's frame or in pixels.
        groups: subject, action and sequence of each of ``split_keys``; None: known of people only.
        points: 2D points of the kinds that the protocols need.
        chosen: (S,) bool, which of ``split_keys`` a table evaluates; None: all. Only these have rows.
        facts: source of boxes and truth of the split; None: not known.
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
    seen_by: SeenBy | None = None
    groups: Mapping[str, pd.Categorical[Any]] | None = None
    points: Mapping[PointsKind, ViewPoints] = field(default_factory=dict)
    chosen: NDArray[np.bool_] | None = None
    facts: Facts | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def collect(cls, dataset: Dataset, split: str, points: Iterable[PointsKind] = ()) -> TruthTable:
        """All truth of a split of a data set.

        Args:
            dataset: the data set.
            split: its split.
            points: kinds of 2D points that the protocols need.

        Raises:
            InputError: the data set has no such split, or its files cannot be used.
        """
        keys = list(dataset.keys(split))
        skeleton = skeleton_of_truth(dataset)
        index = {name: v for v, name in enumerate(dataset.views)}
        of_points = {
            kind: PointsOfSplit(kind, index, dataset.skeleton if kind == "detected" else skeleton)
            for kind in dict.fromkeys(points)
        }
        poses: list[NDArray[np.floating]] = [np.empty((0, len(skeleton), 3), dtype=np.float32)]
        cameras, of_samples = [], []
        for place, key in enumerate(keys):
            truth, sample = dataset.truth(key), dataset.sample(key)
            by_name = {view.name: view.camera for view in sample.views}
            poses.append(truth.joints_mm)
            of_samples.append(sample.group)
            cameras.append([by_name.get(name) for name in index])
            for collected in of_points.values():
                collected.add(place, sample, truth)
        people = [len(joints_mm) for joints_mm in poses[1:]]
        of_row = np.repeat(np.arange(len(keys)), people)
        names = np.array(keys, dtype=object)
        groups = {
            name: pd.Categorical(np.array([getattr(group, name) for group in of_samples], dtype=object))
            for name in ("subject", "action", "sequence")
        }
        return cls(
            keys=names[of_row],
            person=np.concatenate([np.arange(n, dtype=np.int32) for n in (*people, 0)]),
            joints_mm=np.concatenate(poses),
            subject=groups["subject"].take(of_row),
            action=groups["action"].take(of_row),
            sequence=groups["sequence"].take(of_row),
            split_keys=names,
            skeleton=skeleton,
            dataset=dataset.name,
            split=split,
            views=tuple(dataset.views),
            manifest=dataset.manifest(),
            seen_by=SeenBy.collect(cameras, len(index)),
            groups=groups,
            points={kind: collected.table() for kind, collected in of_points.items()},
            facts=dataset.facts(split),
        )

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that say which person a record of a protocol is about."""
        return {
            "key": pd.Series(self.keys, dtype=object),  # as strings they would be held a second time
            "person": self.person,
            "subject": self.subject,
            "action": self.action,
            "sequence": self.sequence,
        }

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
        )

    def rotations(self, view: str, rows: NDArray[np.integer]) -> NDArray[np.float64] | None:
        """(len(rows), 3, 3) world to camera for people of these rows.

        NaN where the view does not see the sample; None where cameras or the view are not known.
        """
        if self.seen_by is None or view not in self.views:
            return None
        return self.seen_by.rotations(self.views.index(view), self.place[rows])

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """Place of each row's key among ``split_keys``."""
        known = pd.Index(self.split_keys, dtype=object)
        return np.asarray(known.get_indexer(pd.Index(self.keys, dtype=object)), dtype=np.int64)

    def mapped(self, joints: Sequence[str]) -> NDArray[np.floating]:
        """The named joints in that order, (N, len(joints), 3); no copy where they are the skeleton's own."""
        if tuple(joints) == self.skeleton.joints:
            return self.joints_mm
        return self.joints_mm[:, self.skeleton.indices(joints)]


class Protocol(BaseModel, ABC):
    """A way to judge predictions; its parameters are its fields.

    Example:
        >>> rule = find_protocol("mpjpe_clipped", {"average": "frames", "limit_mm": 150}, "T5.yaml")
        >>> rule.unit, rule.lower_is_better
        ('mm', True)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever the same predictions would get another number."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Further columns of the predictions that it needs; predictions without them have no score."""
    records: ClassVar[Literal["truth", "predicted"]] = "truth"
    """What a row of ``errors`` is: a true pose; or a predicted person, and each true person that is missed."""
    paired_on: ClassVar[Literal["person", "sample"]] = "person"
    """What two methods are compared on: the same truth poses, or all records of the same samples."""
    is_share: ClassVar[bool] = False
    """Whether the number is the percentage of what is right, and not an error."""
    several_people: ClassVar[bool] = False
    """Whether it matches several people of a sample; scores then say how many people were predicted per true one."""
    any_frame: ClassVar[bool] = False
    """Whether poses in a camera's frame are judged like those in the world's; if not, they are an error."""

    @property
    def unit(self) -> str:
        """Unit of the number: "mm", or "%" of a share."""
        return "%" if self.is_share else "mm"

    @property
    def lower_is_better(self) -> bool:
        """Direction of better numbers: up for a share, down for an error."""
        return not self.is_share

    @property
    def points(self) -> PointsKind | None:
        """The kind of 2D points that it judges by; None: it needs none."""
        return None

    @abstractmethod
    def measure(self, skeleton: Skeleton) -> Measure:
        """The part of the signature that does not depend on the inputs of the rows."""

    @abstractmethod
    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per record: an evaluated truth pose, or a predicted person, as ``records`` declares.

        Columns every protocol has: key, person, subject, action, sequence, ``error`` (this record's number in ``unit``,
        NaN where a missing one has none) and ``missing`` (bool). A protocol of predicted people adds ``false`` (bool),
        people without a true one, and ``unjudged`` (bool) where some predictions are ignored: those that
        cannot be right or wrong, as in an image without annotated people. More columns are the protocol's own.

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

    def interval(self, estimates: NDArray[np.float64]) -> tuple[float, float] | None:
        """95 % interval of a number, or of the difference of two: here the percentiles of the resamples' estimates.

        Args:
            estimates: (R,) from :meth:`estimate`; NaN where nothing can be said.

        Returns:
            None where no resample has a value, or the protocol states no interval; rows are then not compared.
        """
        return bootstrap.interval(estimates)

    def in_frame(self, pred: PoseTable) -> None:
        """Raise InputError where poses are in a frame that this protocol does not judge."""
        elsewhere = pred.frame != "world"
        if not self.any_frame and elsewhere.any():
            raise InputError(
                f"{pred.source}: frame",
                f"{int(elsewhere.sum())} rows are in a camera's frame, first {pred.frame[int(np.argmax(elsewhere))]!r}",
                "this table judges poses in the world frame",
            )

    @property
    def roots_suffice(self) -> bool:
        """Whether predictions of the joint set `ROOT` can be judged; if not, they have no number."""
        return False

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """The number by action and by subject: the estimate where only one of them counts. A protocol may add more."""
        return {field: self.by(field, table) for field in ("action", "subject")}

    def by(self, column: str, table: pd.DataFrame) -> dict[str, float | None]:
        """The number for each entry of a column of ``table``: the estimate where only its rows count."""
        codes, names = pd.factorize(table[column], sort=True)
        values = self.estimate(table, codes, np.eye(len(names))) if len(names) else np.empty(0)
        return {str(name): number_or_none(value) for name, value in zip(names, values, strict=True)}

    def secondary(self, table: pd.DataFrame) -> dict[str, float | None]:
        """Figures of one seed to read with the number, name (unit) -> value; default none."""
        return {}

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """Lines to plot from the rows of one or several seeds; default none."""
        return {}

    def summarise(self, table: pd.DataFrame) -> float | None:
        """The number of ``table`` (rows of one seed); None where nothing was predicted."""
        return number_or_none(self.estimate(table, np.zeros(len(table), dtype=np.int64), np.ones((1, 1)))[0])


def number_or_none(value: float) -> float | None:
    """A number for a file: None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def finite(statistic: Callable[[NDArray[np.float64]], np.floating], values: NDArray[np.floating]) -> float | None:
    """A statistic of the finite values; None if there are none."""
    numbers = values[np.isfinite(values)].astype(np.float64)
    return float(statistic(numbers)) if numbers.size else None


def joints_in_words(joints: Sequence[str] | None, skeleton: Skeleton) -> str:
    """Which joints of a skeleton are evaluated, for a signature; None: all.

    Example:
        >>> from poseboard.datasets.skeleton import HUMAN36M
        >>> joints_in_words(None, HUMAN36M), joints_in_words(("nose",), HUMAN36M)
        ('all 17 of human36m-17', '1 of human36m-17: nose')
    """
    if joints is None:
        return f"all {len(skeleton)} of {skeleton.name}"
    return f"{len(joints)} of {skeleton.name}: {', '.join(joints)}"


class MatchingProtocol(Protocol):
    """A protocol that matches people, which is the costly part: several numbers of a table share it."""

    matched_by: ClassVar[tuple[str, ...]]
    """Parameters that `match` depends on."""

    @abstractmethod
    def match(self, pred: PoseTable, truth: TruthTable) -> Any:
        """Pairs of predicted and true people, or what they are found from; equal for equal ``matched_by``."""

    @abstractmethod
    def records_of(self, matched: Any, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """See :meth:`errors`, from what :meth:`match` returned."""

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """See :class:`Protocol`."""
        return self.records_of(self.match(pred, truth), pred, truth)


def errors_of(protocols: Iterable[Protocol], pred: PoseTable, truth: TruthTable) -> list[pd.DataFrame]:
    """`Protocol.errors` of several protocols; those that match people in the same way share it."""
    matches: dict[tuple[object, ...], Any] = {}
    errors = []
    for protocol in protocols:
        if isinstance(protocol, MatchingProtocol):
            way = (protocol.name, *(getattr(protocol, name) for name in protocol.matched_by))
            if way not in matches:
                matches[way] = protocol.match(pred, truth)
            errors.append(protocol.records_of(matches[way], pred, truth))
        else:
            errors.append(protocol.errors(pred, truth))
    return errors


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
