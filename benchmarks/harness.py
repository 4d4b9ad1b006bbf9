"""The harness between data sets and methods: hands a method exactly what its Inputs declare, and nothing else.

What a model declares is taken once, when it has been loaded (`LoadedRow`), and every condition (a set of cameras, and
where the roots come from) gets a model of its own that is thrown away after it: neither what one condition showed nor
what a model says of itself later reaches another. A method that declares no extrinsics is handed samples in which
nothing names a camera, a frame or a place on disk: keys, groups and camera names stand for nothing, the order of the
views is drawn for each sample, and images are arrays or handles that only read. Where it declares intrinsics, K may
still tell one camera from another.

This keeps honest code honest. It is no sandbox: the code of a row runs in this process, where module globals, files,
the stack and the data set itself can be reached by code that wants to. Read the code of a row before you trust its
numbers; of predictions made elsewhere nothing here is known at all, and the code of a submission is not run.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, overload
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import TypeAdapter, ValidationError

from poseboard.benchmarks.settings import BACKBONE, Settings
from poseboard.datasets.camera import Array
from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.crops import CroppedDataset
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.human36m import read_predictions
from poseboard.datasets.sample import (
    Dataset,
    Group,
    Image,
    ImageSource,
    Poses,
    Sample,
    Status,
    Truth,
    View,
    read_image,
)
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, Method, Options, find_method

Progress = Callable[[int, int], None]

KEPT_VIEWS = 20_000
"""Views whose cameras and boxes are kept between two uses of a sample: some kilobytes each, pixels apart."""

WITHHELD = Group("withheld", "withheld", "withheld")
"""Of a sample whose cameras are not to be known."""

_INPUTS = TypeAdapter(Inputs)


def taken(inputs: Inputs, whose: str) -> Inputs:
    """What a method declares as it stands now: a copy in plain values, which nobody else can change.

    Args:
        inputs: of a loaded method or of a training.
        whose: name of the row, for errors.

    Raises:
        InputError: it declares nothing, or a field is none of those that `Inputs` describes.
    """
    if not isinstance(inputs, Inputs):
        raise InputError(f"{whose}: inputs", f"{type(inputs).__name__} is no Inputs", "declare methods.base.Inputs")
    try:
        return _INPUTS.validate_python({entry.name: getattr(inputs, entry.name) for entry in fields(Inputs)})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("inputs", *first["loc"])))
        raise InputError(f"{whose}: {where}", first["msg"].lower(), "see Inputs in methods/base.py") from None


class Restricted:
    """A data set as a method may see it: cropped, with its views chosen, and with what is not declared withheld.

    Args:
        dataset: the whole data set.
        inputs: what the method declares.
        crops: folder of the decoded-crop cache.
        views: camera names, in the order they are handed over; None = all.
        roots_mm: key -> (P, 3) root positions another method predicted, for ``inputs.root == "predicted"``.
        progress: called while crops are decoded.

    Raises:
        InputError: fewer views than the method needs, or roots that nobody predicted.
    """

    def __init__(
        self,
        dataset: Dataset,
        inputs: Inputs,
        crops: Path,
        views: Sequence[str] | None = None,
        roots_mm: Mapping[str, Array] | None = None,
        progress: Progress | None = None,
    ) -> None:
        inputs = taken(inputs, "method")
        fewest, most = inputs.views
        chosen = tuple(dataset.views if views is None else views)[:most]
        if len(chosen) < fewest:
            raise InputError(f"views {', '.join(chosen)}", f"the method needs at least {fewest}", "choose more cameras")
        if inputs.root == "predicted" and roots_mm is None:
            raise InputError("inputs.root", "the method needs predicted roots", "name the row under `after`")
        self._truths = dataset
        self._samples: Dataset = dataset
        if inputs.crop_px is not None:
            self._samples = CroppedDataset(
                dataset, inputs.crop_px, inputs.box_scale, crops, progress=progress, resampling=inputs.resampling
            )
        self.inputs, self._roots_mm = inputs, roots_mm
        self.views = chosen
        self._salt = secrets.token_bytes(16)
        self._cache: OrderedDict[str, Sample] = OrderedDict()

    @property
    def name(self) -> str:
        """Of the data set."""
        return self._truths.name

    @property
    def skeleton(self) -> Skeleton:
        """Of the data set."""
        return self._truths.skeleton

    @property
    def synthetic(self) -> bool:
        """Whether the data set is one of our worlds."""
        return self._truths.synthetic

    @property
    def splits(self) -> tuple[str, ...]:
        """Of the data set."""
        return self._truths.splits

    def facts(self, split: str) -> Facts:
        """Of the data set."""
        return self._truths.facts(split)

    def status(self) -> Status:
        """Of the data set."""
        return self._truths.status()

    def manifest(self) -> str:
        """Of the data set."""
        return self._truths.manifest()

    def keys(self, split: str) -> Sequence[str]:
        """Of the data set."""
        return self._truths.keys(split)

    def truth(self, key: str) -> Truth:
        """Of the data set; the loop and the score stage read it, a method never gets this object while it predicts."""
        return self._truths.truth(key)

    def sample(self, key: str) -> Sample:
        """The sample as the method may see it."""
        sample = self._cache.get(key)
        if sample is None:
            sample = self._restrict(self._samples.sample(key))
            # Kept only where the pixels lie in the memory map, and no more than a few: a large data set would pile up.
            if not any(isinstance(view.image, np.ndarray) and view.image.base is None for view in sample.views):
                self._cache[key] = sample
                while len(self._cache) * len(self.views) > KEPT_VIEWS:
                    self._cache.popitem(last=False)
        sample = self._withheld(sample)
        if self.inputs.window > 1:
            sample = replace(sample, past=tuple(map(self._withheld, self._before(key))))
        return sample

    def named(self, key: str, answer: Poses) -> Poses:
        """An answer whose frame has the camera's own name, which a method that sees no extrinsics does not know.

        Raises:
            InputError: the frame is none that the method sees.
        """
        if self.inputs.extrinsics or answer.frame == "world":
            return answer
        there = {view.name for view in self._truths.sample(key).views}
        names = [name for name in self.views if name in there]
        seen = {f"view-{i}": names[place] for i, place in enumerate(_order(key, len(names)))}
        if answer.frame not in seen:
            raise InputError(
                f"{key}: frame",
                f"answer is in the frame {answer.frame!r}, which the method does not see",
                f"answer in that of a view: {', '.join(seen)}",
            )
        return replace(answer, frame=seen[answer.frame])

    def _restrict(self, sample: Sample) -> Sample:
        by_name = {view.name: view for view in sample.views}
        views = [by_name[name] for name in self.views if name in by_name]
        root = None
        if self.inputs.root == "truth":
            root = self.skeleton.root_of(self._truths.truth(sample.key).joints_mm)
        elif self.inputs.root == "predicted" and self._roots_mm is not None:
            root = self._roots_mm.get(sample.key)
        return replace(
            sample,
            views=tuple(map(self._restricted, views)),
            root_mm=_read_only(root),
            hand=sample.hand if self.inputs.hand else None,
            past=(),
        )

    def _restricted(self, view: View) -> View:
        inputs = self.inputs
        camera = view.camera
        if not (inputs.intrinsics and inputs.extrinsics):
            camera = camera.withhold(intrinsics=not inputs.intrinsics, extrinsics=not inputs.extrinsics)
        return replace(
            view,
            camera=camera,
            image=view.image if inputs.images else None,
            boxes_px=_read_only(view.boxes_px),
            joints_px=_read_only(view.joints_px),
            confidence=_read_only(view.confidence),
        )

    def _withheld(self, sample: Sample) -> Sample:
        """With pixels of its own, and without names, order and paths where cameras are not to be known.

        A crop is cut out of the memory map of all crops, which must not be reached through it.
        """
        if self.inputs.extrinsics:
            views = tuple(
                replace(view, image=view.image.copy()) if isinstance(view.image, np.ndarray) else view
                for view in sample.views
            )
            return replace(sample, views=views)
        order = _order(sample.key, len(sample.views))
        views = tuple(
            replace(sample.views[place], name=f"view-{i}", image=_detached(sample.views[place].image))
            for i, place in enumerate(order)
        )
        digest = hashlib.blake2b(sample.key.encode(), key=self._salt, digest_size=8).hexdigest()
        return replace(sample, key=f"sample-{digest}", group=WITHHELD, views=views)

    def _before(self, key: str) -> Iterator[Sample]:
        for split in ("train", "test"):
            keys = self.keys(split)
            if key in keys:
                place, group = keys.index(key), self._samples.sample(key).group
                for earlier in keys[max(0, place - self.inputs.window + 1) : place]:
                    sample = self._restrict(self._samples.sample(earlier))
                    if sample.group == group:
                        yield sample
                return


def _order(key: str, count: int) -> list[int]:
    """Places of a sample's views in the order in which a method is handed them that may not know which is which."""
    seed = int.from_bytes(hashlib.sha256(f"views {key}".encode()).digest()[:8], "big")
    return np.random.default_rng(seed).permutation(count).tolist()


@overload
def _read_only(array: Array) -> Array: ...
@overload
def _read_only(array: None) -> None: ...
def _read_only(array: Array | None) -> Array | None:
    """A copy that nobody can write into and that leads to no other array."""
    if array is None:
        return None
    copy = np.array(array)
    copy.setflags(write=False)
    return copy


class _Handle:
    """Reads an image and says nothing of where it lies."""

    __slots__ = ("__weakref__",)

    def __call__(self) -> Image:
        source = _SOURCES[self]
        return read_image(source) if isinstance(source, Path) else source()


_SOURCES: WeakKeyDictionary[_Handle, Path | Callable[[], Image]] = WeakKeyDictionary()


def _detached(image: ImageSource | None) -> ImageSource | None:
    """The same pixels without a path, a camera or a memory map behind them."""
    if image is None:
        return None
    if isinstance(image, np.ndarray):
        return image.copy()
    handle = _Handle()
    _SOURCES[handle] = image
    return handle


@dataclass(frozen=True)
class Bench:
    """A data set of params.yaml opened for work.

    Args:
        settings: params.yaml in one profile.
        dataset: the opened data set.
    """

    settings: Settings
    dataset: Dataset

    @classmethod
    def open(cls, settings: Settings, name: str) -> Bench:
        """Open a data set by its name in params.yaml; InputError if it is not ready."""
        options: dict[str, Any] = {**settings.dataset_options(name), "root": settings.root(name)}
        dataset = open_dataset(name, options)
        status = dataset.status()
        if status.state in ("missing", "damaged"):
            raise InputError(
                f"data set {name}", status.detail, f"run `poseboard data prepare {name}`, or {status.obtain}"
            )
        return cls(settings, dataset)

    def options(self, name: str) -> dict[str, Any]:
        """The options of a row, or of the backbone; epochs of unstated length are passes over this data set."""
        options = self.settings.options(name)
        steps = options.get("steps")
        if isinstance(steps, Mapping) and "epochs" in steps:
            options["steps"] = self._counted(steps)
        return options

    def _counted(self, steps: Mapping[str, Any]) -> dict[str, Any]:
        every = steps.get("every", 1)
        if isinstance(every, Mapping):
            every = every.get(self.dataset.name, 1)
        moments = steps.get("moments")
        if moments is None and isinstance(every, int) and every > 0:
            moments = len(self.dataset.keys("train")[::every]) or None
        return {**steps, "moments": moments, "every": every}

    def method(self, name: str) -> Method:
        """The method of a row of params.yaml, constructed with its options."""
        return find_method(self.settings.entry(name).spec)(self.options(name), self.dataset.skeleton)

    def restricted(
        self,
        inputs: Inputs,
        views: Sequence[str] | None = None,
        roots_mm: Mapping[str, Array] | None = None,
        progress: Progress | None = None,
    ) -> Restricted:
        """The data set as a method with these inputs may see it."""
        return Restricted(self.dataset, inputs, self.settings.home / "data" / "crops", views, roots_mm, progress)

    def fewest_root_views(self, method: str, split: str) -> int:
        """From how many cameras at least the roots can be predicted that a row is handed.

        Raises:
            InputError: the row names nothing that predicts roots.
        """
        entry = self.settings.entry(method)
        if split in entry.roots:
            return len(self.dataset.views)  # nobody can say what such a file holds but answers from all of them
        if entry.after == BACKBONE:
            raise InputError(
                f"methods.{method}.after", "a backbone predicts no roots", "name a row that does, or roots"
            )
        return self.method(entry.after).inputs.views[0]

    def roots_source(self, method: str, seed: int, split: str) -> Path:
        """The file that `roots_mm` takes the roots of a row from: a published results file, or weights that find them.

        Raises:
            InputError: the row names nothing that predicts roots.
        """
        self.fewest_root_views(method, split)
        entry = self.settings.entry(method)
        if split in entry.roots:
            return self.settings.home / entry.roots[split]
        return self.settings.checkpoint(self.dataset.name, entry.after, seed)

    def roots_mm(
        self,
        method: str,
        seed: int,
        split: str,
        views: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Array]:
        """Root positions (1, 3) world mm of a split, for a row that is handed predicted ones.

        They are the answers of the row named under ``after`` with its weights of the same seed; or those of the
        published results file that params.yaml names under ``roots``.

        Args:
            method: the row that is handed them.
            seed: of the training.
            split: "train" or "test".
            views: cameras that they are predicted from, at least `fewest_root_views`; None = all.
            progress: called as they are predicted.

        Raises:
            InputError: neither is to be had, or the file is of other samples.
        """
        entry, keys = self.settings.entry(method), list(self.dataset.keys(split))
        root_of = self.dataset.skeleton.root_of
        fewest = self.fewest_root_views(method, split)
        if views is not None and len(views) < fewest:
            raise InputError(f"views {', '.join(views)}", f"roots need at least {fewest}", "choose more cameras")
        source = self.roots_source(method, seed, split)
        if split in entry.roots:
            given = read_predictions(source, keys)
            return dict(zip(keys, root_of(given)[:, None], strict=True))
        model = self.method(entry.after)
        model.load(source, "cpu")
        answers = predict(model, self.restricted(model.inputs, views, progress=progress), keys, progress=progress)
        nobody = np.full((1, 3), np.nan)
        elsewhere = next((key for key, answer in zip(keys, answers, strict=True) if answer.frame != "world"), None)
        if elsewhere is not None:
            raise InputError(
                f"methods.{method}.after",
                f"{entry.after} answers {elsewhere} in a camera's frame",
                "name a row that answers in the world's",
            )
        return {
            key: root_of(answer.joints_mm[:1]) if len(answer.score) else nobody
            for key, answer in zip(keys, answers, strict=True)
        }


class LoadedRow:
    """A row with one file of weights: what it declares, and a model of its own for every condition.

    Args:
        name: of the row, for errors.
        build: makes the method with the row's options.
        weights: that each model loads; None for none.
        device: torch device.

    Attributes:
        inputs: what the row may see, as the first model declared it once it was loaded.

    Raises:
        InputError: the weights cannot be used, or what is declared is none of what `Inputs` describes.

    Example:
        >>> row = LoadedRow("ransac", lambda: bench.method("ransac"), weights, "cpu")  # doctest: +SKIP
        >>> for cameras in sets_of_cameras:  # doctest: +SKIP
        ...     answers = predict(row.model(), bench.restricted(row.inputs, cameras), keys)
    """

    def __init__(self, name: str, build: Callable[[], Method], weights: Path | None, device: str) -> None:
        self._name, self._build, self._weights, self._device = name, build, weights, device
        first = self._load()
        self.inputs = taken(first.inputs, f"row {name}")
        self._options = options_in_force(first, {})
        self._unused: Method | None = first

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options in force: those that the model keeps, with the defaults, else those given."""
        return dict(self._options or given)

    def model(self) -> Method:
        """A loaded model that has seen nothing yet; each call gives another one.

        Raises:
            InputError: it declares something else than the first one did.
        """
        if self._unused is not None:
            model, self._unused = self._unused, None
            return model
        model = self._load()
        now = taken(model.inputs, f"row {self._name}")
        if now != self.inputs:
            raise InputError(
                f"row {self._name}: inputs",
                f"was {self.inputs} when the weights were first loaded and is {now} now",
                "declare the same whenever the same weights are loaded",
            )
        return model

    def _load(self) -> Method:
        model = self._build()
        model.load(self._weights, self._device)
        return model


def options_in_force(method: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the defaults, of a method that keeps them as :class:`Options` in ``options``; else those given."""
    options = getattr(method, "options", None)
    return options.model_dump(mode="json") if isinstance(options, Options) else dict(given)


def predict(
    method: Method, samples: Restricted, keys: Sequence[str], *, chunk: int = 64, progress: Progress | None = None
) -> list[Poses]:
    """Poses for every key, in order.

    Raises:
        InputError: the method answers with another number of samples than it was asked for, or in a frame it does not
            see.
        Exception: what the method itself raises, with a note that names the samples.
    """
    answers: list[Poses] = []
    for start in range(0, len(keys), chunk):
        of_chunk = keys[start : start + chunk]
        asked = [samples.sample(key) for key in of_chunk]
        try:
            given = method.predict(asked)
        except Exception as error:
            error.add_note(f"raised by {type(method).__name__}.predict on {of_chunk[0]} to {of_chunk[-1]}")
            raise
        if len(given) != len(asked):
            raise InputError(type(method).__name__, f"answered {len(given)} of {len(asked)} samples", "answer each one")
        answers += [samples.named(key, answer) for key, answer in zip(of_chunk, given, strict=True)]
        if progress is not None:
            progress(len(answers), len(keys))
    return answers
