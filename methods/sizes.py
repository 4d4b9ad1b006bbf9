"""How large a row is, as far as its options say: for estimates of time and disk before anything runs.

Options with these names mean the same in every method that has them. What they do not say, only a network that is built
or data that is read could tell.

* ``image_px``: side of the crops;
* ``recipe``: "published" for the network and the settings of a release;
* ``steps``: of the optimiser, or ``{epochs, moments, every}`` (:class:`poseboard.methods.nets.schedule.Epochs`);
* ``batch_size``: samples per step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Options = Mapping[str, Any]

PUBLISHED_PARAMETERS = 80_000_000
"""Assumed of a published recipe: a ResNet-152 and its heads."""
PARAMETERS = 1_000_000
"""Assumed of any other row."""
PUBLISHED_CROP_PX = 384
"""Assumed of a published recipe, where weights of others set the side of the crops, which only their file knows."""


def is_published(options: Options) -> bool:
    """Whether a row has the recipe of a release."""
    return options.get("recipe") == "published"


def have_same_recipe(options: Options, recorded: Options) -> bool:
    """Whether a training was of the recipe that a row has now; an option that was not recorded has not changed."""
    recipe = options.get("recipe")
    return bool(recorded.get("recipe", recipe) == recipe)


def assumed_parameters(options: Options) -> int:
    """Parameters of a row of which nothing was measured."""
    return PUBLISHED_PARAMETERS if is_published(options) else PARAMETERS


def crop_px(options: Options) -> int | None:
    """Side of the crops that a row sees; None: that of the row whose weights it starts from.

    Example:
        >>> crop_px({"image_px": 96}), crop_px({"recipe": "published"}), crop_px({})
        (96, 384, None)
    """
    if options.get("image_px") is not None:
        return int(options["image_px"])
    return PUBLISHED_CROP_PX if is_published(options) else None


def training_samples(options: Options, steps: int, batch_size: int) -> float | None:
    """Samples that a training sees; None for epochs without their moments, whose length only the data set knows.

    Args:
        options: of the row.
        steps: where they do not say.
        batch_size: where they do not say.

    Example:
        >>> training_samples({"steps": 10}, 7, 4), training_samples({"steps": {"epochs": 2, "moments": 30}}, 7, 4)
        (40.0, 60.0)
    """
    stated = options.get("steps")
    if isinstance(stated, Mapping):
        if not isinstance(stated.get("moments"), int) or not isinstance(stated.get("epochs"), int):
            return None
        return float(stated["epochs"] * stated["moments"])
    return float(stated or steps) * float(options.get("batch_size") or batch_size)


def with_moments(options: Options, samples: int) -> dict[str, Any]:
    """The options with epochs of unstated length as passes over so many samples.

    Example:
        >>> with_moments({"steps": {"epochs": 2, "every": 5}}, 100)
        {'steps': {'epochs': 2, 'every': 5, 'moments': 20}}
    """
    steps = options.get("steps")
    if isinstance(steps, Mapping) and "epochs" in steps and steps.get("moments") is None:
        every = steps.get("every", 1)
        if isinstance(every, int) and every > 0:
            return {**options, "steps": {**steps, "moments": len(range(0, samples, every)) or None}}
    return dict(options)
