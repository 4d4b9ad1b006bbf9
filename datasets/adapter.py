"""Base class of the adapters: a subclass is both the reader and the catalogue entry of one data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts, TruthSource
from poseboard.datasets.manifest import NAME, verify_files
from poseboard.datasets.sample import Sample, Status, Truth
from poseboard.datasets.skeleton import Skeleton

Stride = Annotated[int, Field(ge=1)]
"""Type of an option: stride over frames, 1 or more."""
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Type of an option: factor on the sides of boxes, above 0."""


class Adapter(ABC):
    """Base class of the adapters: a `Dataset` in its published layout on disk.

    The parameters of a subclass's constructor are the data set's options in params.yaml. Their types are checked by
    `catalog.open_dataset`. Annotations are read on first use; a damaged file raises an InputError that names file and
    field.

    Args:
        root: folder of the data set.
        synthetic: whether the people are rendered; always True for folders that Poseboard generated.
    """

    name: str
    """Name in the catalogue. `open_dataset` gives the instance its name in params.yaml and results/."""
    is_published: ClassVar[bool] = True
    """Whether the adapter is of one published data set, which is listed even if there is no copy."""
    title: ClassVar[str]
    """The authors' name of the data set."""
    licence: ClassVar[str]
    """Summary of the licence; only the data set's own page is binding."""
    obtain: ClassVar[str]
    """Where to get the data set."""
    layout: ClassVar[str | None] = None
    """Module in `datasets.synthetic.layouts` that writes synthetic worlds in this layout; None without one."""
    skeleton: Skeleton
    """Joints of predictions. An instance may have others, if joints depend on the folder."""
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __init__(self, root: Path, synthetic: bool = False) -> None:
        self.root = Path(root)
        self.is_generated = (self.root / NAME).is_file()
        self.synthetic = synthetic or self.is_generated

    @property
    @abstractmethod
    def views(self) -> tuple[str, ...]:
        """Camera names in the data set's order."""

    @abstractmethod
    def facts(self, split: str) -> Facts:
        """Sources of boxes and true poses of a split, and other facts that influence numbers on the split."""

    @abstractmethod
    def keys(self, split: str) -> Sequence[str]:
        """Keys of a split in a fixed order; InputError for an unknown split."""

    @abstractmethod
    def sample(self, key: str) -> Sample:
        """Sample of a key; InputError for an unknown key."""

    @abstractmethod
    def truth(self, key: str) -> Truth:
        """True poses of a key; InputError for an unknown key."""

    @abstractmethod
    def inspect(self) -> tuple[DataState, str]:
        """State of the folder and one line of detail; raises InputError if a file is damaged."""

    @abstractmethod
    def content_sha256(self) -> str:
        """SHA-256 of the labels and of the options that select or change labels."""

    def status(self) -> Status:
        """Whether the data set can be used; never raises."""
        try:
            state, detail = self.inspect()
        except InputError as error:
            state, detail = "damaged", str(error)
        return Status(state, detail, self.obtain)

    def manifest(self) -> str:
        """Hash of labels and options. It does not depend on the images, so it is equal wherever the labels are.

        Raises:
            InputError: a file cannot be read, or a generated world was changed.
        """
        return self._manifest

    def truth_source(self, published: TruthSource) -> TruthSource:
        """Source of the true poses: ``published``, or "synthetic" if the people are rendered."""
        return "synthetic" if self.synthetic else published

    def check_split(self, split: str) -> None:
        """Raise InputError if the data set does not have this split."""
        if split not in self.splits:
            names = ", ".join(f'"{name}"' for name in self.splits)
            raise InputError(f"{self.name}: split", f"{split!r} is not a split", f"use one of {names}")

    def unknown_key(self, key: str, file: Path) -> InputError:
        """InputError for an unknown key; ``file`` is the file that lists the valid keys."""
        return InputError(f"{self.name}: key {key!r}", "the data set has no such sample", f"use a key of {file}")

    def verify(self) -> None:
        """Raise InputError if a generated world was changed."""
        verify_files(self.root)

    @cached_property
    def _manifest(self) -> str:
        if self.is_generated:
            self.verify()
        return self.content_sha256()
