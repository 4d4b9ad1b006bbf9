"""Harness between data sets and methods: constructs rows, makes their training data, and runs their predictions.

:mod:`poseboard.benchmarks.handover` makes the input of a method. A row declares its inputs once, when its weights are
loaded (`LoadedRow`). Every condition gets a new model, so that no state carries over from one condition to the next.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from poseboard.benchmarks.handover import Handover, Progress, transfer
from poseboard.benchmarks.jobs import run_jobs, worker_number
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Dataset, Poses, skeleton_of_truth
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.methods.base import (
    Inputs,
    LabelledSamples,
    Learner,
    Method,
    Options,
    Training,
    answer_skeleton,
    declared_inputs,
    find_learner,
    find_method,
    predicts,
)
from poseboard.methods.batches.mixing import Mixture, Roots

if TYPE_CHECKING:
    # Predictions depend on the code that this module imports, and on the values in params.yaml, not on their parser.
    from poseboard.benchmarks.plan import DataSource, Run
    from poseboard.protocols.condition import Condition

PIECE = 256
"""Samples per job: enough that loading a model costs little, few enough that workers finish together."""
CHUNK = 64
"""Samples per call of a method; its predictions can depend on it in the last digit."""
LOOKED_AT = 64
"""Samples of a training split, evenly strided, whose truth is checked for depth."""
FINISH_SAMPLES = 256
"""Training samples, evenly strided, on which constants are fitted after training."""


def build_learner(run: Run, skeleton: Skeleton | None = None, moments: int | None = None) -> Learner:
    """Construct the learner of a row with its options.

    Args:
        run: the row on a data set.
        skeleton: joints of the training; None: joints of the data set.
        moments: number of training samples per epoch (`options_of_pass`).
    """
    return find_learner(run.spec)(options_of_pass(run, moments), skeleton or run.dataset.skeleton)


def build_method(run: Run) -> Method:
    """Construct the method of a row with its options; raise InputError if the row predicts nothing."""
    return find_method(run.spec)(options_of_pass(run), run.dataset.skeleton)


def root_row(run: Run) -> tuple[int, Run]:
    """Row that predicts the roots for another row: its minimum number of cameras, and its run.

    Raises:
        InputError: the row that ``after`` names predicts nothing.
    """
    if run.start is None or not predicts(find_learner(run.start.spec)):
        start = "scratch" if run.start is None else run.start.row
        raise InputError(f"methods.{run.row}.after", f"{start} predicts no roots", "name a row that does")
    return build_method(run.start).inputs.views[0], run.start


def options_of_pass(run: Run, moments: int | None = None) -> dict[str, Any]:
    """Options of a row. If ``steps`` are epochs of unspecified length, the number of samples per epoch is added.

    Args:
        run: the row on a data set.
        moments: number of training samples; None: size of the training split.
    """
    options = dict(run.options)
    steps = options.get("steps")
    if isinstance(steps, Mapping) and "epochs" in steps and steps.get("moments") is None:
        every = steps.get("every", 1)
        if isinstance(every, int) and every > 0:
            samples = len(run.dataset.keys("train")) if moments is None else moments
            options["steps"] = {**steps, "moments": len(range(0, samples, every)) or None}
    return options


def device() -> str:
    """PyTorch device of this process; each worker, and each process of torchrun or SLURM, has its own GPU."""
    import torch  # takes seconds to load, and scoring does not need it

    if not torch.cuda.is_available():
        return "cpu"
    if (worker := worker_number()) is not None:
        return f"cuda:{worker % torch.cuda.device_count()}"
    return f"cuda:{os.environ['LOCAL_RANK']}" if os.environ.get("LOCAL_RANK") else "cuda"


class LoadedRow:
    """Row with one file of weights. Its inputs are fixed at loading; every condition gets a new model.

    Args:
        name: name of the row, for errors.
        build: function that constructs the method with the row's options.
        weights: checkpoint that each model loads onto `device`; None: no checkpoint.

    Attributes:
        name: name of the row.
        inputs: inputs that the first model declared after loading.
        answers: skeleton of the predictions; None: skeleton of the data set.

    Raises:
        InputError: the weights cannot be used, or the declared inputs are invalid.

    Example:
        >>> row = LoadedRow("ransac", partial(build_method, run), weights)  # doctest: +SKIP
        >>> for cameras in sets_of_cameras:  # doctest: +SKIP
        ...     answers = predict(row.model(), Handover(run.dataset, row.inputs, crops, cameras), keys)
    """

    def __init__(self, name: str, build: Callable[[], Method], weights: Path | None) -> None:
        self.name, self._build, self._weights = name, build, weights
        first = self._load()
        self.inputs = declared_inputs(first.inputs, f"row {name}")
        self.answers: Skeleton | None = getattr(first, "answers", None)
        self._options = options_in_force(first, {})
        self._unused: Method | None = first

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_unused": None}  # a worker loads its own models

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of the model including defaults; ``given`` for a method without an ``options`` attribute."""
        return dict(self._options or given)

    def model(self) -> Method:
        """Construct and load a new model.

        Raises:
            InputError: the model declares other inputs than the first one.
        """
        if self._unused is not None:
            model, self._unused = self._unused, None
            return model
        model = self._load()
        now = declared_inputs(model.inputs, f"row {self.name}")
        if now != self.inputs:
            raise InputError(
                f"row {self.name}: inputs",
                f"were {self.inputs} when the weights were first loaded and are {now} now",
                "declare the same inputs every time the same weights are loaded",
            )
        return model

    def _load(self) -> Method:
        model = self._build()
        model.load(self._weights, device())
        return model


def options_in_force(method: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a method including defaults, from its ``options`` attribute; ``given`` for a method without it."""
    options = getattr(method, "options", None)
    return options.model_dump(mode="json") if isinstance(options, Options) else dict(given)


def predict(
    method: Method, handover: Handover, keys: Sequence[str], *, chunk: int = CHUNK, progress: Progress | None = None
) -> list[Poses]:
    """Predict poses for every key, in order.

    Args:
        method: a loaded method.
        handover: chain of steps that makes the input.
        keys: keys of the samples.
        chunk: number of samples per call of the method (`chunks`).
        progress: called with (samples done, samples in all).

    Raises:
        InputError: the method returns invalid predictions (`predict_chunks`).
        Exception: errors of the method itself, with a note that names the samples.
    """
    answers = predict_chunks(method, handover, chunks(handover, keys, chunk), progress=progress)
    return [answers[key] for key in keys]


def chunks(handover: Handover, keys: Sequence[str], size: int = CHUNK) -> list[list[str]]:
    """Divide keys into calls of a method: whole groups, up to ``size`` keys or one larger group.

    People of one sample stay together, and so do samples with the same cameras that a method may use together. A method
    of several views without extrinsics gets one group per call: two groups in one call would reveal whether they have
    the same cameras.
    """
    one_group = not handover.inputs.extrinsics and handover.inputs.views[1] > 1
    calls: list[list[str]] = []
    for group in handover.rigs(keys):
        if calls and not one_group and len(calls[-1]) + len(group) <= size:
            calls[-1].extend(group)
        else:
            calls.append(list(group))
    return calls


def predict_chunks(
    method: Method, handover: Handover, chunks_of_keys: Sequence[Sequence[str]], *, progress: Progress | None = None
) -> dict[str, Poses]:
    """Predict poses by key, with one call of the method per chunk.

    Args:
        method: a loaded method.
        handover: chain of steps that makes the input.
        chunks_of_keys: keys of the samples in each call.
        progress: called with (samples done, samples in all).

    Raises:
        InputError: the method does not return one `Poses` per sample, names a frame that is not a view, or predicts
            several people for a sample of one person.
        Exception: errors of the method itself, with a note that names the samples.
    """
    poses: dict[str, Poses] = {}
    count = sum(map(len, chunks_of_keys))
    for keys in chunks_of_keys:
        by_key = {key: handover.samples(key) for key in keys}
        samples = [sample for of_key in by_key.values() for sample in of_key]
        try:
            predicted = method.predict(samples)
        except Exception as error:
            error.add_note(f"raised by {_call(method)} on {keys[0]} to {keys[-1]}")
            raise
        _check_poses(predicted, len(samples), _call(method))
        rest, skeleton = iter(predicted), answer_skeleton(method, handover.skeleton)
        for key, of_key in by_key.items():
            poses[key] = handover.merge(key, list(islice(rest, len(of_key))), skeleton)
        if progress is not None:
            progress(len(poses), count)
    return poses


def _call(method: Method) -> str:
    """Name of the predicting function for messages: that of a wrapped function, else the method's ``predict``."""
    return getattr(method, "__name__", f"{type(method).__name__}.predict")


def _check_poses(predicted: object, samples: int, where: str) -> None:
    """Raise InputError unless a method returned a list with one `Poses` per sample."""
    if not isinstance(predicted, Sequence):
        raise InputError(where, f"returned {type(predicted).__name__}", "return a list, one Poses per sample")
    if len(predicted) != samples:
        raise InputError(where, f"returned {len(predicted)} predictions for {samples} samples", "predict each sample")
    for place, poses in enumerate(predicted):
        if not isinstance(poses, Poses):
            problem = f"returned {type(poses).__name__} for sample {place}"
            raise InputError(where, problem, "return Poses, with NaN for unknown joints")


def roots_of(skeleton: Skeleton, row: str, by_key: Mapping[str, Poses]) -> dict[str, Array]:
    """Roots (P, 3) of predictions by key, world mm; raise InputError for predictions in a camera frame."""
    if camera := next((poses.frame for poses in by_key.values() if poses.frame != "world"), None):
        remedy = "name a row under `after` that predicts in the world's frame"
        raise InputError(f"methods.{row}", f"predicts roots in the frame of camera {camera}", remedy)
    missing = np.full((1, 3), np.nan)
    return {key: skeleton.root_of(poses.joints_mm) if len(poses.score) else missing for key, poses in by_key.items()}


@dataclass(frozen=True, eq=False)
class Prediction:
    """Job: predictions of one row with one file of weights under one condition.

    Args:
        source: data set to predict.
        crops: folder of the crop store.
        row: the row with its weights.
        condition: cameras and perturbation of the input.
        keys: keys of the samples.
        roots_mm: key -> root positions (P, 3), for a row that needs predicted roots.
        origin: data set that the weights were trained on; None: ``source``.
    """

    source: DataSource
    crops: Path
    row: LoadedRow
    condition: Condition
    keys: Sequence[str]
    roots_mm: Mapping[str, Array] | None = None
    origin: DataSource | None = None

    def handover(self) -> Handover:
        """Chain of steps that makes the input of the row."""
        condition, dataset = self.condition, self.source.dataset
        return Handover(
            dataset,
            self.row.inputs,
            self.crops,
            condition.cameras,
            self.roots_mm,
            perturbation=condition.perturbation,
            frames_per_rig=condition.frames_per_rig,
            transfer=None if self.origin is None else transfer(dataset, self.origin.dataset),
        )


class _Piece(NamedTuple):
    prediction: Prediction
    chunks: list[list[str]]


def predict_all(predictions: Sequence[Prediction], progress: Progress | None = None) -> Iterator[dict[str, Poses]]:
    """Yield the poses by key of each prediction, in order.

    Args:
        predictions: independent predictions.
        progress: called with (samples done, samples in all).
    """
    pieces = [[_Piece(prediction, part) for part in _parts(prediction)] for prediction in predictions]
    results = run_jobs(_predict_piece, [piece for of_prediction in pieces for piece in of_prediction])
    done, total = 0, sum(len(prediction.keys) for prediction in predictions)
    for of_prediction in pieces:
        poses: dict[str, Poses] = {}
        for of_piece in islice(results, len(of_prediction)):
            poses |= of_piece
            done += len(of_piece)
            if progress is not None:
                progress(done, total)
        yield poses


def _parts(prediction: Prediction) -> Iterator[list[list[str]]]:
    """Lists of chunks with about `PIECE` samples each."""
    part: list[list[str]] = []
    for chunk in chunks(prediction.handover(), prediction.keys):
        part.append(chunk)
        if sum(map(len, part)) >= PIECE:
            yield part
            part = []
    if part:
        yield part


def _predict_piece(piece: _Piece) -> dict[str, Poses]:
    # A new model and hand-over, so that nothing carries over from one condition to the next.
    return predict_chunks(piece.prediction.row.model(), piece.prediction.handover(), piece.chunks)


def has_depth(dataset: Dataset) -> bool:
    """Whether any pose of the training split is annotated in 3D, and not only in the image.

    Args:
        dataset: data set with a training split.
    """
    keys = dataset.keys("train")
    some = keys[:: max(1, len(keys) // LOOKED_AT)]
    return any(bool(np.isfinite(dataset.truth(key).joints_mm).any()) for key in some)


def fitted_constants(training: Training, samples: LabelledSamples) -> dict[str, float]:
    """Constants that a finished training fits to a part of its samples (`Training.finish`)."""
    some = [samples[place] for place in range(len(samples))[:: max(1, len(samples) // FINISH_SAMPLES)]]
    return training.finish([sample for sample, _ in some], [truth for _, truth in some])


@dataclass(frozen=True)
class TrainingData:
    """Training data of a row, from one or several data sets.

    Args:
        run: the row on the data set for which it is trained.

    Raises:
        InputError: the folder of a data set in params.yaml does not exist or cannot be read.

    Example:
        >>> data = TrainingData(plan.run("rootnet", "mupots"))  # doctest: +SKIP
        >>> data.names  # doctest: +SKIP
        ('muco', 'mscoco')
    """

    run: Run

    @property
    def own(self) -> bool:
        """Whether the row is trained on the run's data set only."""
        return [source.name for source in self.run.training] == [self.run.source.name]

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the training data sets without a local copy."""
        return tuple(source.name for source in self.run.training if source.is_absent)

    @cached_property
    def datasets(self) -> tuple[Dataset, ...]:
        """Opened training data sets with a local copy; raises InputError if the only one has none."""
        if self.own:
            return (self.run.dataset,)
        return tuple(source.dataset for source in self.run.training if not source.is_absent)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the training data sets with a local copy."""
        return tuple(dataset.name for dataset in self.datasets)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of the training data sets for the checkpoint; empty: the run's data set only."""
        return () if self.names == (self.run.source.name,) else self.names

    @property
    def manifests(self) -> dict[str, str]:
        """Map from training data sets to their manifests; empty: the run's data set only."""
        return {} if self.own else {dataset.name: dataset.manifest() for dataset in self.datasets}

    @property
    def without(self) -> str:
        """Note for the terminal on training data sets without a local copy; empty: all have one."""
        return f"; without {', '.join(self.absent)}, of which there is no copy" if self.absent else ""

    @cached_property
    def nothing_to_learn(self) -> str:
        """Reason why the row cannot be trained; empty if it can."""
        samples = {dataset.name: len(dataset.keys("train")) for dataset in self.datasets}
        if not any(samples.values()):
            if self.own:
                return "it has no training samples"
            absent = f"it is trained on {', '.join(self.absent)}, of which there is no copy" if self.absent else ""
            empty = f"there are no training samples in {', '.join(samples)}" if samples else ""
            return "; ".join(filter(None, (absent, empty)))
        # What is not there cannot be asked for its truth: what is left has to have depth.
        if self.absent and not any(depth for _, depth in self._parts):
            return f"there is no copy of {', '.join(self.absent)}, and no depth in {', '.join(samples)}"
        return ""

    @property
    def joints(self) -> tuple[str, ...]:
        """Joint names of the training: those of the data set, or only the root."""
        return self._skeleton(build_learner(self.run)).joints

    def learner(self) -> Learner:
        """Construct the learner with the joints of the training; an epoch without length is one pass over all data."""
        if self.own:
            return build_learner(self.run, moments=self.crops if self.each_view else None)
        skeleton = self._skeleton(build_learner(self.run))
        return build_learner(self.run, skeleton=skeleton, moments=self.crops)

    @property
    def each_view(self) -> bool:
        """Whether each view of a sample is a training sample by itself (`Learner`)."""
        return bool(getattr(find_learner(self.run.spec), "each_view", False))

    @cached_property
    def crops(self) -> int:
        """Number of crops (people × views) per pass, half from data sets with depth and half from those without."""
        of_kind = {True: 0, False: 0}
        for dataset, depth in self._parts:
            samples = map(dataset.sample, dataset.keys("train"))
            of_kind[depth] += sum(len(view.boxes_px) for sample in samples for view in sample.views)
        return max(of_kind.values()) * sum(count > 0 for count in of_kind.values())

    def samples(self, training: Training, inputs: Inputs, seed: int, progress: Progress) -> LabelledSamples:
        """Samples of a training on several data sets, for as many passes as its steps need.

        Args:
            training: training made by `learner`.
            inputs: inputs that the training declares.
            seed: seed of the draws that bring both halves, with and without depth, to the same length.
            progress: called while crops are decoded.

        Raises:
            InputError: the training needs predicted roots, or the numbers of boxes and annotated people differ.
        """
        if inputs.root == "predicted":
            problem = "names data sets, but the row needs predicted roots, which only its own data set has"
            raise InputError(f"params.yaml: methods.{self.run.row}.train_on", problem, "remove train_on")
        skeleton = self._skeleton(build_learner(self.run))
        of_kind: dict[bool, list[LabelledSamples]] = {True: [], False: []}
        for dataset, depth in self._parts:
            handover = Handover(dataset, inputs, self.run.layout.crops, progress=progress)
            part: LabelledSamples = handover.examples("train", each_view=self.each_view)
            of_truth = skeleton_of_truth(dataset)
            of_kind[depth].append(part if of_truth.joints == skeleton.joints else Roots(part, of_truth))
        sizes = [sum(len(part) for part in parts) for parts in of_kind.values()]
        one_pass = max(sizes) * sum(size > 0 for size in sizes)
        passes = max(1, math.ceil(training.steps * training.batch_size / max(one_pass, 1)))
        return Mixture(of_kind[True], of_kind[False], passes, seed)

    @cached_property
    def _parts(self) -> list[tuple[Dataset, bool]]:
        """Data sets with training samples, each with whether it has depth."""
        return [(dataset, has_depth(dataset)) for dataset in self.datasets if dataset.keys("train")]

    def _skeleton(self, learner: Learner) -> Skeleton:
        """Joints of the training: those of the data set, or the root if joint sets differ and only roots are learned.

        Raises:
            InputError: joints differ between the data sets, and the learner predicts more than roots.
        """
        own = self.run.dataset.skeleton
        other = next((each for each in self.datasets if skeleton_of_truth(each).joints != own.joints), None)
        if other is None:
            return own
        answers: Skeleton = getattr(learner, "answers", own)
        if answers.joints != ROOT.joints:
            raise InputError(
                f"params.yaml: methods.{self.run.row}.train_on",
                f"{other.name} has other joints ({skeleton_of_truth(other).name}) than "
                f"{self.run.source.name} ({own.name})",
                "name data sets with the same joints; only a row that predicts only roots can mix joint sets",
            )
        return ROOT
