"""The evaluate stage: a row's predictions on its data sets, and their scores."""

from __future__ import annotations

from collections.abc import Iterator

from poseboard.benchmarks.harness import Bench, device
from poseboard.benchmarks.locks import is_first_process
from poseboard.benchmarks.matching import Place, places, shows_people
from poseboard.benchmarks.predicting import predict_stage, splits_on, tables_on, weights_path
from poseboard.benchmarks.scoring import lines, score_stage
from poseboard.benchmarks.settings import Settings
from poseboard.benchmarks.sharing import Sharing
from poseboard.datasets.errors import InputError
from poseboard.methods.base import find_learner, predicts
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
    for kind in KINDS:
        settings.row_folder(kind, row).mkdir(parents=True, exist_ok=True)
    if not predicts(find_learner(settings.entry(row).spec)):
        yield f"{row}: it predicts nothing; other rows start from its weights"
        return
    sharing = Sharing(1, device())
    on = list(places(settings, row)) if dataset is None else [Place(dataset)]
    if not on:
        yield f"{row}: params.yaml runs it on no data set in profile {settings.params.profile}"
    for place in on:
        if why := place.left_out or _unanswered(settings, row, place.dataset):
            yield f"{place.dataset}/{row}: left out, {why}"
            continue
        for split in splits_on(place.dataset, settings.params.profile):
            yield from predict_stage(settings, place.dataset, row, split, sharing)
        if is_first_process():
            yield from lines(score_stage(settings, place.dataset, row))


def _unanswered(settings: Settings, row: str, dataset: str) -> str:
    """Why nothing is predicted on a data set that is there: no table, no weights, or nobody whom the row is shown."""
    if not tables_on(dataset, settings.params.profile):
        return "no table is run on it"
    bench = Bench.open(settings, dataset)
    method, weights = bench.method(row), weights_path(bench, row, settings.seeds(row, dataset)[0])
    if weights is None:
        try:
            method.load(None, "cpu")
        except InputError as error:
            return f"it has no training samples, and {error.where}: {error.problem}"
    if shows_people(bench.dataset, splits_on(dataset, settings.params.profile)):
        return ""
    if weights is not None:
        method.load(weights, "cpu")
    finds_people = method.inputs.images and method.inputs.people == "all"
    return "" if finds_people else "there are no boxes and no 2D detections of people, which it needs"
