"""Conditions: the input of a row, and the data set that its weights were trained on.

A condition determines the name of a predictions file, is stored in its metadata, and fills the signature of every
number scored from the file. A table lists conditions in groups; each group gives one number
(:mod:`poseboard.protocols.table`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from poseboard.protocols.perturbation import Perturbation

Root = Literal["none", "predicted", "truth"]
"""Source of the root in a row's input."""

People = Literal["each", "all"]
"""Whether a sample holds one person or all people."""

_READABLE = re.compile(r"[A-Za-z0-9_+-]{1,48}")


class Condition(BaseModel):
    """Input of a row, and data set on which its weights were trained.

    The conditions of a table have ``root`` "predicted" and the most frames per rig. :meth:`reduced` reduces them to the
    inputs that a row declares.

    Example:
        >>> offered = Condition(cameras=("a", "b"), root="predicted", root_cameras=("a", "b", "c"))
        >>> offered.reduced("none").root, offered.reduced("none").root_cameras
        ('none', ())
        >>> offered.reduced("none").slug
        'test-a+b-f35c3652'
        >>> Condition(cameras=("a",), frames_per_rig=10).reduced("none", frames_per_rig=4).frames_per_rig
        4
        >>> Condition(cameras=("a",), every=2).samples(["S9/Walking-1/000000", "S9/Walking-1/000032"])
        ['S9/Walking-1/000000']
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = Field(default="test", min_length=1, description="of the data set")
    every: int = Field(default=1, ge=1, description="every k-th sample of the split, from the first; 1: all")
    cameras: tuple[str, ...] = Field(min_length=1, description="of the input, in the data set's order")
    people: People = Field(default="each", description="each person alone, or all of a sample at once")
    root: Root = Field(default="none", description="source of the root in the input")
    root_cameras: tuple[str, ...] = Field(default=(), description="cameras that a predicted root was predicted from")
    hand: bool = Field(default=False, description="whether the input says which hand is visible")
    frames_per_rig: int = Field(
        default=1, ge=1, description="the most samples with the same cameras that may be used together"
    )
    perturbation: Perturbation | None = Field(default=None, description="of the input; null: none")
    trained_on: str | None = Field(
        default=None,
        min_length=1,
        description="another data set that the weights were trained on; null: this one",
    )

    @field_validator("perturbation")
    @classmethod
    def _of_no_severity(cls, perturbation: Perturbation | None) -> Perturbation | None:
        """Replace a perturbation of severity 0 by None, because both have the same input and predictions file."""
        return None if perturbation is None or perturbation.severity == 0 else perturbation

    @model_validator(mode="after")
    def _consistent(self) -> Condition:
        for field, names in (("cameras", self.cameras), ("root_cameras", self.root_cameras)):
            if len(set(names)) != len(names):
                raise ValueError(f"{field} name a camera twice")
        if (self.root == "predicted") != bool(self.root_cameras):
            raise ValueError("root_cameras belong to a predicted root, and to no other")
        missing = self.perturbation.missing_cameras if self.perturbation else 0
        if missing and missing > len(self.cameras) - 2:
            raise ValueError(f"perturbation takes {missing} of {len(self.cameras)} cameras, and leaves fewer than two")
        return self

    def samples(self, keys: Sequence[str]) -> list[str]:
        """Select the evaluated samples from all ``keys`` of the split, in the data set's order."""
        return list(keys[:: self.every])

    @property
    def fewest_views(self) -> int:
        """Smallest number of views, after the perturbation, of a sample with all cameras."""
        return len(self.cameras) - (self.perturbation.missing_cameras if self.perturbation else 0)

    def reduced(self, root: Root, hand: bool = False, people: People = "each", frames_per_rig: int = 1) -> Condition:
        """The condition, reduced to the inputs that a row declares.

        Args:
            root: source of the root that the row needs.
            hand: whether the row needs to know which hand is visible.
            people: whether the row takes one person at a time or all.
            frames_per_rig: maximum number of samples with the same cameras that the row uses together.
        """
        root_cameras = self.root_cameras if root == "predicted" else ()
        frames = min(self.frames_per_rig, frames_per_rig)
        update = {"root": root, "root_cameras": root_cameras, "hand": hand, "people": people, "frames_per_rig": frames}
        return self.model_copy(update=update)

    @property
    def of_root(self) -> Condition:
        """Condition of the row that predicts the root, before reduction to the inputs of that row."""
        return Condition(
            split=self.split,
            every=self.every,
            cameras=self.root_cameras,
            root="predicted",
            root_cameras=self.root_cameras,
            perturbation=self.perturbation,
            trained_on=self.trained_on,
        )

    def is_reduced(self, offered: Condition) -> bool:
        """Whether this is ``offered``, a condition of a table, reduced to the inputs of some row."""
        return self == offered.reduced(self.root, self.hand, self.people, self.frames_per_rig)

    @property
    def slug(self) -> str:
        """Name for files: split, cameras, and eight digits of a hash of all facts."""
        names = "+".join(self.cameras)
        cameras = names if _READABLE.fullmatch(names) else f"{len(self.cameras)}-cameras"
        split = self.split if _READABLE.fullmatch(self.split) else "split"
        facts = self.model_dump_json(exclude_defaults=True)
        return f"{split}-{cameras}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
