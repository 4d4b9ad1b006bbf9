"""Volumetric triangulation against one view and one frame at a time, in float32, as the specification reads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.nets.architecture import Architecture, Precision
from poseboard.methods.nets.precision import bfloat16, has_bfloat16
from poseboard.methods.volumetric.model import VolumetricArchitecture, VolumetricTriangulation
from poseboard.methods.volumetric.unprojection import unproject, voxel_offsets
from poseboard.methods.volumetric.v2v import V2V

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import PeakMemory, Race, RecordSpeed

VIEWS, VOXELS, CHANNELS, SIDE_MM = 4, 64, 32, 2500.0
FRAMES = 2
CROP_PX = 256
TOLERANCE_MM = 0.1
ROUNDS = 1
"""One: these runs take seconds, and differ less between rounds than the ratios differ from their aims."""


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def _cameras(size_px: int) -> Tensor:
    """P (V, 3, 4) float64 of cameras on a 4 m ring that see the cube."""
    made = []
    for i in range(VIEWS):
        a = 2 * np.pi * i / VIEWS + 0.4
        R = np.array([[-np.sin(a), np.cos(a), 0], [0, 0, -1], [-np.cos(a), -np.sin(a), 0]])
        focal = size_px * 4000 / SIDE_MM
        K = np.array([[focal, 0, size_px / 2], [0, focal, size_px / 2], [0, 0, 1]])
        made.append(K @ np.column_stack([R, [0, 0, 4000.0]]))
    return torch.from_numpy(np.stack(made))


def _unproject_plainly(features: Tensor, P: Tensor, positions: Tensor, aggregation: str) -> Tensor:
    """(V, C, h, w) -> (C, N, N, N): view after view, section 6.3 of the specification."""
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
    if aggregation == "sum":
        return views.sum(dim=0)
    return (views * views.softmax(dim=0)).sum(dim=0)


class Measured:
    """A callable that keeps its last answer and the peak of its memory, so that a race of long runs tells these, too.

    Args:
        function: to call.
        peak_memory: the fixture.
    """

    def __init__(self, function: Callable[[], Tensor], peak_memory: PeakMemory) -> None:
        self._function, self._peak_memory = function, peak_memory
        self.answer = torch.zeros(0)
        self.peak_mib: float | None = None

    def __call__(self) -> None:
        """Call it. Both sides of a race pay for memory that is given back before."""
        self.answer, self.peak_mib = self._peak_memory(self._function)


def _told(ours_mib: float | None, peer_mib: float | None) -> dict[str, float]:
    told = {"peak_memory_mib": ours_mib, "peer_peak_memory_mib": peer_mib}
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.full_size
@pytest.mark.parametrize("aggregation", ["softmax", "sum"])
def test_unprojection_speed(race: Race, peak_memory: PeakMemory, record_speed: RecordSpeed, aggregation: str) -> None:
    side = CROP_PX // 4
    features = torch.randn(FRAMES, VIEWS, CHANNELS, side, side, generator=torch.Generator().manual_seed(0))
    P = _cameras(side).float().expand(FRAMES, -1, -1, -1)
    positions = voxel_offsets(SIDE_MM, VOXELS, torch.eye(3).expand(FRAMES, 3, 3))
    valid = torch.ones(FRAMES, VIEWS, dtype=torch.bool)

    def ours() -> Tensor:
        return unproject(features.flatten(0, 1), P, positions, valid, aggregation, compat=True)  # type: ignore[arg-type]  # of the parametrisation

    def peer() -> Tensor:
        return torch.stack([_unproject_plainly(features[i], P[i], positions[i], aggregation) for i in range(FRAMES)])

    ours_s, peer_s = race(ours, peer, rounds=5)
    found, ours_mib = peak_memory(ours)
    wanted, peer_mib = peak_memory(peer)
    difference = float((found - wanted).abs().max())
    assert difference < 2e-3
    record_speed(
        f"volumetric-unprojection-{aggregation}",
        f"Unprojection of {FRAMES} frames × {VIEWS} views × {CHANNELS} channels into {VOXELS}³ voxels, {aggregation}",
        "one view and frame at a time by grid_sample",
        3,
        ours_s,
        peer_s,
        {"largest_difference": difference, **_told(ours_mib, peer_mib)},
    )


@pytest.mark.full_size
def test_v2v_speed(race: Race, peak_memory: PeakMemory, record_speed: RecordSpeed) -> None:
    torch.manual_seed(0)
    plain = V2V(CHANNELS, len(HUMAN36M)).eval()
    torch.manual_seed(0)
    net = V2V(CHANNELS, len(HUMAN36M)).eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # stubs lack the keyword
    volumes = torch.randn(1, CHANNELS, VOXELS, VOXELS, VOXELS)
    last = volumes.contiguous(memory_format=torch.channels_last_3d)

    def ours() -> Tensor:
        with bfloat16("cpu"):
            return torch.as_tensor(net(last))

    def peer() -> Tensor:
        return torch.as_tensor(plain(volumes))

    mine, theirs = Measured(ours, peak_memory), Measured(peer, peak_memory)
    theirs()  # as the race does for the first it is given
    ours_s, peer_s = race(mine, theirs, rounds=ROUNDS)
    difference = float((mine.answer - theirs.answer).abs().max() / theirs.answer.abs().max())
    assert difference < 0.05
    record_speed(
        "volumetric-v2v",
        f"3D network of the paper on {CHANNELS} channels × {VOXELS}³ voxels, bfloat16, channels last",
        "the same in float32, channels first",
        None,
        ours_s,
        peer_s,
        {"largest_difference_share": difference, **_told(mine.peak_mib, theirs.peak_mib)},
    )


@pytest.mark.full_size
def test_forward_speed(race: Race, peak_memory: PeakMemory, record_speed: RecordSpeed) -> None:
    """In bfloat16, which a row must ask for, and in float32, as rows predict.

    Weights are fresh and volumes flat: that bfloat16 stays near float32 here says nothing about trained networks.
    """
    backbone = Architecture.published("resnet50", HUMAN36M.joints).model_copy(update={"crop_px": CROP_PX})
    exact = VolumetricArchitecture(backbone=backbone, voxels=VOXELS, cuboid_mm=SIDE_MM)
    mixed = {"backbone": backbone.model_copy(update={"precision": "bf16"}), "precision": "bf16"}
    rapid = exact.model_copy(update=mixed)
    plain, net, net_bf16 = (
        VolumetricTriangulation.build(architecture).eval() for architecture in (exact, exact, rapid)
    )
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # stubs lack the keyword
    images = torch.randn(VIEWS, 3, CROP_PX, CROP_PX, generator=torch.Generator().manual_seed(0))
    P = _cameras(CROP_PX)[None]
    base, turn, valid = torch.zeros(1, 3).double(), torch.eye(3)[None], torch.ones(1, VIEWS, dtype=torch.bool)

    def ours(model: VolumetricTriangulation) -> Tensor:
        return torch.as_tensor(model(images, P, valid, base, turn).joints_mm)

    def peer() -> Tensor:
        small = (P[0] * torch.tensor([0.25, 0.25, 1.0])[:, None]).float()
        positions = voxel_offsets(SIDE_MM, VOXELS, turn)[0]
        features = [plain.process_features(plain.backbone(image[None]).features)[0] for image in images]
        logits = plain.volume_net(_unproject_plainly(torch.stack(features), small, positions, "softmax")[None])
        p = logits[0].flatten(1).softmax(dim=-1)
        return torch.as_tensor(torch.einsum("jn,nc->jc", p, positions.reshape(-1, 3)))

    in_float32, theirs = Measured(partial(ours, net), peak_memory), Measured(peer, peak_memory)
    # On processors without bfloat16 the convolutions of both are in float32.
    mixed_runs = [Measured(partial(ours, net_bf16), peak_memory)] if has_bfloat16() else []
    for run in (*mixed_runs, theirs):
        run()  # as the race does for the first it is given
    float32_s, *bf16_s, peer_s = race(in_float32, *mixed_runs, theirs, rounds=ROUNDS)

    def record(name: str, precision: Precision, aim: float | None, seconds: float, run: Measured) -> None:
        difference = float(torch.linalg.vector_norm(run.answer - theirs.answer, dim=-1).max())
        assert difference < TOLERANCE_MM
        record_speed(
            name,
            f"Volumetric network of the paper, fresh weights, ResNet-50, {VIEWS} views of {CROP_PX} px, {VOXELS}³ "
            f"voxels, convolutions in {precision}",
            "one view after the other in float32, channels first",
            aim,
            seconds,
            peer_s,
            {"largest_difference_mm": difference, **_told(run.peak_mib, theirs.peak_mib)},
        )

    record("volumetric-forward", "float32", None, float32_s, in_float32)
    for seconds, run in zip(bf16_s, mixed_runs, strict=True):
        record("volumetric-forward-bf16", "bf16", 2, seconds, run)
