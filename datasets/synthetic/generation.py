"""Writing a world in a layout: once, by the active joblib backend, with a manifest that shows later changes.

``<root>/manifest.json`` is written last and marks the tree as generated here and complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.manifest import NAME, read_manifest, write_manifest

_STARTED = "generation.json"

Seed = Annotated[int, Field(ge=0, lt=2**31)]
JpegQuality = Annotated[int, Field(ge=10, le=100)]
Job = tuple[str, str]
"""What is rendered together: subject and sequence, or split and scene."""


class Extent(NamedTuple):
    """How large a world is, before it is rendered.

    Args:
        shots: number of rendered images.
        pixels: of each of them.
        trees: number of files per shot.
        folders: that the files are in.
        views: cameras of a sample.
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
        """How large the world is."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One job that a layout has written.

    Args:
        visibility: one number per shot: the share of the joints that the camera sees.
        sha256: of the images, in the order of the layout.
        size_bytes: of the images.
        files: paths of the images below the root, in that order; empty where the labels tell them.
    """

    visibility: Array
    sha256: str
    size_bytes: int
    files: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class WrittenLabels:
    """The labels of a world.

    Args:
        digest: of their content.
        files: paths below the root, in the order of the digest; empty where it is of parsed content.
    """

    digest: hashlib._Hash
    files: tuple[str, ...] = ()


ClipT = TypeVar("ClipT", bound=Clip)
OptionsT = TypeVar("OptionsT", bound=GenerationOptions)
OptionsT_contra = TypeVar("OptionsT_contra", bound=GenerationOptions, contravariant=True)


class Layout(Protocol[OptionsT_contra, ClipT]):
    """Writer of a world in the format of one published data set. It is passed to processes and must be picklable."""

    version: str
    """Changed whenever equal options give other bytes."""
    parts: tuple[str, ...]
    """Folders of the tree that it writes."""

    def jobs(self, options: OptionsT_contra) -> Sequence[Job]:
        """What is rendered, in this order."""
        ...

    def write_sequence(self, root: Path, options: OptionsT_contra, job: Job) -> ClipT:
        """Render one job and write its images; a pure function of the arguments."""
        ...

    def write_labels(self, root: Path, options: OptionsT_contra, clips: Sequence[ClipT]) -> WrittenLabels:
        """Write labels and contact sheet of the world."""
        ...

    def verified(self, root: Path) -> dict[str, Any]:
        """The manifest of a complete tree after comparing every byte; InputError if a file was changed."""
        ...


def random_part(seed: int, *names: str) -> Generator:
    """A random generator for one part of a world; it depends only on the seed and the names."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def encode_jpeg(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """An image (H, W, 3) RGB as a JPEG file."""
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
        layout: of the files.
        options: of the world.
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
