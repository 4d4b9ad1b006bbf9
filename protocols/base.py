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
  methods are then compared on the samples for which all of them have a number, with all records of these samples;
* ``several_people``: whether it matches several people of a sample;
* ``any_frame``: whether it judges poses in a camera's frame, or only those in the world's. A protocol decides this, not
  the data set and not the method;
* ``points``: the kind of 2D points that it judges by.

It knows no table, no file and no set of cameras. Nothing here assumes one person, the world frame or a mean: a protocol
that matches people (AP) or works in a camera's frame implements the same three.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from poseboard.datasets.errors import InputError, field_error
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Dataset, Group, skeleton_of_truth
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import bootstrap
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Curve, Measure
from poseboard.protocols.views import CamerasOfSplit, PointsKind, PointsOfSplit, SeenBy, ViewPoints

Breakdown = dict[str, dict[str, float | None]]


@dataclass(frozen=True, eq=False)
class TruthTable:
    """Annotated people of a split, one per row, in the data set's order, with the cameras and 2D points of its views.

    Args:
        keys: (N,) str, the sample of each person.
        person: (N,) int32, from 0 within a key.
        joints_mm: (N, J, 3) true joints in the world frame; NaN = not annotated. A person with only 2D annotations is
            a row of NaN.
        subject: (N,) categories, subject of each sample.
        action: (N,) categories, action of each sample.
        sequence: (N,) categories, sequence of each sample.
        split_keys: (S,) all keys of the split, including keys without people and keys that a table excludes.
        skeleton: skeleton of ``joints_mm``; predictions may have another.
        dataset: name of the data set.
        split: name of the split.
        views: (V,) names of all cameras, in the data set's order.
        manifest: hash of the data set's files.
        seen_by: camera of each view of each key; None: unknown, so nothing can be judged in a camera's frame or in
            pixels.
        groups: subject, action and sequence of each key in ``split_keys``; None: known only for keys with people.
        points: 2D points by kind, for the kinds that the protocols need.
        chosen: (S,) bool, which of ``split_keys`` a table evaluates; None: all. Only these have rows.
        facts: source of the boxes and of the ground truth of the split; None: unknown.
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
        """Read the ground truth of a whole split.

        Args:
            dataset: the data set.
            split: name of the split.
            points: kinds of 2D points that the protocols need.

        Raises:
            InputError: the data set lacks the split, or its files are absent or damaged.
        """
        keys = list(dataset.keys(split))
        skeleton = skeleton_of_truth(dataset)
        index = {name: v for v, name in enumerate(dataset.views)}
        of_points = {
            kind: PointsOfSplit(kind, index, dataset.skeleton if kind == "detected" else skeleton)
            for kind in dict.fromkeys(points)
        }
        # A split has up to millions of samples: nothing is kept per sample but numbers.
        coordinates, people = array("d"), np.zeros(len(keys), dtype=np.int64)
        group_codes: dict[Group, int] = {}
        of_samples = np.zeros(len(keys), dtype=np.int32)
        cameras = CamerasOfSplit(len(keys), len(index))
        for place, key in enumerate(keys):
            truth, sample = dataset.truth(key), dataset.sample(key)
            coordinates.frombytes(np.asarray(truth.joints_mm, dtype=np.float64).tobytes())
            people[place] = len(truth.joints_mm)
            of_samples[place] = group_codes.setdefault(sample.group, len(group_codes))
            cameras.add(place, ((index[view.name], view.camera) for view in sample.views))
            for collected in of_points.values():
                collected.add(place, sample, truth)
        of_row = np.repeat(np.arange(len(keys)), people)
        names = np.array(keys, dtype=object)
        groups = {
            name: pd.Categorical(np.array([getattr(group, name) for group in group_codes], dtype=object)).take(
                of_samples
            )
            for name in ("subject", "action", "sequence")
        }
        return cls(
            keys=names[of_row],
            person=(np.arange(len(of_row)) - np.repeat(np.cumsum(people) - people, people)).astype(np.int32),
            joints_mm=np.frombuffer(coordinates).reshape(-1, len(skeleton), 3),
            subject=groups["subject"].take(of_row),
            action=groups["action"].take(of_row),
            sequence=groups["sequence"].take(of_row),
            split_keys=names,
            skeleton=skeleton,
            dataset=dataset.name,
            split=split,
            views=tuple(dataset.views),
            manifest=dataset.manifest(),
            seen_by=cameras.seen_by(),
            groups=groups,
            points={kind: collected.table() for kind, collected in of_points.items()},
            facts=dataset.facts(split),
        )

    @cached_property
    def logical_sha256(self) -> str:
        """SHA-256 of keys, true poses and cameras by value, independent of how the files store them.

        Coordinates and cameras are compared as float32, so that another library may compute the last digits.
        """
        cameras = self.seen_by.cameras if self.seen_by else ()
        names = [self.skeleton.joints, self.views, self.split_keys.tolist(), self.keys.tolist()]
        models = [(camera.size, camera.distortion) for camera in cameras]
        digest = hashlib.sha256(json.dumps([names, models]).encode())
        numbers = [self.joints_mm, *(part for c in cameras for part in (c.K, c.R, c.t, c.dist))]
        for values in numbers:
            rounded = np.asarray(values, dtype=np.float32) + np.float32(0)  # no negative zeros
            digest.update(np.where(np.isnan(rounded), np.float32(np.nan), rounded).tobytes())
        digest.update(self.person.astype(np.int32).tobytes())
        if self.seen_by:
            digest.update(self.seen_by.place.astype(np.int32).tobytes())
        return digest.hexdigest()

    @property
    def columns(self) -> dict[str, Any]:
        """Columns that identify the person of each record: key, person, subject, action and sequence."""
        return {
            "key": pd.Series(self.keys, dtype=object),  # as strings they would be held a second time
            "person": self.person,
            "subject": self.subject,
            "action": self.action,
            "sequence": self.sequence,
        }

    def take(self, rows: NDArray[np.integer]) -> TruthTable:
        """Keep only these rows; ``split_keys`` stays complete."""
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
        """World-to-camera rotations of a view in the samples of some rows, (len(rows), 3, 3).

        Returns None if the cameras or the view are unknown. A rotation is NaN if its sample lacks the view.
        """
        if self.seen_by is None or view not in self.views:
            return None
        return self.seen_by.rotations(self.views.index(view), self.place[rows])

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """Index of each row's key in ``split_keys``, (N,)."""
        known = pd.Index(self.split_keys, dtype=object)
        return np.asarray(known.get_indexer(pd.Index(self.keys, dtype=object)), dtype=np.int64)

    def mapped(self, joints: Sequence[str]) -> NDArray[np.floating]:
        """Coordinates of the named joints, (N, len(joints), 3) mm; no copy if they are all joints of the skeleton."""
        if tuple(joints) == self.skeleton.joints:
            return self.joints_mm
        return self.joints_mm[:, self.skeleton.indices(joints)]


class Protocol(BaseModel, ABC):
    """Base class of the protocols. A protocol judges predictions; its parameters are its fields.

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
    error_unit: ClassVar[str] = "mm"
    """Unit of an error."""
    several_people: ClassVar[bool] = False
    """Whether it matches several people of a sample; scores then say how many people were predicted per true one."""
    any_frame: ClassVar[bool] = False
    """Whether poses in a camera's frame are judged like those in the world's; if not, they are an error."""

    @property
    def unit(self) -> str:
        """Unit of the number: "%" for a share, `error_unit` for an error."""
        return "%" if self.is_share else self.error_unit

    @property
    def lower_is_better(self) -> bool:
        """Whether lower numbers are better: true for an error, false for a share."""
        return not self.is_share

    @property
    def points(self) -> PointsKind | None:
        """Kind of 2D points with which the protocol compares predictions; None without 2D points."""
        return None

    @abstractmethod
    def measure(self, skeleton: Skeleton) -> Measure:
        """Describe what the protocol measures: the part of a signature that does not depend on a row's inputs."""

    @abstractmethod
    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per record: an evaluated truth pose, or a predicted person, as ``records`` declares.

        Columns every protocol has: key, person, subject, action, sequence, ``error`` (number of the record in ``unit``;
        NaN if a missing record has none) and ``missing`` (bool). A protocol of predicted people adds ``false`` (bool),
        predicted people without a true one. It may add ``unjudged`` (bool), predictions that are neither correct nor
        false, for example in an image without annotated people. A protocol may add further columns.

        Raises:
            InputError: the protocol cannot judge the predictions, for example because a joint is absent.
        """

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Score for each row of ``multiplicity`` (one resample of the groups); by default the mean of ``error``.

        Args:
            table: records of one seed, from :meth:`errors`.
            codes: (N,) group of each record, in [0, G).
            multiplicity: (R, G) weight of each group in each resample; ones (1, G) give the score itself.

        Returns:
            Scores (R,) in ``unit``; NaN where no record counts.
        """
        return self.mean(table["error"].to_numpy(dtype=np.float64), table, codes, multiplicity)

    def mean(
        self,
        values: NDArray[np.float64],
        table: pd.DataFrame,
        codes: NDArray[np.integer],
        multiplicity: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Mean (R,) of values (N,) of the records for each row of ``multiplicity``; with `strata`, mean of means."""
        strata = self.strata(table)
        return bootstrap.ratio(values, codes, multiplicity, None if strata is None else pd.factorize(strata)[0])

    def strata(self, table: pd.DataFrame) -> pd.Series[Any] | None:
        """Column that groups the records, such as the action. All groups have equal weight. None: all records do."""
        return None

    def interval(self, estimates: NDArray[np.float64]) -> tuple[float, float] | None:
        """95 % CI of a score or a difference of scores, from the percentiles of its bootstrap estimates.

        Args:
            estimates: (R,) from :meth:`estimate`; NaN for a resample without a score.

        Returns:
            Lower and upper bound. None if no resample has a score or the protocol has no interval. Rows are then not
            compared.
        """
        return bootstrap.interval(estimates)

    def in_frame(self, pred: PoseTable) -> None:
        """Raise InputError if poses are in a frame that this protocol does not judge."""
        elsewhere = pred.frame != "world"
        if not self.any_frame and elsewhere.any():
            raise InputError(
                f"{pred.source}: frame",
                f"{int(elsewhere.sum())} records are in a camera's frame, "
                f"first {pred.frame[int(np.argmax(elsewhere))]!r}",
                "predict in the world frame, or choose a table in camera frames",
            )

    @property
    def roots_suffice(self) -> bool:
        """Whether the protocol can judge predictions of only the root (joint set `ROOT`)."""
        return False

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number for each action and each subject; a protocol may add other categories."""
        return {field: self.by(field, table) for field in ("action", "subject")}

    def by_column(self, prefix: str, table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
        """Columns with a prefix, such as ``joint/``: rest of the name -> values (N,)."""
        names = [column for column in table.columns if column.startswith(prefix)]
        return {name.removeprefix(prefix): table[name].to_numpy(dtype=np.float64) for name in names}

    def by(self, column: str, table: pd.DataFrame) -> dict[str, float | None]:
        """Number for each value of a column of ``table``, over the records with that value."""
        codes, names = pd.factorize(table[column], sort=True)
        values = self.estimate(table, codes, np.eye(len(names))) if len(names) else np.empty(0)
        return {str(name): number_or_none(value) for name, value in zip(names, values, strict=True)}

    def secondary(self, table: pd.DataFrame) -> dict[str, float | None]:
        """Secondary numbers of one seed, by name with unit; empty by default."""
        return {}

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """Curves to plot, by name, over the records of one or several seeds; empty by default."""
        return {}

    def summarise(self, table: pd.DataFrame) -> float | None:
        """Number over the records of one seed; None if nothing was predicted."""
        return number_or_none(self.estimate(table, np.zeros(len(table), dtype=np.int64), np.ones((1, 1)))[0])


def number_or_none(value: float) -> float | None:
    """Convert a number for JSON: None instead of NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def finite(statistic: Callable[[NDArray[np.float64]], np.floating], values: NDArray[np.floating]) -> float | None:
    """Compute a statistic over the finite values; None if there are none."""
    numbers = values[np.isfinite(values)].astype(np.float64)
    return float(statistic(numbers)) if numbers.size else None


def joints_in_words(joints: Sequence[str] | None, skeleton: Skeleton) -> str:
    """Describe the evaluated joints of a skeleton for a signature; ``joints`` None means all.

    Example:
        >>> from poseboard.datasets.skeleton import HUMAN36M
        >>> joints_in_words(None, HUMAN36M), joints_in_words(("nose",), HUMAN36M)
        ('all 17 of human36m-17', '1 of human36m-17: nose')
    """
    if joints is None:
        return f"all {len(skeleton)} of {skeleton.name}"
    return f"{len(joints)} of {skeleton.name}: {', '.join(joints)}"


class MatchingProtocol(Protocol):
    """Base class of protocols whose matching is costly, so that several numbers of a table share one matching."""

    matched_by: ClassVar[tuple[str, ...]]
    """Parameters that `match` depends on."""

    @abstractmethod
    def match(self, pred: PoseTable, truth: TruthTable) -> Any:
        """Match predicted people with true people; protocols of equal ``matched_by`` share the result."""

    @abstractmethod
    def records_of(self, matched: Any, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """Records of :meth:`errors`, computed from the result of :meth:`match`."""

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per record, see :class:`Protocol`."""
        return self.records_of(self.match(pred, truth), pred, truth)


def errors_of(protocols: Iterable[Protocol], pred: PoseTable, truth: TruthTable) -> list[pd.DataFrame]:
    """Records of several protocols; protocols of equal ``matched_by`` match people only once."""
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
    """Load the protocol of protocols/<name>.py with its parameters; InputError names ``where`` and the wrong value."""
    if not (name.isidentifier() and Path(__file__).with_name(f"{name}.py").is_file()):
        raise InputError(
            f"{where}: protocol", f"there is no protocol {name!r}", "name a file of protocols/ without its suffix"
        )
    module_name = f"poseboard.protocols.{name}"
    class_name = "".join(part.capitalize() for part in name.split("_"))
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except AttributeError:
        problem = f"{module_name} has no class {class_name}"
        raise InputError(f"{where}: protocol", problem, "define it as a subclass of Protocol") from None
    if not (isinstance(kind, type) and issubclass(kind, Protocol)):
        raise InputError(f"{where}: protocol", f"class of {name!r} is not a Protocol", "derive it from Protocol")
    try:
        protocol: Protocol = kind.model_validate(dict(parameters))
    except ValidationError as error:
        raise field_error(where, error, kind.model_fields, "parameters") from None
    return protocol
