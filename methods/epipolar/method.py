"""Epipolar transformers (He et al., CVPR 2020): 2D heat maps with attention to other views, then triangulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from poseboard.datasets.camera import Array, undistort_each
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, Sample
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, Picture, parse_options
from poseboard.methods.batches.crops import stack_views
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.epipolar.attention import AttentionSettings
from poseboard.methods.epipolar.model import EpipolarArchitecture, EpipolarPose
from poseboard.methods.epipolar.train import SMALL, EpipolarOptions, EpipolarTraining
from poseboard.methods.epipolar.triangulation import Correspondences, triangulate_released
from poseboard.methods.geometry.robust import THRESHOLD_PX, ransac
from poseboard.methods.geometry.triangulation import dlt
from poseboard.methods.nets.network_method import NetworkMethod
from poseboard.methods.nets.starting_weights import IMAGE_NETWORK, load_backbone

if TYPE_CHECKING:
    from poseboard.methods.epipolar.figures import Match

_ROBUST_SHARE = THRESHOLD_PX / 384
"""Reprojection distance up to which a view agrees, as a share of the crop's side: the published 30 of 384 px."""

_LEAST_WEIGHT = 1e-3
"""Minimum weight of a view in the linear triangulation."""


class _Decoded(NamedTuple):
    """Joints of the skeleton in n crops.

    Args:
        points_px: (n, J, 2) crop pixels.
        peaks: (n, J) largest values of the heat maps.
        source: (n,) index of the source crop; -1 if there is none or the triangulation does not need it.
        source_px: (n, J, 2) corresponding points in the source crop.
    """

    points_px: Array
    peaks: Array
    source: np.ndarray[Any, np.dtype[np.intp]]
    source_px: Array


class Epipolar(NetworkMethod[EpipolarOptions, EpipolarPose]):
    """Epipolar transformers for one person in crops of two or more calibrated views. Options: `EpipolarOptions`."""

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        super().__init__("epipolar", parse_options(EpipolarOptions, options, "epipolar"), skeleton, Inputs())

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Load a checkpoint, which also sets side and resampling of the crops in ``inputs``."""
        super().load(checkpoint, device)
        self.inputs = replace(self.inputs, resampling=self.loaded.architecture.resampling)

    def network(self, checkpoint: Checkpoint, where: Path) -> tuple[EpipolarPose, int]:
        """Build the network of a checkpoint, and return it with the side of its crops in pixels.

        The joints may have another order than the skeleton.

        Raises:
            InputError: the fusion differs from the option ``fusion``, or the joints are not those of the skeleton.
        """
        architecture = EpipolarArchitecture.of(checkpoint, where).exact
        if set(architecture.joints) != set(self.skeleton.joints):
            architecture.require(self.skeleton, where)
        if architecture.fusion != self.options.fusion:
            raise InputError(where, f"weights are of fusion {architecture.fusion!r}", "set fusion to match the weights")
        return EpipolarPose(architecture, architecture.build(seed=0)), architecture.crop_px

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict one person per sample in the world frame (mm). The score is the mean peak.

        Samples with fewer than two views are NaN.
        """
        model = self.loaded
        if not samples:
            return []
        valid = np.zeros((len(samples), max(len(sample.views) for sample in samples)), dtype=bool)
        shape = (*valid.shape, len(self.skeleton))
        points, peaks = np.full((*shape, 2), np.nan), np.zeros(shape)
        P = np.zeros((*valid.shape, 3, 4))
        source, source_px = np.full(valid.shape, -1), points.copy()
        together = max(1, model.architecture.chunk // max(1, valid.shape[1]))
        for first in range(0, len(samples), together):
            batch = samples[first : first + together]
            images, batch_P, batch_valid = stack_views(batch, model.architecture.crop_px)
            rows = np.arange(first, first + len(batch))[:, None], np.arange(batch_valid.shape[1])
            P[rows], valid[rows] = batch_P, batch_valid
            if not len(images):
                continue
            decoded = self._decoded(model, images, batch_P, batch_valid)
            cameras = [view.camera for sample in batch for view in sample.views]
            sample, view = np.nonzero(batch_valid)
            place = first + sample, view
            points[place], peaks[place] = undistort_each(cameras, decoded.points_px), decoded.peaks
            with_source = np.flatnonzero(decoded.source >= 0)
            place, source_view = (first + sample[with_source], view[with_source]), decoded.source[with_source]
            source[place] = view[source_view]
            lens_px = decoded.source_px[with_source]
            # Points of lines that miss the crop are 10,000 px away, where no lens model holds: they stay there.
            near = (np.abs(lens_px) < 2 * model.architecture.crop_px).all(axis=-1, keepdims=True)
            straight_px = undistort_each([cameras[i] for i in source_view], np.where(near, lens_px, 0.0))
            source_px[place] = np.where(near, straight_px, lens_px)
        joints_mm = self._triangulate(P, points, peaks, Correspondences(source, source_px))
        score = peaks.mean(axis=-1).sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
        return [Poses(self.skeleton, joints_mm[i : i + 1], score[i : i + 1]) for i in range(len(samples))]

    @torch.inference_mode()
    def match(self, sample: Sample, reference: int, sources: Sequence[int], pixel_px: Sequence[float]) -> list[Match]:
        """Attention of one pixel of a view to other views: samples and weights.

        Args:
            sample: sample with crops of ``inputs.crop_px``.
            reference: index of the reference view.
            sources: indices of the source views.
            pixel_px: (x, y) in the crop of the reference view; the nearest cell is used.

        Returns:
            One match per source; [] without fusion. With "unconstrained" fusion, samples are not on a line.
        """
        from poseboard.methods.epipolar.figures import Match

        model = self.loaded
        if model.epipolar_sampler is None:
            return []
        arch = model.architecture
        images, P, valid = stack_views([sample], arch.crop_px)
        views = model(
            arch.prepare(images.to(self._device)),
            torch.from_numpy(P).to(self._device),
            torch.from_numpy(valid).to(self._device),
            sources=len(sample.views) - 1,
            detail=True,
        )
        grid = arch.grid(views.heatmaps)
        nearest = np.rint((np.asarray(pixel_px) - grid.offset_px) / grid.stride_px)
        column, row = np.clip(nearest, 0, (grid.width - 1, grid.height - 1)).astype(int)
        cell = row * grid.width + column
        matches = []
        for source in sources:
            pair = int((views.pairs == views.pairs.new_tensor([reference, source])).all(dim=1).nonzero()[0, 0])
            places = views.samples.at(slice(pair, pair + 1), views.pairs.new_tensor([cell]))[0, 0]
            places_px = (places * grid.stride_px + grid.offset_px).cpu().numpy()
            weights = views.attended.weights[pair, cell].double().cpu().numpy()
            weights = np.tile(weights, len(places_px) // len(weights))  # pooled samples have the same weight
            line_px = places_px[[0, -1]] if arch.fusion == "epipolar" else np.full((2, 2), np.nan)
            hit = bool(views.samples.hit[pair, cell])
            matches.append(Match(grid.centres()[cell].cpu().numpy(), line_px, places_px, weights, hit))
        return matches

    def figures(self, sample: Sample, answer: Poses, *, images: bool) -> list[Picture]:
        """Draw the attention of the first view to all others at the predicted `JOINT`; [] without fusion."""
        from poseboard.methods.drawing.style import pixels
        from poseboard.methods.epipolar.figures import JOINT, STYLE, draw_matches

        if JOINT not in self.skeleton.joints or len(sample.views) < 2 or not len(answer.joints_mm):
            return []
        joint_mm = answer.joints_mm[:1, self.skeleton.joints.index(JOINT)]
        predicted_px = np.concatenate([view.camera.project(joint_mm) for view in sample.views])
        if not np.isfinite(predicted_px[0]).all():
            return []
        matches = self.match(sample, 0, range(1, len(sample.views)), predicted_px[0])
        if not matches:
            return []
        names, joint = [view.name for view in sample.views], JOINT.replace("_", " ")
        crops = [view.pixels() for view in sample.views] if images else None
        sources = self.options.sources or self.loaded.architecture.sources
        caption = (
            f"The pixel of the predicted {joint} in {names[0]}, and its samples in {', '.join(names[1:])}, larger and "
            "brighter with their attention weight. Bottom: the same weights. Each prediction uses the nearest "
            f"{sources} of these views."
            f"{'' if images else ' Images of real people are not shown.'}"
        )
        drawn = draw_matches(names, crops, self.loaded.architecture.crop_px, predicted_px, matches)
        return [Picture(joint.capitalize(), caption, pixels(drawn, STYLE))]

    def training(self, start: Path | None, seed: int) -> EpipolarTraining:
        """Training from the backbone in the option ``start_weights`` or else in ``start``.

        The attention block gets random weights that depend on ``seed``.
        """
        content, start = self.read_start(start, weights=self.options.start_weights)
        options, released = self.options, self.options.recipe == "published"
        base = EpipolarArchitecture.of(content, start)
        if released:
            base = base.exact.model_copy(update={"joints": self.skeleton.joints})
        values = {
            "crop_px": options.image_px or base.crop_px,
            "alg_confidences": False,
            "vol_confidences": False,
            "homogeneous": False,
            "fusion": options.fusion,
            "attention": options.attention or (AttentionSettings() if released else SMALL),
            "sources": options.sources or 1,
            "compat": released,
            "window_cells": max(1, round(options.target_sigma_px)),
        }
        architecture = base.model_copy(update=values)
        architecture.require(self.skeleton, start)
        fresh = released or content.method == IMAGE_NETWORK
        model = EpipolarPose(architecture, load_backbone(architecture, content, start, seed, fresh_maps=fresh), seed)
        return EpipolarTraining(model, options, self.skeleton)

    def _decoded(
        self, model: EpipolarPose, images: torch.Tensor, P: Array, valid: np.ndarray[Any, np.dtype[np.bool_]]
    ) -> _Decoded:
        """Detect joints in crops (n, S, S, 3) uint8."""
        arch = model.architecture
        views = model(
            arch.prepare(images.to(self._device)),
            torch.from_numpy(P).to(self._device),
            torch.from_numpy(valid).to(self._device),
            sources=self.options.sources,
            detail=self.options.triangulation in ("epipolar", "epipolar_dlt"),
        )
        points, peaks = arch.decode(views.heatmaps, self.options.decoding)
        source, source_px = views.correspondences(points.double(), arch.grid(views.heatmaps))
        order = [arch.joints.index(joint) for joint in self.skeleton.joints]
        points, peaks, source_px = (value[:, order].double() for value in (points, peaks, source_px))
        return _Decoded(*(value.cpu().numpy() for value in (points, peaks, source, source_px)))

    def _triangulate(self, P: Array, points_px: Array, peaks: Array, correspondences: Correspondences) -> Array:
        options = self.options
        if options.triangulation == "robust":
            return ransac(P, points_px, _ROBUST_SHARE * self.loaded.architecture.crop_px).points_mm
        if options.triangulation == "peak":
            # Maps of published weights can be negative everywhere. Such a view still counts a little.
            return np.asarray(dlt(P, points_px, np.maximum(peaks, _LEAST_WEIGHT)))
        return triangulate_released(
            options.triangulation,
            P,
            points_px,
            peaks,
            correspondences,
            confidence=options.confidence,
            inlier_mm=options.inlier_mm,
            compat=self.loaded.architecture.compat,
        )
