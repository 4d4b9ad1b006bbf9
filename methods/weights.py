"""Import of published weights into checkpoints.

The files are PyTorch state dicts, bare or under ``state_dict`` or ``model``; keys have the prefix ``module.`` if they
were saved from distributed training. Each method converts its own weights by a function in
``methods/<name>/published.py``:

    def published(state: Mapping[str, Tensor], file: Path, *, …) -> Checkpoint

Its keyword arguments are those of `OPTIONS` that it needs, each with a default. If a release has several models with
the same tensors, the module names them in ``VARIANTS``, and ``variant`` is one of them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

import poseboard.methods
from poseboard.datasets.errors import InputError
from poseboard.methods.checkpoint import Checkpoint, read_tensors, refuse_unusable

OPTIONS = {
    "joints": "says itself which joints it has",
    "scale_mm": "has no size of a pose",
    "backbone": "comes with its backbone",
    "image_px": "has one size of crops, which is known",
}
"""Facts that a file does not contain -> the error of a method that does not need them."""


def import_weights(
    name: str,
    file: Path,
    joints: tuple[str, ...] | None = None,
    scale_mm: float | None = None,
    backbone: Path | None = None,
    image_px: int | None = None,
) -> Checkpoint:
    """A checkpoint from a published file, with the published preprocessing.

    Args:
        name: a method, or a method and one of its variants: "volumetric", "volumetric_sum".
        file: a PyTorch state dict.
        joints: names of the heat maps in order; None: the method's default.
        scale_mm: size of a pose in mm, for networks that lift a single view.
        backbone: checkpoint of a 2D backbone, for networks that come without one.
        image_px: side of the crops that the network was trained on, if its release has several.

    Raises:
        InputError: the method has no published weights or does not need an option; the file is absent, damaged, or
            contains code or anything but finite tensors; the network is not one of the method; keys are missing,
            unexpected or of another shape.

    Example:
        >>> import_weights("algebraic", Path("human36m_alg.pth")).save(Path("algebraic.pt"))  # doctest: +SKIP
    """
    module, variant = _module(name)
    parameters = inspect.signature(module.published).parameters
    options: dict[str, Any] = {"joints": joints, "scale_mm": scale_mm, "backbone": backbone, "image_px": image_px}
    options = {option: value for option, value in options.items() if value is not None}
    for option in options:
        if option not in parameters:
            raise InputError(f"method {name!r}", OPTIONS[option], f"leave out --{option.replace('_', '-')}")
    if variant:
        options["variant"] = variant
    checkpoint: Checkpoint = module.published(_read_state(file), file, **options)
    return checkpoint


def published_names() -> Iterator[str]:
    """All names that `import_weights` accepts, method by method."""
    for folder in _folders():
        yield from (_name(folder, variant) for variant in _variants(_published(folder)))


def _folders() -> list[str]:
    rooms = [Path(room) for room in poseboard.methods.__path__]
    return sorted({path.parent.name for room in rooms for path in room.glob("*/published.py")})


def _module(name: str) -> tuple[ModuleType, str]:
    """The module of a method, and the variant that the name says."""
    for folder in _folders():
        if name == folder or name.startswith(f"{folder}_"):
            module = _published(folder)
            for variant in _variants(module):
                if name == _name(folder, variant):
                    return module, variant
    known = ", ".join(published_names())
    raise InputError(f"method {name!r}", "there are no published weights for it", f"one of {known}")


def _published(folder: str) -> ModuleType:
    module = importlib.import_module(f"poseboard.methods.{folder}.published")
    if not callable(getattr(module, "published", None)):
        raise InputError(f"methods/{folder}/published.py", "has no function published", "see methods/weights.py")
    return module


def _variants(module: ModuleType) -> tuple[str, ...]:
    return tuple(getattr(module, "VARIANTS", ("",)))


def _name(folder: str, variant: str) -> str:
    return f"{folder}_{variant}" if variant else folder


_OTHER_FILES = (
    (b"", "is empty"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file it stands for"),
    (b"<", "is a web page, not the file behind it"),
    (b"\x89HDF", "is an HDF5 file; PyTorch's are read here"),
    (b"\x1f\x8b", "is packed (gzip)"),
)


def _read_state(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise InputError(file, "there is no such file", "name the published .pth file")
    with file.open("rb") as opened:
        start = opened.read(64)
    for head, what in _OTHER_FILES:
        if start.lstrip().startswith(head) if head else not start:
            raise InputError(file, what, "give the published .pth file itself")
    try:
        values = read_tensors(file)
    except InputError:
        remedy = "download it again; of a file with other objects, save its state_dict() alone"
        raise InputError(
            file, "cannot be read: no PyTorch file, cut short, or with objects other than tensors", remedy
        ) from None
    for wrapper in ("state_dict", "model", "network"):
        if isinstance(values, Mapping) and isinstance(values.get(wrapper), Mapping):
            values = values[wrapper]
    if not isinstance(values, Mapping) or not values:
        raise InputError(file, "file holds no state dict", "give the published .pth file")
    refuse_unusable(values, file, "give the published .pth file, or download it again")
    return {key.replace("module.", ""): value for key, value in values.items()}
