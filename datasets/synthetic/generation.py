"""Writing a world in a layout: once, by the active joblib backend, with a manifest that shows later changes.

``<root>/manifest.json`` is written last and marks the tree as generated here and complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from poseboard.datasets.camera import Array
from poseboard.datasets.contact_sheet import write_contact_sheet
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.manifest import NAME, files_digest, read_manifest, verify_files, write_manifest
from poseboard.datasets.sample import Dataset

_STARTED = "generation.json"

Seed = Annotated[int, Field(ge=0, lt=2**31)]
JpegQuality = Annotated[int, Field(ge=10, le=100)]
Job = tuple[str, str]
"""Unit of rendering: subject and sequence, or split and scene."""


class Extent(NamedTuple):
    """Size of a world, computed before rendering.

    Args:
        shots: number of rendered images.
        pixels: pixels per image.
        trees: files per rendered image.
        folders: number of folders.
        views: cameras per sample.
    """

    shots: int
    pixels: int
    trees: int
    folders: int
    views: int


class GenerationOptions(BaseModel, ABC):
    """Options of a world. Equal options give equal bytes on one machine, for any number of processes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def samples(self, split: str) -> int:
        """Number of samples of a split."""

    @property
    @abstractmethod
    def extent(self) -> Extent:
        """Size of the world."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Record of one rendered job.

    Args:
        visibility: share of visible joints per image.
        sha256: checksum of the images, in the order of the layout.
        size_bytes: total size of the images.
        files: paths of the images below the root, in that order; empty if the labels list them.
    """

    visibility: Array
    sha256: str
    size_bytes: int
    files: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class WrittenLabels:
    """Record of the written labels.

    Args:
        digest: digest of their content.
        files: paths below the root, in the order of the digest; empty for a digest of parsed content.
    """

    digest: hashlib._Hash
    files: tuple[str, ...] = ()


ClipT = TypeVar("ClipT", bound=Clip)
OptionsT = TypeVar("OptionsT", bound=GenerationOptions)


class Layout(ABC, Generic[OptionsT, ClipT]):
    """Writer of a world in the format of one published data set. It is sent to processes and must be picklable.

    Args:
        adapter: opens a written world from its root.
    """

    version: str
    """Must change whenever equal options give other bytes."""
    parts: tuple[str, ...]
    """Top-level folders of the world."""

    def __init__(self, adapter: Callable[[Path], Dataset]) -> None:
        self.adapter = adapter

    @abstractmethod
    def jobs(self, options: OptionsT) -> Sequence[Job]:
        """All jobs in the order of rendering."""

    @abstractmethod
    def write_sequence(self, root: Path, options: OptionsT, job: Job) -> ClipT:
        """Render one job and write its images; a pure function of the arguments."""

    @abstractmethod
    def labels(self, options: OptionsT, clips: Sequence[ClipT]) -> Mapping[str, Any]:
        """Label files: path below the root -> bytes, or a value to write as JSON."""

    def write_labels(self, root: Path, options: OptionsT, clips: Sequence[ClipT]) -> WrittenLabels:
        """Write the label files and a contact sheet."""
        files = self.labels(options, clips)
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
            write_file(root / name, data)
        self.write_contact_sheet(root)
        return WrittenLabels(files_digest(root, list(files)), tuple(files))

    def write_contact_sheet(self, root: Path) -> None:
        """Draw samples of the written world."""
        world = self.adapter(root)
        groups = {key: world.sample(key).group for split in world.splits for key in world.keys(split)}
        write_contact_sheet(world, groups, root / "contact_sheet.png")

    def verified(self, root: Path) -> dict[str, Any]:
        """The manifest of a complete world after comparing every byte; InputError if a file was changed."""
        return verify_files(root, every_byte=True)


class ImageWriter:
    """Writes the images of one job as JPEG files, and records what the manifest needs of them."""

    def __init__(self, root: Path, quality: int) -> None:
        self._root, self._quality = root, quality
        self._digest, self._size_bytes, self._files = hashlib.sha256(), 0, list[str]()

    def write(self, file: str, rgb: NDArray[np.uint8]) -> None:
        """Write an image (H, W, 3) at a path below the root."""
        data = encode_jpeg(rgb, self._quality)
        write_file(self._root / file, data)
        self._digest.update(data)
        self._size_bytes += len(data)
        self._files.append(file)

    def record(self) -> tuple[str, int, tuple[str, ...]]:
        """Checksum, size in bytes and paths, in the order of the fields of `Clip`."""
        return self._digest.hexdigest(), self._size_bytes, tuple(self._files)


def random_part(seed: int, *names: str) -> Generator:
    """Random generator of one part of a world; it depends only on the seed and the names."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def encode_jpeg(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """Encode an image (H, W, 3) RGB as a JPEG file."""
    fine, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not fine:
        raise RuntimeError("the JPEG encoder refused an image")
    return bytes(data)


def generate(
    layout: Layout[OptionsT, ClipT],
    options: OptionsT,
    root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Write a world in a layout, unless the folder already has it.

    The workers of the active joblib backend render (`joblib.parallel_config`); the bytes do not depend on them.

    Args:
        layout: writer of the files.
        options: options of the world.
        root: folder of the data set; created if absent. An incomplete world, or one of other options, is replaced.
        progress: called with the number of finished images and their total.

    Returns:
        The SHA-256 of the manifest.

    Raises:
        InputError: the folder has a tree that was not generated here, or that was changed.
    """
    identity = {"generator": layout.version, "options": json.loads(options.model_dump_json())}
    present = read_manifest(root)
    if present is not None:
        whole = layout.verified(root)
        if {key: present.get(key) for key in identity} == identity:
            if whole != present:
                write_manifest(root, whole)
            return str(present["sha256"])
    started = root / _STARTED
    if present is None and not started.exists() and any((root / part).exists() for part in layout.parts):
        raise InputError(root, "holds a data set that was not generated here", "choose another folder for the world")
    root.mkdir(parents=True, exist_ok=True)
    write_file(started, json.dumps(identity).encode())  # marks the folder as ours and incomplete
    (root / NAME).unlink(missing_ok=True)
    for part in layout.parts:
        shutil.rmtree(root / part, ignore_errors=True)
    todo = layout.jobs(options)
    total = options.extent.shots
    clips: list[ClipT] = []
    done = 0
    parallel = Parallel(return_as="generator", batch_size=1)
    for clip in parallel(delayed(layout.write_sequence)(root, options, job) for job in todo):
        clips.append(clip)
        done += clip.visibility.size
        if progress is not None:
            progress(done, total)
    labels = layout.write_labels(root, options, clips)
    seen = np.concatenate([clip.visibility for clip in clips]) if clips else np.zeros((0, 1))
    images = {
        f"{subject}/{name}": {
            "sha256": clip.sha256,
            "bytes": clip.size_bytes,
            **({"files": list(clip.files)} if clip.files else {}),
        }
        for (subject, name), clip in zip(todo, clips, strict=True)
    }
    digest = labels.digest.copy()
    for clip in clips:
        digest.update(clip.sha256.encode())
    manifest = {
        **identity,
        "sha256": digest.hexdigest(),
        "labels": labels.digest.hexdigest(),
        **({"label_files": list(labels.files)} if labels.files else {}),
        "images": images,
        "counts": {"sequences": len(todo), "frames": len(seen), "images": total, "trees": options.extent.trees},
        "mean_joint_visibility": round(float(seen.mean()), 4) if seen.size else None,
    }
    write_manifest(root, manifest)
    started.unlink()
    return str(manifest["sha256"])
