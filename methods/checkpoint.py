"""Checkpoints: what they contain, reading them without executing code, loading them into a network."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file

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
        trained_on: data sets that published weights were trained on; empty: not stated.

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
        """Write the file atomically; InputError if weights are not finite because training diverged."""
        refuse_unusable(self.state, path, "the training diverged: lower its learning rate")
        _refuse_constants(self.constants, path)
        stated = {name: value for name, value in self.__dict__.items() if name != "trained_on" or value}
        write_tensors(path, {"format": 1, **stated})

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a file without executing code from it.

        Raises:
            InputError: the file is absent, damaged or not a Poseboard checkpoint, or its weights are not tensors of
                finite real numbers.
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
            raise InputError(f"{path}: trained_on", "is not a tuple of data set names", "import it again")
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


def write_tensors(path: Path, values: object) -> None:
    """``torch.save``; after a kill or on a full disk the file is the old one or the new one. OSError names it."""
    write_file(path, lambda file: torch.save(values, file), durable=True)


def read_tensors(path: Path) -> Any:
    """``torch.load`` with ``weights_only=True`` onto the CPU.

    PyTorch has written zip archives with a checksum per file since 1.6. All checksums are verified here, because
    ``torch.load`` does not verify them. Older files have no checksum.

    Raises:
        InputError: the file is absent, damaged or truncated, or contains code.
    """
    try:
        _verify_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(path, "checkpoint does not exist", "run `poseboard train` or `dvc repro` first") from None
    except Exception as error:  # torch and zipfile raise many types for damaged or hostile files
        first = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        if first.startswith("Weights only load failed"):  # what follows is advice to switch the safety off
            first = "it contains objects other than tensors and plain values, or is not a PyTorch file"
        raise InputError(path, f"file cannot be read as weights ({first})", "train or import it again") from None


def _verify_archive(path: Path) -> None:
    """ValueError names the first damaged file of a zip archive; other kinds of files are left to torch.

    PyTorch stores files uncompressed. For a compressed entry or a folder, torch and zipfile would read different bytes,
    so that the checksum would not protect what torch reads.
    """
    with path.open("rb") as file:
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
    """``state`` as the complete state of ``module``; only ``num_batches_tracked`` may be absent (PyTorch before 0.4.1).

    Raises:
        InputError: lists the keys that are missing, unexpected or of another shape.
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
        raise InputError(where, f"weights do not fit the network ({'; '.join(parts)})", "use weights of this network")
    return kept


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Load ``state`` into a module; InputError if it does not fit (`fitted_state`)."""
    module.load_state_dict(fitted_state(module, state, where))
