"""Plan of a run: params.yaml, the catalogue and the tables, resolved into one frozen Run per row and data set."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from poseboard.benchmarks.layout import Layout, run_file
from poseboard.benchmarks.params import (
    CLUSTER_VARIABLE,
    FALLBACK,
    KIND,
    PARTIAL,
    PROFILE_VARIABLE,
    SCRATCH,
    MethodEntry,
    Params,
    Profile,
    read_params,
)
from poseboard.datasets.catalog import Entry, catalog, open_dataset
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.files import parse_yaml, read_bytes
from poseboard.datasets.sample import Dataset, FileState, Status
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, Method, declared_inputs, find_learner, is_separable, predicts
from poseboard.protocols.condition import Condition
from poseboard.protocols.records import RowKind
from poseboard.protocols.table import Group, Table, check_control, read_tables

TABLES = Path(__file__).parent / "tables"

_PLAN = "plan"
"""The first stage of a run. It reads params.yaml; the other stages read the copy that it makes."""


@dataclass(frozen=True, eq=False)
class DataSource:
    """Data set of params.yaml: its folder and the options for opening it.

    Args:
        name: name in params.yaml.
        root: folder from params.yaml, else the profile's synthetic world, else data/<name>; None: missing.
        options: options of the adapter, without the root.
        is_named: whether params.yaml or ``--root`` names the folder, which must then exist and, unless `is_partial`, be
            complete.
        world: options of the synthetic world that replaces the data set; None: no world.
        is_partial: whether to use an incomplete folder.
        manifest: in a job, hash that the opened data set must have; None: not checked.
        kind: name of the adapter in the catalogue; empty: the name of the data set.

    A job with a data source is pickled without the opened data set; each worker opens the data set once.
    """

    name: str
    root: Path | None
    options: Mapping[str, Any]
    is_named: bool = False
    world: Mapping[str, Any] | None = None
    is_partial: bool = False
    manifest: str | None = None
    kind: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        manifest = self.dataset.manifest() if "dataset" in self.__dict__ else self.manifest
        fields = (self.name, self.root, dict(self.options), self.is_named, self.world, self.is_partial, manifest)
        return _source_in_worker, (pickle.dumps((*fields, self.kind)),)

    @property
    def entry(self) -> Entry | None:
        """Catalogue entry of the adapter; None: the suite has no such adapter."""
        return catalog().get(self.kind or self.name)

    @cached_property
    def skeleton(self) -> Skeleton | None:
        """Joint set of predictions, from the folder or else from the adapter; None without an adapter."""
        if self.entry is None:
            return None
        try:
            return self.entry.skeleton if self.root is None else self.open().skeleton
        except InputError:  # of a wrong option or a damaged folder, which those commands name that read it
            return self.entry.skeleton

    @property
    def is_absent(self) -> bool:
        """Whether there is no local copy: no folder in params.yaml, no synthetic world and no data/<name>."""
        return self.root is None

    @property
    def is_missing(self) -> bool:
        """Whether the data set is absent, or its folder is not named in params.yaml and lacks its files."""
        return self.is_absent or (not self.is_named and self.open().status().state == "missing")

    def open(self) -> Dataset:
        """Open the data set without checking its status.

        Raises:
            InputError: there is no local copy, or an option is wrong.
        """
        if self.root is None:
            problem = f"names no folder, and data/{self.name} is not there"
            remedy = f"set the folder of your copy; `poseboard data status` says where to get {self.name}"
            raise InputError(f"params.yaml: datasets.{self.name}.root", problem, remedy)
        return open_dataset(self.kind or self.name, {**self.options, "root": self.root}, name=self.name)

    @cached_property
    def dataset(self) -> Dataset:
        """The opened data set, opened and checked on first access.

        Raises:
            InputError: the data set is missing, incomplete or damaged, or an option is wrong.
        """
        dataset = self.open()
        status: Status = dataset.status()
        if self.is_named and self.root is not None and not self.root.is_dir():
            where = f"params.yaml: datasets.{self.name}.root"
            raise InputError(where, f"there is no folder {self.root}", "correct the path, or remove it")
        if status.state in ("missing", "damaged"):
            remedy = f"run `poseboard data prepare {self.name}`, or {status.obtain}"
            raise InputError(f"data set {self.name}", status.detail, remedy)
        if self.manifest not in (None, dataset.manifest()):
            remedy = "let all workers read the same folder, and leave it unchanged during a run"
            raise InputError(f"data set {self.name}", "a worker reads another version of the files", remedy)
        return dataset


@lru_cache(maxsize=32)
def _source_in_worker(fields: bytes) -> DataSource:
    return DataSource(*pickle.loads(fields))


@dataclass(frozen=True, eq=False)
class Run:
    """Row on a data set, with all options resolved.

    Args:
        row: name in params.yaml.
        source: data set of the run.
        layout: paths of the results.
        spec: argument of ``find_method``.
        code: file or folder of the row's class.
        options: options for the data set and the profile.
        seeds: training seeds.
        start: run of the row that ``after`` names on the same data set; None: the row starts from scratch.
        weights: checkpoint that the row uses instead of a training; None: the row is trained.
        training: data sets of the joint training, including missing ones.
        same_as: run of the row on another data set with the same joints and the same training, whose weights this run
            copies; None: this run has its own training.
        tables: all tables on the data set in the profile, by id.
        is_bound: whether the row is a bound for other rows, which is never ranked.
        names_dataset: whether params.yaml names the data set for the row.
        warning: text that the page shows with every score of the profile.
        by_training: runs of the row on other data sets whose weights are tested on this one (`Condition.trained_on`).
        followers: runs on the data set of the rows that start from this row.
        left_out: reason why the row does not run on the data set; empty if it does.
    """

    row: str
    source: DataSource
    layout: Layout
    spec: str
    code: str
    options: Mapping[str, Any]
    seeds: tuple[int, ...]
    start: Run | None
    weights: Path | None
    training: tuple[DataSource, ...]
    same_as: Run | None
    tables: tuple[Table, ...]
    is_bound: bool = False
    names_dataset: bool = False
    warning: str = ""
    by_training: Mapping[str, Run] = field(default_factory=dict)
    followers: tuple[Run, ...] = ()
    left_out: str = ""

    def __str__(self) -> str:
        return f"{self.source.name}/{self.row}"

    @property
    def dataset(self) -> Dataset:
        """The opened data set (`DataSource.dataset`)."""
        return self.source.dataset

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Map seeds to files of the final weights."""
        return {seed: self.checkpoint(seed) for seed in self.seeds}

    def checkpoint(self, seed: int) -> Path:
        """File of the final weights for a seed."""
        return self.layout.checkpoint(self.source.name, self.row, seed)

    def path(self, kind: RowKind) -> Path:
        """File or folder of the results of one kind (`Layout.row_path`)."""
        return self.layout.row_path(kind, self.row, self.source.name)

    def trained(self, on: str | None) -> Run:
        """Run that trained the weights: the row's run on the data set ``on``, or this run if ``on`` is None."""
        return self if on is None else self.by_training[on]

    @property
    def splits(self) -> list[str]:
        """Splits of the tables that have samples; if none has samples, all splits of the tables."""
        splits = splits_of(self.tables)
        return [split for split in splits if self.dataset.keys(split)] or splits

    def conditions(self, split: str, *, in_world: bool = True) -> list[Condition]:
        """Distinct conditions of all tables on a split; for a split without a table, all cameras at once.

        Args:
            split: name of the split.
            in_world: whether predictions from several cameras are in the world frame. If not, tables that need the
                world frame contribute only their single-camera conditions.

        Raises:
            InputError: a table names cameras that the data set lacks.
        """
        return conditions_of(self.tables, self.dataset.views, split, in_world=in_world)

    def facts(self) -> dict[str, Any]:
        """Values that the stages of the run depend on besides files, for the plan files of DVC."""
        return {
            "row": self.row,
            "dataset": self.source.name,
            "class": self.spec,
            "code": self.code,
            "options": dict(self.options),
            "seeds": list(self.seeds),
            "after": None if self.start is None else self.start.row,
            "weights": None if self.weights is None else self.layout.portable(str(self.weights)),
            "trained on": [source.name for source in self.training],
            "same training as": None if self.same_as is None else self.same_as.source.name,
            "bound": self.is_bound,
        }


@dataclass(frozen=True, eq=False)
class Plan:
    """Content of params.yaml in one profile, and the Runs that it defines.

    Args:
        params: content of params.yaml with the selected profile.
        layout: paths of the results.
        own_profile: name of the default profile in the file.

    Example:
        >>> plan = Plan.read(Path("params.yaml"))  # doctest: +SKIP
        >>> [run.source.name for run in plan.runs("dlt") if not run.left_out]  # doctest: +SKIP
        ['human36m', 'human36m-rigs', 'panoptic', 'panoptic-people']
    """

    params: Params
    layout: Layout
    own_profile: str = ""

    @classmethod
    def read(cls, path: Path = Path("params.yaml")) -> Plan:
        """Read params.yaml in the profile of ``POSEBOARD_PROFILE``, or else in its default profile.

        A stage of DVC reads the copy of params.yaml that the first stage of the run made (`Layout.snapshot`), so that
        an edit during a run has an effect only on the next run.

        Raises:
            InputError: a value is wrong, or DVC runs the stages of another profile.
        """
        home = Path(os.path.realpath(path)).parent  # `Path.resolve` raises RuntimeError for a link to itself
        stage = os.environ.get("DVC_STAGE")
        profile = os.environ.get(PROFILE_VARIABLE)
        if stage is None or not os.path.lexists(run_file(home)):
            params = read_params(path)
            own, where = params.profile, "profile"
        else:
            of_run, where = profile_of_run(home), str(run_file(home))
            params = read_params(path if stage == _PLAN else Layout(home, of_run).snapshot)
            own = params.profile
            if of_run != (expected := profile or own):
                problem = f"has profile {of_run}, and this run is of {expected}"
                raise InputError(run_file(home), problem, "run `poseboard repro` instead")
            profile = of_run
        params = params.in_profile(profile, where) if profile else params
        return cls(params, Layout(home, params.profile), own)

    def in_profile(self, profile: str) -> Plan:
        """Copy of the plan in another profile; raise InputError if the profile is unknown."""
        params = self.params.in_profile(profile)
        return replace(self, params=params, layout=replace(self.layout, profile=profile))

    def with_root(self, dataset: str, root: Path, kind: str | None = None) -> Plan:
        """Copy of the plan with another folder for a data set; an unknown data set is added.

        Args:
            dataset: name of the data set.
            root: folder of the data set.
            kind: name of the adapter; None: the kind in params.yaml, or the name of the data set.
        """
        entry = {**self.params.datasets.get(dataset, {}), "root": os.path.realpath(root)}
        datasets = {**self.params.datasets, dataset: entry if kind is None else {**entry, KIND: kind}}
        return replace(self, params=self.params.model_copy(update={"datasets": datasets}))

    @property
    def home(self) -> Path:
        """Folder of params.yaml."""
        return self.layout.home

    @property
    def profile(self) -> Profile:
        """The selected profile."""
        return self.params.profiles[self.params.profile]

    @property
    def cluster(self) -> str | None:
        """Address of the Dask scheduler whose workers run the jobs; None: processes of this machine."""
        return os.environ.get(CLUSTER_VARIABLE) or self.params.cluster

    @property
    def rows(self) -> dict[str, MethodEntry]:
        """Rows of params.yaml by name."""
        return self.params.methods

    def entry(self, row: str) -> MethodEntry:
        """Row of ``methods`` by name; raise InputError if it is unknown."""
        if row not in self.rows:
            # `train@dlt` is a stage name; suggest its row.
            similar = did_you_mean(row.rpartition("@")[2], self.rows)
            raise InputError(f"method {row!r}", "is not in params.yaml", similar)
        return self.rows[row]

    @cached_property
    def sources(self) -> dict[str, DataSource]:
        """Data sets of params.yaml by name."""
        return {name: self._source(name) for name in self.params.datasets}

    def source(self, dataset: str) -> DataSource:
        """Data set of params.yaml by name; raise InputError if it is unknown."""
        if dataset not in self.params.datasets:
            remedy = f"{did_you_mean(dataset, self.params.datasets)}, or add it there"
            raise InputError(f"data set {dataset!r}", "is not in params.yaml", remedy)
        return self.sources[dataset]

    def may_run(self, row: str) -> list[str]:
        """Data sets on which a row can have results: those that the row names, or else all, including missing ones.

        Raises:
            InputError: the row is unknown.
        """
        on = self.params.chosen(self.entry(row).on, None)
        return [dataset for dataset in self.params.datasets if self.params.names(on, dataset)]

    def runs(self, row: str) -> Iterator[Run]:
        """Runs of a row in the order of params.yaml, including those that are skipped (`Run.left_out`).

        A run on a missing data set is skipped without an error, even if the row names the data set.

        Raises:
            InputError: the row is unknown, its class does not exist, or an existing data set cannot be read.
        """
        for dataset in self.may_run(row):
            run = self.run(row, dataset)
            if not run.source.is_absent:
                yield run if run.names_dataset else replace(run, left_out=self._misfit(run))
                continue
            entry = run.source.entry
            where = f"; to run on it, {entry.obtain}" if entry is not None else ""
            yield replace(run, left_out=f"no folder is named and data/{dataset} is not there{where}")

    def run(self, row: str, dataset: str) -> Run:
        """Run of a row on a data set, even if params.yaml does not select the data set for the row.

        Raises:
            InputError: the row or data set is unknown, or an option has no value for the data set.
        """
        run = self._alone(row, dataset)
        start = run.start
        trainings = {group.trained_on for table in run.tables for group in table.groups if group.trained_on is not None}
        by_training = {name: self._alone(row, name) for name in self.params.datasets if name in trainings}
        for name in by_training.keys() - self.may_run(row):
            by_training[name] = replace(by_training[name], left_out="params.yaml does not run it there")
        if start is not None:
            of_start = {name: other.start for name, other in by_training.items() if other.start is not None}
            start = replace(start, by_training=of_start)
        after = [name for name, entry in self.rows.items() if entry.after == row]
        followers = tuple(self._alone(name, dataset) for name in after)
        return replace(run, start=start, by_training=by_training, followers=followers)

    def runs_on(self, dataset: str) -> list[Run]:
        """Runs on a data set, of all rows that can run on it."""
        self.source(dataset)
        return [self._alone(row, dataset) for row in self.rows if dataset in self.may_run(row)]

    def submission(self, name: str, dataset: str) -> Run:
        """Run for scoring submitted predictions: without code, options and weights.

        Raises:
            InputError: the data set is unknown.
        """
        return Run(
            row=name,
            source=self.source(dataset),
            layout=self.layout,
            spec="",
            code="",
            options={},
            seeds=(),
            start=None,
            weights=None,
            training=(),
            same_as=None,
            tables=self._tables_on(dataset),
            warning=self.profile.warning,
        )

    def _alone(self, row: str, dataset: str) -> Run:
        """Run with empty ``followers`` and ``by_training``."""
        entry, source, chosen = self.entry(row), self.source(dataset), self.params.chosen
        start = None if entry.after == SCRATCH else self._alone(entry.after, dataset)
        weights = chosen(entry.weights, dataset)
        if weights is not None and not (isinstance(weights, str) and weights):
            raise InputError(
                f"params.yaml: methods.{row}.weights", f"{weights!r} is not a path", "name a file, or null"
            )
        training = tuple(self.sources[name] for name in self._trained_on(row, dataset))
        same_as = None
        if len(training) == 1 and training[0].name != dataset and _have_same_joints(training[0], source):
            same_as = self._alone(row, training[0].name)
        is_imported = weights is not None or (same_as is not None and same_as.weights is not None)
        return Run(
            row=row,
            source=source,
            layout=self.layout,
            spec=entry.spec,
            code=entry.code,
            options=self.options(row, dataset),
            seeds=tuple(self.profile.seeds[:1] if is_imported else self.profile.seeds),
            start=start,
            weights=None if weights is None else self.home / weights,
            training=training,
            same_as=same_as,
            tables=self._tables_on(dataset),
            is_bound=entry.bound,
            names_dataset=entry.on is not None,
            warning=self.profile.warning,
        )

    def options(self, row: str, dataset: str | None = None) -> dict[str, Any]:
        """Options of a row in the selected profile; without a data set, mappings from data sets are not resolved."""
        return {key: self.params.chosen(value, dataset) for key, value in (self.entry(row).model_extra or {}).items()}

    @cached_property
    def _tables(self) -> dict[str, tuple[Table, ...]]:
        return {}

    def _tables_on(self, dataset: str) -> tuple[Table, ...]:
        if dataset not in self._tables:
            self._tables[dataset] = tuple(tables_on(dataset, self.params.profile, self.params.kind(dataset)))
        return self._tables[dataset]

    def _trained_on(self, row: str, dataset: str) -> list[str]:
        """Names of the training data sets of a row for a data set, including missing ones.

        A row with neither ``on`` nor ``train_on`` has the training data sets of the row that ``after`` names.
        """
        entry = self.entry(row)
        while entry.on is None and entry.train_on is None and entry.after in self.rows:
            entry = self.rows[entry.after]
        names = entry.train_on
        while isinstance(names, Mapping):
            key = next((key for key in (dataset, self.params.profile, FALLBACK) if key in names), None)
            names = None if key is None else names[key]
        return [dataset] if names is None else list(dict.fromkeys(names))

    def _source(self, name: str) -> DataSource:
        options = dict(self.params.datasets[name])
        where = f"params.yaml: datasets.{name}"
        root, partial, kind = options.pop("root", None), options.pop(PARTIAL, False), options.pop(KIND, name)
        if not isinstance(partial, bool):
            raise InputError(f"{where}.{PARTIAL}", f"is {partial!r}", "set it to true or false")
        if root is not None:
            if not isinstance(root, str) or not root:
                raise InputError(f"{where}.root", f"{root!r} is not a path", "name a folder, or null")
            folder = Path(os.path.realpath(self.home / root))  # unlike `resolve`, without an error for a link to itself
            return DataSource(name, folder, options, is_named=True, is_partial=partial, kind=kind)
        if (world := self._world(name)) is None:
            folder = self.home / "data" / name
            return DataSource(name, folder if folder.exists() else None, options, is_partial=partial, kind=kind)
        digest = hashlib.sha256(json.dumps(world, sort_keys=True).encode()).hexdigest()
        folder = self.home / "data" / f"synthetic-{name}-{digest[:10]}"
        return DataSource(name, folder, options, world=world, is_partial=partial, kind=kind)

    def _world(self, name: str) -> dict[str, Any] | None:
        """Options of the synthetic world of a data set; None: the data set has no world.

        An option ``known_rig`` that names another data set is replaced by the seed of that data set's world. It is
        removed if that data set is real, because then the rig of the training is not synthetic.
        """
        worlds, datasets = self.profile.worlds, self.params.datasets
        if name not in worlds or datasets[name].get("root") is not None:
            return None
        options = dict(worlds[name])
        if isinstance(trained := options.get("known_rig"), str):
            del options["known_rig"]
            if trained in worlds and datasets.get(trained, {"root": ""}).get("root") is None:
                options["known_rig"] = worlds[trained].get("seed", 0)
        return options

    def _misfit(self, run: Run) -> str:
        """Reason why a row without ``on`` does not run on an existing data set; empty if it does."""
        start, dataset = run.start, run.source.name
        if start is not None and not any(of.source.name == dataset and not of.left_out for of in self.runs(start.row)):
            return f"{start.row}, whose weights it starts from, does not run on it"
        try:
            kind = find_learner(run.spec)
        except InputError as error:
            raise InputError(f"params.yaml: methods.{run.row}: {error.where}", error.problem, error.remedy) from None
        after = [self.params.chosen(self.rows[follower.row].on, None) for follower in run.followers]
        if after and not predicts(kind) and not any(self.params.names(on, dataset) for on in after):
            return "no row that starts from it runs on it"
        skeleton = run.source.skeleton
        if skeleton is None:
            return "there is no adapter for it"
        try:
            learner = kind(dict(run.options), skeleton)
        except InputError as error:  # what no data set's joints allow `check_rows` has refused
            return f"{error.where}: {error.problem}"
        return _unusable(run, declared_inputs(learner.inputs, run.row)) if isinstance(learner, Method) else ""


def _unusable(run: Run, inputs: Inputs) -> str:
    """Reason why a data set lacks inputs that a method needs; empty if it has them."""
    if not run.tables:
        return "no table is run on it"
    if run.source.root is None or not run.source.root.exists():
        return ""  # a world that is not rendered yet
    fewest, most = inputs.views
    data, splits = run.dataset, splits_of(run.tables)
    conditions = [each for split in splits for each in run.conditions(split, in_world=inputs.extrinsics)]
    if not any(fewest <= len(condition.cameras) <= most for condition in conditions):
        return f"it takes {fewest} to {most} views, and no table on it has so many"
    if fewest > 1 and not is_separable(data, inputs):
        return "its people are not associated over its views, and the row sees one person at a time"
    first = next((data.sample(key) for split in splits for key in data.keys(split)), None)
    lacks_images = first is not None and all(view.image is None and view.joints_px is None for view in first.views)
    return "it needs images, and there are none" if lacks_images and inputs.images else ""


def check_rows(plan: Plan) -> None:
    """Check the options of every row, so that every command reports a typo in any row.

    The options must be valid for one data set on which the row can run. A row whose class does not exist is skipped;
    the commands that use the row report it.

    Raises:
        InputError: a row has an unknown option, or a wrong value of an option.
    """
    # In the order of the catalogue, then of params.yaml: the first data set is the one that an error is about.
    order = [*catalog(), *plan.sources]
    sources = sorted(plan.sources.values(), key=lambda source: order.index(source.name))
    skeletons = {source.name: source.skeleton for source in sources if source.skeleton is not None}
    for row in plan.rows:
        errors = [_option_error(plan, row, name, skeleton) for name, skeleton in skeletons.items()]
        if errors and all(errors) and (error := errors[0]) is not None:
            raise InputError(f"params.yaml: methods.{row}: {error.where}", error.problem, error.remedy)


def _option_error(plan: Plan, row: str, dataset: str, skeleton: Skeleton) -> InputError | None:
    try:
        kind = find_learner(plan.entry(row).spec)
    except InputError:
        return None
    try:
        kind(plan.options(row, dataset), skeleton)
    except InputError as error:
        return error
    return None


def _have_same_joints(one: DataSource, other: DataSource) -> bool:
    return one.skeleton is not None and one.skeleton == other.skeleton


def profile_of_run(home: Path) -> str:
    """Read the name of the profile in `run_file`.

    Raises:
        InputError: the file cannot be read.
    """
    path = run_file(home)
    try:
        return str(parse_yaml(read_bytes(path).decode())["run"]["profile"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(path, "does not name the profile of a run", "run `poseboard repro`, which writes it") from None


def tables_on(dataset: str, profile: str, kind: str | None = None) -> list[Table]:
    """Tables of a profile on a data set, sorted by id.

    Args:
        dataset: name of the data set.
        profile: name of the profile.
        kind: name of the adapter, whose tables are included; None: the name of the data set.

    Raises:
        InputError: a table file is invalid, or names an unknown control or unsuitable training data.
    """
    by_id = {table.id: table for table in _tables()}
    tables = [
        table if table.dataset == dataset else table.model_copy(update={"dataset": dataset})
        for table in by_id.values()
        if table.dataset in (dataset, kind)
    ]
    tables = [table.in_profile(profile) for table in tables if not table.profiles or profile in table.profiles]
    for table in tables:
        check_trainings(table)
        if table.control is not None:
            if table.control not in by_id:
                remedy = did_you_mean(table.control, by_id)
                raise InputError(f"table {table.id}: control", f"no table {table.control!r}", remedy)
            check_control(table, by_id[table.control])
    return tables


def splits_of(tables: Iterable[Table]) -> list[str]:
    """Distinct splits of the tables, in the order of the tables."""
    return list(dict.fromkeys(table.split for table in tables))


def conditions_of(
    tables: Iterable[Table], cameras: Sequence[str], split: str, *, in_world: bool = True
) -> list[Condition]:
    """Distinct conditions of the tables on a split (`Run.conditions`)."""
    of_split = [table for table in tables if table.split == split]
    if not of_split:
        return list(dict.fromkeys(Group().conditions(cameras, split, "none")))
    conditions = [
        condition
        for table in of_split
        for group in table.conditions(cameras)
        for condition in group
        if in_world or len(condition.cameras) == 1 or table.rule().any_frame
    ]
    return list(dict.fromkeys(conditions))


def check_trainings(table: Table) -> None:
    """Reject a table with weights of another data set that cannot predict the table's data set."""
    for name in dict.fromkeys(group.trained_on for group in table.groups if group.trained_on is not None):
        where = f"table {table.id}: groups.trained_on"
        if name not in catalog():
            raise InputError(where, f"no data set {name!r}", did_you_mean(name, catalog()))
        if name == table.dataset:
            raise InputError(where, f"{name} is the data set of the table", "remove it: own weights are the default")
        own = catalog().get(table.dataset)
        if own is not None and set(own.skeleton.joints).isdisjoint(catalog()[name].skeleton.joints):
            remedy = "name a data set with joints of the same names"
            raise InputError(where, f"{name} and {table.dataset} have no joint in common", remedy)


def _tables() -> list[Table]:
    """All tables sorted by id; raise InputError if two tables have the same id."""
    by_id: dict[str, tuple[Table, Path]] = {}
    for path in sorted(TABLES.glob("*.yaml")):
        for table in _tables_in(path, FileState.of(path)):
            if table.id in by_id:
                other = by_id[table.id][1].name
                raise InputError(f"{path}: id", f"{table.id!r} is also in {other}", "give each table its own id")
            by_id[table.id] = table, path
    # T7-x before T7, as files of these names are listed: the order in the files of results/
    return [table for table, _ in sorted(by_id.values(), key=lambda entry: f"{entry[0].id}.yaml")]


@lru_cache(maxsize=1024)
def _tables_in(path: Path, state: FileState) -> tuple[Table, ...]:
    """Tables of a file, cached by the state of the file because every stage reads all tables often."""
    return read_tables(path)
