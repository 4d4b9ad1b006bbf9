"""The evaluate stage: a row's predictions on its data sets, and their scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import build_method
from poseboard.benchmarks.plan import Run
from poseboard.benchmarks.predicting import predict_stage, weights_path
from poseboard.benchmarks.scoring import lines, score_stage
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Dataset, Sample
from poseboard.methods.base import Inputs, Method, find_learner, predicts


def evaluate_stage(runs: Iterable[Run]) -> Iterator[str]:
    """Predict and score the runs of a row; yields what was predicted, scored and left out.

    A row that predicts nothing is left out.

    Raises:
        InputError: a data set, the row, its checkpoint, its predictions or a table cannot be used.
    """
    for run in runs:
        if not predicts(find_learner(run.spec)):
            yield f"{run.row}: it predicts nothing; other rows start from its weights"
            return
        if why := run.left_out or ("" if run.tables else "no table is run on it") or _no_input(run):
            yield f"{run}: left out, {why}"
            continue
        for split in run.splits:
            yield from predict_stage(run, split)
        yield from lines(score_stage(run))


def predict_split(run: Run, split: str) -> Iterator[str]:
    """Like `predict_stage`, but a row without input raises instead of being skipped.

    Raises:
        InputError: the split has nothing that the row could predict people from, or see `predict_stage`.
    """
    if why := _no_people(run, [split]):
        raise InputError(f"{run}: split {split}", why, "complete the data set, or choose another row")
    yield from predict_stage(run, split)


def has_people(dataset: Dataset, splits: Iterable[str]) -> bool:
    """Whether any view has a box or a 2D detection, false positives included."""
    views = (view for split in splits for key in dataset.keys(split) for view in dataset.sample(key).views)
    return any(len(view.boxes_px) or view.joints_px is not None for view in views)


def _no_input(run: Run) -> str:
    """Reason why the row cannot predict on a data set; empty if it can."""
    has_weights = weights_path(run, run.seeds[0]) is not None
    lacking = "it has no training samples, and {0.where}: {0.problem}"
    try:
        if not has_weights:
            build_method(run).load(None, "cpu")
    except InputError as error:
        return lacking.format(error)
    if why := _no_people(run, run.splits):
        return why
    # A row that names its data sets either works without weights or raises an error of its own.
    if has_weights or run.names_dataset:
        return ""
    method = build_method(run)
    method.load(None, "cpu")
    if method.inputs.root == "predicted":
        return ""
    try:
        method.predict(_first_samples(run, method.inputs))
    except InputError as error:
        return lacking.format(error)
    return ""


def _first_samples(run: Run, inputs: Inputs) -> Sequence[Sample]:
    """The first sample as a method sees it; InputError if an image cannot be read."""
    key = next((key for split in run.splits for key in run.dataset.keys(split)), None)
    samples = () if key is None else Handover(run.dataset, inputs, run.layout.crops).shown(key)
    for sample in samples:
        for view in sample.views:
            if view.image is not None:
                view.pixels()
    return samples


def _no_people(run: Run, splits: Sequence[str]) -> str:
    """Reason why a row finds no person in splits; empty if it may find some."""
    if has_people(run.dataset, splits):
        return ""
    method: Method = build_method(run)
    method.load(weights_path(run, run.seeds[0]), "cpu")  # what it declares may depend on its weights
    finds_people = method.inputs.images and method.inputs.people == "all"
    return "" if finds_people else "there are no boxes and no 2D detections of people, which it needs"
