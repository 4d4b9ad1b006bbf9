"""What a row is trained on for a data set: its training split, or those of the data sets that `train_on` names.

Several data sets become one training set, those with depth and those without half and half
(:mod:`poseboard.methods.batches.mixing`). Which of them have depth follows from their truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from poseboard.benchmarks.handover import Handover, Progress
from poseboard.benchmarks.harness import build_learner
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Dataset, skeleton_of_truth
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.methods.base import Inputs, LabelledSamples, Learner, Training, find_learner
from poseboard.methods.batches.mixing import Mixture, Roots

if TYPE_CHECKING:
    # Trainings depend on the code that this module imports, and on the values in params.yaml, not on their parser.
    from poseboard.benchmarks.plan import Run

LOOKED_AT = 64
"""Samples of a training split, evenly strided, that tell whether its truth has depth."""
FINISH_SAMPLES = 256
"""Training samples, evenly strided, that constants are fitted on after training."""


def has_depth(dataset: Dataset) -> bool:
    """Whether the truth of a training split is in 3D, of some person at least; else it is annotated in the image alone.

    Args:
        dataset: with a training split.
    """
    keys = dataset.keys("train")
    some = keys[:: max(1, len(keys) // LOOKED_AT)]
    return any(bool(np.isfinite(dataset.truth(key).joints_mm).any()) for key in some)


def fitted_constants(training: Training, samples: LabelledSamples) -> dict[str, float]:
    """The constants that a finished training fits on its samples (`Training.finish`)."""
    some = [samples[place] for place in range(len(samples))[:: max(1, len(samples) // FINISH_SAMPLES)]]
    return training.finish([sample for sample, _ in some], [truth for _, truth in some])


@dataclass(frozen=True)
class TrainingData:
    """The data sets that a row is trained on.

    Args:
        run: the row on the data set that it is trained for.

    Raises:
        InputError: a data set that params.yaml names a folder of is not there, or cannot be read.

    Example:
        >>> data = TrainingData(plan.run("rootnet", "mupots"))  # doctest: +SKIP
        >>> data.names  # doctest: +SKIP
        ('muco', 'mscoco')
    """

    run: Run

    @property
    def own(self) -> bool:
        """Whether it is trained on the data set itself and on no other."""
        return [source.name for source in self.run.training] == [self.run.source.name]

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of those without a copy."""
        return tuple(source.name for source in self.run.training if source.is_absent)

    @cached_property
    def datasets(self) -> tuple[Dataset, ...]:
        """Those with a copy, opened; InputError if the run's own data set has none."""
        if self.own:
            return (self.run.dataset,)
        return tuple(source.dataset for source in self.run.training if not source.is_absent)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of those with a copy."""
        return tuple(dataset.name for dataset in self.datasets)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The names, as weights state them; empty where it is the data set itself alone."""
        return () if self.names == (self.run.source.name,) else self.names

    @property
    def manifests(self) -> dict[str, str]:
        """Data set -> its manifest; empty where the row names none."""
        return {} if self.own else {dataset.name: dataset.manifest() for dataset in self.datasets}

    @property
    def without(self) -> str:
        """For the terminal: those that it is trained without; empty where there is none."""
        return f"; without {', '.join(self.absent)}, of which there is no copy" if self.absent else ""

    @cached_property
    def nothing_to_learn(self) -> str:
        """Why nothing can be learned; empty where something can."""
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
        """Of the training: those of the data set, unless the row is trained on roots."""
        return self._skeleton(build_learner(self.run)).joints

    def learner(self) -> Learner:
        """What is trained, with the joints of its training; epochs of unstated length are passes over all of it."""
        if self.own:
            return build_learner(self.run, moments=self.crops if self.each_view else None)
        skeleton = self._skeleton(build_learner(self.run))
        return build_learner(self.run, skeleton=skeleton, moments=self.crops)

    @property
    def each_view(self) -> bool:
        """Whether each view of a sample is an example (`Learner`)."""
        return bool(getattr(find_learner(self.run.spec), "each_view", False))

    @cached_property
    def crops(self) -> int:
        """People in views of one pass, data sets with depth and without half and half."""
        of_kind = {True: 0, False: 0}
        for dataset, depth in self._parts:
            samples = map(dataset.sample, dataset.keys("train"))
            of_kind[depth] += sum(len(view.boxes_px) for sample in samples for view in sample.views)
        return max(of_kind.values()) * sum(count > 0 for count in of_kind.values())

    def samples(self, training: Training, inputs: Inputs, seed: int, progress: Progress) -> LabelledSamples:
        """What a training of several data sets sees: as many passes over all of them as it takes.

        Args:
            training: made by `learner`.
            inputs: that it declares.
            seed: of what is drawn to bring both halves to the same length.
            progress: called while crops are decoded.

        Raises:
            InputError: it asks for roots that another row predicts, or the boxes of a data set are of other people
                than are annotated.
        """
        if inputs.root == "predicted":
            problem = "names data sets, and the row is handed roots that are predicted on its own alone"
            raise InputError(f"params.yaml: methods.{self.run.row}.train_on", problem, "leave it out")
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
        """Those that have training samples, and whether with depth."""
        return [(dataset, has_depth(dataset)) for dataset in self.datasets if dataset.keys("train")]

    def _skeleton(self, learner: Learner) -> Skeleton:
        """The joints of the training: the data set's, or the root where others differ and the learner answers it alone.

        Raises:
            InputError: the data sets have other joints than the one that it is trained for.
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
                "name data sets with the same joints; only a row that answers roots alone can mix others",
            )
        return ROOT
