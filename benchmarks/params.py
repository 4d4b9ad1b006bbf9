"""The schema of params.yaml, strict: rows, data sets, profiles."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError, did_you_mean, validated
from poseboard.protocols.records import check_name

PROFILE_VARIABLE = "POSEBOARD_PROFILE"
"""Environment variable with the profile of a command, as ``--profile`` sets it, and of all stages of a run."""

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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _names(value: Any) -> Any:
    """A list of names, or a mapping to such lists, unchanged."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    if isinstance(value, Mapping) and value:
        return {key: _names(inner) for key, inner in value.items()}
    raise ValueError("is not a list of data sets, nor a mapping profile -> list")


class MethodEntry(BaseModel):
    """A row of the board; further fields are options of the method.

    ``on``, ``train_on``, ``weights`` and the options may be one value, or a mapping from profiles and data sets to
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
        """Argument of ``find_method``: the class, or the folder's name."""
        return self.class_ or Path(self.code).name


class Profile(_Strict):
    """The size of a run."""

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
    """The whole of params.yaml."""

    profile: str
    datasets: dict[str, dict[str, Any]]
    methods: dict[str, MethodEntry]
    profiles: dict[str, Profile]
    colours: dict[str, str] = Field(default_factory=dict, description="row -> its colour on the page")
    cluster: str | None = Field(default=None, description="address of a Dask scheduler, such as tcp://host:8786")

    def kind(self, dataset: str) -> str:
        """Name of a data set's adapter in the catalogue: its ``kind``, else its own name."""
        return str(self.datasets.get(dataset, {}).get(KIND, dataset))

    def names(self, names: Collection[str] | None, dataset: str) -> bool:
        """Whether a row's ``on`` names a data set, by its name or its kind; None names all."""
        return names is None or dataset in names or self.kind(dataset) in names

    def in_profile(self, profile: str, where: str = "--profile") -> Params:
        """The same values in another profile.

        Args:
            profile: name of the profile.
            where: option, variable or file that names it, for the error.

        Raises:
            InputError: there is no such profile.
        """
        if profile not in self.profiles:
            raise InputError(f"{where} {profile}", "no such profile", did_you_mean(profile, self.profiles))
        return self.model_copy(update={"profile": profile})

    def chosen(self, value: Any, dataset: str | None) -> Any:
        """The value in force: of a mapping by profile and data set the most specific one, data set before profile.

        Args:
            value: of an option.
            dataset: name of the data set; None: a mapping from data sets stays as it is.

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
        raise InputError("params.yaml", f"{dict(value)} has no value for {place}", "add one")


def parse_yaml(text: str) -> Any:
    """The values of a text in YAML 1.2, as DVC reads it: `on` is a word. A key that stands twice is refused.

    Raises:
        YAMLError: the text is not YAML.

    Example:
        >>> parse_yaml("{on: [a], true_cameras: true}")
        {'on': ['a'], 'true_cameras': True}
    """
    return YAML(typ="safe").load(text)


def read_params(path: Path) -> Params:
    """Read params.yaml and check all names in it.

    Raises:
        InputError: the file cannot be read, or a value is wrong.
    """
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "there is no such file", "run from the folder that has params.yaml") from None
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        problem = " ".join(str(getattr(error, "problem", error)).split())[:160]
        raise InputError(where, f"is not YAML ({problem})", "correct it") from None
    if not isinstance(values, dict):
        raise InputError(path, "holds no mapping", "start from the committed file")
    params = validated(Params, values, path)
    _check_names(params, path)
    _check_kinds(params, path)
    _check_rows(params, path)
    _check_worlds(params, path)
    return params


def _check_names(params: Params, path: Path) -> None:
    """Refuse names that cannot be file names, and profiles named like a data set or without a folder."""
    for field in ("profiles", "datasets", "methods"):
        for name in getattr(params, field):
            check_name(f"{path}: {field}", name)
    for name in RESERVED_PROFILES:
        if name in params.profiles:
            where = f"{path}: profiles.{name}"
            raise InputError(where, f"results/{name} is not a profile's folder", "choose another name")
    if params.profile not in params.profiles:
        raise InputError(
            f"{path}: profile", f"no profile {params.profile!r}", did_you_mean(params.profile, params.profiles)
        )
    if both := params.profiles.keys() & params.datasets.keys():
        raise InputError(f"{path}: datasets.{min(both)}", "is a profile's name as well", "rename the profile")
    for name in params.colours:
        if name not in params.methods:
            raise InputError(f"{path}: colours.{name}", "no such row", did_you_mean(name, params.methods))


def _check_kinds(params: Params, path: Path) -> None:
    """Refuse a ``kind`` that is not an adapter, and names of the catalogue with another adapter."""
    known = catalog()
    for name, options in params.datasets.items():
        if KIND not in options:
            continue
        where, kind = f"{path}: datasets.{name}.{KIND}", options[KIND]
        if kind not in known:
            raise InputError(where, f"{kind!r} is not a kind of data set", did_you_mean(str(kind), known))
        if name in known and kind != name:
            raise InputError(where, f"{name} is a data set of another kind", "choose another name for yours")


def _check_rows(params: Params, path: Path) -> None:
    """Refuse rows that name no row or data set, and mappings that could be taken for an option's value."""
    kinds = [name for name, entry in catalog().items() if not entry.adapter.is_published]
    for name, entry in params.methods.items():
        where = f"{path}: methods.{name}"
        if name == SCRATCH:
            raise InputError(where, "stands for no row, where `after` says it", "choose another name")
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
    """Refuse a row that would start from its own checkpoint, over other rows or not."""
    passed = [name]
    while (after := params.methods[passed[-1]].after) in params.methods:
        if after in passed:
            chain = " after ".join([*passed, after])
            raise InputError(where, f"{chain}: none of them can be first", f"let one start from {SCRATCH}")
        passed.append(after)


def _check_keys(params: Params, where: str, value: Any) -> None:
    """Refuse a mapping by profile or data set with a key that is neither: it would be taken for a value."""
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
    """Refuse worlds of data sets for whose layout there is no writer."""
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
    """All names in a list, or in the lists of a mapping."""
    if isinstance(value, Mapping):
        return [name for inner in value.values() for name in _leaves(inner)]
    return list(value or ())
