"""Network of probabilistic triangulation: heat maps, soft-argmax, confidences, camera posterior, mean pose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from poseboard.datasets.camera import undistort_each
from poseboard.datasets.sample import Sample
from poseboard.methods.batches.crops import stack_crops
from poseboard.methods.geometry.bundle import Rig, adjust
from poseboard.methods.geometry.swaps import swap_back
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.joints import Joints, see_both_ways, see_joints
from poseboard.methods.probabilistic.posterior import Posterior, Sampling, sample_posterior


class ProbabilisticTriangulation(nn.Module):
    """Network of a backbone with a confidence head (``backbone.*``). The geometry has no weights.

    Args:
        architecture: architecture of the backbone.
        backbone: network built from the architecture.
    """

    def __init__(self, architecture: Architecture, backbone: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone

    def see(self, images: Tensor, flip_order: Sequence[int] | None = None) -> Joints:
        """Detect 2D joints and confidences in normalised crops (n, 3, S, S).

        With ``flip_order``, results are means over the crops and their mirror images (`see_both_ways`).
        """
        if flip_order is None:
            return see_joints(self.architecture, self.backbone, images)
        return see_both_ways(self.architecture, self.backbone, images, flip_order)

    def forward(
        self,
        images: Tensor,
        K: Tensor,
        R: Tensor,
        t: Tensor,
        valid: Tensor,
        lens_px: Tensor,
        sampling: Sampling,
        steps: int,
        generator: torch.Generator,
    ) -> tuple[Posterior, Joints]:
        """Sample the camera posteriors of B samples, each a separate rig, for training.

        Draws and proposals are treated as constants. Gradients reach the 2D joints and confidences.

        Args:
            images: (n, 3, S, S) normalised crops, ordered by sample, then view.
            K: (B, V, 3, 3) intrinsics of the crops; singular where a view is absent.
            R: (B, V, 3, 3) rotations from which bundle adjustment starts. In training these are the true rotations.
            t: (B, V, 3) translations from which bundle adjustment starts.
            valid: (B, V) bool, whether the sample has this view; n values are True.
            lens_px: (n, J, 2) offsets from distorted to undistorted 2D points.
            sampling: draws and rounds of the posterior.
            steps: number of steps of bundle adjustment.
            generator: random generator of the draws.
        """
        joints = self.see(images)
        rays, confidences, focal_px = observations(joints.points_px + lens_px, joints.confidences, K, valid)
        weights = relative(confidences)
        with torch.no_grad():
            rig: Rig = adjust(R.double(), t.double(), rays, weights, focal_px, steps)
        return sample_posterior(rig, rays, weights, focal_px, sampling, generator), joints


def observe(
    model: ProbabilisticTriangulation, samples: Sequence[Sample], device: str, flip_order: Sequence[int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Detect joints in samples, and return `observations` (rays, weights, focal lengths) on the CPU.

    Args:
        model: network on ``device``.
        samples: samples with crops or whole images of the network's size.
        device: torch device of the network.
        flip_order: see `ProbabilisticTriangulation.see`.
    """
    arch = model.architecture
    images, valid = stack_crops(samples, arch.crop_px)
    joints = [model.see(arch.prepare(part.to(device)), flip_order) for part in images.split(arch.chunk)]
    points = torch.cat([of_part.points_px for of_part in joints]).double().cpu().numpy()
    confidences = torch.cat([of_part.confidences for of_part in joints]).double().cpu()
    cameras = [view.camera for sample in samples for view in sample.views]
    K = np.zeros((*valid.shape, 3, 3))
    K[valid] = np.reshape([camera.K for camera in cameras], (-1, 3, 3))
    pinhole = torch.from_numpy(undistort_each(cameras, points))
    return observations(pinhole, confidences, torch.from_numpy(K), torch.from_numpy(valid))


def observations(points_px: Tensor, confidences: Tensor, K: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert 2D joints in n views of B samples to rays, weights and focal lengths.

    Args:
        points_px: (n, J, 2) undistorted crop pixels.
        confidences: (n, J) confidences of the joints.
        K: (B, V, 3, 3) intrinsics of the crops.
        valid: (B, V) bool, whether the sample has this view; n values are True.

    Returns:
        Rays (B, V, J, 2); weights (B, V, J), 0 where a view is absent or a number is not finite; and focal lengths
        (B, V, J) in px. All are float64.
    """
    eye = torch.eye(3, dtype=torch.float64, device=points_px.device)
    K = torch.where(valid[..., None, None], K.double(), eye)
    shape = (*valid.shape, points_px.shape[1])
    points = torch.zeros((*shape, 2), dtype=torch.float64, device=points_px.device)
    weights = torch.zeros(shape, dtype=torch.float64, device=points_px.device)
    # A network that has diverged says nothing where its numbers are none.
    known = torch.isfinite(points_px).all(-1) & torch.isfinite(confidences)
    points[valid] = torch.where(known[..., None], points_px.double(), 0.0)
    weights[valid] = torch.where(known, confidences.double(), 0.0)
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    rays = (homogeneous @ torch.linalg.inv(K).mT)[..., :2]
    focal_px = K[..., :2, :2].det().abs().sqrt()
    return rays, weights, focal_px[..., None].expand_as(weights)


def relative(confidences: Tensor) -> Tensor:
    """Confidences (B, V, N) divided by the mean of a rig's confidences above 0.

    Without this step training would raise all confidences, although a sharper likelihood is not a better one.
    """
    used = (confidences > 0).sum((1, 2), keepdim=True).clamp_min(1)
    return confidences / (confidences.sum((1, 2), keepdim=True) / used).clamp_min(1e-12)


def rigs_without_swaps(
    rig: Rig, rays: Tensor, weights: Tensor, focal_px: Tensor, flip_order: Sequence[int], steps: int = 12
) -> tuple[Rig, Tensor, Tensor]:
    """Correct swapped left and right in frames of views that contradict the others, and adjust these rigs again.

    Args:
        rig: B recovered rigs.
        rays: (B, V, T J, 2) observations in T frames; finite where their weight is not 0.
        weights: (B, V, T J) weights of the observations.
        focal_px: (B, V, T J) focal length of each observation.
        flip_order: index of each joint's mirror image.
        steps: number of steps of bundle adjustment for rigs with swapped views.

    Returns:
        Adjusted rigs, corrected rays and corrected weights.
    """
    rays, weights, swapped = swap_back_frames(rig.R, rig.t, rays, weights, focal_px, flip_order)
    if len(rows := torch.nonzero(swapped)[:, 0]):
        again = adjust(rig.R[rows], rig.t[rows], rays[rows], weights[rows], focal_px[rows], steps)
        rig = Rig(*(before.index_copy(0, rows, after) for before, after in zip(rig, again, strict=True)))
    return rig, rays, weights


def swap_back_frames(
    R: Tensor, t: Tensor, rays: Tensor, weights: Tensor, focal_px: Tensor, flip_order: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply `swap_back` to every frame of B rigs.

    Args:
        R: (B, V, 3, 3) rotations.
        t: (B, V, 3) translations.
        rays: (B, V, T J, 2) observations in T frames.
        weights: (B, V, T J) weights of the observations.
        focal_px: (B, V, T J) focal length of each observation.
        flip_order: index of each joint's mirror image.

    Returns:
        Corrected rays and weights, and (B,) bool, whether any view of a rig was swapped.
    """
    joints = len(flip_order)
    frames = rays.shape[2] // joints
    seen, w, focal = (
        value.unflatten(2, (frames, joints)).transpose(1, 2).flatten(0, 1) for value in (rays, weights, focal_px)
    )
    each_R, each_t = (value.repeat_interleave(frames, 0) for value in (R, t))
    seen, w, swapped = swap_back(each_R, each_t, seen, w, focal, flip_order)
    seen, w = (value.unflatten(0, (-1, frames)).transpose(1, 2).flatten(2, 3) for value in (seen, w))
    return seen, w, swapped.any(1).unflatten(0, (-1, frames)).any(1)
