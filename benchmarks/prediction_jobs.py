"""Predictions as jobs: each predicts a few hundred samples under one condition, by a model of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from poseboard.benchmarks.handover import Handover, Progress
from poseboard.benchmarks.harness import Bench, LoadedRow, answers_of, chunks
from poseboard.benchmarks.jobs import run_jobs
from poseboard.benchmarks.transfer import transfer
from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Poses
from poseboard.protocols.condition import Condition

PIECE = 256
"""Samples of a job: enough that loading a model costs little, few enough that workers end together."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """One row under one condition, with one file of weights.

    Args:
        bench: the data set.
        row: with its weights.
        condition: the row's inputs.
        keys: of the samples.
        roots_mm: key -> root positions (P, 3) for a row that needs predicted ones.
    """

    bench: Bench
    row: LoadedRow
    condition: Condition
    keys: Sequence[str]
    roots_mm: Mapping[str, Array] | None = None

    def handover(self) -> Handover:
        """The samples as the row may see them."""
        condition = self.condition
        return self.bench.handover(
            self.row.inputs,
            condition.cameras,
            self.roots_mm,
            perturbation=condition.perturbation,
            frames_per_rig=condition.frames_per_rig,
            transfer=transfer(self.bench, condition.trained_on),
        )


class _Piece(NamedTuple):
    prediction: Prediction
    chunks: list[list[str]]


def predict_all(predictions: Sequence[Prediction], progress: Progress | None = None) -> Iterator[dict[str, Poses]]:
    """Yield the poses by key of each prediction, in order.

    Args:
        predictions: that do not depend on each other.
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
    """The chunks of all samples, about `PIECE` samples together."""
    part: list[list[str]] = []
    for chunk in chunks(prediction.handover(), prediction.keys):
        part.append(chunk)
        if sum(map(len, part)) >= PIECE:
            yield part
            part = []
    if part:
        yield part


def _predict_piece(piece: _Piece) -> dict[str, Poses]:
    # A new model and hand-over: nothing that one condition showed reaches the next.
    return answers_of(piece.prediction.row.model(), piece.prediction.handover(), piece.chunks)
