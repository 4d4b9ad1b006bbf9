"""Import of published weights into checkpoints.

The files are PyTorch state dicts, bare or under ``state_dict``, ``model`` or ``network``. Keys of weights saved from
distributed training have the prefix ``module.``. Each method converts its weights by a function in
``methods/<name>/published.py``:

    def published(state: Mapping[str, Tensor], file: Path, *, …) -> Checkpoint

The keyword arguments, each with a type and a default, are facts that the published files do not contain. Users set
them by name. If a release has several models with the same tensors, the module lists them in ``VARIANTS``, and
``variant`` selects one.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

import poseboard.methods
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.files import open_file
from poseboard.methods.checkpoint import Checkpoint, read_tensors, refuse_unusable


def import_weights(name: str, file: Path, **options: object) -> Checkpoint:
    """Convert a published file to a checkpoint with the published preprocessing.

    Args:
        name: a method, or a method and one of its variants: "volumetric", "volumetric_sum".
        file: a PyTorch state dict.
        options: keyword arguments of the method's ``published``. Strings are converted to the declared types.

    Raises:
        InputError: the method has no published weights, an option is unknown or has a wrong type, the file does not
            exist or is damaged, its hash differs from the one in its name, it contains anything but finite tensors, or
            its keys or shapes do not match the network.

    Example:
        >>> import_weights("algebraic", Path("human36m_alg.pth")).save(Path("algebraic.pt"))  # doctest: +SKIP
    """
    module, variant = _module(name)
    chosen = _options(name, module, options)
    if variant:
        chosen["variant"] = variant
    checkpoint: Checkpoint = module.published(_read_state(file), file, **chosen)
    return checkpoint


def _options(name: str, module: ModuleType, values: Mapping[str, object]) -> dict[str, Any]:
    """Convert options to the types of the keyword arguments of ``published``; InputError for an invalid option."""
    kinds = get_type_hints(module.published, include_extras=True)
    parameters = inspect.signature(module.published).parameters
    names = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    names = [key for key in names if key != "variant"]
    options: dict[str, Any] = {}
    for option, value in values.items():
        where = f"weights import {name} --set {option}"
        if option not in names:
            raise InputError(where, "no such option", did_you_mean(option, names) if names else "leave it out")
        try:
            options[option] = TypeAdapter(kinds.get(option, Any)).validate_python(value)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise InputError(f"{where}={value}", problem[:1].lower() + problem[1:], "choose another value") from None
    return options


def published_names() -> Iterator[str]:
    """Iterate over all names that `import_weights` accepts, method by method."""
    for folder in _folders():
        yield from (_name(folder, variant) for variant in _variants(_published(folder)))


def _folders() -> list[str]:
    rooms = [Path(room) for room in poseboard.methods.__path__]
    return sorted({path.parent.name for room in rooms for path in room.glob("*/published.py")})


def _module(name: str) -> tuple[ModuleType, str]:
    """Split a name into the module ``published`` of a method and a variant; InputError if there is no such method."""
    for folder in _folders():
        if name == folder or name.startswith(f"{folder}_"):
            module = _published(folder)
            for variant in _variants(module):
                if name == _name(folder, variant):
                    return module, variant
    names = ", ".join(published_names())
    raise InputError(f"method {name!r}", "there are no published weights for it", f"use one of {names}")


def _published(folder: str) -> ModuleType:
    module = importlib.import_module(f"poseboard.methods.{folder}.published")
    if not callable(getattr(module, "published", None)):
        raise InputError(
            f"methods/{folder}/published.py",
            "has no function published",
            "define `published(state, file)` that returns a Checkpoint",
        )
    return module


def _variants(module: ModuleType) -> tuple[str, ...]:
    return tuple(getattr(module, "VARIANTS", ("",)))


def _name(folder: str, variant: str) -> str:
    return f"{folder}_{variant}" if variant else folder


_OTHER_FILES = (
    (b"", "is empty"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file it stands for"),
    (b"<", "is a web page, not the file behind it"),
    (b"\x89HDF", "is an HDF5 file, not a PyTorch file"),
    (b"\x1f\x8b", "is packed (gzip)"),
)


_HASH_IN_NAME = re.compile(r"-(?=\d*[a-f])([0-9a-f]{8})\.")
"""Start of the SHA-256, as torchvision and torch.hub name weights: resnet50-19c8e357.pth. Digits only are a date."""


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        with open_file(file) as opened:
            start = opened.read(64)
    except OSError as error:
        raise InputError(file, f"cannot be read ({error.strerror})", "name the published .pth file") from None
    for head, what in _OTHER_FILES:
        if start.lstrip().startswith(head) if head else not start:
            raise InputError(file, what, "give the published .pth file itself")
    if stated := _HASH_IN_NAME.search(file.name):
        with file.open("rb") as opened:
            computed = hashlib.file_digest(opened, "sha256").hexdigest()
        if not computed.startswith(stated[1]):
            problem = f"its SHA-256 starts with {computed[:8]}, not with {stated[1]} as in its name"
            raise InputError(file, problem, "download it again, or rename it if you changed it")
    try:
        values = read_tensors(file)
    except InputError:
        remedy = "download it again; if the file has other objects, save only its state_dict()"
        raise InputError(
            file, "cannot be read: no PyTorch file, truncated, or with objects other than tensors", remedy
        ) from None
    for wrapper in ("state_dict", "model", "network"):
        if isinstance(values, Mapping) and isinstance(values.get(wrapper), Mapping):
            values = values[wrapper]
    if not isinstance(values, Mapping) or not values:
        raise InputError(file, "file has no state dict", "give the published .pth file")
    refuse_unusable(values, file, "give the published .pth file, or download it again")
    return {key.replace("module.", ""): value for key, value in values.items()}
