"""Length of a training and schedules of its learning rate, for every method that is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt

from poseboard.datasets.errors import InputError
from poseboard.methods.base import Options

Recipe = Literal["small", "published"]
"""The recipe "small" is ours, for little data and compute; "published" is that of the method's release."""

ValueT = TypeVar("ValueT")


def by_recipe(small: ValueT, published: ValueT) -> Callable[[dict[str, Any]], ValueT]:
    """Default of an option that depends on the option ``recipe``, a field declared before it.

    Example:
        >>> class Settings(Options):
        ...     recipe: Recipe = "small"
        ...     clip_norm: float | None = Field(default_factory=by_recipe(10.0, None), gt=0)
    """
    return lambda options: published if options.get("recipe") == "published" else small


class Epochs(Options):
    """Length of a training in epochs; the option ``steps`` takes it instead of a number.

    Args:
        epochs: passes over the samples.
        moments: samples per epoch; None: those of the data set.
        every: stride over the training samples.

    Example:
        61 epochs of 15,000 samples in batches of 8 are 61 × 1875 = 114,375 steps.
    """

    epochs: PositiveInt
    moments: PositiveInt | None = None
    every: PositiveInt = 1


class Length:
    """Length of a training in optimiser steps.

    Args:
        steps: their number, or epochs; an incomplete last batch of an epoch is left out.
        batch_size: samples per step.

    Raises:
        InputError: epochs without the number of samples or with a stride per data set.

    Example:
        >>> Length(Epochs(epochs=61, moments=15_000), batch_size=8).steps
        114375
    """

    def __init__(self, steps: int | Epochs, batch_size: int) -> None:
        self.every = 1
        self.per_epoch: int | None = None
        if isinstance(steps, int):
            self.steps = steps
            return
        if steps.moments is None:
            raise InputError("steps", "the number of samples per epoch is not known", "give `moments`")
        self.every = steps.every
        self.per_epoch = max(1, steps.moments // batch_size)
        self.steps = steps.epochs * self.per_epoch

    def falling(
        self, optimizer: torch.optim.Optimizer, milestones: Sequence[int] | None, shares: Sequence[float]
    ) -> torch.optim.lr_scheduler.MultiStepLR:
        """Learning rates that are divided by ten at each milestone.

        Args:
            optimizer: whose rates fall.
            milestones: in epochs, or in steps if the length is given in steps.
            shares: milestones as shares of the length, used if ``milestones`` is None.
        """
        if milestones is None:
            after = {max(1, int(self.steps * share)) for share in shares}
        else:
            after = {milestone * (self.per_epoch or 1) for milestone in milestones}
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, sorted(after), gamma=0.1)


Milestones = tuple[NonNegativeInt, ...]


def warmup_cosine(optimizer: torch.optim.Optimizer, steps: int, warmup_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Learning rates that rise linearly over ``warmup_steps`` and fall along a half cosine to zero at ``steps``."""

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_steps + 1))
        return float(rise * (0.5 + 0.5 * np.cos(np.pi * min(1.0, step / steps))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
