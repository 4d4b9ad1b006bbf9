"""Interface of a method: inputs, predictions, training.

A method is a class in ``methods/<name>/method.py`` with the name of the folder in CamelCase (``ransac`` -> ``Ransac``),
or any importable class, written ``package.module:Class`` in params.yaml. The benchmark constructs it with the options
of its row in params.yaml and the skeleton of its predictions.

* `Inputs`: inputs that the method receives.
* `Method`: loads weights and predicts; it can also draw pictures (`Drawing`).
* `Learner`: can be trained; every method is a learner.
* `Training`: model, losses and examples for the training loop.
* `Options`: base class of a method's options.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from poseboard.datasets.errors import InputError, validated
from poseboard.datasets.sample import Dataset, Image, Poses, Resampling, Sample, Truth
from poseboard.datasets.skeleton import Skeleton

if TYPE_CHECKING:
    # torch is not imported here: scoring and comparing take half the time without it.
    import torch
    from torch import Tensor, nn


class LabelledSamples(Protocol):
    """Training samples in a fixed order, with the inputs of the method, and their ground truth."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, place: int, /) -> tuple[Sample, Truth]:
        """Sample at index ``place``, and the ground truth of its people."""
        ...


Example = dict[str, Any]
"""Arrays, tensors and numbers of one training example by name; the training loop stacks them over the batch."""


@dataclass(frozen=True)
class Inputs:
    """Inputs that a method declares. The benchmark passes exactly these and removes all others from the samples.

    Args:
        crop_px: side of the square crops of people. Cameras and boxes refer to the crop. None: full frames.
        box_scale: factor on the box before the crop.
        resampling: filter of the crops, see `View.crop`.
        views: (minimum, maximum) number of views; a monocular method has a maximum of 1.
        intrinsics: K and lens distortion.
        extrinsics: R, t, names and order of the cameras, keys and image paths. Without them the method predicts in the
            frame of a camera, samples and views come in random order, and several views are slightly rescaled with K.
        images: pixels of the images. False: the method uses only 2D detections.
        root: root positions. "none": not used. "predicted": predictions of another row. "truth": true positions.
        hand: whether a sample shows a left or a right hand. The row's signature records this input.
        people: "each": samples with several people are split. The method sees the boxes, detections and root of one
            person at a time, and the benchmark merges its predictions. "all": whole frames with all boxes and
            detections, which need not be associated across views.
        frames_per_rig: maximum number of samples with the same cameras that the method uses together. If above 1, one
            call of ``predict`` gets all samples of such a group. They have the same `Sample.rig`, and a view has the
            same name in each of them. With several views and no extrinsics, a call gets only one group.

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
    hand: bool = False
    people: Literal["each", "all"] = "each"
    frames_per_rig: int = 1


_INPUTS = TypeAdapter(Inputs)


def declared_inputs(inputs: Inputs, whose: str) -> Inputs:
    """A frozen copy of the method's declared inputs.

    Args:
        inputs: inputs of a loaded method or of a training.
        whose: name of the row, used in errors.

    Raises:
        InputError: ``inputs`` is not an `Inputs`, a field has an invalid value, or two fields exclude each other: crops
            with several people, or roots without extrinsics. Roots are in the world frame, so a few of them with their
            2D detections would reveal the camera pose.
    """
    if not isinstance(inputs, Inputs):
        raise InputError(f"{whose}: inputs", f"{type(inputs).__name__} is not an Inputs", "declare methods.base.Inputs")
    try:
        copy = _INPUTS.validate_python({entry.name: getattr(inputs, entry.name) for entry in fields(Inputs)})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("inputs", *first["loc"])))
        raise InputError(f"{whose}: {where}", first["msg"].lower(), "use a value that `Inputs` allows") from None
    if copy.frames_per_rig < 1:
        raise InputError(f"{whose}: inputs.frames_per_rig", f"is {copy.frames_per_rig}", "declare 1 or more")
    if copy.people == "all" and copy.crop_px is not None:
        raise InputError(
            f"{whose}: inputs.people", "is all, and a crop shows one person", "declare crop_px: None, or people: each"
        )
    if copy.root != "none" and not copy.extrinsics:
        raise InputError(
            f"{whose}: inputs.root",
            "is in the world's frame, which needs extrinsics",
            "declare extrinsics=True or root='none'",
        )
    return copy


def is_separable(dataset: Dataset, inputs: Inputs) -> bool:
    """Whether multi-view samples fit these inputs.

    Methods that see one person at a time need a data set whose people are associated across views.
    """
    return inputs.people == "all" or all(dataset.facts(split).associated for split in dataset.splits)


class Options(BaseModel):
    """Base class of a method's options. Options are immutable, and an undeclared key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def plain(self) -> dict[str, Any]:
        """Plain values (numbers, strings, lists, dicts), as a checkpoint stores them."""
        return self.model_dump(mode="json")


OptionsT = TypeVar("OptionsT", bound=Options)


def parse_options(kind: type[OptionsT], values: Mapping[str, Any], where: str) -> OptionsT:
    """Parse ``values`` as options of class ``kind``.

    Raises:
        InputError: a field is unknown or has an invalid value; the error names ``where`` and the field.
    """
    return validated(kind, values, where)


@runtime_checkable
class Training(Protocol):
    """Interface between a method and the training loop. ``example`` and ``loss`` are pure functions of their arguments.

    A class can inherit from it or just have the same attributes. Optional attributes: ``clip_norm``, the maximum
    gradient norm (None: no clipping), and ``every``, the stride over the training samples.
    `nets.training.NetworkTraining` defines everything except ``example`` and ``loss``.

    Example:
        `poseboard.methods.algebraic.train.AlgebraicTraining`; docs/methods.md has a shorter one.
    """

    architecture: dict[str, Any]
    """Plain values, stored in the checkpoint, from which ``Method.load`` builds the network."""
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    steps: int
    batch_size: int
    inputs: Inputs
    """Inputs of training, which may differ from those of prediction."""

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Prepare one training example: arrays by name.

        Args:
            sample: sample with the inputs of `inputs`, and with one person unless ``people="all"``.
            truth: true poses of the sample's people, joints_mm (P, J, 3); P is 1 unless ``people="all"``.
            rng: source of all random choices.
        """
        ...

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch by name. The loop minimises "total" and logs all. The function must call ``self.model``."""
        ...

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """Fit constants on the training samples after the last step; the checkpoint stores the returned values."""
        return {}


class Learner(Protocol):
    """Interface of a row that can be trained.

    A learner without the functions of `Method` predicts no poses. Other rows start from its weights. The optional
    attribute ``each_view`` is True if every view of a training sample is a separate example; otherwise an example has
    all views.

    Example:
        >>> class Net:
        ...     def __init__(self, options, skeleton): ...
        ...     def training(self, start, seed): ...
        >>> predicts(Net)
        False
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        """Construct with the row's options and the skeleton of the predictions; InputError for an unknown option."""
        ...

    def training(self, start: Path | None, seed: int) -> Training | None:
        """Create the training of this row, or return None if the row has nothing to train.

        Args:
            start: checkpoint of the row that ``after:`` in params.yaml names; None if the row has no ``after:``. If
                this function returns None, ``start`` is used unchanged.
            seed: seed of the initial weights.
        """
        ...


@runtime_checkable
class Method(Learner, Protocol):
    """Interface of a method that predicts 3D poses.

    The optional attribute ``answers`` is the skeleton of the predictions, for methods that do not predict in the
    skeleton that they were constructed with (`answer_skeleton`).

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
    """Read once, after ``load``, because a checkpoint can set the crop size. Each condition is predicted by a new
    instance, which must declare the same inputs."""

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Load a checkpoint; InputError if it belongs to another method or contradicts the options."""
        ...

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict one `Poses` per sample, in order. People who cannot be predicted are NaN or missing.

        Raises:
            InputError: a sample needs weights that were not loaded.
        """
        ...


@dataclass(frozen=True, eq=False)
class Picture:
    """Picture for the page of a method.

    Args:
        title: short title. The page adds the key of the sample.
        caption: explanation of the symbols.
        image: (H, W, 3) uint8 RGB.
    """

    title: str
    caption: str
    image: Image


@runtime_checkable
class Drawing(Protocol):
    """Optional interface of a method that draws pictures to explain its predictions.

    The benchmark calls it after all predictions of the row, for a few fixed samples and without ground truth.

    Example:
        >>> class Guess:
        ...     def figures(self, sample, answer, *, images):
        ...         return [Picture("A guess", "White is sure.", np.zeros((8, 8, 3), np.uint8))]
        >>> isinstance(Guess(), Drawing)
        True
    """

    def figures(self, sample: Sample, answer: Poses, *, images: bool) -> Sequence[Picture]:
        """Draw the pictures of one sample; the list may be empty.

        Args:
            sample: input of ``predict``.
            answer: output of ``predict`` for this sample.
            images: whether pictures may contain the images. Images of real people must not be published.
        """
        ...


_OF_METHOD = ("load", "predict", "training")
_OF_LEARNER = ("training",)


def predicts(kind: type[Learner]) -> bool:
    """Whether a class has all functions of a `Method`, so that its row predicts poses."""
    return all(callable(getattr(kind, name, None)) for name in _OF_METHOD)


def answer_skeleton(method: Method, skeleton: Skeleton) -> Skeleton:
    """Skeleton of a method's predictions: the attribute ``answers`` if the method has it, else ``skeleton``."""
    answers: Skeleton = getattr(method, "answers", skeleton)
    return answers


def find_method(spec: str) -> type[Method]:
    """Import the class of a method, given as folder ("ransac") or "package.module:Class"; InputError if impossible."""
    method: type[Method] = _import_class(spec, _OF_METHOD)
    return method


def find_learner(spec: str) -> type[Learner]:
    """Import the class of a learner, given as in `find_method`; InputError if impossible."""
    learner: type[Learner] = _import_class(spec, _OF_LEARNER)
    return learner


def module_and_class(spec: str) -> tuple[str, str]:
    """Split the name of a method into the names of its module and its class.

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
        raise InputError(
            f"method {spec!r}", f"there is no module {module_name}", "choose a method that `poseboard methods` lists"
        ) from None
    except SyntaxError as error:
        where = f"{error.filename}:{error.lineno}" if error.lineno else str(error.filename)
        raise InputError(where, f"is not valid Python ({error.msg})", "correct that line") from None
    try:
        kind: type[Any] = getattr(module, class_name)
    except AttributeError:
        raise InputError(
            f"method {spec!r}", f"{module_name} has no class {class_name}", "rename the class or the row's method"
        ) from None
    missing = [name for name in contract if not callable(getattr(kind, name, None))]
    if missing:
        raise InputError(
            f"method {spec!r}",
            f"{class_name} lacks {', '.join(missing)}",
            "define these methods; methods/base.py has their signatures",
        )
    return kind
