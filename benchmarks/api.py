"""The Python API: samples of a data set, scores of your function or predictions, comparisons.

The command line runs the same code. ``params.yaml`` in the working directory defines the data sets, tables and rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from poseboard.benchmarks import harness
from poseboard.benchmarks.exchange.differences import TableDifference, compare_sources
from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import LoadedRow, Prediction
from poseboard.benchmarks.jobs import progress
from poseboard.benchmarks.plan import Plan, Run
from poseboard.benchmarks.score import score_files
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.sample import Dataset, Poses, Sample, Truth
from poseboard.datasets.skeleton import Skeleton
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
        >>> samples = load("human36m")  # doctest: +SKIP
        >>> samples[0].views[0].camera.project(samples.truth(samples[0].key).joints_mm[0]).shape  # doctest: +SKIP
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


@dataclass(frozen=True, eq=False)
class Score:
    """Score in a table, with its confidence interval and the error of each pose.

    Args:
        record: the score with its signature, as stored in result files.
        errors: one row per pose: key, action, error, and the error of each joint if the protocol has joint errors.

    Example:
        >>> score = evaluate("mine.parquet", "T1")  # doctest: +SKIP
        >>> f"{score.value:.1f} mm, 95 % CI {score.ci95}"  # doctest: +SKIP
        '41.3 mm, 95 % CI (39.8, 42.9)'
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
        >>> samples = load("human36m", "test")  # doctest: +SKIP
        >>> len(samples), samples[0].views[0].pixels().shape  # doctest: +SKIP
        (1080, (1000, 1000, 3))
    """
    run = _plan(params, profile).submission("api", dataset)
    if split not in run.dataset.splits:
        raise InputError(f"split {split!r}", f"is not a split of {dataset}", did_you_mean(split, run.dataset.splits))
    for camera in cameras or ():
        if camera not in run.dataset.views:
            problem = f"is not a camera of {dataset}"
            raise InputError(f"camera {camera!r}", problem, did_you_mean(camera, run.dataset.views))
    return Samples(run, split, replace(inputs, people="all") if inputs else _WHOLE, cameras)


_WHOLE = Inputs(people="all", views=(1, 1_000))


def evaluate(
    predict: Predict | str | Path,
    table: str,
    *,
    dataset: str | None = None,
    inputs: Inputs | None = None,
    batched: bool = False,
    name: str = "mine",
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
        name: name of the method in messages.
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
        >>> def centre(sample):  # every joint at the origin of the world
        ...     return np.zeros((17, 3))
        >>> evaluate(centre, "T1", dataset="human36m").value  # doctest: +SKIP
        1203.4
    """
    plan = _plan(params, profile)
    of_table, on = _table(plan, table, dataset)
    run = replace(plan.submission(name, on), tables=(of_table,))
    if isinstance(predict, str | Path):
        scored = score_files(run, [Path(predict)], _warn)[1]
    else:
        row = LoadedRow(name, lambda: _Function(predict, run, inputs, batched), None)
        with TemporaryDirectory() as folder:
            files = _predict(run, row, Path(folder))
            scored = score_files(run, files, lambda line: _warn(line.replace(f"{folder}/", f"{name} ")))[1]
    of_scored = scored[table]
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
        joints_mm: (N, J, 3) mm in the world frame; NaN for joints without a prediction.
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
        InputError: shapes do not match, a key or joint is unknown, or the joints of a person are infinite, partly NaN
            or more than 1 km away.

    Warns:
        UserWarning: predictions seem to be in another unit, in another joint order, or to have another simple mistake.

    Example:
        >>> samples = load("human36m")  # doctest: +SKIP
        >>> write_predictions(
        ...     "zeros.parquet", samples.keys, np.zeros((len(samples), 17, 3)), dataset="human36m", method="zeros"
        ... )  # doctest: +SKIP
        PosixPath('zeros.parquet')
    """
    data = _plan(params, profile).submission("api", dataset).dataset
    skeleton = data.skeleton if joints is None else _joint_set(joints)
    array = _numbers("joints_mm", joints_mm)
    if array.ndim != 3 or array.shape != (len(keys), len(skeleton), 3):
        expected = (len(keys), len(skeleton), 3)
        raise InputError(
            "joints_mm", f"has shape {array.shape}, not {expected}", "give one row of joints (J, 3) per key"
        )
    scores = np.ones(len(array)) if score is None else _numbers("score", score)
    if scores.shape != (len(array),):
        raise InputError("score", f"has shape {scores.shape}, not ({len(array)},)", "give one number per key")
    known = set(data.keys(split))
    for place, key in enumerate(keys):
        if key not in known:
            problem = f"{key!r} is not a key of {dataset}, split {split}"
            raise InputError(f"keys[{place}]", problem, f"use the keys of load({dataset!r}, {split!r})")
    condition = Condition(split=split, cameras=tuple(cameras or data.views), people=people)
    order = pd.Series(keys, dtype=object)
    table = PoseTable(
        keys=order.to_numpy(),
        person=np.asarray(order.groupby(order, sort=False).cumcount(), dtype=np.int32),
        score=scores.astype(np.float32),
        frame=np.full(len(array), "world", dtype=object),
        joints_mm=array.astype(np.float32),
        info=_info(data, skeleton, condition, method, seed),
    )
    predictions.write(Path(path), table)
    if (line := doubts.doubt(table, TruthTable.collect(data, split, set()))) is not None:
        _warn(f"{path}: {line}")
    return Path(path)


def compare(
    a: str | Path,
    b: str | Path,
    table: str,
    *,
    dataset: str | None = None,
    profile: str | None = None,
    params: str | Path = _PARAMS,
) -> TableDifference:
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
        differences of each action and joint.

    Raises:
        InputError: a name is unknown, results are missing, or A and B have no scores with the same signature.

    Example:
        >>> difference = compare("dlt", "mine.parquet", "T1")  # doctest: +SKIP
        >>> difference.difference, difference.ci95, difference.decided  # doctest: +SKIP
        (-0.5, (-0.8, -0.2), True)
    """
    plan = _plan(params, profile)
    on = _table(plan, table, dataset)[1]
    return compare_sources(plan, str(a), str(b), on, [table], _warn).tables[0]


def _joint_set(joints: Sequence[str]) -> Skeleton:
    if len(set(joints)) != len(joints):
        raise InputError("joints", "repeats a name", "name each joint once, in the order of joints_mm")
    return Skeleton("own", tuple(joints), (), None, ())


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


def _predict(run: Run, row: LoadedRow, folder: Path) -> list[Path]:
    """Predict in this process under every condition of the run's table; write one predictions file per condition."""
    inputs, (table,) = row.inputs, run.tables
    keys, (fewest, most) = list(run.dataset.keys(table.split)), inputs.views
    offered = [one for one in run.conditions(table.split, in_world=inputs.extrinsics) if one.trained_on is None]
    conditions = dict.fromkeys(
        one.reduced(inputs.root, inputs.hand, inputs.people, inputs.frames_per_rig)
        for one in offered
        if fewest <= one.fewest_views and len(one.cameras) <= most
    )
    if not conditions:
        raise InputError(
            "inputs.views",
            f"{fewest} to {most} views fit no condition of {table.id}",
            "choose other inputs.views, or another table",
        )
    files = []
    for number, condition in enumerate(conditions):
        handover = Prediction(run.source, run.layout.crops, row, condition, keys).handover()
        of_condition = condition.samples(keys)
        with progress(f"predict {run}") as report:
            poses = harness.predict(row.model(), handover, of_condition, progress=report)
        info = _info(run.dataset, run.dataset.skeleton, condition, run.row)
        files.append(folder / f"{number}.parquet")
        predictions.write(files[-1], PoseTable.collect(of_condition, poses, info))
    return files


def _info(data: Dataset, skeleton: Skeleton, condition: Condition, method: str, seed: int = 0) -> PredictionInfo:
    return PredictionInfo(
        skeleton=skeleton.name,
        joints=skeleton.joints,
        dataset=data.name,
        condition=condition,
        manifest=data.manifest(),
        method=records.check_name("method", method),
        seed=seed,
    )


class _Function:
    """Wrapper that makes a prediction function a `Method`."""

    def __init__(self, function: Predict, run: Run, inputs: Inputs | None, batched: bool) -> None:
        self.inputs = inputs or Inputs(people="each" if _is_associated(run) else "all")
        self._function: Callable[[Any], Any] = function
        self._batched, self._skeleton = batched, run.dataset.skeleton

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Do nothing: a function has no checkpoint."""

    def training(self, start: Path | None, seed: int) -> None:
        """Do nothing: a function is not trained."""

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Call the function on each sample, or once on all of them if it is batched."""
        results = self._function(list(samples)) if self._batched else map(self._function, samples)
        return [self._poses(result) for result in results]

    def _poses(self, result: Any) -> Poses:
        if isinstance(result, Poses):
            return result
        joints = len(self._skeleton)
        if result is None:
            return Poses(self._skeleton, np.empty((0, joints, 3)), np.empty(0))
        array = _numbers("predict", result)
        if array.shape[-2:] != (joints, 3) or array.ndim not in (2, 3):
            names = ", ".join(self._skeleton.joints[:3])
            raise InputError(
                "predict",
                f"returned shape {array.shape}, not ({joints}, 3)",
                f"return mm of the {joints} joints {names}, … of {self._skeleton.name}",
            )
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
