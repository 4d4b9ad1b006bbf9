"""Base class of methods with one network: loading of checkpoints, and the start of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from torch import nn

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, OptionsT
from poseboard.methods.checkpoint import Checkpoint, load_strictly
from poseboard.methods.nets.starting_weights import checkpoint_of_option, starting_checkpoint

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class NetworkMethod(ABC, Generic[OptionsT, NetworkT]):
    """Base class of methods with one network. Subclasses define `network`, ``predict`` and ``training``.

    Args:
        name: name of the method, in its checkpoints and errors.
        options: options of the row.
        skeleton: skeleton of the predictions.
        inputs: inputs of the method; ``load`` sets their crop size.

    Example:
        `poseboard.methods.algebraic.method.Algebraic`.
    """

    def __init__(self, name: str, options: OptionsT, skeleton: Skeleton, inputs: Inputs) -> None:
        self.options, self.skeleton, self.inputs = options, skeleton, inputs
        self._name, self._device = name, "cpu"
        self._network: NetworkT | None = None
        self._constants: dict[str, float] = {}

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Load a trained or imported checkpoint, which also sets the crop size of ``inputs``."""
        if checkpoint is None:
            raise InputError(self._name, "it needs a checkpoint", "train the row first, or import published weights")
        content = Checkpoint.read(checkpoint)
        if content.method != self._name:
            raise InputError(checkpoint, f"checkpoint is of {content.method}", f"use a checkpoint of {self._name}")
        network, crop_px = self.network(content, checkpoint)
        load_strictly(network, content.state, checkpoint)
        self._network, self._constants, self._device = network.to(device).eval(), content.constants, device
        self.inputs = replace(self.inputs, crop_px=crop_px)

    @abstractmethod
    def network(self, checkpoint: Checkpoint, where: Path) -> tuple[NetworkT, int]:
        """Build the network of a checkpoint with random weights, and return it with the side of its crops in pixels.

        Args:
            checkpoint: checkpoint with the architecture to build.
            where: path of the checkpoint, named in errors.

        Raises:
            InputError: the architecture belongs to another method, has other joints, or contradicts the options.
        """

    @property
    def loaded(self) -> NetworkT:
        """The network with its weights; InputError if no checkpoint was loaded."""
        if self._network is None:
            raise InputError(self._name, "it has no weights yet", "load a checkpoint before predicting")
        return self._network

    def read_start(
        self, start: Path | None, after: str = "`after: backbone`", weights: Path | None = None
    ) -> tuple[Checkpoint, Path]:
        """Read the checkpoint from which training starts, and return it with its path.

        Args:
            start: checkpoint of the row that ``after:`` in params.yaml names.
            after: setting that the error message tells the user to make.
            weights: checkpoint of the option ``start_weights``, which replaces ``start``.

        Raises:
            InputError: ``start`` is None, or the checkpoint does not exist.
        """
        if weights is not None:
            start = checkpoint_of_option(self._name, weights)
        path = starting_checkpoint(self._name, start, after)
        return Checkpoint.read(path), path
