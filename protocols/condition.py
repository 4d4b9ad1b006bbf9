"""Conditions: what a row is shown of a data set.

The only place where such a fact is stated. A condition names the file of predictions that were made under it, stands in
that file's metadata, and fills the fields of the signature of every number that is scored from it. A table lists
conditions in groups, each of which gives one number (:mod:`poseboard.protocols.table`).
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Root = Literal["none", "predicted", "truth"]
"""Where the root that a row is handed comes from."""

_READABLE = re.compile(r"[A-Za-z0-9_+-]{1,48}")


class Condition(BaseModel):
    """What a row is shown, and nothing of the row itself.

    As a table offers it, ``root`` is "predicted": a row that declares no root is shown the same without one
    (:meth:`shown`).

    Example:
        >>> offered = Condition(cameras=("a", "b"), root="predicted", root_cameras=("a", "b", "c"))
        >>> offered.shown("none")
        Condition(split='test', cameras=('a', 'b'), root='none', root_cameras=(), hand=False)
        >>> offered.shown("none").slug
        'test-a+b-2eb3a4b1'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str = Field(default="test", min_length=1, description="of the data set")
    cameras: tuple[str, ...] = Field(min_length=1, description="that are handed over, in the data set's order")
    root: Root = Field(default="none", description="whether a root is handed over, and where it comes from")
    root_cameras: tuple[str, ...] = Field(default=(), description="cameras that a predicted root was predicted from")
    hand: bool = Field(default=False, description="whether it is told which hand each sample shows")

    @model_validator(mode="after")
    def _consistent(self) -> Condition:
        for field, names in (("cameras", self.cameras), ("root_cameras", self.root_cameras)):
            if len(set(names)) != len(names):
                raise ValueError(f"{field} name a camera twice")
        if (self.root == "predicted") != bool(self.root_cameras):
            raise ValueError("root_cameras belong to a predicted root, and to no other")
        return self

    def shown(self, root: Root, hand: bool = False) -> Condition:
        """What a row is shown that is handed no root, a predicted or the true one, where a table offers this."""
        root_cameras = self.root_cameras if root == "predicted" else ()
        return self.model_copy(update={"root": root, "root_cameras": root_cameras, "hand": hand})

    @property
    def ways(self) -> list[Condition]:
        """All that a row may be shown where a table offers this, the most of what may be predicted first."""
        roots: tuple[Root, ...] = ("predicted", "none", "truth")
        return [self.shown(root, hand) for root in roots for hand in (False, True)]

    @property
    def slug(self) -> str:
        """Name for files: split, cameras, and eight digits that stand for all facts."""
        names = "+".join(self.cameras)
        cameras = names if _READABLE.fullmatch(names) else f"{len(self.cameras)}-cameras"
        split = self.split if _READABLE.fullmatch(self.split) else "split"
        return f"{split}-{cameras}-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"
