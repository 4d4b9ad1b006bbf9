"""Person crops decoded once: a data set seen through square crops that wait in a memory-mapped file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock

from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.files import write_file
from poseboard.datasets.sample import Dataset, Image, Resampling, Sample, Status, Truth, View

_FORMAT = 2


class CroppedDataset:
    """The same data set, whose views are square crops about each view's one person.

    Camera, box and 2D detections move with the pixels. The first sample of a split decodes the crops of that split into
    a memory map; `build` does so for other selections of keys. Where neither has been done, because the split would
    fill more than half of the free disk, a crop is decoded when its sample is asked for, to the same values.
    A sample with several people in a view, or none, is passed through as it is if its 2D detections are given.

    Args:
        dataset: whose views have full frames.
        side_px: side of the crops.
        box_scale: factor on the box before it is cropped.
        folder: where the crops are kept, one sub-folder per content: data set manifest, side, scale, keys, and of every
            image its box, size and time of modification. Crops of earlier states of the images are removed.
        progress: called with (samples done, samples in all) while crops are decoded.
        resampling: how the crops are made, see `View.crop`.

    Raises:
        InputError: ``side_px`` or ``box_scale`` is not above 0.
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
            raise InputError("crops", f"side {side_px} px, box scale {box_scale}: both must be above 0")
        self.name, self.skeleton, self.synthetic = dataset.name, dataset.skeleton, dataset.synthetic
        self._dataset, self._folder = dataset, Path(folder)
        self._side_px, self._box_scale = int(side_px), float(box_scale)
        self._progress, self._resampling = progress, resampling
        self._built: dict[str, tuple[Image, list[int]]] = {}
        self._prepared: set[str] = set()

    @property
    def views(self) -> tuple[str, ...]:
        """Camera names in the data set's order."""
        return self._dataset.views

    @property
    def splits(self) -> tuple[str, ...]:
        """Of the data set behind."""
        return self._dataset.splits

    def facts(self, split: str) -> Facts:
        """Of the data set behind."""
        return self._dataset.facts(split)

    def status(self) -> Status:
        """Of the data set behind."""
        return self._dataset.status()

    def manifest(self) -> str:
        """Of the data set behind: crops are a view of it, not other data."""
        return self._dataset.manifest()

    def keys(self, split: str) -> Sequence[str]:
        """Of the data set behind."""
        return self._dataset.keys(split)

    def truth(self, key: str) -> Truth:
        """Of the data set behind."""
        return self._dataset.truth(key)

    def sample(self, key: str) -> Sample:
        """The sample with its views cropped.

        Raises:
            InputError: the key is unknown, an image cannot be read, or several people are to be cropped to one.
        """
        sample = self._dataset.sample(key)
        split = None if key in self._built else self._split_of.get(key)
        if split is not None and split not in self._prepared:
            keys = self._dataset.keys(split)
            most = len(keys) * len(self.views) * 3 * self._side_px**2
            self._folder.mkdir(parents=True, exist_ok=True)
            target = self._target(keys)
            if (target / "crops.npy").is_file() or 2 * most <= shutil.disk_usage(self._folder).free:
                self._build(keys, target)
            self._prepared.add(split)
        return self._cropped(sample)

    def build(self, keys: Sequence[str], threads: int = 2) -> Path | None:
        """Decode the crops of ``keys`` into one file, unless they are there already, and use it from now on.

        The file appears whole or not at all; a second process that wants the same one waits for the first.

        Args:
            keys: samples to decode, in the order of the file.
            threads: that decode at once.

        Returns:
            The folder of the file, or None if no view of ``keys`` has an image to crop.

        Raises:
            InputError: an image cannot be read, or the disk is too small.
        """
        return self._build(keys, self._target(keys), threads)

    def _build(self, keys: Sequence[str], target: Path, threads: int = 2) -> Path | None:
        target.parent.mkdir(parents=True, exist_ok=True)
        selection = target.name.rpartition("-")[0]
        with FileLock(target.with_name(f"{selection}.lock")):
            if not (target / "crops.npy").is_file():
                partial = target.with_name(target.name + ".partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                try:
                    if not self._write(partial, keys, threads):
                        return None
                    partial.replace(target)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
                for earlier in target.parent.glob(f"{selection}-*"):
                    if earlier != target:
                        shutil.rmtree(earlier, ignore_errors=True)
            try:
                crops: Image = np.asarray(np.load(target / "crops.npy", mmap_mode="r"))
                rows: list[list[int]] = np.load(target / "rows.npy").tolist()
            except (OSError, ValueError) as error:
                raise InputError(
                    target, f"crops cannot be read ({error})", "delete this folder, it is made again"
                ) from None
        self._built.update({key: (crops, of_key) for key, of_key in zip(keys, rows, strict=True)})
        return target

    @cached_property
    def _split_of(self) -> dict[str, str]:
        return {key: split for split in self.splits for key in self._dataset.keys(split)}

    def _target(self, keys: Sequence[str]) -> Path:
        """The folder whose name stands for everything that the crops depend on; its last part for the images."""
        content = [_FORMAT, self._dataset.manifest(), self._side_px, self._box_scale, self._resampling, *keys]
        selection = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        images = hashlib.sha256()
        for key in keys:
            for view in self._dataset.sample(key).views:
                images.update(f"{view.name} {view.image_state()} {view.boxes_px.tolist()}\n".encode())
        return self._folder / f"{self.name}-{self._side_px}px-{selection}-{images.hexdigest()[:16]}"

    def _write(self, folder: Path, keys: Sequence[str], threads: int) -> bool:
        """crops.npy (n, S, S, 3) uint8 and rows.npy (keys, most views): row of each view's crop, -1 for none."""
        samples = (self._dataset.sample(key) for key in keys)
        to_crop = [[view.image is not None and self._is_single(sample) for view in sample.views] for sample in samples]
        rows = np.full((len(keys), max(map(len, to_crop), default=0)), -1, dtype=np.int64)
        count = 0
        for of_key, wanted in zip(rows, to_crop, strict=True):
            places = np.flatnonzero(wanted)
            of_key[places] = np.arange(count, count + len(places))
            count += len(places)
        if not count:
            return False
        shape = (count, self._side_px, self._side_px, 3)
        crops = _reserve(folder / "crops.npy", shape)

        def decode(index: int) -> None:
            for view, row in zip(self._dataset.sample(keys[index]).views, rows[index].tolist(), strict=False):
                if row >= 0:
                    crops[row] = self._made(view).pixels()

        with ThreadPoolExecutor(threads) as pool:
            try:
                for done, _ in enumerate(pool.map(decode, range(len(keys))), 1):
                    if self._progress is not None:
                        self._progress(done, len(keys))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        crops.flush()
        packed = io.BytesIO()
        np.save(packed, rows)
        write_file(folder / "rows.npy", packed.getvalue())
        return True

    def _cropped(self, sample: Sample) -> Sample:
        if not self._is_single(sample):
            without = [view for view in sample.views if view.joints_px is None]
            if without:
                problem = f"has {len(without[0].boxes_px)} people, a crop shows one"
                raise InputError(f"{sample.key}: view {without[0].name}", problem, "use a full-frame method")
            return sample
        crops, rows = self._built.get(sample.key, (None, []))
        views = tuple(
            self._crop(view, crops[rows[index]] if crops is not None and rows[index] >= 0 else None)
            for index, view in enumerate(sample.views)
        )
        return replace(sample, views=views, past=tuple(self._cropped(earlier) for earlier in sample.past))

    def _crop(self, view: View, pixels: Image | None) -> View:
        if pixels is None:
            return self._made(view)
        return replace(self._made(replace(view, image=None)), image=pixels)

    def _made(self, view: View) -> View:
        return view.crop(self._side_px, self._box_scale, resampling=self._resampling)

    @staticmethod
    def _is_single(sample: Sample) -> bool:
        return all(len(view.boxes_px) == 1 for view in sample.views)


def _reserve(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """A new memory-mapped array whose disk space is taken now: writing into a hole of a full disk kills the process."""
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
