"""Base class of the adapters: a data set is one subclass, its reader and its catalogue entry."""

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
"""An option: use every n-th frame."""
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""An option: a factor on boxes."""


class Adapter(ABC):
    """A `Dataset` in its published layout on disk.

    The parameters of a subclass's constructor are the data set's options in params.yaml. Their types are checked by
    `catalog.open_dataset`. Annotations are read on first use; a damaged file raises an InputError that names file and
    field.

    Args:
        root: folder of the data set.
        synthetic: whether the people are rendered; always True for a folder that Poseboard has generated.
    """

    name: ClassVar[str]
    """Name in params.yaml and results/."""
    title: ClassVar[str]
    """The authors' name of the data set."""
    licence: ClassVar[str]
    """Summary of the licence; only the data set's own page is binding."""
    obtain: ClassVar[str]
    """Where to get the data set."""
    layout: ClassVar[str | None] = None
    """Module of `datasets.synthetic.layouts` that writes synthetic worlds in this layout, if there is one."""
    skeleton: ClassVar[Skeleton]
    """Joints of predictions."""
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __init__(self, root: Path, synthetic: bool = False) -> None:
        self.root = Path(root)
        self.is_generated = (self.root / NAME).is_file()
        self.synthetic = synthetic or self.is_generated

    @property
    @abstractmethod
    def views(self) -> tuple[str, ...]:
        """See `Dataset`."""

    @abstractmethod
    def facts(self, split: str) -> Facts:
        """See `Dataset`."""

    @abstractmethod
    def keys(self, split: str) -> Sequence[str]:
        """See `Dataset`."""

    @abstractmethod
    def sample(self, key: str) -> Sample:
        """See `Dataset`."""

    @abstractmethod
    def truth(self, key: str) -> Truth:
        """See `Dataset`."""

    @abstractmethod
    def inspect(self) -> tuple[DataState, str]:
        """State of the folder and one line of detail; may raise InputError where a file is damaged."""

    @abstractmethod
    def content_sha256(self) -> str:
        """SHA-256 of the labels and of the options that select or change them."""

    def status(self) -> Status:
        """Whether the data set can be used; never raises."""
        try:
            state, detail = self.inspect()
        except InputError as error:
            state, detail = "damaged", str(error)
        return Status(state, detail, self.obtain)

    def manifest(self) -> str:
        """Hash of labels and options, not of the images: equal on all machines with the same labels.

        Raises:
            InputError: a file cannot be read, or a generated world was changed.
        """
        return self._manifest

    def truth_source(self, published: TruthSource) -> TruthSource:
        """Source of the published poses; "synthetic" if the people are rendered."""
        return "synthetic" if self.synthetic else published

    def check_split(self, split: str) -> None:
        """Raise InputError unless the data set has this split."""
        if split not in self.splits:
            names = ", ".join(f'"{name}"' for name in self.splits)
            raise InputError(f"{self.name}: split", f"{split!r} is no split", f"one of {names}")

    def unknown_key(self, key: str, file: Path) -> InputError:
        """The error for a key that the data set lacks; ``file`` lists the valid ones."""
        return InputError(f"{self.name}: key {key!r}", "the data set has no such sample", f"see {file}")

    def verify(self) -> None:
        """Raise InputError if a generated world was changed."""
        verify_files(self.root)

    @cached_property
    def _manifest(self) -> str:
        if self.is_generated:
            self.verify()
        return self.content_sha256()
