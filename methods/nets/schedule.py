"""How long a training is, and how its rate falls: the same for every method that is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt

from poseboard.datasets.errors import InputError
from poseboard.methods.base import Options

Recipe = Literal["small", "published"]
"""Ours, for little data and compute; or that of the method's release."""

ValueT = TypeVar("ValueT")


def by_recipe(small: ValueT, published: ValueT) -> Callable[[dict[str, Any]], ValueT]:
    """Default of an option that depends on the option ``recipe``, which stands before it.

    Example:
        >>> class Settings(Options):
        ...     recipe: Recipe = "small"
        ...     clip_norm: float | None = Field(default_factory=by_recipe(10.0, None), gt=0)
    """
    return lambda options: published if options.get("recipe") == "published" else small


class Epochs(Options):
    """Length of a training as its release states it; the option ``steps`` takes it instead of a number.

    Args:
        epochs: passes.
        moments: samples of one epoch; None: those of the data set that is trained on.
        every: only every so many training samples are trained on.

    Example:
        61 epochs of 15,000 samples in batches of 8 are 61 × 1875 = 114,375 steps.
    """

    epochs: PositiveInt
    moments: PositiveInt | None = None
    every: PositiveInt = 1


class Length:
    """The same in steps of the optimiser.

    Args:
        steps: their number, or epochs, whose last batch is left out where it is not full.
        batch_size: samples per step.

    Raises:
        InputError: epochs of a data set that nobody has counted.
    """

    def __init__(self, steps: int | Epochs, batch_size: int) -> None:
        self.every = 1
        self.per_epoch: int | None = None
        if isinstance(steps, int):
            self.steps = steps
            return
        if steps.moments is None:
            raise InputError("steps", "how many samples an epoch has is not known", "give `moments`")
        self.every = steps.every
        self.per_epoch = max(1, steps.moments // batch_size)
        self.steps = steps.epochs * self.per_epoch

    def falling(
        self, optimizer: torch.optim.Optimizer, milestones: Sequence[int] | None, shares: Sequence[float]
    ) -> torch.optim.lr_scheduler.MultiStepLR:
        """A tenth of the rate from each milestone on.

        Args:
            optimizer: whose rates fall.
            milestones: epochs (steps, where the length is in steps) that are over by then.
            shares: of the whole length, where ``milestones`` is None.
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
