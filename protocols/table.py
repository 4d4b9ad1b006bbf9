"""Tables: a data set, groups of conditions and a protocol, read from benchmarks/tables/<id>.yaml."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from poseboard.datasets.errors import InputError, field_error
from poseboard.datasets.files import parse_yaml, read_bytes
from poseboard.protocols.base import Protocol, TruthTable, find_protocol
from poseboard.protocols.condition import Condition
from poseboard.protocols.perturbation import Perturbation, PerturbationKind


class Subsets(BaseModel):
    """Random sets of cameras of one size: the first cameras of random orders, one order per set.

    The orders depend only on the seed and the names of the cameras. So the sets of another size are nested in these,
    order by order, and a larger ``most`` keeps the sets of a smaller one. If there are at most ``most`` sets of the
    size, all are used.

    Example:
        >>> Subsets(size=2, most=9).of(("a", "b", "c"))
        (('a', 'b'), ('a', 'c'), ('b', 'c'))
        >>> Subsets(size=2, most=2).of(("a", "b", "c"))
        (('a', 'c'), ('a', 'b'))
        >>> Subsets(size=1, most=2).of(("a", "b", "c"))
        (('c',), ('a',))
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=1, description="number of cameras in each")
    most: int = Field(ge=1, description="number of sets")
    seed: int = Field(default=0, ge=0, description="seed of the random orders")

    def of(self, cameras: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Random sets of ``size`` cameras, each in the order of ``cameras``; empty for fewer than ``size`` cameras."""
        if math.comb(len(cameras), self.size) <= self.most:
            return tuple(combinations(cameras, self.size))
        sets: dict[tuple[str, ...], None] = {}
        order = 0
        while len(sets) < self.most:
            first = set(sorted(cameras, key=lambda name: self._rank(order, name))[: self.size])
            sets[tuple(name for name in cameras if name in first)] = None
            order += 1
        return tuple(sets)

    def _rank(self, order: int, camera: str) -> bytes:
        return hashlib.sha256(f"{self.seed} {order} {camera}".encode()).digest()


Perturbations = tuple[Perturbation | None, ...]
"""Perturbations of the input that give one number together: one, or those of a curve over severities. None: none."""


class Group(BaseModel):
    """Group of conditions that gives one number of a table.

    Example:
        >>> group = Group(cameras=("a", "b"), each=True, roots="all")
        >>> [c.cameras for c in group.conditions(["a", "b", "c"], "test", "T3")]
        [('a',), ('b',)]
        >>> group = Group(leave_out=True)
        >>> [c.cameras for c in group.conditions(["a", "b", "c"], "test", "held-out")]
        [('b', 'c'), ('a', 'c'), ('a', 'b')]
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cameras: Literal["all"] | tuple[str, ...] = Field(default="all", description="cameras of the input")
    each: bool = Field(default=False, description="each camera separately, one number over all predictions")
    leave_out: bool = Field(default=False, description="each camera left out in turn, one number over all predictions")
    subsets: Subsets | None = Field(
        default=None, description="random sets of the cameras, one number over all predictions"
    )
    roots: Literal["seen", "all"] = Field(
        default="seen", description="cameras that the root of the input is predicted from: those of the input, or all"
    )
    frames_per_rig: int = Field(
        default=1, ge=1, description="the most samples with the same cameras that a row may use together"
    )
    trained_on: str | None = Field(
        default=None,
        min_length=1,
        description="another data set that the weights were trained on: a number of transfer",
    )

    @model_validator(mode="after")
    def _some_cameras(self) -> Self:
        if not self.cameras:
            raise ValueError("cameras: name at least one, or all")
        if len(set(self.cameras)) != len(self.cameras) and self.cameras != "all":
            raise ValueError("cameras: one stands twice")
        if self.each and self.leave_out:
            raise ValueError("leave_out: and each contradict one another")
        if self.subsets is not None and (self.each or self.leave_out):
            raise ValueError("subsets: and each or leave_out contradict one another")
        return self

    def fits(self, names: Sequence[str]) -> bool:
        """Whether the cameras ``names`` of a data set include those of the group and are enough for its subsets."""
        has_all = self.cameras == "all" or set(self.cameras) <= set(names)
        chosen = names if self.cameras == "all" else self.cameras
        return has_all and (self.subsets is None or self.subsets.size <= len(chosen))

    def conditions(
        self, names: Sequence[str], split: str, table: str, perturbations: Perturbations = (None,)
    ) -> tuple[Condition, ...]:
        """Conditions of the group on a data set with the cameras ``names``, before they are reduced to a row's inputs.

        Raises:
            InputError: the group names a camera that the data set does not have.
        """
        chosen = names if self.cameras == "all" else self.cameras
        if unknown := [name for name in chosen if name not in names]:
            raise InputError(
                f"table {table}: cameras", f"there is no camera {unknown[0]!r}", f"use cameras of {', '.join(names)}"
            )
        ordered = tuple(name for name in names if name in chosen)
        if self.leave_out and len(ordered) < 2:
            raise InputError(f"table {table}: leave_out", "leaves no camera", "name two cameras or more")
        sets = [ordered]
        if self.subsets is not None:
            if self.subsets.size > len(ordered):
                problem = f"{self.subsets.size} of {len(ordered)} cameras cannot be chosen"
                raise InputError(f"table {table}: subsets", problem, "name more cameras, or a smaller size")
            sets = list(self.subsets.of(ordered))
        elif self.each:
            sets = [(name,) for name in ordered]
        elif self.leave_out:
            sets = [tuple(name for name in ordered if name != left_out) for left_out in ordered]
        missing = max(one.missing_cameras if one else 0 for one in perturbations)
        if missing > (fewest := min(map(len, sets))) - 2 and missing:
            raise InputError(
                f"table {table}: perturbation",
                f"removes {missing} of {fewest} cameras",
                "remove fewer, so that two or more remain",
            )
        return tuple(
            Condition(
                split=split,
                cameras=cameras,
                root="predicted",
                root_cameras=cameras if self.roots == "seen" else tuple(names),
                frames_per_rig=self.frames_per_rig,
                perturbation=perturbation,
                trained_on=self.trained_on,
            )
            for perturbation in perturbations
            for cameras in sets
        )


NUMBER_FIELDS = ("id", "title", "parameters", "headline", "published", "control", "notes")
"""Fields of a table that an entry of `numbers` may have."""


class Table(BaseModel):
    """Definition of one number: data set, samples, groups of conditions and protocol.

    A file may hold several (`read_tables`), which share all but `NUMBER_FIELDS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    title: str = Field(min_length=1)
    dataset: str
    split: str = Field(default="test", min_length=1, description="of the data set")
    groups: tuple[Group, ...] = Field(
        default=(Group(),), min_length=1, description="groups of conditions, one number each"
    )
    partial: bool = Field(
        default=False, description="whether groups that name a camera which the data set does not have are left out"
    )
    perturbed: dict[PerturbationKind, tuple[int, ...]] = Field(
        default_factory=dict,
        description="kind -> severities from 1, a number for each group and severity, and one for the area under the "
        "curve from 0",
    )
    perturbed_in: dict[str, dict[PerturbationKind, tuple[int, ...]]] = Field(
        default_factory=dict, description="profile of params.yaml -> what replaces `perturbed` there"
    )
    profiles: tuple[str, ...] = Field(default=(), description="profiles of params.yaml that run it; empty: all")
    exclude: tuple[str, ...] = Field(default=(), description="prefixes of excluded keys: S9/Greeting-2")
    every: int = Field(default=1, ge=1, description="every k-th of the samples after exclusion, from the first")
    protocol: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    control: str | None = Field(
        default=None,
        min_length=1,
        description="id of the table of the same people as in training, on another split: errors are also stated as "
        "increases over the errors there",
    )
    published: str | None = Field(default=None, description="id of the published table with the same number")
    headline: bool = Field(default=False, description="whether it is a column of its data set's main board")
    notes: tuple[str, ...] = ()

    def rule(self) -> Protocol:
        """The protocol with this table's parameters."""
        return find_protocol(self.protocol, self.parameters, f"table {self.id}")

    @property
    def basis(self) -> str:
        """Key of samples, conditions and protocol as JSON; tables with equal keys are scored together."""
        return self.model_dump_json(exclude=set(NUMBER_FIELDS))

    def conditions(self, names: Sequence[str]) -> list[tuple[Condition, ...]]:
        """Conditions of each group; () for a group that the data set cannot have.

        Args:
            names: names of all cameras, in the data set's order.

        Raises:
            InputError: a group names a camera that is not in ``names``, and the table is not partial.

        If a perturbed table evaluates every k-th sample, only these are perturbed. Unperturbed conditions have all
        samples, because other tables share the predictions. A table with exclusions perturbs all samples, because the
        exclusions are applied before every k-th sample is selected.

        Example:
            >>> groups = (Group(cameras=("a", "b")), Group(cameras=("a", "b", "c")))
            >>> sweep = Table(
            ...     id="sweep", title="t", dataset="d", protocol="mpjpe_relative", groups=groups, partial=True
            ... )
            >>> [len(conditions) for conditions in sweep.conditions(["a", "b"])]
            [1, 0]
        """
        every = 1 if self.exclude else self.every
        return [
            ()
            if self.partial and not group.fits(names)
            else tuple(
                one if one.perturbation is None else one.model_copy(update={"every": every})
                for one in group.conditions(names, self.split, self.id, perturbations)
            )
            for group, perturbations in self.all_groups
        ]

    def in_profile(self, profile: str) -> Table:
        """The table for a profile, with the severities of `perturbed_in` instead of `perturbed`."""
        return self.model_copy(update={"perturbed": self.perturbed_in.get(profile, self.perturbed)})

    @property
    def all_groups(self) -> tuple[tuple[Group, Perturbations], ...]:
        """Groups with their perturbations, one number each: unperturbed, then each severity and area of each kind."""
        numbers: list[tuple[Group, Perturbations]] = [(group, (None,)) for group in self.groups]
        for kind, severities in self.perturbed.items():
            curve = tuple(Perturbation(kind=kind, severity=severity) for severity in severities)
            of_kind: list[Perturbations] = [*((one,) for one in curve), (None, *curve)]
            numbers += [(group, perturbations) for group in self.groups for perturbations in of_kind]
        return tuple(numbers)

    @model_validator(mode="after")
    def _severities(self) -> Self:
        of_fields = {"perturbed": self.perturbed}
        of_fields |= {f"perturbed_in.{profile}": perturbed for profile, perturbed in self.perturbed_in.items()}
        for field, perturbed in of_fields.items():
            for kind, severities in perturbed.items():
                if (
                    not severities
                    or list(severities) != sorted(set(severities))
                    or not 1 <= severities[0] <= severities[-1] <= 5
                ):
                    raise ValueError(f"{field}.{kind}: name severities from 1 to 5 that increase")
        return self

    def select(self, truth: TruthTable) -> TruthTable:
        """Select the evaluated samples with all their people: apply the exclusions, then keep every k-th sample.

        Raises:
            InputError: an exclusion matches no key of the split.
        """
        for prefix in self.exclude:
            if not any(key.startswith(f"{prefix.rstrip('/')}/") for key in truth.split_keys):
                raise InputError(
                    f"table {self.id}: exclude",
                    f"{prefix!r} matches no key of split {truth.split!r} of {truth.dataset}",
                    "use whole parts of the keys of the split, or remove it",
                )
        if not self.exclude and self.every == 1:
            return truth
        prefixes = tuple(prefix.rstrip("/") + "/" for prefix in self.exclude)
        chosen = np.zeros(len(truth.split_keys), dtype=bool)
        left = [place for place, key in enumerate(truth.split_keys) if not key.startswith(prefixes)]
        chosen[left[:: self.every]] = True
        return replace(truth.take(np.flatnonzero(chosen[truth.place])), chosen=chosen)


def check_control(table: Table, control: Table) -> None:
    """Check that a table can be compared with its control.

    Raises:
        InputError: the control is on another data set or on the same split, has another protocol or other samples, or
            the protocol has no error for each true pose.
    """
    where, rule = f"table {table.id}: control: {control.id}", table.rule()
    if table.dataset != control.dataset or table.split == control.split:
        problem = "is of the same split" if table.dataset == control.dataset else f"is run on {control.dataset}"
        raise InputError(where, problem, f"name a table of another split of {table.dataset}")
    for field in ("protocol", "parameters", "groups", "every"):
        if getattr(table, field) != getattr(control, field):
            raise InputError(where, f"differs in {field}", f"give both tables the same {field}")
    if rule.records != "truth" or not rule.lower_is_better:
        raise InputError(where, f"{table.protocol} states no error of each true pose", "remove the control")


def read_tables(path: Path) -> tuple[Table, ...]:
    """Read a file of benchmarks/tables: one table, or one for each entry of ``numbers``.

    An entry of ``numbers`` has an id, a title and parameters in addition to those of the file. It may override the
    other `NUMBER_FIELDS` of the file.

    Raises:
        InputError: the file cannot be read, or a field is wrong.
    """
    try:
        values = parse_yaml(read_bytes(path).decode())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(path, f"table cannot be read ({reason})", "correct the path or the YAML") from None
    if not isinstance(values, dict) or "numbers" not in values:
        table = _parse(values, str(path))
        if table.id != path.stem:
            raise InputError(
                f"{path}: id",
                f"is {table.id!r}, unlike the file name",
                f"rename the file to {table.id}.yaml, or write id: {path.stem}",
            )
        return (table,)
    numbers = values.pop("numbers")
    if not isinstance(numbers, list) or not numbers:
        raise InputError(f"{path}: numbers", "is not a list of numbers", "list an id and a title for each number")
    for field in ("id", "title"):
        if field in values:
            raise InputError(f"{path}: {field}", "belongs to each entry of numbers", "move it into the entries")
    tables = []
    for place, number in enumerate(numbers):
        where = f"{path}: numbers.{place}"
        tables.append(_parse(_with_number(values, number, where), where))
    return tuple(tables)


def _with_number(values: Mapping[str, Any], number: object, where: str) -> dict[str, Any]:
    """Combine the fields of a file with an entry of its ``numbers`` to the fields of one table.

    Example:
        >>> number = {"id": "ap025", "title": "AP at 25 mm", "parameters": {"within_mm": 25}}
        >>> _with_number({"dataset": "d", "parameters": {"lacking_mm": 400}}, number, "people.yaml")["parameters"]
        {'lacking_mm': 400, 'within_mm': 25}
    """
    if not isinstance(number, dict):
        raise InputError(where, "is not a mapping", f"write fields of {', '.join(NUMBER_FIELDS)}")
    if wrong := [field for field in number if field not in NUMBER_FIELDS]:
        raise InputError(f"{where}.{wrong[0]}", "is not a field of a number", f"use one of {', '.join(NUMBER_FIELDS)}")
    both = [of.get("parameters") or {} for of in (values, number)]
    if not all(isinstance(parameters, dict) for parameters in both):
        raise InputError(f"{where}.parameters", "is not a mapping", "write the protocol's parameters as NAME: VALUE")
    return {**values, **number, "parameters": {**both[0], **both[1]}}


def _parse(values: object, where: str) -> Table:
    """Validate a table and its protocol parameters; InputError names ``where`` and the wrong field."""
    try:
        table = Table.model_validate(values)
    except ValidationError as error:
        raise field_error(where, error, Table.model_fields) from None
    find_protocol(table.protocol, table.parameters, where)
    return table
