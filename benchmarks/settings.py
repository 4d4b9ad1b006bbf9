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
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, field_validator

from poseboard.datasets.catalog import catalog, open_dataset
from poseboard.datasets.errors import InputError, did_you_mean, validated
from poseboard.datasets.sample import Dataset
from poseboard.protocols.records import RowKind, check_name, row_folder, row_path

SCRATCH = "scratch"
"""What a row names under ``after`` that starts from no other row's checkpoint; no row may be called so."""

FALLBACK = "default"
"""The profile whose value an option takes where it has none for the profile in force."""

RESERVED_PROFILES = ("leaderboard", "published", "speed")
"""Folders of results/ that are no profile's."""

PARTIAL = "partial"
"""What is said of a data set whose folder may lack files; everything else in its entry is its adapter's."""

PROFILE_VARIABLE = "POSEBOARD_PROFILE"
"""Environment variable with the profile of a command, as ``--profile`` sets it, and of all stages of a run."""

_BEGIN = "begin"
"""The first stage of a run. It reads params.yaml; the other stages read the copy that it has made."""

if TYPE_CHECKING:
    from yaml import SafeLoader as _SafeLoader
else:
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # by libyaml where it is there


class ParamsLoader(_SafeLoader):
    """Reads params.yaml as DVC does, by YAML 1.2: `on` is a word, and only `true` and `false` are truth values.

    A key that stands twice is refused, of which YAML would silently take the last: a second row of the same name.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, words) for tag, words in of_first if tag != "tag:yaml.org,2002:bool"]
        for first, of_first in _SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, unless a key stands twice in it."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


ParamsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def run_file(home: Path) -> Path:
    """File of the profile whose stages DVC runs; dvc.yaml takes its paths from there."""
    return home / "results" / "run.yaml"


def profile_of_run(home: Path) -> str:
    """The profile that `run_file` names.

    Raises:
        InputError: the file cannot be read.
    """
    path = run_file(home)
    try:
        return str(yaml.safe_load(path.read_text(encoding="utf-8"))["run"]["profile"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        raise InputError(path, "does not name the profile of a run", "run `poseboard repro`, which writes it") from None


def snapshot(home: Path, profile: str) -> Path:
    """Copy of params.yaml that the first stage of a run makes and the other stages read."""
    return home / "results" / check_name("profile", profile) / "settings" / "params.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _lists(value: Any) -> list[list[str]]:
    """All lists of names that a mapping by profile or data set has, or the one that stands for all of them."""
    if isinstance(value, Mapping):
        return [names for inner in value.values() for names in _lists(inner)]
    return [] if value is None else [value]


def _of_words(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    if isinstance(value, Mapping) and value:
        return {key: _of_words(inner) for key, inner in value.items()}
    raise ValueError("is no list of data sets, nor a mapping profile -> list")


class MethodEntry(BaseModel):
    """One row of the board; what is not named here is an option of the method.

    ``on``, ``train_on``, ``weights`` and the options may be one value, or a mapping from profiles and data sets to
    values.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    code: str = Field(description="file or folder of its class; changes of it, and of what it imports, rerun the row")
    after: str = Field(description="row whose checkpoint it starts from, or 'scratch'")
    class_: str | None = Field(default=None, alias="class", description="package.module:Class, if not a room's folder")
    on: Annotated[Any, BeforeValidator(_of_words)] = Field(
        default=None,
        description="data sets that it runs on; left out: every one that fits it and that a table is run on",
    )
    train_on: Annotated[Any, BeforeValidator(_of_words)] = Field(
        default=None,
        description="data sets that it is trained on together, those with depth and without half and half; left out: "
        "the data set that it runs on, or for a row without `on` those of the row under `after`",
    )
    weights: str | dict[str, Any] | None = Field(
        default=None, description="checkpoint of ours that is taken as it is, instead of a training"
    )
    roots: dict[Literal["train", "test"], str] = Field(
        default_factory=dict,
        description="for a method that is handed predicted roots: published results files instead of `after`",
    )
    bound: bool = Field(
        default=False,
        description="a bound that other rows are read against, because it gets inputs that their users do not have: "
        "shown, and never ranked",
    )

    @property
    def spec(self) -> str:
        """What ``find_method`` takes: the class, or the folder's name."""
        return self.class_ or Path(self.code).name


class Profile(_Strict):
    """How large a run is."""

    seeds: list[NonNegativeInt] = Field(min_length=1)
    processes: int = Field(ge=1, description="processes of trainings and evaluations: CPU cores or GPUs")
    evaluation_forks: int | None = Field(
        default=None,
        ge=1,
        description="processes of evaluations on a CPU under Linux, where they are forks; left out: `processes`",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="of PyTorch in one process; left out: one per core, or one in each of several processes",
    )
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


@dataclass(frozen=True)
class Settings:
    """params.yaml in one profile.

    Args:
        home: folder that params.yaml is in.
        params: its content, in the profile in force.
        own_profile: the profile that the file itself names.
    """

    home: Path
    params: Params
    own_profile: str = ""

    @classmethod
    def read(cls, path: Path = Path("params.yaml")) -> Settings:
        """Read params.yaml in the profile of ``POSEBOARD_PROFILE``, or else in the profile that it names.

        Inside a stage of DVC this is the copy of params.yaml that the first stage of the run has made
        (`snapshot`), so that an edit during a run changes the next run only.

        Raises:
            InputError: a value is wrong, or DVC runs the stages of another profile.
        """
        home, stage = path.resolve().parent, os.environ.get("DVC_STAGE")
        profile = os.environ.get(PROFILE_VARIABLE)
        if stage is None or not run_file(home).is_file():
            settings = cls._parse(path, home)
            return settings.in_profile(profile, "profile") if profile else settings
        of_run = profile_of_run(home)
        settings = cls._parse(path if stage == _BEGIN else snapshot(home, of_run), home)
        if of_run != (expected := profile or settings.params.profile):
            raise InputError(
                run_file(home), f"has profile {of_run}, and this run is of {expected}", "run `poseboard repro` instead"
            )
        return settings.in_profile(of_run, str(run_file(home)))

    @classmethod
    def _parse(cls, path: Path, home: Path) -> Settings:
        """The settings of a file, in its own profile."""
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), ParamsLoader)
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
            "methods": list(params.methods),
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
                f"{path}: profile", f"no profile {params.profile!r}", did_you_mean(params.profile, params.profiles)
            )
        settings = cls(home, params, params.profile)
        settings._check_rows(path)
        settings._check_worlds(path)
        return settings

    def in_profile(self, profile: str, where: str = "--profile") -> Settings:
        """The same settings in another profile.

        Args:
            profile: its name.
            where: option, variable or file that names it, for the error.

        Raises:
            InputError: params.yaml has no such profile.
        """
        if profile not in self.params.profiles:
            raise InputError(f"{where} {profile}", "no such profile", did_you_mean(profile, self.params.profiles))
        return replace(self, params=self.params.model_copy(update={"profile": profile}))

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
        """The rows by name."""
        return self.params.methods

    @property
    def results(self) -> Path:
        """results/<profile>."""
        return self.home / "results" / self.params.profile

    def dataset_file(self, kind: Literal["data", "comparisons"], dataset: str) -> Path:
        """results/<profile>/<kind>/<dataset>.json.

        Raises:
            InputError: the data set's name would lead elsewhere.
        """
        return self.results / kind / f"{check_name('data set', dataset)}.json"

    def row_path(self, kind: RowKind, row: str, dataset: str) -> Path:
        """The file or folder of a row's results on a data set, in the layout that protocols/records.py lists.

        Raises:
            InputError: one of the names would lead elsewhere.
        """
        return row_path(self.results, kind, row, dataset)

    def row_folder(self, kind: RowKind, row: str) -> Path:
        """The folder of a row's results of one kind, on all data sets."""
        return row_folder(self.results, kind, row)

    def row_lock(self, kind: RowKind, row: str, dataset: str) -> Path:
        """Held by who writes `row_path`; beside the rows' folders, which hold results alone."""
        return self.results / kind / f".{check_name('row', row)}-{check_name('data set', dataset)}.lock"

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
            meant = did_you_mean(method.rpartition("@")[2], self.rows)
            raise InputError(f"method {method!r}", "is not in params.yaml", meant)
        return self.rows[method]

    def after(self, method: str) -> str | None:
        """The row whose checkpoint a row starts from; None where it starts from no other's."""
        after = self.entry(method).after
        return None if after == SCRATCH else after

    def on(self, method: str) -> list[str] | None:
        """The data sets that a row names, in the profile in force; None where it leaves that open."""
        named = self.entry(method).on
        return None if named is None else list(self._chosen(named, None))

    def train_on(self, method: str, dataset: str) -> list[str]:
        """The data sets that a row is trained on for a data set, absent ones too: that data set where it names none."""
        named = self.train_on_entry(method)
        while isinstance(named, Mapping):
            key = next((key for key in (dataset, self.params.profile, FALLBACK) if key in named), None)
            named = None if key is None else named[key]
        return [dataset] if named is None else list(dict.fromkeys(named))

    def train_on_entry(self, method: str) -> Any:
        """``train_on`` in params.yaml: of the row, or if it has neither `on` nor that, of the row under ``after``."""
        entry = self.entry(method)
        while entry.on is None and entry.train_on is None and entry.after in self.rows:
            entry = self.rows[entry.after]
        return entry.train_on

    def trained_as(self, method: str, dataset: str) -> str | None:
        """The one other data set, with the same joints, whose training of a row is that for a data set too, or None.

        Its weights are then taken over as they are: nothing is trained twice.

        Example: a row with ``train_on: {human36m-rigs: [human36m]}`` is trained as for human36m.
        """
        named = self.train_on(method, dataset)
        if len(named) != 1 or named == [dataset]:
            return None
        joints = [None if (entry := catalog().get(name)) is None else entry.skeleton for name in (dataset, *named)]
        return named[0] if joints[0] is not None and joints[0] == joints[1] else None

    def may_run(self, method: str) -> list[str]:
        """The data sets that results of a row may be of: those that it names, else all; whether they are there or not.

        Raises:
            InputError: there is no such row.
        """
        on = self.on(method)
        return [dataset for dataset in self.params.datasets if on is None or dataset in on]

    def nowhere(self, method: str) -> str:
        """What the terminal says of a row that runs on no data set, as one with an empty ``on`` does.

        Example: "resnet152: left out, params.yaml runs it on no data set in profile smoke"
        """
        return f"{method}: left out, params.yaml runs it on no data set in profile {self.params.profile}"

    def weights(self, method: str, dataset: str) -> Path | None:
        """The file that a row takes its weights from on a data set; None where they come out of a training.

        Raises:
            InputError: what params.yaml has there is no path.
        """
        named = self._chosen(self.entry(method).weights, dataset)
        if named is None or (isinstance(named, str) and named):
            return None if named is None else self.home / named
        raise InputError(f"params.yaml: methods.{method}.weights", f"{named!r} is no path", "name a file, or null")

    def seeds(self, method: str, dataset: str) -> list[int]:
        """Seeds of a row's weights: those of the profile, but one where the weights come from a file."""
        trained_for = dataset if self.weights(method, dataset) is not None else self.trained_as(method, dataset)
        from_file = self.weights(method, trained_for or dataset) is not None
        return self.profile.seeds[:1] if from_file else self.profile.seeds

    def options(self, method: str, dataset: str | None = None) -> dict[str, Any]:
        """The options of a row in the profile in force.

        Args:
            method: the row.
            dataset: whose values count where they differ; None: a mapping data set -> value stays as it is.

        Raises:
            InputError: there is no such row, or an option has no value for the profile or the data set.
        """
        values = self.entry(method).model_extra or {}
        return {key: self._chosen(value, dataset) for key, value in values.items()}

    def dataset_options(self, name: str) -> dict[str, Any]:
        """The options of a data set's adapter, and its root; InputError if params.yaml has no such data set."""
        if name not in self.params.datasets:
            remedy = f"{did_you_mean(name, self.params.datasets)}, or add it there"
            raise InputError(f"data set {name!r}", "is not in params.yaml", remedy)
        return {option: value for option, value in self.params.datasets[name].items() if option != PARTIAL}

    def open_dataset(self, name: str) -> Dataset:
        """Open a data set with its options, whatever its status; InputError for a wrong name, option or root."""
        return open_dataset(name, {**self.dataset_options(name), "root": self.root(name)})

    def takes_partial(self, name: str) -> bool:
        """Whether a run takes a folder of the data set that lacks files, with what it has.

        Raises:
            InputError: params.yaml has neither true nor false there.
        """
        value = self.params.datasets.get(name, {}).get(PARTIAL, False)
        if not isinstance(value, bool):
            raise InputError(f"params.yaml: datasets.{name}.{PARTIAL}", f"is {value!r}", "say true or false")
        return value

    def is_named(self, dataset: str) -> bool:
        """Whether params.yaml (or ``--root``) names a folder of the data set: one that has to be there, and whole."""
        return self.params.datasets.get(dataset, {}).get("root") is not None

    def is_world(self, dataset: str) -> bool:
        """Whether it is a synthetic world: no folder is named, and the profile has options of a world for it."""
        return dataset in self.profile.worlds and dataset in self.params.datasets and not self.is_named(dataset)

    def world_options(self, dataset: str) -> dict[str, Any]:
        """Options of the profile's world of a data set; where ``known_rig`` names one, the seed of that one's world.

        Where a folder is named for it the rig of the training is none of ours, and the option is left out.
        """
        options = dict(self.profile.worlds[dataset])
        if isinstance(trained := options.get("known_rig"), str):
            del options["known_rig"]
            if self.is_world(trained):
                options["known_rig"] = self.profile.worlds[trained].get("seed", 0)
        return options

    def is_absent(self, dataset: str) -> bool:
        """Whether there is none: no folder is named, the profile has no world for it, no data/<dataset> is there."""
        if dataset not in self.params.datasets:
            return True
        named = self.is_named(dataset) or self.is_world(dataset)
        return not named and not self._default_root(dataset).exists()

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
        if not self.is_world(dataset):
            return self._default_root(dataset)
        text = json.dumps(self.world_options(dataset), sort_keys=True)
        return self.home / "data" / f"synthetic-{dataset}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def _default_root(self, dataset: str) -> Path:
        return self.home / "data" / dataset

    def _check_chain(self, name: str, where: str) -> None:
        """Refuse a row that would start from its own checkpoint, over others or not."""
        passed = [name]
        while (after := self.rows[passed[-1]].after) in self.rows:
            if after in passed:
                chain = " after ".join([*passed, after])
                raise InputError(where, f"{chain}: none of them can be first", f"let one start from {SCRATCH}")
            passed.append(after)

    def _check_rows(self, path: Path) -> None:
        """Refuse rows that name no row or data set, and mappings that cannot be told from an option's value."""
        both = self.params.profiles.keys() & self.params.datasets.keys()
        if both:
            raise InputError(f"{path}: datasets.{min(both)}", "is a profile's name as well", "rename the profile")
        for name in self.params.colours:
            if name not in self.rows:
                raise InputError(f"{path}: colours.{name}", "no such row", did_you_mean(name, self.rows))
        for name, entry in self.rows.items():
            where = f"{path}: methods.{name}"
            if name == SCRATCH:
                raise InputError(where, "stands for no row, where `after` says it", "choose another name")
            if entry.after != SCRATCH and entry.after not in self.rows:
                raise InputError(
                    f"{where}.after", f"no row {entry.after!r}", f"{did_you_mean(entry.after, self.rows)}, or {SCRATCH}"
                )
            self._check_chain(name, f"{where}.after")
            fields = {"on": entry.on, "train_on": entry.train_on, "weights": entry.weights, **(entry.model_extra or {})}
            for option, value in fields.items():
                self._check_keys(f"{where}.{option}", value)
            for option, lists in {"on": [self.on(name) or []], "train_on": _lists(entry.train_on)}.items():
                for dataset in (dataset for names in lists for dataset in names):
                    if dataset not in self.params.datasets:
                        meant = did_you_mean(dataset, self.params.datasets)
                        raise InputError(f"{where}.{option}", f"no data set {dataset!r}", meant)

    def _check_worlds(self, path: Path) -> None:
        """Refuse worlds of data sets in whose layout none can be written."""
        known = [name for name, entry in catalog().items() if entry.layout is not None]
        for profile, of_profile in self.params.profiles.items():
            for name in of_profile.worlds:
                if name not in known:
                    where = f"{path}: profiles.{profile}.worlds.{name}"
                    raise InputError(where, "no synthetic world is written in its layout", did_you_mean(name, known))
            for name, options in of_profile.worlds.items():
                rig = options.get("known_rig")
                if isinstance(rig, str) and rig not in self.params.datasets:
                    where = f"{path}: profiles.{profile}.worlds.{name}.known_rig"
                    raise InputError(where, f"no data set {rig!r}", did_you_mean(rig, self.params.datasets))

    def _check_keys(self, where: str, value: Any) -> None:
        """Refuse a mapping by profile or data set with a key that is neither: it would be taken for a value."""
        if not isinstance(value, Mapping):
            return
        names = [*self.params.profiles, *self.params.datasets]
        for key in map(str, value):
            meant = difflib.get_close_matches(key, names, n=1, cutoff=0.7)
            if key not in names and (meant or not set(names).isdisjoint(value)):
                raise InputError(where, f"no profile or data set {key!r}", did_you_mean(key, names))
        for key, inner in value.items():
            self._check_keys(f"{where}.{key}", inner)

    def _chosen(self, value: Any, dataset: str | None) -> Any:
        """A value as it is, or of a mapping by profile and data set the most specific one: data set before profile."""
        if not isinstance(value, Mapping) or not value:
            return value
        if not set(value) <= {*self.params.profiles, *self.params.datasets}:
            return {key: self._chosen(inner, dataset) for key, inner in value.items()}
        for key in (dataset, self.params.profile, FALLBACK):
            if key in value:
                return self._chosen(value[key], dataset)
        if dataset is None and not set(value).isdisjoint(self.params.datasets):
            return dict(value)
        place = f"profile {self.params.profile}" + (f" and data set {dataset}" if dataset else "")
        raise InputError("params.yaml", f"{dict(value)} has no value for {place}", "add one")
