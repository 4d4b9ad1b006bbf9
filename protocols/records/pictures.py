"""Pictures and rig plans of one row on one data set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from poseboard.protocols.perturbation import Perturbation
from poseboard.protocols.records.record import Record


class DrawnPicture(Record):
    """A picture of one prediction, drawn by the method."""

    file: str = Field(description="beside this one")
    key: str = Field(description="of the sample")
    title: str
    caption: str


class PictureFile(Record):
    """Pictures of a method's predictions for its page."""

    format: Literal[1] = 1
    pictures: list[DrawnPicture]


PlanPoint = tuple[float, float]
"""On the floor plan, m: first axis to the right, second upwards, as seen from above."""
SpacePoint = tuple[float, float, float]
"""A point of the plan and its height, m."""


class PlannedCamera(Record):
    """One camera of a `RigPlan`, true and recovered."""

    name: str
    reference: bool = Field(description="whether the others are relative to it; it has no error of its own")
    true_m: PlanPoint = Field(description="centre")
    true_direction: PlanPoint = Field(description="horizontal part of the unit vector along the optical axis")
    recovered_m: PlanPoint
    recovered_direction: PlanPoint
    covariance_m2: tuple[float, float, float] | None = Field(
        default=None, description="of the recovered centre on the plan: xx, xy, yy; null: the row states none"
    )
    rotation_deg: float | None = Field(description="error of its rotation from the reference; null of the reference")
    direction_deg: float | None = Field(description="error of the direction from the reference; null of the reference")


class RigPlan(Record):
    """A true and a recovered rig from above, the recovered one moved onto the true one by a similarity.

    The similarity is that of least squares over the centres of all cameras and the joints of the drawn pose.
    """

    place: Literal["median", "worst"] = Field(description="by rotation error, among all rigs that were recovered")
    rigs: int = Field(description="how many were recovered, with all their cameras")
    key: str = Field(description="of the sample whose pose is drawn")
    frames: int = Field(description="samples that these cameras were recovered from, with predictions")
    frames_per_rig: int = Field(description="the most that could be")
    perturbation: Perturbation | None = Field(default=None, description="of the input")
    rotation_deg: float = Field(description="mean over the cameras but the reference")
    direction_deg: float = Field(description="likewise")
    scale: float = Field(description="of the similarity: mm of the world per mm of the answer")
    axes: tuple[str, str] = Field(description="of the world, to the right and upwards on the plan")
    cameras: list[PlannedCamera]
    edges: list[tuple[int, int]] = Field(description="joints that are connected")
    true_joints_m: list[SpacePoint | None]
    recovered_joints_m: list[SpacePoint | None]


class RigFile(Record):
    """True and recovered cameras of a few rigs of one row on one data set."""

    format: Literal[1] = 1
    plans: list[RigPlan]
