"""Strict schema of params.yaml: rows, data sets, profiles."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, field_validator

from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError, did_you_mean, validated
from poseboard.datasets.files import parse_yaml, read_bytes
from poseboard.protocols.records import check_name

PROFILE_VARIABLE = "POSEBOARD_PROFILE"
"""Environment variable with the profile of a command, as ``--profile`` sets it, and of all stages of a run."""

RUN_VARIABLE = "POSEBOARD_RUN"
"""Environment variable with the number of the process of DVC: its stages end with it."""

CLUSTER_VARIABLE = "POSEBOARD_CLUSTER"
"""Environment variable with the cluster of a command, as ``--cluster`` sets it, and of all stages of a run."""

SCRATCH = "scratch"
"""Value of ``after`` for a row that starts from no other row's checkpoint; no row may have this name."""

RESERVED_PROFILES = ("leaderboard", "published", "speed")
"""Folders of results/ that belong to no profile."""

FALLBACK = "default"
"""Key whose value counts where a mapping has none for the data set or the profile."""

PARTIAL = "partial"
"""Option of a data set whose folder may lack files."""

KIND = "kind"
"""Option of a data set: the name of its adapter, for a data set with a name that is not in the catalogue.

``root``, ``partial`` and ``kind`` are options of every data set; all others are those of its adapter.
"""


_LARGEST_NUMBER = 10**12
_LARGEST = {"processes": 1024, "batch_size": 10**5, "px": 10**4, "voxels": 1024}
"""Largest number of an option, by its name or the last part of it; of all others `_LARGEST_NUMBER`."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _names(value: Any) -> Any:
    """Check that a value is a list of names or a mapping to such lists; return it unchanged."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    if isinstance(value, Mapping) and value:
        return {key: _names(inner) for key, inner in value.items()}
    raise ValueError("is not a list of data sets, nor a mapping profile -> list")


class MethodEntry(BaseModel):
    """Row of the board; additional fields are options of the method.

    ``on``, ``train_on``, ``weights`` and the options may be a single value, or a mapping from profiles and data sets to
    values.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    code: str = Field(description="file or folder of its class; changes of it, and of what it imports, rerun the row")
    after: str = Field(description="row whose checkpoint it starts from, or 'scratch'")
    class_: str | None = Field(default=None, alias="class", description="package.module:Class, if not a room's folder")
    on: Annotated[Any, BeforeValidator(_names)] = Field(
        default=None,
        description="data sets that it runs on, by name or kind; left out: every one that fits and has a table",
    )
    train_on: Annotated[Any, BeforeValidator(_names)] = Field(
        default=None,
        description="data sets that it is trained on together, those with depth and without half and half; left out: "
        "the data set that it runs on, or for a row without `on` those of the row under `after`",
    )
    weights: str | dict[str, Any] | None = Field(
        default=None, description="checkpoint of ours that the row uses as it is, instead of a training"
    )
    bound: bool = Field(
        default=False,
        description="a bound for other rows, because it gets inputs that their users do not have: shown, never ranked",
    )

    @property
    def spec(self) -> str:
        """Argument of ``find_method``: the name of the class, or of the folder."""
        return self.class_ or Path(self.code).name


class Profile(_Strict):
    """Profile of a run: seeds, processes and sizes of synthetic worlds."""

    seeds: list[NonNegativeInt] = Field(min_length=1)
    processes: int = Field(ge=1, description="processes of trainings and evaluations, each with one CPU core or GPU")
    worlds: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="data set -> options of the synthetic world in its layout"
    )
    full_size: bool = Field(
        default=True, description="whether the speed stage also runs the comparisons that take more than a few seconds"
    )
    warning: str = Field(
        default="", description="shown with every number of a profile whose numbers are not meant to be read"
    )

    @field_validator("seeds")
    @classmethod
    def _unique(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed stands twice")
        return seeds


class Params(_Strict):
    """Content of params.yaml."""

    profile: str
    datasets: dict[str, dict[str, Any]]
    methods: dict[str, MethodEntry]
    profiles: dict[str, Profile]
    cost_reference: str | None = Field(
        default=None, description="row whose prediction time the page gives other times as multiples of"
    )
    colours: dict[str, str] = Field(default_factory=dict, description="row -> its colour on the page")
    cluster: str | None = Field(default=None, description="address of a Dask scheduler, such as tcp://host:8786")

    def kind(self, dataset: str) -> str:
        """Name of a data set's adapter in the catalogue: its ``kind``, or the name of the data set."""
        return str(self.datasets.get(dataset, {}).get(KIND, dataset))

    def names(self, names: Collection[str] | None, dataset: str) -> bool:
        """Whether the value of ``on`` includes a data set by its name or kind; None includes all."""
        return names is None or dataset in names or self.kind(dataset) in names

    def in_profile(self, profile: str, where: str = "--profile") -> Params:
        """Copy with another profile.

        Args:
            profile: name of the profile.
            where: option, variable or file that names the profile, for the error.

        Raises:
            InputError: the profile is unknown.
        """
        if profile not in self.profiles:
            raise InputError(f"{where} {profile}", "no such profile", did_you_mean(profile, self.profiles))
        return self.model_copy(update={"profile": profile})

    def chosen(self, value: Any, dataset: str | None) -> Any:
        """Resolve the value of an option for the profile and a data set; a data set takes precedence over a profile.

        Args:
            value: value of the option, or a mapping from profiles and data sets to values.
            dataset: name of the data set; None: a mapping from data sets is returned unchanged.

        Raises:
            InputError: a mapping has no value for the data set and the profile.
        """
        if not isinstance(value, Mapping) or not value:
            return value
        if not set(value) <= {*self.profiles, *self.datasets}:
            return {key: self.chosen(inner, dataset) for key, inner in value.items()}
        for key in (dataset, self.profile, FALLBACK):
            if key in value:
                return self.chosen(value[key], dataset)
        if dataset is None and not set(value).isdisjoint(self.datasets):
            return dict(value)
        place = f"profile {self.profile}" + (f" and data set {dataset}" if dataset else "")
        raise InputError("params.yaml", f"{dict(value)} has no value for {place}", "add a value")


def read_params(path: Path) -> Params:
    """Read params.yaml and check all names in it.

    Raises:
        InputError: the file cannot be read, or a value is wrong.
    """
    try:
        values = parse_yaml(read_bytes(path).decode())
    except FileNotFoundError:
        raise InputError(path, "there is no such file", "run from the folder that has params.yaml") from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "name a YAML file") from None
    except ValueError as error:
        raise InputError(path, f"is not YAML ({error})", "correct this line") from None
    if not isinstance(values, dict):
        raise InputError(path, "is not a YAML mapping", "restore it from git, then edit it")
    _check_values(values, f"{path}: ")
    params = validated(Params, values, path)
    _check_names(params, path)
    _check_kinds(params, path)
    _check_rows(params, path)
    _check_worlds(params, path)
    return params


def _check_values(value: Any, where: str, most: float = _LARGEST_NUMBER) -> None:
    """Reject values that are not JSON, and numbers that are too large for sizes of arrays or numbers of processes."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InputError(where.rstrip(": "), f"the key {key} is not a text", "put it in quotes")
            limit = _LARGEST.get(key, _LARGEST.get(key.rpartition("_")[2], most))
            _check_values(inner, f"{where}.{key}" if where[-1] != " " else f"{where}{key}", limit)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _check_values(inner, f"{where}.{place}", most)
    elif isinstance(value, int | float) and not abs(value) <= most:
        text = "an integer of many digits" if isinstance(value, int) and abs(value) > 10**20 else f"{value}"
        raise InputError(where, f"is {text}", f"use a number of at most {most:g}")
    elif not isinstance(value, str | int | float | None):
        raise InputError(where, f"is a {type(value).__name__}", "put it in quotes, or use a list")


def _check_names(params: Params, path: Path) -> None:
    """Reject names that cannot be file names, and profiles named like a data set or without a folder."""
    for field in ("profiles", "datasets", "methods"):
        for name in getattr(params, field):
            check_name(f"{path}: {field}", name)
    for name in RESERVED_PROFILES:
        if name in params.profiles:
            where = f"{path}: profiles.{name}"
            raise InputError(where, f"results/{name} is not the folder of a profile", "choose another name")
    if params.profile not in params.profiles:
        raise InputError(
            f"{path}: profile", f"no profile {params.profile!r}", did_you_mean(params.profile, params.profiles)
        )
    if both := params.profiles.keys() & params.datasets.keys():
        raise InputError(f"{path}: datasets.{min(both)}", "is also the name of a profile", "rename the profile")
    reference = params.cost_reference
    if reference is not None and reference not in params.methods:
        raise InputError(f"{path}: cost_reference", f"no row {reference!r}", did_you_mean(reference, params.methods))
    for name in params.colours:
        if name not in params.methods:
            raise InputError(f"{path}: colours.{name}", "no such row", did_you_mean(name, params.methods))


def _check_kinds(params: Params, path: Path) -> None:
    """Reject a ``kind`` that is not an adapter, and names of the catalogue with another adapter."""
    known = catalog()
    for name, options in params.datasets.items():
        if KIND not in options:
            continue
        where, kind = f"{path}: datasets.{name}.{KIND}", options[KIND]
        if kind not in known:
            raise InputError(where, f"{kind!r} is not a kind of data set", did_you_mean(str(kind), known))
        if name in known and kind != name:
            raise InputError(where, f"{name} is a data set of another kind", "choose another name for your data set")


def _check_rows(params: Params, path: Path) -> None:
    """Reject references to unknown rows or data sets, and mappings that could be mistaken for an option's value."""
    kinds = [name for name, entry in catalog().items() if not entry.adapter.is_published]
    for name, entry in params.methods.items():
        where = f"{path}: methods.{name}"
        if name == SCRATCH:
            raise InputError(where, "is reserved: as a value of `after` it means no row", "choose another name")
        if entry.after != SCRATCH and entry.after not in params.methods:
            remedy = f"{did_you_mean(entry.after, params.methods)}, or {SCRATCH}"
            raise InputError(f"{where}.after", f"no row {entry.after!r}", remedy)
        _check_chain(params, name, f"{where}.after")
        options = {"on": entry.on, "train_on": entry.train_on, "weights": entry.weights, **(entry.model_extra or {})}
        for option, value in options.items():
            _check_keys(params, f"{where}.{option}", value)
        for option, names in {"on": params.chosen(entry.on, None) or [], "train_on": _leaves(entry.train_on)}.items():
            for dataset in names:
                if dataset not in params.datasets and not (option == "on" and dataset in kinds):
                    remedy = did_you_mean(dataset, [*params.datasets, *kinds])
                    raise InputError(f"{where}.{option}", f"no data set {dataset!r}", remedy)


def _check_chain(params: Params, name: str, where: str) -> None:
    """Reject a row that starts from its own checkpoint, directly or through other rows."""
    passed = [name]
    while (after := params.methods[passed[-1]].after) in params.methods:
        if after in passed:
            chain = " after ".join([*passed, after])
            raise InputError(where, f"{chain} is circular", f"let one of these rows start from {SCRATCH}")
        passed.append(after)


def _check_keys(params: Params, where: str, value: Any) -> None:
    """Reject unknown keys in a mapping by profile or data set, which would be mistaken for a value."""
    if not isinstance(value, Mapping):
        return
    names = [*params.profiles, *params.datasets]
    for key in map(str, value):
        similar = difflib.get_close_matches(key, names, n=1, cutoff=0.7)
        if key not in names and (similar or not set(names).isdisjoint(value)):
            raise InputError(where, f"no profile or data set {key!r}", did_you_mean(key, names))
    for key, inner in value.items():
        _check_keys(params, f"{where}.{key}", inner)


def _check_worlds(params: Params, path: Path) -> None:
    """Reject synthetic worlds of data sets whose layout has no writer."""
    writable = [name for name, entry in catalog().items() if entry.layout is not None]
    for profile, of_profile in params.profiles.items():
        for name, options in of_profile.worlds.items():
            where = f"{path}: profiles.{profile}.worlds.{name}"
            if name not in writable:
                raise InputError(where, "no synthetic world is written in its layout", did_you_mean(name, writable))
            rig = options.get("known_rig")
            if isinstance(rig, str) and rig not in params.datasets:
                raise InputError(f"{where}.known_rig", f"no data set {rig!r}", did_you_mean(rig, params.datasets))


def _leaves(value: Any) -> list[str]:
    """Names in a list, or in all lists of a mapping."""
    if isinstance(value, Mapping):
        return [name for inner in value.values() for name in _leaves(inner)]
    return list(value or ())
