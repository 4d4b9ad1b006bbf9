"""Signatures: what exactly a number is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from poseboard.datasets.facts import BoxSource, TruthSource
from poseboard.protocols.perturbation import Perturbation
from poseboard.protocols.records.record import Record


class Measure(Record):
    """What a number measures: the part of the signature that the protocol states."""

    metric: str = Field(description="mpjpe, pa_mpjpe, pck, mrpe, …")
    alignment: str = Field(description="none, root (the root is subtracted), procrustes")
    root: str = Field(description="joint that is subtracted, or none")
    joints: str = Field(description="joint set and how many of it are averaged")
    average: str = Field(
        description="frames: mean over frames; actions: of the action means; worst_subject: the worst subject's mean"
    )
    given: tuple[Literal["root", "hand", "size"], ...] = Field(
        default=(), description="truth in the input, or in the measure"
    )
    judged: str = Field(
        default="", description="in which views, and how people are paired; empty: in space, one by one"
    )
    version: int = Field(description="of the protocol")


class Signature(Measure):
    """Everything that defines a number; only numbers of equal signatures may be compared."""

    split: str
    every: int = Field(default=1, ge=1, description="every k-th sample from the first; 1: all")
    exclusions: tuple[str, ...] = Field(default=(), description="prefixes of the keys that are left out")
    cameras: tuple[tuple[str, ...], ...] = Field(
        min_length=1, description="sets of cameras of the input; the number is over the predictions from all sets"
    )
    cameras_of_dataset: int = Field(ge=1, description="how many cameras the data set has")
    root_cameras: tuple[str, ...] = Field(
        default=(), description="cameras that a root may have been predicted from, where not from those that were seen"
    )
    boxes: BoxSource | None = Field(default=None, description="whose boxes of people; null: not stated")
    truth: TruthSource | None = Field(default=None, description="whose true poses; null: not stated")
    trained_on: tuple[str, ...] | None = Field(
        default=None,
        description="data sets that the weights were trained on, where not on that of the number alone; null: on the "
        "training split of that one, or not at all; empty: not known",
    )
    perturbation: Perturbation | None = Field(default=None, description="of the input; null: none")
    severities: tuple[int, ...] = Field(
        default=(),
        description="the number is the area under the curve over these; empty: of one severity",
    )
    frames_per_rig: int = Field(
        default=1, ge=1, description="the most samples with the same cameras that were used together"
    )
    extrinsics: Literal["given", "withheld"] = Field(
        default="given", description="whether the input of several cameras has extrinsics"
    )

    def in_split(self, split: str) -> Signature:
        """The same in another split of the data set."""
        return self.model_copy(update={"split": split})

    @property
    def whole(self) -> bool:
        """Whether all cameras of the data set were seen at once."""
        return len(self.cameras) == 1 and len(self.cameras[0]) == self.cameras_of_dataset

    @property
    def usual(self) -> bool:
        """Whether the input has no truth and no perturbation and the weights are of this data set: a main board's."""
        return not self.given and not self.trained_on and self.perturbation is None

    @property
    def each_alone(self) -> bool:
        """Whether every prediction is from one camera."""
        return all(len(cameras) == 1 for cameras in self.cameras)

    @property
    def views(self) -> str:
        """The cameras in words: "all 4", "a, b", "each alone" or "each of a, b / c", and the cameras of the root."""
        if self.whole:
            seen = f"all {self.cameras_of_dataset}"
        elif self.each_alone and len(self.cameras) == self.cameras_of_dataset:
            seen = "each alone"
        else:
            sets = " / ".join(", ".join(cameras) for cameras in self.cameras)
            seen = sets if len(self.cameras) == 1 else f"each of {sets}"
        return "; ".join([seen, *([self.root_from] if self.root_from else [])])

    @property
    def perturbed(self) -> str:
        """The perturbation in words; empty without one."""
        if self.perturbation is None or not self.severities:
            return "" if self.perturbation is None else str(self.perturbation)
        levels = ", ".join(map(str, self.severities))
        return f"area under the curve over severities {levels}, up to {self.perturbation}"

    @property
    def root_from(self) -> str:
        """Where a root may be from that was not predicted from what was seen, for a reader; empty where it is."""
        if not self.root_cameras:
            return ""
        whole = len(self.root_cameras) == self.cameras_of_dataset
        return f"root from {'all' if whole else ', '.join(self.root_cameras)}"

    @property
    def trained(self) -> str:
        """What the weights were trained on, for a reader."""
        if self.trained_on is None:
            return "this data set, where anything is"
        return ", ".join(self.trained_on) or "not known"

    @property
    def facts(self) -> dict[str, str]:
        """All that is stated, name -> words."""
        return {
            "metric": self.metric,
            "alignment": self.alignment,
            "root": self.root,
            "joints": self.joints,
            "split": self.split,
            "frames": "all" if self.every == 1 else f"every {self.every} from the first",
            "left out": ", ".join(self.exclusions) or "nothing",
            "cameras": " / ".join(", ".join(cameras) for cameras in self.cameras),
            "root from": ", ".join(self.root_cameras) or "these",
            "given": ", ".join(self.given) or "nothing",
            **({"perturbed": self.perturbed} if self.perturbation else {}),
            **({"extrinsics": self.extrinsics} if self.extrinsics == "withheld" else {}),
            **({"frames per rig": str(self.frames_per_rig)} if self.frames_per_rig > 1 else {}),
            **({"judged": self.judged} if self.judged else {}),
            "boxes": self.boxes or "not stated",
            "truth": self.truth or "not stated",
            "trained on": self.trained,
            "average": self.average,
            "protocol version": str(self.version),
        }

    def __str__(self) -> str:
        """One line for tables and logs."""
        return "|".join(f"{name}:{words}" for name, words in self.facts.items())
