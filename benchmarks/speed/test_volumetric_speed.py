"""Speed of volumetric triangulation in float32, compared with one view and one frame at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poseboard.benchmarks.speed.scenes import looking_at, ring
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.volumetric.model import VolumetricArchitecture, VolumetricTriangulation
from poseboard.methods.volumetric.unprojection import unproject, voxel_offsets

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import PeakMemory, Race, RecordSpeed

VIEWS, VOXELS, CHANNELS, SIDE_MM = 4, 64, 32, 2500.0
FRAMES, CROP_PX, TOLERANCE_MM = 2, 256, 0.1
pytestmark = [pytest.mark.full_size, pytest.mark.usefixtures("one_thread")]


def cameras(size_px: int) -> Tensor:
    """Projection matrices P (V, 3, 4) float64 of cameras on a 4 m ring around the cube."""
    poses = looking_at(ring(2 * np.pi * np.arange(VIEWS) / VIEWS + 0.4, 4000, 0.0), np.zeros(3))
    focal = size_px * 4000 / SIDE_MM
    K = np.array([[focal, 0, size_px / 2], [0, focal, size_px / 2], [0, 0, 1]])
    return torch.from_numpy(K @ poses)


def unproject_plainly(features: Tensor, P: Tensor, positions: Tensor) -> Tensor:
    """Unproject features (V, C, h, w) to a volume (C, N, N, N) view by view (section 6.3 of the specification)."""
    volumes = []
    for view in range(len(P)):
        points = positions.reshape(-1, 3)
        projected = torch.cat([points, torch.ones(len(points), 1)], dim=1) @ P[view].T
        depth = projected[:, 2]
        pixels = projected[:, :2] / torch.where(depth == 0, 1.0, depth)[:, None]
        height, width = features.shape[-2:]
        grid = torch.stack([2 * (pixels[:, 0] / height - 0.5), 2 * (pixels[:, 1] / width - 0.5)], dim=-1)
        sampled = functional.grid_sample(features[view][None], grid[None, :, None], align_corners=True)[0, :, :, 0]
        sampled[:, depth <= 0] = 0
        volumes.append(sampled.view(-1, *positions.shape[:3]))
    views = torch.stack(volumes)
    return (views * views.softmax(dim=0)).sum(dim=0)


def peaks(ours_mib: float | None, peer_mib: float | None) -> dict[str, float]:
    values = {"peak_memory_mib": ours_mib, "peer_peak_memory_mib": peer_mib}
    return {name: value for name, value in values.items() if value is not None}


@torch.inference_mode()
def test_unprojection_speed(race: Race, peak_memory: PeakMemory, record_speed: RecordSpeed) -> None:
    side = CROP_PX // 4
    features = torch.randn(FRAMES, VIEWS, CHANNELS, side, side, generator=torch.Generator().manual_seed(0))
    P = cameras(side).float().expand(FRAMES, -1, -1, -1)
    positions = voxel_offsets(SIDE_MM, VOXELS, torch.eye(3).expand(FRAMES, 3, 3))
    valid = torch.ones(FRAMES, VIEWS, dtype=torch.bool)

    def ours() -> Tensor:
        return unproject(features.flatten(0, 1), P, positions, valid, "softmax", compat=True)

    def peer() -> Tensor:
        return torch.stack([unproject_plainly(features[i], P[i], positions[i]) for i in range(FRAMES)])

    seconds, peer_seconds = race(ours, peer, rounds=5)
    (volume, ours_mib), (peer_volume, peer_mib) = peak_memory(ours), peak_memory(peer)
    difference = float((volume - peer_volume).abs().max())
    assert difference < 2e-3
    record_speed(
        "volumetric-unprojection-softmax",
        f"Unprojection of {FRAMES} frames × {VIEWS} views × {CHANNELS} channels into {VOXELS}³ voxels, softmax",
        "one view and frame at a time by grid_sample",
        3,
        seconds,
        peer_seconds,
        {"largest_difference": difference, **peaks(ours_mib, peer_mib)},
    )


@torch.inference_mode()
def test_forward_speed(race: Race, peak_memory: PeakMemory, record_speed: RecordSpeed) -> None:
    backbone = Architecture.published("resnet50", HUMAN36M.joints).model_copy(update={"crop_px": CROP_PX})
    architecture = VolumetricArchitecture(backbone=backbone, voxels=VOXELS, cuboid_mm=SIDE_MM)
    plain, net = (VolumetricTriangulation.build(architecture).eval() for _ in range(2))
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # stubs lack the keyword
    images = torch.randn(VIEWS, 3, CROP_PX, CROP_PX, generator=torch.Generator().manual_seed(0))
    P = cameras(CROP_PX)[None]
    base, turn, valid = torch.zeros(1, 3).double(), torch.eye(3)[None], torch.ones(1, VIEWS, dtype=torch.bool)

    def ours() -> Tensor:
        return torch.as_tensor(net(images, P, valid, base, turn).joints_mm)

    def peer() -> Tensor:
        small = (P[0] * torch.tensor([0.25, 0.25, 1.0])[:, None]).float()
        positions = voxel_offsets(SIDE_MM, VOXELS, turn)[0]
        features = [plain.process_features(plain.backbone(image[None]).features)[0] for image in images]
        logits = plain.volume_net(unproject_plainly(torch.stack(features), small, positions)[None])
        p = logits[0].flatten(1).softmax(dim=-1)
        return torch.as_tensor(torch.einsum("jn,nc->jc", p, positions.reshape(-1, 3)))

    peer()
    # One round: it takes seconds, and rounds differ less than the ratio does from 1.
    seconds, peer_seconds = race(ours, peer, rounds=1)
    (joints_mm, ours_mib), (peer_mm, peer_mib) = peak_memory(ours), peak_memory(peer)
    difference = float(torch.linalg.vector_norm(joints_mm - peer_mm, dim=-1).max())
    assert difference < TOLERANCE_MM
    record_speed(
        "volumetric-forward",
        f"Volumetric network of the paper, fresh weights, ResNet-50, {VIEWS} views of {CROP_PX} px, {VOXELS}³ "
        "voxels, convolutions in float32",
        "one view after the other in float32, channels first",
        None,
        seconds,
        peer_seconds,
        {"largest_difference_mm": difference, **peaks(ours_mib, peer_mib)},
    )
