"""Perturbations of a row's input: kinds, severities from 0 to 5, and their amounts.

The hand-over applies them. The signature of a number states the amount in units, not only the severity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

PerturbationKind = Literal[
    "detections",
    "boxes",
    "outlier_views",
    "left_right_swap",
    "missing_cameras",
    "intrinsics",
    "extrinsics",
    "occlusion",
    "image_noise",
    "image_blur",
    "image_contrast",
    "image_compression",
    "time_shift",
]
KINDS: tuple[PerturbationKind, ...] = get_args(PerturbationKind)

MM_PER_DEGREE = 20.0
"""By how much a camera is moved where it is turned by a degree, both standard deviations."""


@dataclass(frozen=True)
class Scale:
    """Amounts of one kind of perturbation at each severity.

    Args:
        amounts: amounts of severities 1 to 5. Severity 0 changes nothing.
        words: amount with its unit; ``{}`` is replaced by the number.
        meaning: description of the change to the input, a sentence without its full stop.
    """

    amounts: tuple[float, float, float, float, float]
    words: str
    meaning: str

    def __str__(self) -> str:
        """Describe the amounts of all severities.

        Example:
            >>> str(SCALES["outlier_views"])
            'boxes and given detections of 1, 2, 3, 4, 5 views moved off the person'
        """
        return self.words.format(", ".join(f"{amount:g}" for amount in self.amounts))


_COUNTED = (1.0, 2.0, 3.0, 4.0, 5.0)

SCALES: Mapping[PerturbationKind, Scale] = {
    "detections": Scale(
        (1, 2, 3, 5, 8),
        "given detections moved by {} % of the person's box",
        "Gaussian noise on given 2D detections, in per cent of the longer side of the person's box",
    ),
    "boxes": Scale(
        (2, 5, 10, 15, 20),
        "boxes moved and resized by {} %",
        "Gaussian noise on where the person's box is, in per cent of its sides, and on the logarithm of its size",
    ),
    "outlier_views": Scale(
        _COUNTED,
        "boxes and given detections of {} views moved off the person",
        "In some views of each sample the box, and given detections with it, lie one side of the box off the person",
    ),
    "left_right_swap": Scale(
        _COUNTED,
        "left and right swapped in {} views",
        "In some views of each sample the person looks mirrored: left joints are where right ones were. An image is "
        "mirrored with its camera, so that each pixel keeps its ray",
    ),
    "missing_cameras": Scale(
        _COUNTED,
        "{} cameras missing",
        "Some cameras, chosen anew for each sample, are withheld; at least two remain",
    ),
    "intrinsics": Scale(
        (0.25, 0.5, 1, 2, 4),
        "focal length and principal point off by {} % of the focal length",
        "Gaussian noise on focal length and principal point of each camera, the same in a whole sequence",
    ),
    "extrinsics": Scale(
        (0.1, 0.25, 0.5, 1, 2),
        f"cameras turned by {{}}° and moved by {MM_PER_DEGREE:g} mm per degree",
        "Gaussian noise on where each camera stands and looks, about each of its axes, the same in a whole sequence",
    ),
    "occlusion": Scale(
        (20, 30, 40, 50, 60),
        "a grey box over {} % of the width and height of the person's box",
        "A grey box somewhere in each person's box, in every view; given detections below it are lost",
    ),
    "image_noise": Scale(
        (10, 20, 35, 50, 80),
        "noise of {} grey levels on images",
        "Gaussian noise on every pixel and colour, in grey levels of 0 to 255",
    ),
    "image_blur": Scale(
        (0.3, 0.6, 1, 1.5, 2),
        "images blurred by {} % of their longer side",
        "Gaussian blur, its standard deviation in per cent of the longer side of the whole image",
    ),
    "image_contrast": Scale(
        (70, 50, 35, 20, 10),
        "contrast of images reduced to {} %",
        "Pixels drawn towards the mean of the image",
    ),
    "image_compression": Scale(
        (40, 25, 15, 10, 5),
        "images compressed as JPEG of quality {}",
        "Images compressed as JPEG and read again",
    ),
    "time_shift": Scale(
        _COUNTED,
        "cameras up to {} frames early or late",
        "Each camera shows another frame of the sequence, the same number of frames early or late in all of it",
    ),
}
"""Amounts of noise are standard deviations. See :mod:`poseboard.benchmarks.perturb` for how each is applied."""


class Perturbation(BaseModel):
    """A perturbation of a row's input, determined by its seed.

    Random draws do not depend on the severity: a higher severity perturbs a sample further in the same direction.

    Example:
        >>> str(Perturbation(kind="extrinsics", severity=3))
        'extrinsics 3: cameras turned by 0.5° and moved by 20 mm per degree; seed 0'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: PerturbationKind = Field(description="what is spoiled; SCALES of protocols/perturbation.py says how")
    severity: int = Field(ge=0, le=5, description="0 changes nothing, 5 is the most")
    seed: int = Field(default=0, ge=0, description="of the draws")

    @property
    def amount(self) -> float:
        """Amount of the severity in the unit of the kind; ValueError for severity 0, which changes nothing."""
        if self.severity == 0:
            raise ValueError("severity 0 changes nothing")
        return SCALES[self.kind].amounts[self.severity - 1]

    @property
    def missing_cameras(self) -> int:
        """Number of cameras that the perturbation removes."""
        return round(self.amount) if self.kind == "missing_cameras" and self.severity else 0

    def __str__(self) -> str:
        """Describe the perturbation in a few words."""
        what = SCALES[self.kind].words.format(f"{self.amount:g}") if self.severity else "nothing"
        return f"{self.kind} {self.severity}: {what}; seed {self.seed}"
