"""Base classes for the training of networks: options, length, optimiser and learning-rate schedule.

A method that learns derives its options from `TrainingOptions` and its training from `NetworkTraining`. It defines
``example`` and ``loss``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, Options, Training

Recipe = Literal["small", "published"]
"""The recipe "small" is ours, for little data and compute; "published" is that of the method's release."""

ValueT = TypeVar("ValueT")


def by_recipe(small: ValueT, published: ValueT) -> Callable[[dict[str, Any]], ValueT]:
    """Default factory of an option whose default depends on the option ``recipe``, which must be declared before it.

    Example:
        >>> class Settings(Options):
        ...     recipe: Recipe = "small"
        ...     clip_norm: float | None = Field(default_factory=by_recipe(10.0, None), gt=0)
    """
    return lambda options: published if options.get("recipe") == "published" else small


class Epochs(Options):
    """Length of training in epochs: a value of the option ``steps`` instead of a number of steps.

    Args:
        epochs: number of passes over the samples.
        moments: number of samples per epoch; None: all samples of the data set.
        every: stride over the training samples: with 2, every other sample is used.

    Example:
        61 epochs of 15,000 samples in batches of 8 are 61 × 1875 = 114,375 steps.
    """

    epochs: PositiveInt
    moments: PositiveInt | None = None
    every: PositiveInt = 1


class Length:
    """Length of training in optimiser steps.

    Args:
        steps: number of steps, or epochs. An incomplete last batch of an epoch does not count.
        batch_size: samples per step.

    Raises:
        InputError: ``steps`` are epochs of an unknown number of samples.

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
            raise InputError("steps", "the number of samples per epoch is missing", "pass `moments`")
        self.every = steps.every
        self.per_epoch = max(1, steps.moments // batch_size)
        self.steps = steps.epochs * self.per_epoch

    def falling(
        self, optimizer: torch.optim.Optimizer, milestones: Sequence[int] | None, shares: Sequence[float]
    ) -> torch.optim.lr_scheduler.MultiStepLR:
        """Scheduler that divides learning rates by ten at each milestone.

        Args:
            optimizer: optimiser with the learning rates to schedule.
            milestones: in epochs if the length is in epochs, else in steps.
            shares: milestones as shares (0 to 1) of the length, used if ``milestones`` is None.
        """
        if milestones is None:
            after = {max(1, int(self.steps * share)) for share in shares}
        else:
            after = {milestone * (self.per_epoch or 1) for milestone in milestones}
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, sorted(after), gamma=0.1)


Milestones = tuple[NonNegativeInt, ...]


def warmup_cosine(optimizer: torch.optim.Optimizer, steps: int, warmup_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Scheduler of learning rates that rise linearly for ``warmup_steps`` and then fall as a cosine to 0."""

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup_steps + 1))
        return float(rise * (0.5 + 0.5 * np.cos(np.pi * min(1.0, step / steps))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class OneRecipeOptions(Options):
    """Options of training for methods that have only our recipe, AdamW with a cosine schedule.

    Args:
        steps: optimiser steps, or `Epochs`.
        batch_size: examples per step.
        learning_rate: maximum learning rate; None: a default of the method.
        warmup_steps: number of steps in which the learning rate rises.
        weight_decay: weight decay of AdamW.
        clip_norm: norm to which larger gradients are clipped; None: no clipping. Default: 10, None with "published".
    """

    steps: PositiveInt | Epochs = 600
    batch_size: int = Field(default=12, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip_norm: float | None = Field(default_factory=by_recipe(10.0, None), gt=0)


class RecipeOption(Options):
    """Option that selects our recipe ("small") or the recipe of the release ("published")."""

    recipe: Recipe = "small"


class TrainingOptions(OneRecipeOptions, RecipeOption):  # pydantic takes the last base first: ``recipe`` comes first
    """Options of training. Subclasses change a default by declaring the field again.

    Args:
        recipe: "small" is ours: AdamW with a cosine schedule. "published" is the release's: Adam with a constant
            learning rate or one that falls at milestones. It does not use ``warmup_steps`` and ``weight_decay``.
    """


TrainingOptionsT = TypeVar("TrainingOptionsT", bound=OneRecipeOptions)
ArchitectureT = TypeVar("ArchitectureT", bound=Options)


class NetworkTraining(Training, Generic[TrainingOptionsT, ArchitectureT]):
    """Base class for the training of a network. Subclasses define ``example`` and ``loss``.

    Attributes:
        options: options of the training.
        network: architecture of the model.
        skeleton: skeleton of the truth.
        small: whether the recipe is "small".

    Args:
        model: network with its starting weights.
        network: architecture of the model, which the checkpoint stores.
        options: options of the training.
        skeleton: skeleton of the truth.
        inputs: inputs of training.
        groups: parameters with their learning rates, see `rate_groups`.
        milestones: "published": epochs, or steps if ``options.steps`` is a number, at which the rate is divided by ten.
        shares: milestones as shares of the length, used if ``milestones`` is None; empty: the rate is constant.

    Example:
        `poseboard.methods.algebraic.train.AlgebraicTraining`.
    """

    scheduler: torch.optim.lr_scheduler.LRScheduler | None

    def __init__(
        self,
        model: nn.Module,
        network: ArchitectureT,
        options: TrainingOptionsT,
        skeleton: Skeleton,
        inputs: Inputs,
        groups: Sequence[Mapping[str, Any]],
        milestones: Milestones | None = None,
        shares: Sequence[float] = (),
    ) -> None:
        self.model, self.architecture = model, network.plain()
        self.network, self.options, self.skeleton, self.inputs = network, options, skeleton, inputs
        self.small = getattr(options, "recipe", "small") == "small"
        # Without steps nothing is learned, and only the constants are fitted.
        length = Length(options.steps, options.batch_size)
        self.steps, self.every = length.steps, length.every
        self.batch_size, self.clip_norm = options.batch_size, options.clip_norm
        self.optimizer: torch.optim.Optimizer
        self.scheduler = None
        if self.small:
            self.optimizer = torch.optim.AdamW([dict(g) for g in groups], weight_decay=options.weight_decay, fused=True)
            if self.steps:
                self.scheduler = warmup_cosine(self.optimizer, self.steps, options.warmup_steps)
        else:
            self.optimizer = torch.optim.Adam([dict(g) for g in groups])
            if shares:
                self.scheduler = length.falling(self.optimizer, milestones, shares)


def rate_groups(model: nn.Module, rate: float, factors: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Group the trainable parameters of a network by learning rate, as optimisers take them.

    Args:
        model: the network.
        rate: learning rate.
        factors: substring -> factor on the learning rate of all parameters whose names contain the substring.

    Example:
        >>> rate_groups(model, 1e-3, {"alg_confidences": 4.0})  # the head learns four times as fast
    """
    factors = factors or {}
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [{"params": [p for name, p in named if not any(part in name for part in factors)], "lr": rate}]
    for part, factor in factors.items():
        if members := [p for name, p in named if part in name]:
            groups.append({"params": members, "lr": rate * factor})
    return groups
