"""Base class of methods that triangulate 2D detections of the samples or of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, Sample
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, Picture
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.geometry.observations import Array, Observations, has_detections, observe
from poseboard.methods.geometry.triangulation import reprojection_error
from poseboard.methods.nets.detector import Decode, Detector
from poseboard.methods.nets.starting_weights import starting_checkpoint

ASSOCIATION_PX = 15.0
"""On Shelf (1032×776) detections of one person are 3 to 8 px apart; those of different people rarely less than 20."""


class Triangulator(ABC):
    """Base class of methods that triangulate 2D points. Subclasses define `triangulate`.

    For samples with 2D detections, people are associated across views and the network is not used. The attribute
    ``checkpoint`` holds the loaded checkpoint with constants and further weights for `triangulate`, or None.

    Args:
        name: name of the method, used in errors.
        skeleton: skeleton of the predictions.
        association_px: mean epipolar distance up to which detections are one person.
        decode: decoding of heat maps into points, see `Detector`.
        checkpoints_of: names of the methods whose checkpoints can be loaded; None: only ``name``.

    Example:
        `poseboard.methods.dlt.method.Dlt`.
    """

    def __init__(
        self,
        name: str,
        skeleton: Skeleton,
        association_px: float = ASSOCIATION_PX,
        decode: Decode = "softargmax",
        *,
        checkpoints_of: Sequence[str] | None = None,
    ) -> None:
        self.skeleton = skeleton
        self.inputs = Inputs(images=False, people="all")
        self._name, self._association_px, self._decode = name, association_px, decode
        self._checkpoints_of = (name,) if checkpoints_of is None else tuple(checkpoints_of)
        self._detector: Detector | None = None
        self.checkpoint: Checkpoint | None = None

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Load the 2D network of a checkpoint. If ``checkpoint`` is None, all samples must have detections."""
        self._detector, self.checkpoint, self.inputs = None, None, Inputs(images=False, people="all")
        if checkpoint is None:
            return
        content = Checkpoint.read(checkpoint)
        if content.method not in self._checkpoints_of:
            remedy = f"use a checkpoint of {' or '.join(self._checkpoints_of)}"
            raise InputError(checkpoint, f"checkpoint is of {content.method}", remedy)
        detector = Detector.of(content, checkpoint, device, self._decode)
        if detector.joints != self.skeleton.joints:
            raise InputError(
                checkpoint, f"its joints are not those of {self.skeleton.name}", "train it for this data set"
            )
        self._detector, self.checkpoint = detector, content
        self.inputs = Inputs(crop_px=detector.crop_px)

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict people in the world frame (mm). The score is the mean confidence.

        Joints that are detected in fewer than two views are NaN.

        Raises:
            InputError: a sample has no detections and no network is loaded, or the detections have other joints.
        """
        with_detections = [i for i, sample in enumerate(samples) if has_detections(sample)]
        without = [i for i in range(len(samples)) if i not in set(with_detections)]
        answers: dict[int, Poses] = {}
        if with_detections:
            batch = [samples[i] for i in with_detections]
            observations = observe(batch, self.skeleton, self._association_px)
            answers |= zip(with_detections, self._answers(batch, observations), strict=True)
        if without:
            batch = [samples[i] for i in without]
            answers |= zip(without, self._answers(batch, self._detect(batch)), strict=True)
        return [answers[i] for i in range(len(samples))]

    def figures(self, sample: Sample, answer: Poses, *, images: bool) -> list[Picture]:
        """Draw the detections of all views and the triangulated people; [] if the sample has no detections.

        Residuals are distances between associated detections and projections in undistorted pixels.
        """
        from poseboard.methods.drawing.people import ViewOfPeople, draw_people
        from poseboard.methods.drawing.style import pixels

        if not has_detections(sample) or answer.frame != "world" or not len(answer.score):
            return []
        observed = observe([sample], self.skeleton, self._association_px)
        if len(observed.sample) != len(answer.score):
            return []  # the answer is not of these detections
        residuals_px = reprojection_error(observed.P, answer.joints_mm, observed.points_px)
        views = [
            ViewOfPeople(
                title=f"{view.name}: median residual {_median(residuals_px[:, v])}",
                size_px=view.camera.size,
                image=view.pixels() if images and view.image is not None else None,
                detected_px=np.asarray(view.joints_px, dtype=np.float64),
                projected_px=view.camera.project(answer.joints_mm),
            )
            for v, view in enumerate(sample.views)
        ]
        seen = int(np.isfinite(residuals_px).any(axis=2).sum())
        detected = sum(len(view.boxes_px) for view in sample.views)
        caption = (
            f"Dots: joints as detected in each view. Lines: the {len(answer.score)} people triangulated from {seen} of "
            f"{detected} detections, projected into the view; last, the people in space. Median distance of a joint "
            f"from its detection: {_median(residuals_px)}."
        )
        return [Picture("Detections and people", caption, pixels(draw_people(views, answer.joints_mm, self.skeleton)))]

    @property
    def loaded(self) -> Checkpoint:
        """The loaded checkpoint; InputError if no checkpoint was loaded."""
        if self.checkpoint is None:
            raise InputError(self._name, "it has no weights yet", "load a checkpoint before predicting")
        return self.checkpoint

    def starting_checkpoint(self, start: Path | None) -> Path:
        """Path of the checkpoint from which training starts; InputError if ``start`` is None."""
        return starting_checkpoint(self._name, start)

    @abstractmethod
    def triangulate(self, observations: Observations, keys: Sequence[str]) -> Array:
        """Triangulate N people: joints (N, J, 3), world mm. ``keys`` are the keys of the N samples of these people."""

    def _answers(self, samples: Sequence[Sample], observations: Observations) -> list[Poses]:
        keys = [samples[i].key for i in observations.sample]
        return observations.answers(self.triangulate(observations, keys), self.skeleton, len(samples))

    def _detect(self, samples: Sequence[Sample]) -> Observations:
        if self._detector is None:
            raise InputError(
                f"{self._name}: sample {samples[0].key}",
                "there are no 2D detections and no checkpoint of a 2D network",
                "train a backbone first, or use a data set with detections",
            )
        detections = self._detector.detect(samples)
        return Observations(detections.points_px, detections.peak, detections.P, np.arange(len(samples)))


def _median(residuals_px: Array) -> str:
    """Format the median of the finite residuals with its unit; "unknown" if there are none."""
    known = residuals_px[np.isfinite(residuals_px)]
    return f"{np.median(known):.1f} px" if known.size else "unknown"
