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
    """Predict and score a row on every data set that it runs on; yields what was predicted, scored and left out.

    A row that predicts nothing, as its contract says, is passed over.

    Args:
        settings: params.yaml in one profile.
        row: of it.
        dataset: to do one alone, whether the row is run there or not.

    Raises:
        InputError: a data set, the row, its checkpoint, its answers or a table cannot be used.
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
        if bench is None or (why := _unanswered(bench, row, splits)):
            yield f"{place.dataset}/{row}: left out, {why}"
            continue
        for split in splits:
            yield from predict_stage(bench, row, split)
        yield from lines(score_stage(bench, row))


def predict_alone(bench: Bench, row: str, split: str) -> Iterator[str]:
    """`predict_stage` for who asked for it by name: a row that sees nobody is an error there, and not left out.

    Args:
        bench: the data set.
        row: of params.yaml.
        split: of the data set.

    Raises:
        InputError: the split shows the row nobody, or see `predict_stage`.
    """
    if why := _sees_nobody(bench, row, [split]):
        where = f"{bench.dataset.name}/{row}: split {split}"
        raise InputError(where, why, "complete the data set, or choose another row")
    yield from predict_stage(bench, row, split)


def _unanswered(bench: Bench, row: str, splits: Sequence[str]) -> str:
    """Why nothing is predicted on splits of a data set: no weights, or nobody to see."""
    has_weights = weights_path(bench, row, bench.settings.seeds(row, bench.dataset.name)[0]) is not None
    lacking = "it has no training samples, and {0.where}: {0.problem}"
    try:
        if not has_weights:
            bench.method(row).load(None, "cpu")
    except InputError as error:
        return lacking.format(error)
    if why := _sees_nobody(bench, row, splits):
        return why
    # On data sets that a row names it can do without weights, or its error is one.
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
    """What a method is given of the first sample; InputError if an image cannot be read."""
    key = next((key for split in splits for key in bench.dataset.keys(split)), None)
    samples = () if key is None else bench.handover(inputs).shown(key)
    for sample in samples:
        for view in sample.views:
            if view.image is not None:
                view.pixels()
    return samples


def _sees_nobody(bench: Bench, row: str, splits: Sequence[str]) -> str:
    """Why a row is shown nobody on splits of a data set; empty where it is, or finds people by itself."""
    if shows_people(bench.dataset, splits):
        return ""
    method, weights = bench.method(row), weights_path(bench, row, bench.settings.seeds(row, bench.dataset.name)[0])
    method.load(weights, "cpu")  # what it declares may depend on its weights
    finds_people = method.inputs.images and method.inputs.people == "all"
    return "" if finds_people else "there are no boxes and no 2D detections of people, which it needs"
