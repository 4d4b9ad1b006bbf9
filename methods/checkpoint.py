"""Checkpoint files: content, reading without executing code, loading into a network."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file, write_file

_SHA256 = "poseboard_sha256"
"""Key of the hash of all other values of a file."""
_DOS_FOLDER = 0x10
"""File attribute of a folder in a zip archive."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file.

    Args:
        method: name of the method's folder.
        architecture: plain values that define the shapes of the weights and the network's inputs.
        state: name -> tensor.
        constants: numbers fitted on the training split after training (a threshold, a scale).
        trained_on: names of the data sets on which published weights were trained; empty: unknown.

    Example:
        >>> Checkpoint("backbone", architecture.plain(), net.state_dict()).save(Path("backbone.pt"))
        >>> Checkpoint.read(Path("backbone.pt")).method
        'backbone'
    """

    method: str
    architecture: dict[str, Any]
    state: dict[str, Tensor]
    constants: dict[str, float] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically; InputError if weights are not finite because training diverged."""
        refuse_unusable(self.state, path, "the training diverged: lower its learning rate")
        _refuse_constants(self.constants, path)
        stated = {name: value for name, value in self.__dict__.items() if name != "trained_on" or value}
        write_tensors(path, {"format": 1, **stated})

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a checkpoint without executing code from the file.

        Raises:
            InputError: the file does not exist, is damaged or is not a Poseboard checkpoint, or its weights are not
                tensors of finite real numbers.
        """
        values = read_tensors(path)
        fields = {"method": str, "architecture": dict, "state": dict, "constants": dict}
        if (
            not isinstance(values, dict)
            or values.get("format") != 1
            or any(not isinstance(values.get(name), kind) for name, kind in fields.items())
        ):
            raise InputError(
                path, "file is not a Poseboard checkpoint", "import published weights with `poseboard weights import`"
            )
        refuse_unusable(values["state"], path, "train or import it again")
        _refuse_constants(values["constants"], path)
        trained_on = values.get("trained_on", ())
        if not isinstance(trained_on, tuple) or not all(isinstance(name, str) for name in trained_on):
            raise InputError(f"{path}: trained_on", "is not a tuple of data set names", "import the weights again")
        return cls(**{name: values[name] for name in fields}, trained_on=trained_on)


def refuse_unusable(state: Mapping[Any, Any], where: Path, remedy: str) -> None:
    """Raise InputError for the first entry that is not a named tensor of finite real numbers."""
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    for key, value in state.items():
        entry = f"entry {str(key)[:60]!r}"
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(where, f"{entry} is not a named tensor", remedy)
        plain = value.layout == torch.strided and not value.is_quantized and not value.is_meta
        if not plain or value.is_complex() or (value.is_floating_point() and value.dtype not in floats):
            raise InputError(where, f"{entry} is not a plain tensor of real numbers", remedy)
        if not bool(torch.isfinite(value).all()):
            raise InputError(where, f"{entry} has values that are not finite", remedy)


def _refuse_constants(constants: Mapping[Any, Any], where: Path) -> None:
    for key, value in constants.items():
        if not isinstance(key, str) or type(value) not in (int, float) or not math.isfinite(value):
            raise InputError(f"{where}: constants", f"{str(key)[:60]!r} is not a finite number", "train it again")


def write_tensors(path: Path, values: Mapping[str, Any]) -> None:
    """Save values and their SHA-256 with ``torch.save``. The write is atomic: an interrupted one keeps the old file.

    Raises:
        OSError: the file cannot be written; the error names it.
    """
    hashed = {**values, _SHA256: _content_sha256(values)}
    write_file(path, lambda file: torch.save(hashed, file), durable=True)


def read_tensors(path: Path) -> Any:
    """Load a file with ``torch.load`` onto the CPU, without executing code (``weights_only=True``).

    Since 1.6 PyTorch writes zip archives with a checksum per file. ``torch.load`` ignores the checksums; this function
    verifies them. Older files have no checksum. Files of `write_tensors` also contain a hash of their values. The
    function verifies this hash and removes it from the result.

    Raises:
        InputError: the file does not exist, is damaged, contains code, or was changed after it was written.
    """
    try:
        _verify_archive(path)
        with open_file(path) as file:
            values = torch.load(file, map_location="cpu", weights_only=True)
        if isinstance(values, dict) and _SHA256 in values and values.pop(_SHA256) != _content_sha256(values):
            raise ValueError("it was changed after it was written")
        return values
    except FileNotFoundError:
        raise InputError(path, "checkpoint does not exist", "run `poseboard train` or `dvc repro` first") from None
    except Exception as error:  # torch and zipfile raise many types for damaged or hostile files
        first = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        if first.startswith("Weights only load failed"):  # what follows is advice to switch the safety off
            first = "it contains objects other than tensors and plain values, or is not a PyTorch file"
        raise InputError(path, f"file cannot be read as weights ({first})", "train or import it again") from None


def _content_sha256(values: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)} {value.layout}".encode())
            if value.layout == torch.strided and not value.is_meta and not value.is_quantized:
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            digest.update(f"mapping of {len(value)}".encode())
            for key, inner in value.items():
                add(key)
                add(inner)
        elif isinstance(value, list | tuple):
            digest.update(f"sequence of {len(value)}".encode())
            for inner in value:
                add(inner)
        else:
            digest.update(f"{value!r} ".encode(errors="backslashreplace"))

    add(values)
    return digest.hexdigest()


def _verify_archive(path: Path) -> None:
    """Verify the checksums of a zip archive; ValueError names the first damaged entry. Other files are not checked.

    PyTorch stores entries uncompressed. A compressed entry or a folder is refused, because torch and zipfile would read
    different bytes of it, and the checksum would not protect what torch reads.
    """
    with open_file(path) as file:
        if file.read(4) != b"PK\x03\x04":
            return
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
                if not stored or entry.external_attr & _DOS_FOLDER:
                    raise ValueError(f"it is damaged: {entry.filename} is not stored as PyTorch does")
            damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"it is damaged: the checksum of {damaged} is wrong")


def strip_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose keys start with ``prefix``, with the prefix removed."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def fitted_state(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> dict[str, Tensor]:
    """Check that ``state`` is a complete state of ``module``, and return it.

    Only ``num_batches_tracked`` may be missing (PyTorch before 0.4.1); it is then added as 0.

    Raises:
        InputError: keys are missing or unexpected, or tensors have another shape; the error lists them.
    """
    own = module.state_dict()
    kept = dict(state)
    for key in own:
        if key.endswith(".num_batches_tracked"):
            kept.setdefault(key, torch.zeros((), dtype=torch.int64))
    problems = {
        "missing": [key for key in own if key not in kept],
        "unexpected": [key for key in kept if key not in own],
        "of another shape": [
            f"{key} {tuple(kept[key].shape)} instead of {tuple(value.shape)}"
            for key, value in own.items()
            if key in kept and kept[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        parts = [
            f"{len(keys)} {kind}: {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}"
            for kind, keys in problems.items()
            if keys
        ]
        raise InputError(
            where,
            f"weights do not fit the network ({'; '.join(parts)})",
            "use weights of this network, or set the row's options to theirs",
        )
    return kept


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Load ``state`` into a module; InputError if keys or shapes differ (`fitted_state`)."""
    module.load_state_dict(fitted_state(module, state, where))
