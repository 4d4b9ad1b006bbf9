"""params.yaml, parsed: what is run, in which profile, and where its files are."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

from poseboard.datasets.errors import InputError, one_of, validated
from poseboard.protocols.records import RowKind, row_path

BACKBONE = "backbone"
"""Name of the checkpoint that the 2D backbone stage leaves; no method may be called so."""

WORLDS = ("human36m",)
"""Data sets whose synthetic world is rendered where params.yaml names no folder."""

RESERVED_PROFILES = ("leaderboard", "published", "speed")
"""Folders of results/ that are no profile's."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


def check_name(where: str | Path, name: str) -> None:
    """Names of rows, profiles and data sets become folders and stages: letters, digits, _ and - (not first) only.

    Raises:
        InputError: the name is another text; ``where`` says whose it is.
    """
    if not _NAME.fullmatch(name):
        raise InputError(where, f"{name!r} is no name", "use letters, digits, _ and - (not first)")


BORROWED = re.compile(r"(?m)^profile:.*# while this run lasts, then:(.*)$")
"""The profile line of params.yaml during a run in another profile, which `poseboard repro` writes and puts back."""


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last: a second row of the same name."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MethodEntry(BaseModel):
    """One row of the board; what is not named here is an option of the method."""

    model_config = ConfigDict(extra="allow", frozen=True)

    code: str = Field(description="file or folder whose changes rerun the row")
    after: str = Field(description="row whose checkpoint it starts from, or 'backbone'")
    class_: str | None = Field(default=None, alias="class", description="package.module:Class, if not a room's folder")
    datasets: list[str] = Field(
        default_factory=list,
        description="data sets of one stage each whose stage also runs this row of a profile alone",
    )
    roots: dict[Literal["train", "test"], str] = Field(
        default_factory=dict,
        description="for a method that is handed predicted roots: published results files instead of `after`",
    )

    @property
    def spec(self) -> str:
        """What ``find_method`` takes: the class, or the folder's name."""
        return self.class_ or Path(self.code).name


class Profile(_Strict):
    """How large a run is."""

    seeds: list[NonNegativeInt] = Field(min_length=1)
    processes: int = Field(ge=1, description="training processes: CPU cores or GPUs")
    world: dict[str, Any] = Field(description="options of the synthetic world")
    methods: dict[str, MethodEntry] = Field(default_factory=dict, description="rows that this profile alone has")
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
    backbone: dict[str, Any]
    methods: dict[str, MethodEntry]
    detections: dict[str, list[str]] = Field(default_factory=dict)
    profiles: dict[str, Profile]
    colours: dict[str, str] = Field(default_factory=dict, description="row -> its colour on the page")


@dataclass(frozen=True)
class Settings:
    """params.yaml in one profile.

    Args:
        home: folder that params.yaml is in.
        params: its content.
    """

    home: Path
    params: Params

    @classmethod
    def read(cls, path: Path = Path("params.yaml")) -> Settings:
        """Parse a file; InputError names file and key.

        ``POSEBOARD_PROFILE`` in the environment says which profile a stage runs in. Otherwise it is the file's own,
        also while a run in another one lasts.
        """
        try:
            text = path.read_text(encoding="utf-8")
            values = yaml.load(BORROWED.sub(r"profile:\1", text, count=1), _UniqueKeys)
        except FileNotFoundError:
            raise InputError(path, "there is no such file", "run from the folder that has params.yaml") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(path, f"is not YAML ({' '.join(str(error).split())[:160]})", "mend it") from None
        if not isinstance(values, dict):
            raise InputError(path, "holds no settings", "take the committed file and change that")
        params = validated(Params, values, path)
        names = {
            "profiles": list(params.profiles),
            "datasets": list(params.datasets),
            "methods": [*params.methods, *(row for profile in params.profiles.values() for row in profile.methods)],
            "detections": [name for of, rows in params.detections.items() for name in (of, *rows)],
        }
        for field, of_field in names.items():
            for name in of_field:
                check_name(f"{path}: {field}", name)
        for name in RESERVED_PROFILES:
            if name in params.profiles:
                raise InputError(
                    f"{path}: profiles.{name}", f"results/{name} holds other things", "choose another name"
                )
        if params.profile not in params.profiles:
            raise InputError(
                f"{path}: profile", f"no profile {params.profile!r}", one_of(params.profile, params.profiles)
            )
        if profile := os.environ.get("POSEBOARD_PROFILE"):
            params = _in_profile(params, profile, "POSEBOARD_PROFILE")
        settings = cls(path.resolve().parent, params)
        for name, entry in settings.rows.items():
            if name == BACKBONE:
                raise InputError(f"{path}: methods.{name}", "is the 2D backbone's name", "choose another for the row")
            if entry.after != BACKBONE and entry.after not in settings.rows:
                raise InputError(
                    f"{path}: methods.{name}.after", f"no row {entry.after!r}", "name a row of methods, or backbone"
                )
        settings._check_profiles(path)
        return settings

    def in_profile(self, profile: str) -> Settings:
        """The same settings in another profile; InputError if there is none such."""
        return replace(self, params=_in_profile(self.params, profile, "--profile"))

    def with_root(self, dataset: str, root: Path) -> Settings:
        """The same settings with a data set's root replaced (by a command-line option)."""
        entry = {**self.params.datasets.get(dataset, {}), "root": str(root.resolve())}
        return replace(
            self, params=self.params.model_copy(update={"datasets": {**self.params.datasets, dataset: entry}})
        )

    @property
    def profile(self) -> Profile:
        """The profile in force."""
        return self.params.profiles[self.params.profile]

    @property
    def page(self) -> Path:
        """Folder of the pages that `poseboard report` writes."""
        return self.results / "leaderboard"

    @property
    def stage_times(self) -> Path:
        """File of how long the stages of the profile took, for estimates; see `benchmarks.stage_times`."""
        return self.results / "stage-times.json"

    @property
    def rows(self) -> dict[str, MethodEntry]:
        """The rows of every profile, then those that the profile in force alone has."""
        return {**self.params.methods, **self.profile.methods}

    @property
    def results(self) -> Path:
        """results/<profile>."""
        return self.home / "results" / self.params.profile

    def dataset_file(self, kind: Literal["data", "comparisons"], dataset: str) -> Path:
        """results/<profile>/<kind>/<dataset>.json.

        Raises:
            InputError: the data set's name would lead elsewhere.
        """
        check_name("data set", dataset)
        return self.results / kind / f"{dataset}.json"

    def row_path(self, kind: RowKind, row: str, dataset: str) -> Path:
        """The file or folder of a row's results on a data set, in the layout that protocols/records.py lists.

        Raises:
            InputError: one of the names would lead elsewhere.
        """
        check_name("data set", dataset)
        return row_path(self.results, kind, row, dataset)

    def row_lock(self, kind: RowKind, row: str, dataset: str) -> Path:
        """Held by who writes `row_path`; beside the rows' folders, which hold results alone."""
        check_name("data set", dataset)
        return self.results / kind / f".{row}-{dataset}.lock"

    def checkpoint(self, dataset: str, method: str, seed: int) -> Path:
        """File of a row's final weights."""
        return self.row_path("checkpoints", method, dataset) / f"seed{seed}.pt"

    def portable(self, text: str) -> str:
        """A text for results/, which travel: paths inside this checkout without the place it has on this machine."""
        return text.replace(f"{self.home}{os.sep}", "")

    def entry(self, method: str) -> MethodEntry:
        """A row of ``methods``; InputError if there is none of that name."""
        if method not in self.rows:
            # What follows an @ is the row of a stage, of which this is none.
            meant = one_of(method.rpartition("@")[2], self.rows)
            raise InputError(f"method {method!r}", "is not in params.yaml", meant)
        return self.rows[method]

    def options(self, method: str) -> dict[str, Any]:
        """The options of a row (or of the backbone), in the profile in force."""
        values = self.params.backbone if method == BACKBONE else dict(self.entry(method).model_extra or {})
        return {key: self._of_profile(value) for key, value in values.items()}

    def dataset_options(self, name: str) -> dict[str, Any]:
        """The entry of a data set; InputError if params.yaml has none."""
        if name not in self.params.datasets:
            remedy = f"{one_of(name, self.params.datasets)}, or add it there"
            raise InputError(f"data set {name!r}", "is not in params.yaml", remedy)
        return dict(self.params.datasets[name])

    def is_named(self, dataset: str) -> bool:
        """Whether params.yaml (or ``--root``) names a folder of the data set: one that has to be there, and whole."""
        return self.params.datasets.get(dataset, {}).get("root") is not None

    def is_absent(self, dataset: str) -> bool:
        """Whether there is none: no folder is named, no synthetic world is known, and data/<dataset> is not there."""
        if dataset not in self.params.datasets:
            return True
        return dataset not in WORLDS and not self.is_named(dataset) and not self._default_root(dataset).exists()

    def root(self, dataset: str) -> Path:
        """Folder of a data set: the named one, else that of the profile's synthetic world, else data/<dataset>.

        Raises:
            InputError: params.yaml does not have the data set, its root is no path, or it is absent.
        """
        root = self.dataset_options(dataset).get("root")
        if self.is_absent(dataset):
            remedy = f"name the folder of your copy, or see `poseboard data status` for where to get {dataset}"
            problem = f"names no folder, and {self.portable(str(self._default_root(dataset)))} is not there"
            raise InputError(f"params.yaml: datasets.{dataset}.root", problem, remedy)
        if root is not None:
            if not isinstance(root, str) or not root:
                raise InputError(
                    f"params.yaml: datasets.{dataset}.root", f"{root!r} is no path", "name a folder, or null"
                )
            return (self.home / root).resolve()
        if dataset not in WORLDS:
            return self._default_root(dataset)
        text = json.dumps(self.profile.world, sort_keys=True)
        return self.home / "data" / f"synthetic-{dataset}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def _default_root(self, dataset: str) -> Path:
        return self.home / "data" / dataset

    def _check_profiles(self, path: Path) -> None:
        """Refuse a mapping profile -> value with a key that is no profile: it would be taken for an option's value."""
        entries = {BACKBONE: self.params.backbone}
        entries |= {f"methods.{name}": dict(entry.model_extra or {}) for name, entry in self.rows.items()}
        for where, values in entries.items():
            for option, value in values.items():
                if not isinstance(value, Mapping):
                    continue
                for key in map(str, value):
                    meant = difflib.get_close_matches(key, self.params.profiles, n=1, cutoff=0.7)
                    if key not in self.params.profiles and (meant or not set(self.params.profiles).isdisjoint(value)):
                        raise InputError(
                            f"{path}: {where}.{option}", f"no profile {key!r}", one_of(key, self.params.profiles)
                        )

    def _of_profile(self, value: Any) -> Any:
        if isinstance(value, Mapping) and value and set(value) <= set(self.params.profiles):
            if self.params.profile in value:
                return value[self.params.profile]
            if "default" in value:
                return value["default"]
            raise InputError("params.yaml", f"{dict(value)} has no value for profile {self.params.profile}", "add one")
        return value


def _in_profile(params: Params, profile: str, where: str) -> Params:
    if profile not in params.profiles:
        raise InputError(f"{where} {profile}", "no such profile", one_of(profile, params.profiles))
    return params.model_copy(update={"profile": profile})
