"""Probabilistic triangulation (Jiang, Hu and Xia, ICCV 2023): 3D poses and cameras from views without extrinsics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import CAMERA_COLUMNS, Poses, Sample
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, parse_options
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.geometry.bundle import triangulate
from poseboard.methods.geometry.relative_pose import estimate
from poseboard.methods.geometry.swaps import swap_back
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.network_method import NetworkMethod
from poseboard.methods.nets.starting_weights import load_backbone
from poseboard.methods.probabilistic.essential import essential_rigs
from poseboard.methods.probabilistic.model import ProbabilisticTriangulation, observe, relative, rigs_without_swaps
from poseboard.methods.probabilistic.posterior import Sampling, sample_posterior
from poseboard.methods.probabilistic.release import particle_rigs
from poseboard.methods.probabilistic.train import ProbabilisticOptions, ProbabilisticTraining, bone_lengths_mm

_FRAMES_AT_ONCE = 64
"""Frames of the rigs of one batch: compiled loops take one rig after another, the rest costs the less the more."""


@dataclass(frozen=True)
class _Rig:
    """Samples that share their cameras.

    Args:
        rows: indices of the samples in the batch.
        places: for each sample and each camera of the rig, the index among the sample's views; -1 if the sample lacks
            the camera. Cameras that most samples have come first.
    """

    rows: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[int], samples: Sequence[Sample]) -> _Rig:
        """Build the rig of samples with equal cameras. Views with equal names are the same camera."""
        names = [[view.name for view in samples[row].views] for row in rows]
        counts = Counter(name for of_sample in names for name in of_sample)
        cameras = [name for name, _ in counts.most_common()]
        return cls(
            tuple(rows),
            tuple(tuple(of.index(name) if name in of else -1 for name in cameras) for of in names),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of frames and number of cameras."""
        return len(self.rows), len(self.places[0])


class Probabilistic(NetworkMethod[ProbabilisticOptions, ProbabilisticTriangulation]):
    """Probabilistic triangulation of one person and the cameras, from crops with known intrinsics only."""

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        parsed = parse_options(ProbabilisticOptions, options, "probabilistic")
        given = parsed.solver == "given"
        inputs = Inputs(extrinsics=given, frames_per_rig=1 if given else parsed.frames_per_rig)
        super().__init__("probabilistic", parsed, skeleton, inputs)
        self._mirrored, self._swaps = parsed.orders(skeleton)

    def network(self, checkpoint: Checkpoint, where: Path) -> tuple[ProbabilisticTriangulation, int]:
        """Build the network of a checkpoint, and return it with the side of its crops in pixels."""
        architecture = Architecture.of(checkpoint, where).exact
        architecture.require(self.skeleton, where)
        return ProbabilisticTriangulation(architecture, architecture.build(seed=0)), architecture.crop_px

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict one person per sample in the frame of the sample's first view (mm). The score is the mean confidence.

        Joints in fewer than two views are NaN. Samples of one rig (`Sample.rig`) share their cameras. The scale is that
        of the training poses: one factor per rig makes the median size of its complete poses ``size_mm``. If no pose of
        a rig is complete, its poses and camera positions are NaN. Columns: ``camera_R`` and ``camera_t_mm`` of the
        recovered cameras, ``camera_covariance`` for solver "posterior", and ``size_mm``; none for solver "given".
        """
        if not samples:
            return []
        seen = observe(self.loaded, samples, self._device, self._mirrored)
        answers: dict[int, Poses] = {}
        for rigs in _batches(samples):
            answers |= self._of_rigs(samples, rigs, *seen)
        return [answers[row] for row in range(len(samples))]

    def training(self, start: Path | None, seed: int) -> ProbabilisticTraining | None:
        """Training from the backbone in ``start``; None for solvers other than "posterior", which use it unchanged."""
        if self.options.solver != "posterior":
            return None
        content, start = self.read_start(start)
        update = {"alg_confidences": True, "vol_confidences": False, "homogeneous": False}
        architecture = Architecture.of(content, start).model_copy(update=update)
        architecture.require(self.skeleton, start)
        backbone = load_backbone(architecture, content, start, seed)
        return ProbabilisticTraining(ProbabilisticTriangulation(architecture, backbone), self.options, self.skeleton)

    def _of_rigs(
        self, samples: Sequence[Sample], rigs: Sequence[_Rig], rays: Tensor, weights: Tensor, focal_px: Tensor
    ) -> dict[int, Poses]:
        """Predictions of rigs with equal numbers of frames and cameras, by index of the sample."""
        frames, views = rigs[0].shape
        joints = len(self.skeleton)
        if views < 2:
            return {row: self._unknown(samples[row]) for rig in rigs for row in rig.rows}
        rows = torch.tensor([rig.rows for rig in rigs])[..., None]  # (B, T, 1)
        places = torch.tensor([rig.places for rig in rigs])  # (B, T, V)
        there = (places >= 0)[..., None]
        rays, weights, focal_px = (
            value[rows, places.clamp_min(0)].transpose(1, 2).flatten(2, 3) for value in (rays, weights, focal_px)
        )
        weights = weights * there.expand(*places.shape, joints).transpose(1, 2).flatten(2, 3)
        score = (weights.unflatten(2, (frames, joints)).mean(-1).sum(1) / there[..., 0].sum(2)).numpy()
        if self.options.solver == "given":
            return self._triangulated(samples, rigs, rays, weights, focal_px, score)
        R, t, points, covariance, weights = self._solve(rays, relative(weights), focal_px)
        located = _located(weights.unflatten(2, (frames, joints)))
        poses = torch.where(located, points.unflatten(1, (frames, joints)), torch.nan)
        return self._scaled(samples, rigs, R, t, poses, covariance, score)

    def _unknown(self, sample: Sample) -> Poses:
        in_world = self.inputs.extrinsics or not sample.views
        frame = "world" if in_world else sample.views[0].name
        shapes = {name: (len(sample.views), *CAMERA_COLUMNS[name]) for name in self._camera_columns}
        columns = {name: np.full((1, *shape), np.nan) for name, shape in shapes.items()}
        if columns:
            columns["size_mm"] = np.full(1, self._constants["size_mm"])
        return Poses(self.skeleton, np.full((1, len(self.skeleton), 3), np.nan), np.zeros(1), frame, columns)

    @property
    def _camera_columns(self) -> tuple[str, ...]:
        """Names of the prediction columns for recovered cameras. Only the posterior has covariances."""
        if self.options.solver == "given":
            return ()
        return ("camera_R", "camera_t_mm", *(("camera_covariance",) if self.options.solver == "posterior" else ()))

    def _solve(self, rays: Tensor, weights: Tensor, focal_px: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Solve for cameras R (B, V, 3, 3), t (B, V, 3), points (B, N, 3), covariances (B, V, 6, 6), final weights."""
        options = self.options
        if options.solver == "essential":
            rig = essential_rigs(rays, weights, focal_px)
        else:
            rig = estimate(rays, weights, focal_px)
        if self._swaps is not None:
            rig, rays, weights = rigs_without_swaps(rig, rays, weights, focal_px, self._swaps)
        if options.solver == "posterior":
            sampling = Sampling(options.draws, options.rounds, temperature=self._constants["temperature"])
            generator = torch.Generator().manual_seed(options.seed)
            posterior = sample_posterior(rig, rays, weights, focal_px, sampling, generator)
            return posterior.rotation, posterior.translation, posterior.mean_points, posterior.covariance, weights
        if options.solver == "particles":
            rig = particle_rigs(rig, rays, weights, seed=options.seed)
        unknown = torch.full((*rig.t.shape[:2], 6, 6), torch.nan, dtype=rays.dtype)
        return rig.R, rig.t, triangulate(rig.R, rig.t, rays, weights), unknown, weights

    def _triangulated(
        self,
        samples: Sequence[Sample],
        rigs: Sequence[_Rig],
        rays: Tensor,
        weights: Tensor,
        focal_px: Tensor,
        score: Array,
    ) -> dict[int, Poses]:
        """Triangulate in the world frame with the true cameras, which are those of a rig's first sample."""
        first = [[samples[rig.rows[0]].views[place].camera for place in rig.places[0]] for rig in rigs]
        R = torch.from_numpy(np.stack([[camera.R for camera in cameras] for cameras in first]))
        t = torch.from_numpy(np.stack([[camera.t for camera in cameras] for cameras in first]))
        if self._swaps is not None:
            rays, weights, _ = swap_back(R, t, rays, weights, focal_px, self._swaps)
        points = torch.where(_located(weights), triangulate(R, t, rays, weights), torch.nan).numpy()
        return {rig.rows[0]: Poses(self.skeleton, points[b][None], score[b]) for b, rig in enumerate(rigs)}

    def _scaled(
        self,
        samples: Sequence[Sample],
        rigs: Sequence[_Rig],
        R: Tensor,
        t: Tensor,
        points: Tensor,
        covariance: Tensor,
        score: Array,
    ) -> dict[int, Poses]:
        """Convert points (B, T, J, 3) of rigs to predictions in mm in the frame of each sample's first view."""
        size_mm = self._constants["size_mm"]
        poses = points.numpy()
        sizes = bone_lengths_mm(poses, self.skeleton)
        whole = [of_rig[np.isfinite(of_rig)] for of_rig in sizes]
        of_poses = np.array([np.median(of_rig) if len(of_rig) else np.nan for of_rig in whole])
        scale = size_mm / np.maximum(of_poses, 1e-9)
        answers: dict[int, Poses] = {}
        for b, rig in enumerate(rigs):
            R_, t_ = R[b].numpy(), scale[b] * t[b].numpy()
            of_t = np.repeat([1.0, scale[b]], 3)
            covariance_ = covariance[b].numpy() * of_t[:, None] * of_t
            for frame, (row, places) in enumerate(zip(rig.rows, rig.places, strict=True)):
                slots = [places.index(place) for place in range(len(samples[row].views))]
                reference = slots[0]
                turned = R_[slots] @ R_[reference].T
                columns = {
                    "camera_R": turned[None],
                    "camera_t_mm": (t_[slots] - turned @ t_[reference])[None],
                    "size_mm": np.full(1, size_mm),
                }
                if "camera_covariance" in self._camera_columns:
                    columns["camera_covariance"] = _about(covariance_, slots, reference)[None]
                joints_mm = scale[b] * poses[b, frame] @ R_[reference].T + t_[reference]
                name = samples[row].views[0].name
                answers[row] = Poses(self.skeleton, joints_mm[None], score[b, frame : frame + 1], name, columns)
        return answers


def _located(weights: Tensor) -> Tensor:
    """Mask (B, ..., 1) of joints with weights (B, V, ...) above 0 in at least two views."""
    return ((weights > 0).sum(1) >= 2)[..., None]


def _about(covariance: Array, slots: Sequence[int], reference: int) -> Array:
    """Covariances (V, 6, 6) of a sample's cameras; NaN if its first view is not the reference camera of the rig."""
    if reference != 0:
        return np.full((len(slots), 6, 6), np.nan)
    return covariance[list(slots)]


def _batches(samples: Sequence[Sample]) -> Iterator[list[_Rig]]:
    """Iterate over batches of rigs with equal numbers of frames and cameras."""
    of_name: dict[object, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        of_name[row if sample.rig is None else sample.rig].append(row)
    alike: dict[tuple[int, int], list[_Rig]] = defaultdict(list)
    for rows in of_name.values():
        rig = _Rig.of(rows, samples)
        alike[rig.shape].append(rig)
    for (frames, _), rigs in alike.items():
        count = max(1, _FRAMES_AT_ONCE // frames)
        for start in range(0, len(rigs), count):
            yield rigs[start : start + count]
