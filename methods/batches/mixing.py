"""Epochs in which half of the samples come from data sets with depth and half from data sets without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Sample, Truth
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.methods.base import LabelledSamples

DRAWN = -1
"""Instead of an element: one that is drawn at random, each time anew."""


def half_and_half(with_depth: Sequence[int], without: Sequence[int]) -> NDArray[np.int64]:
    """Indices of one unshuffled epoch over data sets with depth (kind 0) and without depth (kind 1).

    As in RootNet's release code, the data sets of a kind form one list, and the shorter list is repeated to the length
    of the longer one. Elements after its last complete repetition are drawn at random from the list. If all data sets
    are of one kind, the epoch is their list.

    Args:
        with_depth: sizes of the data sets of kind 0.
        without: sizes of the data sets of kind 1.

    Returns:
        (total, 3) indices: kind, data set within the kind, element. `DRAWN` replaces the last two where the element is
        to be drawn at random.

    Example:
        >>> half_and_half([2], [3]).tolist()
        [[0, 0, 0], [0, 0, 1], [0, -1, -1], [1, 0, 0], [1, 0, 1], [1, 0, 2]]
    """
    longest = max(sum(with_depth), sum(without))
    kinds = [_repeated(kind, sizes, longest) for kind, sizes in enumerate((with_depth, without)) if sum(sizes)]
    return np.concatenate(kinds) if kinds else np.empty((0, 3), dtype=np.int64)


def drawn_anew(epoch: NDArray[np.int64], sizes: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Replace every `DRAWN` of an epoch of `half_and_half` by a random element.

    Args:
        epoch: (total, 3) indices.
        sizes: sizes of the data sets with depth, and of those without.
        rng: source of the draws.
    """
    chosen = epoch.copy()
    for kind, of_kind in enumerate(sizes):
        rows = np.flatnonzero((epoch[:, 0] == kind) & (epoch[:, 2] == DRAWN))
        if rows.size:
            places = _places(of_kind)
            chosen[rows, 1:] = places[rng.integers(len(places), size=len(rows))]
    return chosen


class Mixture:
    """Training set from several data sets: half of the samples with depth, half without.

    The length is ``epochs`` times that of `half_and_half`. The random elements of an epoch depend only on the seed and
    the epoch, so that a resumed training continues with the same samples.

    Args:
        with_depth: data sets with true depths, reduced to the inputs of the method.
        without: data sets with 2D annotations only.
        epochs: number of epochs of the training run.
        seed: seed of the random elements.

    Example:
        >>> len(Mixture([muco], [mscoco], epochs=20, seed=0))  # doctest: +SKIP
    """

    def __init__(
        self, with_depth: Sequence[LabelledSamples], without: Sequence[LabelledSamples], epochs: int, seed: int
    ) -> None:
        self._parts = (tuple(with_depth), tuple(without))
        sizes = [[len(part) for part in parts] for parts in self._parts]
        epoch = half_and_half(*sizes)
        self._rows = np.concatenate(
            [drawn_anew(epoch, sizes, np.random.default_rng([seed, number])) for number in range(epochs)]
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int, /) -> tuple[Sample, Truth]:
        """Sample at index ``place`` of the whole training run, and its ground truth."""
        kind, number, element = self._rows[place].tolist()
        return self._parts[kind][number][element]


class Roots:
    """Training samples with ground truth reduced to the root (`ROOT`), to mix data sets with different joints.

    Args:
        samples: samples with the inputs of the method.
        skeleton: skeleton of their ground truth.
    """

    def __init__(self, samples: LabelledSamples, skeleton: Skeleton) -> None:
        self._samples, self._root = samples, skeleton.indices(skeleton.root_joints)
        self.skeleton = ROOT

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int, /) -> tuple[Sample, Truth]:
        """Sample and true root of its person. The root is visible if all joints that define it are visible."""
        sample, truth = self._samples[place]
        return sample, Truth(
            self._mean(truth.joints_mm),
            {view: np.asarray(seen[:, self._root].all(axis=1, keepdims=True)) for view, seen in truth.seen.items()},
            {view: self._mean(points) for view, points in truth.annotated.items()},
        )

    def _mean(self, joints: Array) -> Array:
        return np.asarray(joints[:, self._root].mean(axis=1, keepdims=True))


def _places(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Index of the data set and of the element for all elements in order: (sum of sizes, 2)."""
    number = np.repeat(np.arange(len(sizes)), sizes)
    element = np.concatenate([np.arange(size) for size in (*sizes, 0)])
    return np.stack([number, element], axis=1).astype(np.int64)


def _repeated(kind: int, sizes: Sequence[int], length: int) -> NDArray[np.int64]:
    places = _places(sizes)
    whole = np.tile(places, (length // len(places), 1))
    drawn = np.full((length - len(whole), 2), DRAWN, dtype=np.int64)
    rows = np.concatenate([whole, drawn])
    return np.concatenate([np.full((length, 1), kind, dtype=np.int64), rows], axis=1)
