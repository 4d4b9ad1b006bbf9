"""End-to-end training of probabilistic triangulation, from a trained 2D backbone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Image, Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Example, Inputs
from poseboard.methods.batches.augmentation import Augmentation, augment
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.multiview import drawn_views, stack_changed
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.losses import heatmap_losses, keypoint_l2, keypoint_robust
from poseboard.methods.nets.training import Epochs, NetworkTraining, OneRecipeOptions, rate_groups
from poseboard.methods.probabilistic.calibration import KnownRigs, fit_temperature, frames_of_rigs
from poseboard.methods.probabilistic.model import ProbabilisticTriangulation, observe, relative
from poseboard.methods.probabilistic.posterior import Sampling

Solver = Literal["posterior", "bundle", "particles", "essential", "given"]


class ProbabilisticOptions(OneRecipeOptions):
    """Options of probabilistic triangulation, in addition to `OneRecipeOptions`.

    Args:
        solver: estimation of the cameras. "posterior": full method (README). "bundle": only its start and bundle
            adjustment. "particles": the release's particle loop, from the result of "bundle". "essential": OpenCV's
            essential matrices of all pairs of views, PnP, and bundle adjustment. "given": triangulation of the same 2D
            points with the true cameras, as an upper bound. All solvers except "posterior" use the checkpoint of the
            row that ``after:`` names unchanged.
        mirrored: detect joints in each crop and in its mirror image, and use the mean of both.
        swaps: swap left and right in views that contradict the others (`swap_back`), after estimating the cameras.
        frames_per_rig: maximum number of frames of a rig that are used together.
        draws: number of draws of the cameras per round.
        rounds: number of rounds of drawing and refitting.
        seed: seed of the draws.
        steps: optimiser steps, or `Epochs`; 0: fit only the constants, without training the network.
        head_rate_factor: factor on the learning rate of the confidence head.
        train_draws: number of draws per sample and step in training, in one round.
        adjust_steps: number of steps of bundle adjustment in training, which starts from the true cameras.
        robust_scale_mm: error at which the robust loss has its largest gradient.
        joints_2d_weight: weight of the 2D losses; the 3D loss has weight 1.
        heatmap_weight: weight of the heat-map cross-entropy within the 2D losses.
        sigma_px: standard deviation of the true heat maps, heat-map pixels.
        fewest_effective: minimum effective sample size in training, see `Sampling`.
        views: maximum number of views of a training sample. If a sample has more, they are drawn at random.
        augmentation: random changes of the crops and their cameras.
    """

    solver: Solver = "posterior"
    mirrored: bool = True
    swaps: bool = True
    frames_per_rig: int = Field(default=1000, ge=1)
    draws: int = Field(default=256, ge=2)
    rounds: int = Field(default=3, ge=1)
    seed: int = Field(default=0, ge=0)
    steps: NonNegativeInt | Epochs = 200
    learning_rate: float = Field(default=1e-3, gt=0)
    head_rate_factor: float = Field(default=4.0, gt=0)
    train_draws: int = Field(default=64, ge=2)
    adjust_steps: int = Field(default=8, ge=0)
    robust_scale_mm: float = Field(default=100.0, gt=0)
    joints_2d_weight: float = Field(default=0.3, ge=0)
    heatmap_weight: float = Field(default=0.3, ge=0)
    sigma_px: float = Field(default=1.0, gt=0)
    fewest_effective: float = Field(default=16.0, ge=0)
    views: int = Field(default=4, ge=2)
    augmentation: Augmentation = Augmentation()

    def orders(self, skeleton: Skeleton) -> tuple[Sequence[int] | None, Sequence[int] | None]:
        """Index of each joint's mirror image, for ``mirrored`` and for ``swaps``; None for an option that is off."""
        return skeleton.flip_order if self.mirrored else None, skeleton.flip_order if self.swaps else None


def bone_lengths_mm(joints_mm: Array, skeleton: Skeleton) -> Array:
    """Size (...) of poses (..., J, 3): the total length of all bones; NaN if a joint is unknown."""
    first, second = zip(*skeleton.edge_indices, strict=True)
    return np.asarray(
        np.linalg.norm(joints_mm[..., list(first), :] - joints_mm[..., list(second), :], axis=-1).sum(axis=-1)
    )


class ProbabilisticTraining(NetworkTraining[ProbabilisticOptions, Architecture]):
    """End-to-end training of the backbone through the posterior of the cameras.

    Each sample is a rig of one frame. Bundle adjustment starts from the true cameras, which are known in training. The
    loss compares the posterior mean with the truth after similarity alignment. Draws and proposals are treated as
    constants. Gradients reach the heat maps through the triangulated points and the weights of the draws.
    """

    model: ProbabilisticTriangulation

    def __init__(self, model: ProbabilisticTriangulation, options: ProbabilisticOptions, skeleton: Skeleton) -> None:
        groups = rate_groups(model, options.learning_rate, {"alg_confidences": options.head_rate_factor})
        network = model.architecture
        super().__init__(model, network, options, skeleton, Inputs(crop_px=network.crop_px), groups)

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Training example of up to ``views`` views: those of `stack_changed`, K and R (V, 3, 3), t_mm (V, 3), seed."""
        side, slots = self.network.crop_px, self.options.views
        views = drawn_views(sample, slots, slots, rng)
        mirrored = bool(rng.random() < self.options.augmentation.flip)
        affine: list[Array] = []

        def change(view: View) -> tuple[Image, Array]:
            image, A = augment(crop_pixels(view, side), self.options.augmentation, rng, mirrored=mirrored)
            affine.append(A)
            return image, A

        flip = self.skeleton.flip_order if mirrored else None
        example = stack_changed(views, truth, change, crop_px=side, slots=slots, flip_order=flip)
        K, R, t = np.zeros((slots, 3, 3)), np.tile(np.eye(3), (slots, 1, 1)), np.zeros((slots, 3))
        for i, view in enumerate(views):
            K[i], R[i], t[i] = affine[i] @ view.camera.K, view.camera.R, view.camera.t
        seed = rng.integers(2**62)
        return {**example, "K": K, "R": R, "t_mm": t, "seed": np.int64(seed)}

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch: robust 3D loss of the aligned posterior mean, 2D losses; and the mean aligned error."""
        arch, options, valid = self.network, self.options, batch["valid"]
        generator = torch.Generator().manual_seed(int(batch["seed"][0]))
        sampling = Sampling(options.train_draws, 1, 0.7, options.fewest_effective)
        posterior, joints = self.model(
            arch.prepare(batch["images"][valid]),
            batch["K"],
            batch["R"],
            batch["t_mm"],
            valid,
            batch["lens_px"][valid],
            sampling,
            options.adjust_steps,
            generator,
        )
        # Scale, position and orientation of a rig are not observable: compare after a similarity transform.
        mean, truth = posterior.mean_points, batch["joints_mm"]
        # Samples whose draws have no finite mean have only the 2D loss.
        usable = torch.isfinite(mean.detach()).all((1, 2))
        known = batch["known"] * usable[:, None, None]
        aligned = similarity_aligned(mean, truth, batch["known"])
        robust = keypoint_robust(aligned, truth, known, options.robust_scale_mm)
        flat = heatmap_losses(
            arch,
            joints.heatmaps,
            batch["points_px"][valid],
            batch["weights"][valid],
            options.heatmap_weight,
            options.sigma_px,
        )
        total = robust + options.joints_2d_weight * flat.pop("total")
        logged = {
            "error_mm": keypoint_l2(aligned.detach(), truth, known),
            "effective": posterior.effective.mean(),
            "unusable": 1 - usable.double().mean(),
        }
        return {"total": total, "robust": robust.detach(), **flat, **logged}

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """Fit the constants of the method on training samples.

        Returns:
            ``size_mm``: median size of the training poses, by which recovered rigs are scaled to millimetres;
            ``temperature``: see `fit_temperature`.
        """
        sizes = np.concatenate([bone_lengths_mm(truth.joints_mm, self.skeleton) for truth in truths])
        known = sizes[np.isfinite(sizes)]
        if not known.size:
            raise InputError(
                "probabilistic", "no training pose has all joints", "train on a data set with complete 3D ground truth"
            )
        options = self.options
        sampling, (mirrored, swaps) = Sampling(options.draws, options.rounds), options.orders(self.skeleton)
        temperature = fit_temperature(self._rigs(samples, mirrored), sampling, options.seed, swaps)
        return {"size_mm": float(np.median(known)), "temperature": temperature}

    @torch.inference_mode()
    def _rigs(self, samples: Sequence[Sample], flip_order: Sequence[int] | None) -> Iterator[KnownRigs]:
        """Iterate over batches of training rigs with several frames and equal numbers of views."""
        self.model.eval()
        device = str(next(self.model.parameters()).device)
        alike: dict[int, list[KnownRigs]] = defaultdict(list)
        for rows in frames_of_rigs(samples):
            of_rig = [samples[row] for row in rows]
            cameras = [view.camera for view in of_rig[0].views]
            if len(cameras) < 2:
                continue
            rays, weights, focal_px = (
                value.transpose(0, 1).flatten(1, 2) for value in observe(self.model, of_rig, device, flip_order)
            )
            R = torch.from_numpy(np.stack([camera.R @ cameras[0].R.T for camera in cameras]))
            alike[len(cameras)].append(KnownRigs(rays, relative(weights[None])[0], focal_px, R))
        for rigs in alike.values():
            yield KnownRigs(*(torch.stack(values) for values in zip(*rigs, strict=True)))


def similarity_aligned(points: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Align points with the truth by the best similarity transform, which is treated as a constant for gradients.

    This hardly changes gradients, because the derivative of the squared error with respect to the transform is zero at
    the minimum.

    Args:
        points: (B, J, 3) predicted points.
        truth: (B, J, 3) true points.
        known: (B, J, 1) 1 or 0; joints with 0 are not used for the fit.

    Returns:
        Aligned points (B, J, 3) in the frame and unit of the truth.
    """
    with torch.no_grad():
        p = torch.nan_to_num(points)
        total = known.sum(1, keepdim=True).clamp_min(1)
        of_p, of_truth = (known * p).sum(1, keepdim=True) / total, (known * truth).sum(1, keepdim=True) / total
        a, b = known * (p - of_p), known * (truth - of_truth)
        U, S, Vh = torch.linalg.svd(a.mT @ b)
        sign = torch.ones_like(S)
        sign[:, 2] = torch.linalg.det(U @ Vh).sign()
        rotation = (U * sign[:, None]) @ Vh
        scale = ((S * sign).sum(1) / (a**2).sum((1, 2)).clamp_min(1e-12))[:, None, None]
    return scale * (points - of_p) @ rotation + of_truth
