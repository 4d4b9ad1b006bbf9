"""params.yaml in one profile: rows, data sets and their options resolved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml.error import YAMLError

from poseboard.benchmarks.layout import Layout, run_file
from poseboard.benchmarks.params import (
    FALLBACK,
    PARTIAL,
    SCRATCH,
    MethodEntry,
    Params,
    Profile,
    parse_yaml,
    read_params,
)
from poseboard.datasets.catalog import catalog, open_dataset
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.sample import Dataset
from poseboard.protocols.records import RowKind

PROFILE_VARIABLE = "POSEBOARD_PROFILE"
"""Environment variable with the profile of a command, as ``--profile`` sets it, and of all stages of a run."""

CLUSTER_VARIABLE = "POSEBOARD_CLUSTER"
"""Environment variable with the cluster of a command, as ``--cluster`` sets it, and of all stages of a run."""

_PLAN = "plan"
"""The first stage of a run. It reads params.yaml; the other stages read the copy that it makes."""


def profile_of_run(home: Path) -> str:
    """The profile that `run_file` names.

    Raises:
        InputError: the file cannot be read.
    """
    path = run_file(home)
    try:
        return str(parse_yaml(path.read_text(encoding="utf-8"))["run"]["profile"])
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError):
        raise InputError(path, "does not name the profile of a run", "run `poseboard repro`, which writes it") from None


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
        (`Layout.snapshot`), so that an edit during a run changes the next run only.

        Raises:
            InputError: a value is wrong, or DVC runs the stages of another profile.
        """
        home, stage = path.resolve().parent, os.environ.get("DVC_STAGE")
        profile = os.environ.get(PROFILE_VARIABLE)
        if stage is None or not run_file(home).is_file():
            params = read_params(path)
            return cls(home, params.in_profile(profile, "profile") if profile else params, params.profile)
        of_run = profile_of_run(home)
        params = read_params(path if stage == _PLAN else Layout(home, of_run).snapshot)
        if of_run != (expected := profile or params.profile):
            problem = f"has profile {of_run}, and this run is of {expected}"
            raise InputError(run_file(home), problem, "run `poseboard repro` instead")
        return cls(home, params.in_profile(of_run, str(run_file(home))), params.profile)

    def in_profile(self, profile: str, where: str = "--profile") -> Settings:
        """See `Params.in_profile`."""
        return replace(self, params=self.params.in_profile(profile, where))

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
    def cluster(self) -> str | None:
        """Address of the Dask scheduler in force; None for processes of this machine."""
        return os.environ.get(CLUSTER_VARIABLE) or self.params.cluster

    @property
    def layout(self) -> Layout:
        """Where the files of the profile lie."""
        return Layout(self.home, self.params.profile)

    @property
    def results(self) -> Path:
        """See `Layout`."""
        return self.layout.results

    @property
    def page(self) -> Path:
        """See `Layout`."""
        return self.layout.page

    def dataset_file(self, kind: Literal["data", "comparisons"], dataset: str) -> Path:
        """See `Layout`."""
        return self.layout.dataset_file(kind, dataset)

    def row_path(self, kind: RowKind, row: str, dataset: str) -> Path:
        """See `Layout`."""
        return self.layout.row_path(kind, row, dataset)

    def row_folder(self, kind: RowKind, row: str) -> Path:
        """See `Layout`."""
        return self.layout.row_folder(kind, row)

    def row_lock(self, kind: RowKind, row: str, dataset: str) -> Path:
        """See `Layout`."""
        return self.layout.row_lock(kind, row, dataset)

    def checkpoint(self, dataset: str, method: str, seed: int) -> Path:
        """See `Layout`."""
        return self.layout.checkpoint(dataset, method, seed)

    def portable(self, text: str) -> str:
        """See `Layout`."""
        return self.layout.portable(text)

    @property
    def rows(self) -> dict[str, MethodEntry]:
        """The rows by name."""
        return self.params.methods

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
        return None if named is None else list(self.params.chosen(named, None))

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
        named = self.params.chosen(self.entry(method).weights, dataset)
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
        return {key: self.params.chosen(value, dataset) for key, value in values.items()}

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
