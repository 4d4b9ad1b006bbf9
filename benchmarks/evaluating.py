"""The evaluate stage: a row's predictions on its data sets, and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from poseboard.benchmarks.harness import Bench
from poseboard.benchmarks.matching import Place, places, shows_people
from poseboard.benchmarks.predicting import predict_stage, splits_on, splits_with_samples, weights_path
from poseboard.benchmarks.scoring import lines, score_stage
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Sample
from poseboard.methods.base import Inputs, find_learner, predicts
from poseboard.protocols.records import RowKind

KINDS: tuple[RowKind, ...] = ("predictions", "scores", "errors", "examples")


def evaluate_stage(settings: Settings, row: str, dataset: str | None = None) -> Iterator[str]:
    """Predict and score a row on every data set that it runs on; yields a line per file, score and omission.

    A row that predicts nothing is left out.

    Args:
        settings: params.yaml in one profile.
        row: name in params.yaml.
        dataset: only this data set, even if the row does not run on it by default.

    Raises:
        InputError: a data set, the row, its checkpoint, its predictions or a table cannot be used.
    """
    if dataset is not None:
        settings.dataset_options(dataset)  # refuses a name that is not in params.yaml
    for kind in KINDS:
        settings.row_folder(kind, row).mkdir(parents=True, exist_ok=True)
    if not predicts(find_learner(settings.entry(row).spec)):
        yield f"{row}: it predicts nothing; other rows start from its weights"
        return
    on = list(places(settings, row)) if dataset is None else [Place(dataset)]
    if not on:
        yield settings.nowhere(row)
    for place in on:
        why = place.left_out or ("" if splits_on(place.dataset, settings.params.profile) else "no table is run on it")
        bench = None if why else Bench.open(settings, place.dataset)
        splits = [] if bench is None else splits_with_samples(bench)
        if bench is None or (why := _why_not_predicted(bench, row, splits)):
            yield f"{place.dataset}/{row}: left out, {why}"
            continue
        for split in splits:
            yield from predict_stage(bench, row, split)
        yield from lines(score_stage(bench, row))


def predict_alone(bench: Bench, row: str, split: str) -> Iterator[str]:
    """Like `predict_stage`, but a row without input raises instead of being skipped.

    Args:
        bench: the data set.
        row: name in params.yaml.
        split: of the data set.

    Raises:
        InputError: the split has no input for the row; or see `predict_stage`.
    """
    if why := _why_no_input(bench, row, [split]):
        where = f"{bench.dataset.name}/{row}: split {split}"
        raise InputError(where, why, "complete the data set, or choose another row")
    yield from predict_stage(bench, row, split)


def _why_not_predicted(bench: Bench, row: str, splits: Sequence[str]) -> str:
    """Reason why the row cannot predict on these splits; empty if it can."""
    has_weights = weights_path(bench, row, bench.settings.seeds(row, bench.dataset.name)[0]) is not None
    lacking = "it has no training samples, and {0.where}: {0.problem}"
    try:
        if not has_weights:
            bench.method(row).load(None, "cpu")
    except InputError as error:
        return lacking.format(error)
    if why := _why_no_input(bench, row, splits):
        return why
    # A row that names its data sets either works without weights or raises an error of its own.
    if has_weights or bench.settings.on(row) is not None:
        return ""
    method = bench.method(row)
    method.load(None, "cpu")
    if method.inputs.root == "predicted":
        return ""
    samples = _first_samples(bench, method.inputs, splits)
    try:
        method.predict(samples)
    except InputError as error:
        return lacking.format(error)
    return ""


def _first_samples(bench: Bench, inputs: Inputs, splits: Sequence[str]) -> Sequence[Sample]:
    """The first sample as the method sees it; InputError if an image cannot be read."""
    key = next((key for split in splits for key in bench.dataset.keys(split)), None)
    samples = () if key is None else bench.handover(inputs).shown(key)
    for sample in samples:
        for view in sample.views:
            if view.image is not None:
                view.pixels()
    return samples


def _why_no_input(bench: Bench, row: str, splits: Sequence[str]) -> str:
    """Reason why splits have no input for a row; empty if they have boxes or detections, or the row detects people."""
    if shows_people(bench.dataset, splits):
        return ""
    method, weights = bench.method(row), weights_path(bench, row, bench.settings.seeds(row, bench.dataset.name)[0])
    method.load(weights, "cpu")  # what it declares may depend on its weights
    finds_people = method.inputs.images and method.inputs.people == "all"
    return "" if finds_people else "there are no boxes and no 2D detections of people, which it needs"
