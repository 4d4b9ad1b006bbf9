"""Import of published weights into checkpoints.

The files are PyTorch state dicts, bare or under ``state_dict`` or ``model``; keys have the prefix ``module.`` if they
were saved from distributed training. Each method converts its own weights by a function in
``methods/<name>/published.py``:

    def published(state: Mapping[str, Tensor], file: Path, *, …) -> Checkpoint

Its keyword arguments, each with a type and a default, are facts that the method's files do not contain; whoever imports
one gives them by name. If a release has several models with the same tensors, the module names them in ``VARIANTS``,
and ``variant`` is one of them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

import poseboard.methods
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.methods.checkpoint import Checkpoint, read_tensors, refuse_unusable


def import_weights(name: str, file: Path, **options: object) -> Checkpoint:
    """A checkpoint from a published file, with the published preprocessing.

    Args:
        name: a method, or a method and one of its variants: "volumetric", "volumetric_sum".
        file: a PyTorch state dict.
        options: facts that the file does not contain, as the method's ``published`` names them; text is converted.

    Raises:
        InputError: the method has no published weights, has no such option or another kind of value for it; the file is
            absent, damaged, or contains code or anything but finite tensors; the network is not one of the method; keys
            are missing, unexpected or of another shape.

    Example:
        >>> import_weights("algebraic", Path("human36m_alg.pth")).save(Path("algebraic.pt"))  # doctest: +SKIP
    """
    module, variant = _module(name)
    chosen = _options(name, module, options)
    if variant:
        chosen["variant"] = variant
    checkpoint: Checkpoint = module.published(_read_state(file), file, **chosen)
    return checkpoint


def _options(name: str, module: ModuleType, given: Mapping[str, object]) -> dict[str, Any]:
    """What is given, as values of the types that the method states."""
    kinds = get_type_hints(module.published, include_extras=True)
    parameters = inspect.signature(module.published).parameters
    known = [one for one, of in parameters.items() if of.kind is of.KEYWORD_ONLY and one != "variant"]
    chosen: dict[str, Any] = {}
    for option, value in given.items():
        where = f"weights import {name} --set {option}"
        if option not in known:
            raise InputError(
                where, "no such option", did_you_mean(option, known) if known else "leave it out: there is none"
            )
        try:
            chosen[option] = TypeAdapter(kinds.get(option, Any)).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise InputError(f"{where}={value}", problem[:1].lower() + problem[1:], "give another value") from None
    return chosen


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
