"""Cache of person crops: decoded once, stored in memory-mapped files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Dataset, Image, Resampling, View

_FORMAT = 3


@dataclass(frozen=True, eq=False)
class _Selection:
    """Samples with their crops in one file.

    Args:
        folder: folder of the file; its name is a hash of everything that the crops depend on.
        keys: keys of the samples.
        rows: (samples, cameras, people) int64, row of each crop in the file; -1 without a crop.
    """

    folder: Path
    keys: Sequence[str]
    rows: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of crops in the file."""
        return int((self.rows >= 0).sum())


class CropStore:
    """Cached pixels of a data set's person crops.

    Only pixels are cached; `View.crop` computes the camera, box and 2D detections of a crop. The first request for a
    crop decodes all crops of its split; `build` decodes other selections. If the crops of a split would fill more than
    half of the free disk, nothing is stored. The caller then decodes each crop itself, with equal values.

    Args:
        dataset: data set with full frames.
        side_px: side of the crops.
        box_scale: factor on the sides of a box before the crop.
        folder: folder of the cache. Each sub-folder has one content: manifest of the data set, side, scale, keys, and
            box, size and time of modification of every image. Crops of earlier states of the images are removed.
        progress: called with (finished samples, all samples) while crops are decoded.
        resampling: see `View.crop`.

    Raises:
        InputError: ``side_px`` or ``box_scale`` is not above 0.

    Example:
        >>> store = CropStore(dataset, 96, 1.0, folder)  # doctest: +SKIP
        >>> store.pixels("S9/Walking-1/000123", "54138969")  # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: Dataset,
        side_px: int,
        box_scale: float,
        folder: Path,
        progress: Callable[[int, int], None] | None = None,
        resampling: Resampling = "area",
    ) -> None:
        if side_px < 1 or not box_scale > 0:
            raise InputError("crops", f"side is {side_px} px and box scale {box_scale}", "use numbers above 0")
        self._dataset, self._folder = dataset, Path(folder)
        self._side_px, self._box_scale = int(side_px), float(box_scale)
        self._progress, self._resampling = progress, resampling
        self._place: dict[str, tuple[Image, NDArray[np.int64]]] = {}
        self._prepared: set[str] = set()

    def pixels(self, key: str, camera: str, person: int = 0) -> Image | None:
        """Stored crop (S, S, 3) uint8 of one person in one view, read-only; None if the crop is not stored.

        Args:
            key: key of the sample.
            camera: name of the view.
            person: index of the person.

        Raises:
            InputError: an image of the split cannot be read.
        """
        split = None if key in self._place else self._split_of.get(key)
        if split is not None and split not in self._prepared:
            selection = self._select(self._dataset.keys(split))
            self._folder.mkdir(parents=True, exist_ok=True)
            most = selection.count * 3 * self._side_px**2
            if (selection.folder / "crops.npy").is_file() or 2 * most <= shutil.disk_usage(self._folder).free:
                self._build(selection)
            self._prepared.add(split)
        if key not in self._place:
            return None
        crops, rows = self._place[key]
        row = int(rows[self._camera[camera], person]) if person < rows.shape[1] else -1
        return crops[row] if row >= 0 else None

    def build(self, keys: Sequence[str], threads: int = 2) -> Path | None:
        """Decode the crops of ``keys`` into one file unless the file exists, and use the file.

        The file is written atomically; a second process that needs the same file waits for the first.

        Args:
            keys: keys of the samples, in the order of the file.
            threads: number of decoding threads.

        Returns:
            Folder of the file; None if the samples have no images to crop.

        Raises:
            InputError: an image cannot be read, or the disk is too small.
        """
        return self._build(self._select(keys), threads)

    def _build(self, selection: _Selection, threads: int = 2) -> Path | None:
        if not selection.count:
            return None
        target = selection.folder
        target.parent.mkdir(parents=True, exist_ok=True)
        content = target.name.rpartition("-")[0]
        with FileLock(target.with_name(f"{content}.lock")):
            if not (target / "crops.npy").is_file():
                partial = target.with_name(target.name + ".partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                try:
                    self._write(partial, selection, threads)
                    partial.replace(target)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
                for earlier in target.parent.glob(f"{content}-*"):
                    if earlier != target:
                        shutil.rmtree(earlier, ignore_errors=True)
            try:
                crops: Image = np.asarray(np.load(target / "crops.npy", mmap_mode="r"))
                if len(crops) != selection.count:
                    raise ValueError(f"{len(crops)} crops, {selection.count} expected")
            except (OSError, ValueError) as error:
                raise InputError(
                    target, f"crops cannot be read ({error})", "delete this folder; the next run builds it again"
                ) from None
        self._place.update({key: (crops, rows) for key, rows in zip(selection.keys, selection.rows, strict=True)})
        return target

    @cached_property
    def _camera(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._dataset.views)}

    @cached_property
    def _split_of(self) -> dict[str, str]:
        return {key: split for split in self._dataset.splits for key in self._dataset.keys(split)}

    def _select(self, keys: Sequence[str]) -> _Selection:
        """Rows of the crops of ``keys``: sample by sample, camera by camera, person by person."""
        content = [_FORMAT, self._dataset.manifest(), self._side_px, self._box_scale, self._resampling, *keys]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        images = hashlib.sha256()
        crops: list[tuple[int, int, int]] = []
        for place, key in enumerate(keys):
            for view in self._dataset.sample(key).views:
                state = f"{view.name} {view.image is None} {view.image_state()} {view.boxes_px.tolist()}\n"
                images.update(state.encode())
                people = [] if view.image is None else np.flatnonzero(np.isfinite(view.boxes_px).all(axis=1)).tolist()
                crops += [(place, self._camera[view.name], person) for person in people]
        places = np.array(crops, dtype=np.int64).reshape(-1, 3)
        rows = np.full((len(keys), len(self._camera), int(places[:, 2].max(initial=0)) + 1), -1, dtype=np.int64)
        rows[tuple(places.T)] = np.arange(len(places))
        name = f"{self._dataset.name}-{self._side_px}px-{digest}-{images.hexdigest()[:16]}"
        return _Selection(self._folder / name, keys, rows)

    def _write(self, folder: Path, selection: _Selection, threads: int) -> None:
        """Decode the crops of a selection and write them to crops.npy, (n, S, S, 3) uint8."""
        keys, rows = selection.keys, selection.rows
        crops = _reserve(folder / "crops.npy", (selection.count, self._side_px, self._side_px, 3))

        def decode(place: int) -> None:
            for view in self._dataset.sample(keys[place]).views:
                of_view = rows[place, self._camera[view.name]]
                people = np.flatnonzero(of_view >= 0).tolist()
                whole = replace(view, image=view.pixels()) if people else view
                for person in people:
                    crops[of_view[person]] = self._made(whole, person).pixels()

        with ThreadPoolExecutor(threads) as pool:
            try:
                for done, _ in enumerate(pool.map(decode, range(len(keys))), 1):
                    if self._progress is not None:
                        self._progress(done, len(keys))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        crops.flush()

    def _made(self, view: View, person: int) -> View:
        return view.crop(self._side_px, self._box_scale, person, self._resampling)


def _reserve(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """Create a memory-mapped array and reserve its disk space; writing to a full disk would end in SIGBUS."""
    size = int(np.prod(shape, dtype=np.int64))
    remedy = "free space, choose another folder for crops, or decode fewer frames"
    if shutil.disk_usage(path.parent).free < size:
        raise InputError(path, f"{size / 1e9:.1f} GB of crops do not fit on the disk", remedy)
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise InputError(path, f"{size / 1e9:.1f} GB cannot be reserved ({error.strerror})", remedy) from None
    return array
