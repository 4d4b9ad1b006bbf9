"""What methods with a network of their own share: how it comes from a checkpoint, and what training starts from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from torch import nn

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, OptionsT, started
from poseboard.methods.checkpoint import Checkpoint, load_strictly
from poseboard.methods.nets.starting_weights import given_weights

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class NetworkMethod(ABC, Generic[OptionsT, NetworkT]):
    """A method but for its network, how it predicts and how it is trained, which subclasses state.

    Args:
        name: of the method, in its checkpoints and for errors.
        options: of the row.
        skeleton: whose joints it answers in.
        inputs: what it may see; the crop size comes with the weights.
    """

    def __init__(self, name: str, options: OptionsT, skeleton: Skeleton, inputs: Inputs) -> None:
        self.options, self.skeleton, self.inputs = options, skeleton, inputs
        self._name, self._device = name, "cpu"
        self._network: NetworkT | None = None
        self._constants: dict[str, float] = {}

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Take the weights of a trained or imported checkpoint; its crop size becomes the method's."""
        if checkpoint is None:
            raise InputError(self._name, "it needs a checkpoint", "train it first or import published weights")
        read = Checkpoint.read(checkpoint)
        if read.method != self._name:
            raise InputError(checkpoint, f"checkpoint is of {read.method}", f"give {self._name} its own")
        network, crop_px = self.network(read, checkpoint)
        load_strictly(network, read.state, checkpoint)
        self._network, self._constants, self._device = network.to(device).eval(), read.constants, device
        self.inputs = replace(self.inputs, crop_px=crop_px)

    @abstractmethod
    def network(self, read: Checkpoint, where: Path) -> tuple[NetworkT, int]:
        """The network, not yet its weights, of the checkpoint ``read`` from ``where``, and the side of its crops.

        Raises:
            InputError: it is none of ours, for other joints, or contradicts the row's options.
        """

    @property
    def loaded(self) -> NetworkT:
        """The network that ``load`` took; InputError if it took none."""
        if self._network is None:
            raise InputError(self._name, "it has no weights yet", "load a checkpoint before predicting")
        return self._network

    def started(
        self, start: Path | None, after: str = "`after: backbone`", weights: Path | None = None
    ) -> tuple[Checkpoint, Path]:
        """What training starts from, and where it stands; InputError if nothing is given, naming what to set.

        Args:
            start: checkpoint of the row under ``after``.
            after: what to set where nothing is given.
            weights: a checkpoint that the row's own options name instead.
        """
        if weights is not None:
            start = given_weights(self._name, weights)
        path = started(self._name, start, after)
        return Checkpoint.read(path), path
