"""The Python API: samples of a data set, scores of your function or predictions, comparisons.

The command line runs the same code. ``params.yaml`` in the working directory defines the data sets, tables and rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import TypeAdapter

from poseboard.benchmarks import harness
from poseboard.benchmarks.exchange.differences import EntryDifference, TableDifference, compare_sources
from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import LoadedRow, Prediction
from poseboard.benchmarks.jobs import progress
from poseboard.benchmarks.plan import Plan, Run, conditions_of
from poseboard.benchmarks.score import score_submitted
from poseboard.datasets.errors import InputError, did_you_mean, validated
from poseboard.datasets.sample import Dataset, Poses, Sample, Truth
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.methods.base import Inputs
from poseboard.protocols import doubts, predictions, records
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition, People
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.table import Table

Predict = Callable[[Sample], Any] | Callable[[list[Sample]], Sequence[Any]]
"""Function of a sample that returns joints (J, 3) or (P, J, 3) in mm, or of a list of samples that returns a list."""

_PARAMS = "params.yaml"


class Samples(Sequence[Sample]):
    """Samples of a split in a fixed order, with only the declared inputs; made by `load`.

    Args:
        run: run that has the data set.
        split: name of the split, such as "test".
        inputs: inputs that each sample keeps.
        cameras: names of the cameras; None: all.

    Attributes:
        keys: key of each sample.
        skeleton: joint set of the data set.

    Example:
        >>> samples = load("human36m")
        >>> sample = samples[0]
        >>> sample.views[0].camera.project(samples.truth(sample.key).joints_mm[0]).shape  # px of the true joints
        (17, 2)
    """

    def __init__(self, run: Run, split: str, inputs: Inputs, cameras: Sequence[str] | None = None) -> None:
        self._dataset = run.dataset
        self.keys = tuple(self._dataset.keys(split))
        self.skeleton = self._dataset.skeleton
        self._handover = Handover(self._dataset, inputs, run.layout.crops, cameras)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.keys)

    def __getitem__(self, place: Any) -> Any:
        """The sample at an index, or a list of samples for a slice."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        return self._handover.sample(self.keys[place])

    def __iter__(self) -> Iterator[Sample]:
        """The samples in order."""
        return map(self._handover.sample, self.keys)

    def truth(self, key: str) -> Truth:
        """Ground truth of a sample: joints (P, J, 3) in world mm.

        Raises:
            InputError: the key is unknown.
        """
        return self._dataset.truth(key)


@dataclass(frozen=True, eq=False, repr=False)
class Score:
    """Score in a table, with its confidence interval and the error of each pose.

    Args:
        record: the score with its signature, as stored in result files.
        errors: one row per pose: key, action, error, and the error of each joint if the protocol has joint errors.

    Example:
        >>> score = evaluate("mine.parquet", "T1")  # written by the example of `write_predictions`
        >>> print(score)
        T1: 1.0 mm [1.0, 1.0]
        >>> score.per_joint.idxmax()
        'nose'
    """

    record: records.Score
    errors: pd.DataFrame

    @property
    def value(self) -> float | None:
        """The score in `unit`; None if all predictions are missing."""
        return self.record.value

    @property
    def ci95(self) -> tuple[float, float] | None:
        """95 % confidence interval over groups (subject × sequence); None for fewer than two groups."""
        return self.record.ci95

    @property
    def unit(self) -> str:
        """Unit of the score, such as "mm"."""
        return self.record.unit

    @property
    def signature(self) -> str:
        """Text of all facts that must be equal for two scores to be comparable."""
        return str(self.record.signature)

    @property
    def per_action(self) -> pd.Series:
        """Score of each action; empty if the data set has no actions."""
        return self._by("action")

    @property
    def per_joint(self) -> pd.Series:
        """Score of each joint; empty if the protocol has no joint errors."""
        return self._by("joint")

    def _by(self, kind: str) -> pd.Series:
        return pd.Series(self.record.breakdown.get(kind, {}), name=self.unit, dtype=float).rename_axis(kind)

    def __str__(self) -> str:
        """Table, score and confidence interval, such as "T1: 41.3 mm [39.8, 42.9]"."""
        value = "no number" if self.value is None else f"{self.value:.1f} {self.unit}"
        interval = "" if self.ci95 is None else f" [{self.ci95[0]:.1f}, {self.ci95[1]:.1f}]"
        return f"{self.record.table}: {value}{interval}"

    def __repr__(self) -> str:
        return f"<Score {self}>"


class Difference(TableDifference):
    """Difference B - A of two scores with equal signatures in one table.

    Example:
        >>> difference = compare("dlt", "mine.parquet", "T1")
        >>> difference.ci95[0] < difference.difference < difference.ci95[1]
        True
        >>> f"{difference.per_joint.loc['nose', 'b']:.1f} mm"
        '17.0 mm'
    """

    @property
    def per_action(self) -> pd.DataFrame:
        """One row per action: a, b, difference, ci95, n_groups; empty if the data set has no actions."""
        return _entries("action", self.actions)

    @property
    def per_joint(self) -> pd.DataFrame:
        """One row per joint: a, b, difference, ci95, n_groups; empty if the protocol has no joint errors."""
        return _entries("joint", self.joints)

    def __str__(self) -> str:
        """Table, difference, confidence interval and verdict, such as "T1: B - A -0.5 mm [-0.8, -0.2], better"."""
        value = "no number" if self.difference is None else f"{self.difference:+.1f} {self.unit}"
        interval = "" if self.ci95 is None else f" [{self.ci95[0]:+.1f}, {self.ci95[1]:+.1f}]"
        return f"{self.table}: B - A {value}{interval}, {self.verdict}"

    def __repr__(self) -> str:
        return f"<Difference {self}>"


def _entries(kind: str, entries: Sequence[EntryDifference]) -> pd.DataFrame:
    columns = [name for name in EntryDifference.model_fields if name != "name"]
    index = pd.Index([entry.name for entry in entries], name=kind)
    return pd.DataFrame([dict(entry) for entry in entries], index=index, columns=columns)


def load(
    dataset: str,
    split: str = "test",
    *,
    inputs: Inputs | None = None,
    cameras: Sequence[str] | None = None,
    profile: str | None = None,
    params: str | Path = _PARAMS,
) -> Samples:
    """Load the samples of a data set.

    Args:
        dataset: name in ``params.yaml``.
        split: "train" or "test", or another split of the data set.
        inputs: inputs of the samples; None: whole images, cameras, boxes and 2D detections of all people.
        cameras: names of the cameras; None: all.
        profile: profile of ``params.yaml``; None: its default profile.
        params: path of ``params.yaml``.

    Returns:
        A sequence of samples. The ground truth is separate, in `Samples.truth`.

    Raises:
        InputError: the data set, split or a camera is unknown, or the files of the data set are missing.

    Example:
        >>> samples = load("human36m", "test")
        >>> [view.name for view in samples[0].views]
        ['54138969', '55011271', '58860488', '60457274']
        >>> samples[0].views[0].pixels().dtype  # (H, W, 3)
        dtype('uint8')
    """
    run = _plan(params, profile).submission("api", dataset)
    if split not in run.dataset.splits:
        raise InputError(f"split {split!r}", f"is not a split of {dataset}", did_you_mean(split, run.dataset.splits))
    chosen = _cameras(run.dataset, cameras)
    return Samples(run, split, replace(inputs, people="all") if inputs else _WHOLE, chosen)


_WHOLE = Inputs(people="all", views=(1, 1_000))


def evaluate(
    predict: Predict | str | Path,
    table: str,
    *,
    dataset: str | None = None,
    inputs: Inputs | None = None,
    batched: bool = False,
    name: str | None = None,
    profile: str | None = None,
    params: str | Path = _PARAMS,
) -> Score:
    """Score a prediction function or a predictions file in a table.

    The function gets only the inputs that ``inputs`` declares, like a method of the benchmark. For example, without
    extrinsics the keys of the samples are random. If the table has several conditions, such as sets of cameras, the
    function is called under each condition.

    Args:
        predict: a function, or the path of a predictions file. The function maps a sample to joints (J, 3) in mm, or
            (P, J, 3) for several people, in the world frame. NaN is a missing joint, None a sample without a
            prediction. To use another frame or to add confidences, return `Poses`.
        table: id of the table, such as "T1".
        dataset: data set of the table; may be None if only one data set has the table.
        inputs: inputs of the function; None: the defaults of `Inputs`, whole images with calibrated cameras.
        batched: whether the function takes a list of samples and returns a list with one result per sample.
        name: name of the method in messages; None: the method of the file, or "mine" for a function.
        profile: profile of ``params.yaml``; None: its default profile.
        params: path of ``params.yaml``.

    Returns:
        The score in the table. If the table has several scores, the first one.

    Raises:
        InputError: a name is unknown, the files of the data set are missing, a result has the wrong shape, or the
            predictions are damaged, belong to other data, or have unknown keys.

    Warns:
        UserWarning: predictions seem to be in another unit or to have another simple mistake.

    Example:
        >>> samples = load("human36m")
        >>> def perfect(sample):
        ...     return samples.truth(sample.key).joints_mm
        >>> print(evaluate(perfect, "T1"))
        T1: 0.0 mm [0.0, 0.0]
    """
    plan = _plan(params, profile)
    of_table, on = _table(plan, table, dataset)
    if isinstance(predict, str | Path):
        predicted = [predictions.read(Path(predict))]
        run = plan.submission(name or predicted[0].info.method, on)
    elif callable(predict):
        run = plan.submission(name or "mine", on)
        predicted = _predict(run, of_table, predict, inputs, batched)
    else:
        problem = f"is {type(predict).__name__}, not a function or a path"
        raise InputError("predict", problem, "pass a function of a sample, or the path of a predictions file")
    by_condition = {each.info.condition: {each.info.seed: each} for each in predicted}
    of_scored = score_submitted(replace(run, tables=(of_table,)), by_condition, _warn)[1][table]
    return Score(of_scored.scores[0], of_scored.errors)


def write_predictions(
    path: str | Path,
    keys: Sequence[str],
    joints_mm: ArrayLike,
    *,
    dataset: str,
    method: str,
    score: ArrayLike | None = None,
    split: str = "test",
    cameras: Sequence[str] | None = None,
    people: People = "each",
    joints: Sequence[str] | None = None,
    seed: int = 0,
    profile: str | None = None,
    params: str | Path = _PARAMS,
) -> Path:
    """Write arrays as a predictions file for `evaluate`, `compare` and ``poseboard score``.

    Args:
        path: file to write, such as "mine.parquet".
        keys: (N,) sample key of each predicted person; repeat the key of a sample with several people.
        joints_mm: (N, J, 3) mm in the world frame; NaN for joints without a prediction. Also (N, 3 J), such as a
            DataFrame with the columns x y z of each joint.
        dataset: name in ``params.yaml``.
        method: name of the method.
        score: (N,) confidence of each person; None: 1.
        split: split of the keys.
        cameras: names of the input cameras; None: all.
        people: "each" if the input was one person at a time, "all" if the method detected the people itself.
        joints: names of the J joints; None: the joints of the data set, in its order.
        seed: seed of the training.
        profile: profile of ``params.yaml``; None: its default profile.
        params: path of ``params.yaml``.

    Returns:
        Path of the written file.

    Raises:
        InputError: shapes do not match; a key, joint or camera is unknown; a key repeats although each sample has one
            person; the joints of a person are infinite, partly NaN or more than 1 km away; or the file cannot be
            written.

    Warns:
        UserWarning: predictions seem to be in another unit, in another joint order, or to have another simple mistake.

    Example:
        >>> samples = load("human36m")
        >>> joints_mm = np.concatenate([samples.truth(key).joints_mm for key in samples.keys])
        >>> joints_mm[:, samples.skeleton.joints.index("nose")] += (0, 0, 17)  # too high
        >>> write_predictions("mine.parquet", samples.keys, joints_mm, dataset="human36m", method="mine")
        PosixPath('mine.parquet')
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise InputError(path, "is not the name of a .parquet file", "name a file such as mine.parquet")
    run = _plan(params, profile).submission("api", dataset)
    data = run.dataset
    skeleton = data.skeleton if joints is None else _joint_set(joints, data.skeleton)
    keys = _names("keys", keys)
    array = _numbers("joints_mm", joints_mm)
    if array.shape == (len(keys), 3 * len(skeleton)):
        array = array.reshape(-1, len(skeleton), 3)
    if array.shape != (expected := (len(keys), len(skeleton), 3)):
        remedy = "give one row of joints (J, 3) per key, or 3 J columns x y z joint by joint"
        raise InputError("joints_mm", f"has shape {array.shape}, not {expected}", remedy)
    scores = np.ones(len(array)) if score is None else _numbers("score", score)
    if scores.shape != (len(array),):
        raise InputError("score", f"has shape {scores.shape}, not ({len(array)},)", "give one number per key")
    splits_keys = set(data.keys(split))
    for place, key in enumerate(keys):
        if key not in splits_keys:
            problem = f"{key!r} is not a key of {dataset}, split {split}"
            raise InputError(f"keys[{place}]", problem, f"use the keys of load({dataset!r}, {split!r})")
    truth = TruthTable.collect(data, split)
    order = pd.Series(keys, dtype=object)
    person = np.asarray(order.groupby(order, sort=False).cumcount(), dtype=np.int32)
    matches_people = any(table.rule().several_people for table in run.tables if table.split == split)
    if person.any() and not (truth.person.any() or matches_people):
        place = int(np.argmax(person))
        problem = f"repeats {keys[place]!r}, and a sample of {dataset} has one person"
        raise InputError(f"keys[{place}]", problem, "give one row per key")
    chosen = _cameras(data, cameras)
    views = tuple(view for view in data.views if chosen is None or view in chosen)
    where = "write_predictions"
    condition = validated(Condition, {"split": split, "cameras": views, "people": people}, where)
    table = PoseTable(
        keys=order.to_numpy(),
        person=person,
        score=scores.astype(np.float32),
        frame=np.full(len(array), "world", dtype=object),
        joints_mm=array.astype(np.float32),
        info=_info(data, skeleton, condition, where, method=method, seed=seed),
    )
    try:
        predictions.write(path, table)
    except OSError as error:
        raise InputError(path, f"cannot be written ({error.strerror})", "choose another path") from None
    if (line := doubts.doubt(table, truth)) is not None:
        _warn(f"{path}: {line}")
    return path


def compare(
    a: str | Path,
    b: str | Path,
    table: str,
    *,
    dataset: str | None = None,
    profile: str | None = None,
    params: str | Path = _PARAMS,
) -> Difference:
    """Compare two rows or predictions files in a table, pose by pose.

    Args:
        a: row of ``params.yaml`` with scores, or the path of a predictions file.
        b: row or file to compare with ``a``.
        table: id of the table, such as "T1".
        dataset: data set of the table; may be None if only one data set has the table.
        profile: profile of ``params.yaml``; None: its default profile.
        params: path of ``params.yaml``.

    Returns:
        The paired difference B - A with its 95 % confidence interval, its significance (``decided``), and the
        differences of each action and joint (``per_action``, ``per_joint``).

    Raises:
        InputError: a name is unknown, results are missing, or A and B have no scores with the same signature.

    Example:
        >>> difference = compare("dlt", "mine.parquet", "T1")
        >>> difference.a > difference.b, round(difference.b, 1)  # mm
        (True, 1.0)
    """
    plan = _plan(params, profile)
    on = _table(plan, table, dataset)[1]
    return Difference(**dict(compare_sources(plan, str(a), str(b), on, [table], _warn).tables[0]))


def _names(argument: str, names: Iterable[str]) -> list[str]:
    """List of the names in an argument. A single text is refused, because it would be read letter by letter."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InputError(argument, f"is {names!r}, not a list of names", "pass a list")
    names = list(names)
    if not names:
        raise InputError(argument, "is empty", "name at least one")
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"{argument}[{place}]", f"is {type(name).__name__}, not a text", "pass a list of names")
    return names


def _cameras(data: Dataset, cameras: Sequence[str] | None) -> list[str] | None:
    """Names of the chosen cameras; None: all."""
    if cameras is None:
        return None
    names = _names("cameras", cameras)
    for name in names:
        if name not in data.views:
            raise InputError(f"camera {name!r}", f"is not a camera of {data.name}", did_you_mean(name, data.views))
    return names


def _joint_set(joints: Sequence[str], skeleton: Skeleton) -> Skeleton:
    names = _names("joints", joints)
    for place, name in enumerate(names):
        if name not in (*skeleton.joints, *ROOT.joints):
            problem = f"{name!r} is not a joint of {skeleton.name}"
            raise InputError(f"joints[{place}]", problem, did_you_mean(name, skeleton.joints))
    if len(set(names)) != len(names):
        raise InputError("joints", "repeats a name", "name each joint once, in the order of joints_mm")
    return Skeleton("own", tuple(names), (), None, ())


def _plan(params: str | Path, profile: str | None) -> Plan:
    plan = Plan.read(Path(params))
    return plan if profile is None else plan.in_profile(profile)


def _table(plan: Plan, table: str, dataset: str | None) -> tuple[Table, str]:
    """Find a table by its id, and its data set."""
    names = [plan.source(dataset).name] if dataset is not None else list(plan.params.datasets)
    on = {name: {each.id: each for each in plan.submission("api", name).tables} for name in names}
    having = [name for name, by_id in on.items() if table in by_id]
    if not having:
        ids = list(dict.fromkeys(each for by_id in on.values() for each in by_id))
        where = dataset or "any data set of params.yaml"
        raise InputError(f"table {table!r}", f"is not a table on {where}", did_you_mean(table, ids))
    if len(having) > 1:
        raise InputError(f"table {table}", f"is on {', '.join(having)}", f'add dataset="{having[0]}"')
    return on[having[0]][table], having[0]


def _predict(run: Run, table: Table, predict: Predict, inputs: Inputs | None, batched: bool) -> list[PoseTable]:
    """Predictions of a function, in this process, under every condition of a table."""
    row = LoadedRow(run.row, lambda: _Function(predict, run, inputs, batched), None)
    keys = list(run.dataset.keys(table.split))
    tables = []
    for condition in _conditions(run, table, row.inputs):
        handover = Prediction(run.source, run.layout.crops, row, condition, keys).handover()
        of_condition = condition.samples(keys)
        with progress(f"predict {run}") as report:
            poses = harness.predict(row.model(), handover, of_condition, progress=report)
        info = _info(run.dataset, run.dataset.skeleton, condition, "evaluate", method=run.row)
        info = info.model_copy(update={"inputs": TypeAdapter(Inputs).dump_python(row.inputs, mode="json")})
        tables.append(replace(PoseTable.collect(of_condition, poses, info), source=_name(predict)))
        predictions.check_values(tables[-1], tables[-1].source)
    return tables


def _conditions(run: Run, table: Table, inputs: Inputs) -> list[Condition]:
    """Distinct conditions of a table that fit a function's inputs, reduced to these inputs."""

    def offered(table: Table, in_world: bool) -> list[Condition]:
        conditions = conditions_of([table], run.dataset.views, table.split, in_world=in_world)
        return [each for each in conditions if each.trained_on is None]

    def fitting(conditions: list[Condition]) -> list[Condition]:
        fewest, most = inputs.views
        return [each for each in conditions if fewest <= each.fewest_views and len(each.cameras) <= most]

    if not offered(table, in_world=True):
        problem = "tests weights of another data set, and a function has no weights"
        raise InputError(f"table {table.id}", problem, "choose another table")
    if not (conditions := offered(table, in_world=inputs.extrinsics)):
        others = [each.id for each in run.tables if not each.rule().columns and fitting(offered(each, in_world=False))]
        remedy = f", or a table without extrinsics, such as {', '.join(others[:3])}" if others else ""
        problem = f"is False, and {table.id} needs poses in the world frame"
        raise InputError("inputs.extrinsics", problem, f"use Inputs(extrinsics=True){remedy}")
    if not fitting(conditions):
        counts = ", ".join(map(str, sorted({len(each.cameras) for each in conditions})))
        problem = f"is {inputs.views}, and the conditions of {table.id} have {counts} views"
        raise InputError("inputs.views", problem, "choose a range with these views, or another table")
    reduced = (inputs.root, inputs.hand, inputs.people, inputs.frames_per_rig)
    return list(dict.fromkeys(each.reduced(*reduced) for each in fitting(conditions)))


def _info(
    data: Dataset, skeleton: Skeleton, condition: Condition, where: str, *, method: str, seed: int = 0
) -> PredictionInfo:
    values = {
        "skeleton": skeleton.name,
        "joints": skeleton.joints,
        "dataset": data.name,
        "condition": condition,
        "manifest": data.manifest(),
        "method": method,
        "seed": seed,
    }
    info = validated(PredictionInfo, values, where)
    records.check_name("method", info.method)
    return info


def _name(function: Predict) -> str:
    """Name of a function in messages."""
    return getattr(function, "__name__", type(function).__name__)


class _Function:
    """Wrapper that makes a prediction function a `Method`."""

    def __init__(self, function: Predict, run: Run, inputs: Inputs | None, batched: bool) -> None:
        self.inputs = inputs or Inputs(people="each" if _is_associated(run) else "all")
        self._function: Callable[[Any], Any] = function
        self.__name__ = _name(function)  # in messages of the harness
        self._batched, self._skeleton = batched, run.dataset.skeleton

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Do nothing: a function has no checkpoint."""

    def training(self, start: Path | None, seed: int) -> None:
        """Do nothing: a function is not trained."""

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Call the function on each sample, or once on all of them if it is batched."""
        results = self._function(list(samples)) if self._batched else map(self._function, samples)
        remedy = "return a list with one result per sample"
        if not isinstance(results, Iterable):
            raise InputError(self.__name__, f"returned {type(results).__name__}", remedy)
        results = list(results)
        if len(results) != len(samples):
            raise InputError(self.__name__, f"returned {len(results)} results for {len(samples)} samples", remedy)
        return [self._poses(result) for result in results]

    def _poses(self, result: Any) -> Poses:
        joints, names = len(self._skeleton), f"{', '.join(self._skeleton.joints[:3])}, … of {self._skeleton.name}"
        if isinstance(result, Poses):
            if result.skeleton.joints != self._skeleton.joints:
                problem = f"returned Poses of {result.skeleton.name}"
                raise InputError(self.__name__, problem, f"return the {joints} joints {names}")
            return result
        if result is None:
            return Poses(self._skeleton, np.empty((0, joints, 3)), np.empty(0))
        array = _numbers(self.__name__, result)
        if array.shape[-2:] != (joints, 3) or array.ndim not in (2, 3):
            problem = f"returned shape {array.shape}, not ({joints}, 3)"
            raise InputError(self.__name__, problem, f"return mm of the {joints} joints {names}")
        people = array.reshape(-1, joints, 3)
        return Poses(self._skeleton, people, np.ones(len(people)))


def _is_associated(run: Run) -> bool:
    return all(run.dataset.facts(split).associated for split in run.dataset.splits)


def _numbers(where: str, values: Any) -> np.ndarray:
    """Convert values to an array of floats; tensors on a GPU are copied to the CPU."""
    values = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(where, f"is {type(values).__name__}, not an array of numbers", "give mm as floats") from None


def _warn(line: str) -> None:
    warnings.warn(line, UserWarning, stacklevel=3)
