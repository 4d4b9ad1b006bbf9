"""The contract of a method: its inputs, its predictions, its training.

A method is one folder, ``methods/<name>/method.py``, with a class of the folder's name in CamelCase (``ransac`` ->
``Ransac``), or any importable ``package.module:Class`` that params.yaml names. It is constructed with the row's options
from params.yaml and the skeleton of its predictions.
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
    # torch is not imported here: scoring and comparing take half the time without it.
    import torch
    from torch import Tensor, nn


class LabelledSamples(Protocol):
    """Training data: samples with the inputs of the method, and their truths, in a fixed order."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, place: int, /) -> tuple[Sample, Truth]:
        """A sample and the truth of its people."""
        ...


Example = dict[str, Any]
"""Arrays, tensors and numbers of one training example; the training loop stacks them over the batch."""


@dataclass(frozen=True)
class Inputs:
    """What a method may see. The harness gives it exactly these inputs and withholds all others.

    Args:
        crop_px: side of the square crops of people, whose cameras and boxes are changed accordingly; None: full frames.
        box_scale: factor on the box before the crop.
        resampling: how images are cropped, see `View.crop`.
        views: (minimum, maximum) number of views; a monocular method has a maximum of 1.
        intrinsics: K and lens distortion.
        extrinsics: R, t, names and order of the cameras, keys and image paths. Without them the method predicts in the
            frame of a camera, samples and views come in a drawn order, and several views are rescaled a little with K.
        images: False for a method that only uses given 2D detections.
        root: "none", "predicted": root positions that another method predicted, or "truth": true root positions.
        hand: which hand a sample shows; signatures state it.
        people: "each": samples with several people are split, so that the method sees the boxes, detections and root of
            one person at a time and does not know of the others; its answers are merged. "all": whole frames with all
            boxes and detections, which need not be associated across views.
        window: number of consecutive samples of a sequence, the current one last.
        frames_per_rig: the most samples with the same cameras that the method uses together. If above 1, one call of
            ``predict`` is given all samples of such a group; they have the same `Sample.rig`, and a view has the same
            name in each of them. Of several views without extrinsics, one call is given one group and no other.

    Example:
        >>> Inputs(crop_px=384, views=(1, 1), extrinsics=False)  # a monocular method
        Inputs(crop_px=384, ..., views=(1, 1), intrinsics=True, extrinsics=False, ...)
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
    frames_per_rig: int = 1


class Options(BaseModel):
    """Base of a method's options; an undeclared key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def plain(self) -> dict[str, Any]:
        """Plain values (numbers, strings, lists, dicts), as a checkpoint stores them."""
        return self.model_dump(mode="json")


OptionsT = TypeVar("OptionsT", bound=Options)


def parse_options(kind: type[OptionsT], values: Mapping[str, Any], where: str) -> OptionsT:
    """``values`` as options of ``kind``; InputError names ``where`` and the unknown or wrong field."""
    return validated(kind, values, where)


@runtime_checkable
class Training(Protocol):
    """Everything that the training loop needs. ``example`` and ``loss`` are pure functions of their arguments.

    A class can inherit from it or have the same attributes. Optional attributes: ``clip_norm``, the maximum gradient
    norm (None: no clipping), and ``every``, the stride over the training samples.

    Example:
        `poseboard.methods.algebraic.train.AlgebraicTraining`; docs/methods.md has a shorter one.
    """

    architecture: dict[str, Any]
    """Plain values that the checkpoint stores and from which ``Method.load`` builds the network."""
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    steps: int
    batch_size: int
    inputs: Inputs
    """Inputs of training, which may differ from those of prediction."""

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """One training example; all random choices come from ``rng``.

        Args:
            sample: as `inputs` declares it: of one person, unless it declares ``people="all"``.
            truth: of that person alone, joints_mm (1, J, 3); of all people where all are seen.
            rng: source of all random choices.
        """
        ...

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars of a batch: "total" is minimised, others are logged. It must call ``self.model``."""
        ...

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """Constants fitted on training samples after training, which the checkpoint stores; {} without any."""
        return {}


class Learner(Protocol):
    """What a row has to be. One that learns weights and is no `Method` predicts nothing: other rows start from it.

    One attribute is optional: ``each_view``. If it is True, every view of a training sample is an example and counts in
    an epoch; otherwise an example has all views.

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
    """A method that predicts 3D poses.

    One attribute is optional: ``answers``, the joint set of its poses where that is not the one it was made with
    (`answer_skeleton`).

    Example:
        >>> class Centre:  # predicts every joint at the world origin
        ...     inputs = Inputs(views=(1, 1_000), images=False)
        ...
        ...     def __init__(self, options, skeleton):
        ...         self.skeleton = skeleton
        ...
        ...     def load(self, checkpoint, device):
        ...         pass
        ...
        ...     def predict(self, samples):
        ...         return [Poses(self.skeleton, np.zeros((1, len(self.skeleton), 3)), np.ones(1)) for _ in samples]
        ...
        ...     def training(self, start, seed):
        ...         return None
    """

    inputs: Inputs
    """Read once, after ``load``, because a checkpoint can set the crop size. Every condition is predicted by a new
    instance, which must declare the same."""

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Load a checkpoint; InputError if it is of another method or contradicts the options."""
        ...

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """One `Poses` per sample, in order. A person who cannot be predicted is NaN or left out.

        Raises:
            InputError: a sample needs weights that were not loaded.
        """
        ...


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture for the page of a method.

    Args:
        title: a few words; the page adds the sample's key.
        caption: how to read the picture.
        image: (H, W, 3) uint8 RGB.
    """

    title: str
    caption: str
    image: Image


@runtime_checkable
class Drawing(Protocol):
    """Optional part of a method: pictures that explain its predictions.

    They are drawn after all predictions of the row, for a few fixed samples. The method does not see the truth.

    Example:
        >>> class Guess:
        ...     def figures(self, sample, answer, *, images):
        ...         return [Picture("A guess", "White is sure.", np.zeros((8, 8, 3), np.uint8))]
        >>> isinstance(Guess(), Drawing)
        True
    """

    def figures(self, sample: Sample, answer: Poses, *, images: bool) -> Sequence[Picture]:
        """Pictures of one sample, possibly none.

        Args:
            sample: the input of ``predict``.
            answer: the output of ``predict``.
            images: whether pictures may contain images of the sample: those of real people must not be published.
        """
        ...


_OF_METHOD = ("load", "predict", "training")
_OF_LEARNER = ("training",)


def predicts(kind: type[Learner]) -> bool:
    """Whether what a row learns predicts poses itself, by its contract: it has all that a `Method` has."""
    return all(callable(getattr(kind, name, None)) for name in _OF_METHOD)


def answer_skeleton(method: Method, skeleton: Skeleton) -> Skeleton:
    """The joints that a method answers in: its ``answers``, else those that it was made with."""
    answers: Skeleton = getattr(method, "answers", skeleton)
    return answers


def find_method(spec: str) -> type[Method]:
    """The class of a method, by its folder ("ransac") or "package.module:Class"; InputError if there is none."""
    method: type[Method] = _import_class(spec, _OF_METHOD)
    return method


def find_learner(spec: str) -> type[Learner]:
    """The class of a row, a method or not, by the same names; InputError if there is none."""
    learner: type[Learner] = _import_class(spec, _OF_LEARNER)
    return learner


def module_and_class(spec: str) -> tuple[str, str]:
    """Names of the module and the class of a method.

    Example:
        >>> module_and_class("rays_mlp"), module_and_class("package.module:Class")
        (('poseboard.methods.rays_mlp.method', 'RaysMlp'), ('package.module', 'Class'))
    """
    if ":" in spec:
        module_name, _, class_name = spec.partition(":")
        return module_name, class_name
    return f"poseboard.methods.{spec}.method", "".join(part.capitalize() for part in spec.split("_"))


def _import_class(spec: str, contract: Sequence[str]) -> type[Any]:
    module_name, class_name = module_and_class(spec)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise
        raise InputError(f"method {spec!r}", f"there is no module {module_name}", "see `poseboard methods`") from None
    except SyntaxError as error:
        where = f"{error.filename}:{error.lineno}" if error.lineno else str(error.filename)
        raise InputError(where, f"is no Python ({error.msg})", "mend that line") from None
    try:
        kind: type[Any] = getattr(module, class_name)
    except AttributeError:
        raise InputError(f"method {spec!r}", f"{module_name} has no class {class_name}", "name it so") from None
    missing = [name for name in contract if not callable(getattr(kind, name, None))]
    if missing:
        raise InputError(f"method {spec!r}", f"{class_name} lacks {', '.join(missing)}", "see methods/base.py")
    return kind
