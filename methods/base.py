"""The contract of a method: what it may see, how it predicts, how it is trained.

A method is one folder, ``methods/<name>/method.py``, whose class is the folder's name in CamelCase (``ransac`` ->
``Ransac``), or any importable ``package.module:Class`` named in params.yaml. It is constructed with the options that
params.yaml gives it and the skeleton it must answer in.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict

from poseboard.datasets.errors import InputError, validated
from poseboard.datasets.sample import Image, Poses, Resampling, Sample, Truth
from poseboard.datasets.skeleton import Skeleton

if TYPE_CHECKING:
    # Loaded where weights are: scoring and comparing take half the time without it.
    import torch
    from torch import Tensor, nn


class LabelledSamples(Protocol):
    """What is trained on: samples as the method may see them, each with its truth, in a fixed order."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, place: int, /) -> tuple[Sample, Truth]:
        """The sample and the truth of whom it shows."""
        ...


Example = dict[str, Any]
"""Arrays, tensors and numbers of one training example; the loop stacks each entry over the batch."""


@dataclass(frozen=True)
class Inputs:
    """What a method may see. The harness hands over exactly this and withholds the rest.

    Args:
        crop_px: side of the square person crops it is handed, camera and box moved along; None = full frames.
        box_scale: factor on the box before it is cropped.
        resampling: how crops are made of the image, see `View.crop`.
        views: (fewest, most) views it can use; most = 1 is a monocular method.
        intrinsics: whether it sees K and the lens.
        extrinsics: whether it sees R, t, camera names and so the world frame; if not it answers in a camera's frame.
        images: False for a method that lives on given 2D detections alone.
        root: "none", or "predicted": it is handed root positions that another method predicted, or "truth".
        hand: whether it is told which hand a sample shows; a number that rests on it says so.
        people: "each": samples of several people are taken apart, so that it sees one person's boxes, detections and
            root at a time, and never learns that there were others; its answers are put together again. "all": it sees
            the whole frame with all boxes and detections, which need not be associated over the views.
        window: number of consecutive samples of a sequence it sees, the current one last.
    """

    crop_px: int | None = None
    box_scale: float = 1.0
    resampling: Resampling = "area"
    views: tuple[int, int] = (2, 1_000)
    intrinsics: bool = True
    extrinsics: bool = True
    images: bool = True
    root: Literal["none", "predicted", "truth"] = "none"
    window: int = 1
    hand: bool = False
    people: Literal["each", "all"] = "each"


class Options(BaseModel):
    """Base of a method's options: every key is declared, an unknown one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=Options)


def parse_options(kind: type[OptionsT], values: Mapping[str, Any], where: str) -> OptionsT:
    """``values`` as options of ``kind``; InputError names ``where`` and the field that is unknown or wrong."""
    return validated(kind, values, where)


@runtime_checkable
class Training(Protocol):
    """Everything the one training loop needs. ``example`` and ``loss`` are pure functions of their arguments.

    Any class that has it all will do; one that inherits fits no constants unless it says so.
    Two attributes are optional: ``clip_norm``, the maximum gradient norm (None: gradients are not clipped), and
    ``every``: only every so many training samples are trained on.
    """

    architecture: dict[str, Any]
    """Plain values kept in the checkpoint, from which ``Method.load`` builds the same network again."""
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    steps: int
    batch_size: int
    inputs: Inputs
    """What training samples look like (a method may be trained on other crops than it predicts on)."""

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """One training example; every random choice comes from ``rng``.

        Args:
            sample: as `inputs` declares it: of one person, unless it declares ``people="all"``.
            truth: of that person alone, joints_mm (1, J, 3); of all people where all are seen.
            rng: source of every random choice.
        """
        ...

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars of one stacked batch; "total" is minimised, the others are logged. Calls ``self.model``."""
        ...

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """Constants fitted on training samples once the weights are final, kept in the checkpoint; {} if none."""
        return {}


class Learner(Protocol):
    """What a row has to be. One that learns weights and is no `Method` predicts nothing: other rows start from it.

    Example:
        >>> class Net:
        ...     def __init__(self, options, skeleton): ...
        ...     def training(self, start, seed): ...
        >>> predicts(Net)
        False
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        """Take the row's options of params.yaml (InputError for one it does not know) and the joints to answer in."""
        ...

    def training(self, start: Path | None, seed: int) -> Training | None:
        """The training pipeline, from the checkpoint ``start`` of the row named under ``after`` in params.yaml.

        None: nothing is learned, and ``start`` is this row's checkpoint as it is.
        """
        ...


@runtime_checkable
class Method(Learner, Protocol):
    """A way to predict 3D poses."""

    inputs: Inputs
    """Taken once, after ``load``: a checkpoint may decide the crop size. Each set of cameras is predicted by a model
    of its own, which must declare the same."""

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Take weights and constants from a checkpoint; InputError if it is another method's or configuration's."""
        ...

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """One answer a sample, in order; a person that cannot be predicted is NaN or left out.

        Raises:
            InputError: nothing was loaded that a sample needs (weights where it brings no detections).
        """
        ...


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture for the page of a method.

    Args:
        title: what it shows, in a few words; the page adds the sample.
        caption: how to read it.
        image: (H, W, 3) uint8 RGB.
    """

    title: str
    caption: str
    image: Image


@runtime_checkable
class Drawing(Protocol):
    """What a method may offer beside ``Method``: pictures of how it came to an answer.

    They are asked for when all predictions of the row have been made, of a few samples that stand fast, and nothing of
    the truth is handed over.

    Example:
        >>> class Guess:
        ...     def figures(self, sample, answer, *, images):
        ...         return [Picture("A guess", "White is sure.", np.zeros((8, 8, 3), np.uint8))]
        >>> isinstance(Guess(), Drawing)
        True
    """

    def figures(self, sample: Sample, answer: Poses, *, images: bool) -> Sequence[Picture]:
        """Pictures of one sample; none where there is nothing to show.

        Args:
            sample: as it was handed over to ``predict``.
            answer: what ``predict`` answered.
            images: whether images of the sample may be seen in them: those of real people are not ours to pass on.
        """
        ...


_OF_METHOD = ("load", "predict", "training")
_OF_LEARNER = ("training",)


def predicts(kind: type[Learner]) -> bool:
    """Whether what a row learns predicts poses itself, by its contract: it has all that a `Method` has."""
    return all(callable(getattr(kind, name, None)) for name in _OF_METHOD)


def find_method(spec: str) -> type[Method]:
    """The class of a method: a folder of methods/ ("ransac") or "package.module:Class"; InputError if there is none."""
    method: type[Method] = _found(spec, _OF_METHOD)
    return method


def find_learner(spec: str) -> type[Learner]:
    """The class of a row, a method or not, by the same names; InputError if there is none."""
    learner: type[Learner] = _found(spec, _OF_LEARNER)
    return learner


def _found(spec: str, contract: Sequence[str]) -> type[Any]:
    if ":" in spec:
        module_name, _, class_name = spec.partition(":")
    else:
        module_name = f"poseboard.methods.{spec}.method"
        class_name = "".join(part.capitalize() for part in spec.split("_"))
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise
        raise InputError(f"method {spec!r}", f"there is no module {module_name}", "see `poseboard methods`") from None
    except AttributeError:
        raise InputError(f"method {spec!r}", f"{module_name} has no class {class_name}", "name it so") from None
    missing = [name for name in contract if not callable(getattr(found, name, None))]
    if missing:
        raise InputError(f"method {spec!r}", f"{class_name} lacks {', '.join(missing)}", "see methods/base.py")
    kind: type[Any] = found
    return kind


def started(method: str, start: Path | None, after: str = "`after: backbone`") -> Path:
    """The checkpoint that a training starts from; InputError says what to set where none is given.

    Args:
        method: whose training it is.
        start: checkpoint of the row under ``after`` in params.yaml.
        after: what to set.
    """
    if start is None:
        raise InputError(method, "training starts from a 2D backbone", f"set {after} in params.yaml")
    return start
