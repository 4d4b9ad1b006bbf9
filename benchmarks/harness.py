"""The harness between data sets and methods: opens data sets, loads rows, and asks them for their answers.

What a method sees is decided by the hand-over (:mod:`poseboard.benchmarks.handover`). What a model declares is taken
once, when it has been loaded (`LoadedRow`), and every condition (a set of cameras, and where the roots come from) gets
a model of its own that is thrown away after it: neither what one condition showed nor what a model says of itself later
reaches another.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poseboard.benchmarks.handover import Handover, Progress, Transfer, taken
from poseboard.benchmarks.jobs import worker_number
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Dataset, Poses
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import (
    Inputs,
    Learner,
    Method,
    Options,
    answer_skeleton,
    find_learner,
    find_method,
    predicts,
)
from poseboard.protocols.perturbation import Perturbation

if TYPE_CHECKING:
    # Predictions depend on the code that this module imports, and on the values in params.yaml, not on their parser.
    from poseboard.benchmarks.settings import Settings

CHUNK = 64
"""Samples that are handed to a method at once: its answers can depend on it in the last digit."""


@dataclass(frozen=True)
class Bench:
    """A data set of params.yaml opened for work.

    A job that contains a bench is pickled without its data set, which each worker opens once.

    Args:
        settings: params.yaml in one profile.
        dataset: the opened data set.
    """

    settings: Settings
    dataset: Dataset

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_in_worker, (pickle.dumps(self.settings), self.dataset.name, self.dataset.manifest())

    @classmethod
    def open(cls, settings: Settings, name: str) -> Bench:
        """Open a data set by its name in params.yaml; InputError if it is not ready."""
        dataset = settings.open_dataset(name)
        status = dataset.status()
        if settings.is_named(name) and not settings.root(name).is_dir():
            root = f"params.yaml: datasets.{name}.root"
            raise InputError(root, f"there is no folder {settings.root(name)}", "name another one, or none")
        if status.state in ("missing", "damaged"):
            raise InputError(
                f"data set {name}", status.detail, f"run `poseboard data prepare {name}`, or {status.obtain}"
            )
        return cls(settings, dataset)

    def options(self, name: str, moments: int | None = None) -> dict[str, Any]:
        """The options of a row; epochs of unstated length are passes over this data set.

        Args:
            name: of the row.
            moments: samples of a pass, for a row that is trained on other data sets.
        """
        options = self.settings.options(name, self.dataset.name)
        return _with_samples_of_pass(options, len(self.dataset.keys("train")) if moments is None else moments)

    def learner(self, name: str, skeleton: Skeleton | None = None, moments: int | None = None) -> Learner:
        """What a row of params.yaml learns, constructed with its options.

        Args:
            name: of the row.
            skeleton: of the poses that it learns from; None: the data set's.
            moments: see `options`.
        """
        return find_learner(self.settings.entry(name).spec)(
            self.options(name, moments), skeleton or self.dataset.skeleton
        )

    def method(self, name: str) -> Method:
        """The method of a row, constructed with its options; InputError for a row that predicts nothing."""
        return find_method(self.settings.entry(name).spec)(self.options(name), self.dataset.skeleton)

    def handover(
        self,
        inputs: Inputs,
        cameras: Sequence[str] | None = None,
        roots_mm: Mapping[str, Array] | None = None,
        progress: Progress | None = None,
        perturbation: Perturbation | None = None,
        frames_per_rig: int = 1,
        transfer: Transfer | None = None,
    ) -> Handover:
        """The data set as a method with these inputs may see it."""
        crops = self.settings.home / "data" / "crops"
        return Handover(
            self.dataset, inputs, crops, cameras, roots_mm, progress, perturbation, frames_per_rig, transfer
        )

    def trained(self, on: str | None) -> Bench:
        """The bench of the data set whose training weights are of (`Condition.trained_on`); None: this one."""
        if on is None:
            return self
        if on not in self._others:
            self._others[on] = Bench.open(self.settings, on)
        return self._others[on]

    @cached_property
    def _others(self) -> dict[str, Bench]:
        return {}

    def fewest_root_views(self, method: str, split: str) -> int:
        """From how many cameras at least the roots can be predicted that a row is handed.

        Raises:
            InputError: the row names nothing that predicts roots.
        """
        entry = self.settings.entry(method)
        if split in entry.roots:
            return len(self.dataset.views)  # such a file does not state its cameras: all are assumed
        after = self.settings.after(method)
        if after is None or not predicts(find_learner(self.settings.entry(after).spec)):
            raise InputError(
                f"methods.{method}.after", f"{entry.after} predicts no roots", "name a row that does, or roots"
            )
        return self.method(after).inputs.views[0]

    def roots_source(self, method: str, seed: int, split: str) -> Path:
        """The file that the roots of a row are from: a published results file, or weights that find them.

        Raises:
            InputError: the row names nothing that predicts roots.
        """
        self.fewest_root_views(method, split)
        entry = self.settings.entry(method)
        if split in entry.roots:
            return self.settings.home / entry.roots[split]
        return self.settings.checkpoint(self.dataset.name, entry.after, seed)


def _with_samples_of_pass(options: dict[str, Any], samples: int) -> dict[str, Any]:
    """Options with the ``moments`` of ``steps: {epochs, every}`` filled in: the samples of a pass that are used."""
    steps = options.get("steps")
    if isinstance(steps, Mapping) and "epochs" in steps and steps.get("moments") is None:
        every = steps.get("every", 1)
        if isinstance(every, int) and every > 0:
            return {**options, "steps": {**steps, "moments": len(range(0, samples, every)) or None}}
    return options


@lru_cache(maxsize=2)  # the data set of the samples and that of the weights
def _open_in_worker(settings: bytes, name: str, manifest: str) -> Bench:
    """Open a data set; InputError if this machine has another state of it."""
    bench = Bench.open(pickle.loads(settings), name)
    if bench.dataset.manifest() != manifest:
        remedy = "let all workers read the same folder, and leave it unchanged during a run"
        raise InputError(f"data set {name}", "a worker reads another state of it", remedy)
    return bench


def device() -> str:
    """The torch device of this process: its own GPU in a worker, or in a process of torchrun or SLURM."""
    import torch  # scoring does without: it takes seconds to load

    if not torch.cuda.is_available():
        return "cpu"
    if (worker := worker_number()) is not None:
        return f"cuda:{worker % torch.cuda.device_count()}"
    return f"cuda:{os.environ['LOCAL_RANK']}" if os.environ.get("LOCAL_RANK") else "cuda"


class LoadedRow:
    """A row with one file of weights: what it declares, and a model of its own for every condition.

    Args:
        name: of the row, for errors.
        build: makes the method with the row's options.
        weights: that each model loads, onto `device`; None for none.

    Attributes:
        name: of the row.
        inputs: what the row may see, as the first model declared it once it was loaded.
        answers: the joints that it answers in, of the same model; None: those that it was made with.

    Raises:
        InputError: the weights cannot be used, or what is declared is none of what `Inputs` describes.

    Example:
        >>> row = LoadedRow("ransac", lambda: bench.method("ransac"), weights)  # doctest: +SKIP
        >>> for cameras in sets_of_cameras:  # doctest: +SKIP
        ...     answers = predict(row.model(), bench.handover(row.inputs, cameras), keys)
    """

    def __init__(self, name: str, build: Callable[[], Method], weights: Path | None) -> None:
        self.name, self._build, self._weights = name, build, weights
        first = self._load()
        self.inputs = taken(first.inputs, f"row {name}")
        self.answers: Skeleton | None = getattr(first, "answers", None)
        self._options = options_in_force(first, {})
        self._unused: Method | None = first

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_unused": None}  # a worker loads its own models

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options in force: those that the model keeps, with the defaults, else those given."""
        return dict(self._options or given)

    def model(self) -> Method:
        """A loaded model that has seen nothing yet; each call gives another one.

        Raises:
            InputError: it declares something else than the first one did.
        """
        if self._unused is not None:
            model, self._unused = self._unused, None
            return model
        model = self._load()
        now = taken(model.inputs, f"row {self.name}")
        if now != self.inputs:
            raise InputError(
                f"row {self.name}: inputs",
                f"was {self.inputs} when the weights were first loaded and is {now} now",
                "declare the same whenever the same weights are loaded",
            )
        return model

    def _load(self) -> Method:
        model = self._build()
        model.load(self._weights, device())
        return model


def options_in_force(method: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the defaults, of a method that keeps them as :class:`Options` in ``options``; else those given."""
    options = getattr(method, "options", None)
    return options.model_dump(mode="json") if isinstance(options, Options) else dict(given)


def predict(
    method: Method, handover: Handover, keys: Sequence[str], *, chunk: int = CHUNK, progress: Progress | None = None
) -> list[Poses]:
    """Poses for every key, in order.

    Args:
        method: loaded.
        handover: what it sees.
        keys: of the samples.
        chunk: samples that are handed over at once, see `chunks`.
        progress: called with (samples done, samples in all).

    Raises:
        InputError: see `answers_of`.
        Exception: what the method itself raises, with a note that names the samples.
    """
    answers = answers_of(method, handover, chunks(handover, keys, chunk), progress=progress)
    return [answers[key] for key in keys]


def chunks(handover: Handover, keys: Sequence[str], size: int = CHUNK) -> list[list[str]]:
    """The keys of samples that are handed over at once: whole groups within ``size`` keys, one group at least.

    People of one sample stay together, and so do the samples whose cameras a method may use together. A method of
    several views that is not told where its cameras are gets one such group at a time: of two groups in one call it
    could learn that they have the same cameras.
    """
    inputs = handover.inputs
    alone = not inputs.extrinsics and inputs.views[1] > 1
    return list(_chunks(handover.rigs(keys), 1 if alone else size))


def answers_of(
    method: Method, handover: Handover, of_chunks: Sequence[Sequence[str]], *, progress: Progress | None = None
) -> dict[str, Poses]:
    """Poses by key, one call of the method per chunk.

    Args:
        method: loaded.
        handover: what it sees.
        of_chunks: keys of the samples that are handed over at once.
        progress: called with (samples done, samples in all).

    Raises:
        InputError: the method answers with other things than `Poses`, with another number of samples than it was asked
            for, in a frame it does not see, or about several people where it is shown one.
        Exception: what the method itself raises, with a note that names the samples.
    """
    answers: dict[str, Poses] = {}
    count = sum(map(len, of_chunks))
    for of_chunk in of_chunks:
        shown = [handover.shown(key) for key in of_chunk]
        samples = [sample for of_key in shown for sample in of_key]
        try:
            of_samples = method.predict(samples)
        except Exception as error:
            error.add_note(f"raised by {type(method).__name__}.predict on {of_chunk[0]} to {of_chunk[-1]}")
            raise
        check_answers(of_samples, len(samples), type(method).__name__)
        rest = iter(of_samples)
        answers |= {
            key: handover.answered(key, [next(rest) for _ in of_key], answer_skeleton(method, handover.skeleton))
            for key, of_key in zip(of_chunk, shown, strict=True)
        }
        if progress is not None:
            progress(len(answers), count)
    return answers


def check_answers(answers: object, samples: int, method: str) -> None:
    """InputError where a method's answer is not a list with poses for each of so many samples."""
    if not isinstance(answers, Sequence):
        problem = f"answered with {type(answers).__name__}"
        raise InputError(f"{method}.predict", problem, "return a list, one Poses per sample")
    if len(answers) != samples:
        raise InputError(f"{method}.predict", f"answered {len(answers)} of {samples} samples", "answer each one")
    for place, answer in enumerate(answers):
        if not isinstance(answer, Poses):
            problem = f"answered sample {place} with {type(answer).__name__}"
            raise InputError(f"{method}.predict", problem, "return Poses, with NaN for what it does not know")


def roots_of(skeleton: Skeleton, row: str, keys: Sequence[str], answers: Sequence[Poses]) -> dict[str, Array]:
    """The roots (P, 3) of a row's answers in a joint set; InputError for one that is not in the world's frame."""
    elsewhere = next((key for key, answer in zip(keys, answers, strict=True) if answer.frame != "world"), None)
    if elsewhere is not None:
        raise InputError(
            f"methods.{row}", f"answers {elsewhere} in a camera's frame", "hand on roots of a row that answers in world"
        )
    missing = np.full((1, 3), np.nan)
    root_of = skeleton.root_of
    return {
        key: root_of(answer.joints_mm) if len(answer.score) else missing
        for key, answer in zip(keys, answers, strict=True)
    }


def _chunks(groups: Iterable[Sequence[str]], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for group in groups:
        if chunk and len(chunk) + len(group) > size:
            yield chunk
            chunk = []
        chunk.extend(group)
    if chunk:
        yield chunk
