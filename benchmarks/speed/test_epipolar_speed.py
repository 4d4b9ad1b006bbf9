"""Speed of attention along epipolar lines at the published size, compared with gathering every sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poseboard.benchmarks.speed.scenes import looking_at, ring
from poseboard.methods.epipolar.attention import AttentionSettings, EpipolarSampler, Samples, along_lines
from poseboard.methods.epipolar.lines import MapGrid, epipolar_segments, normalised

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import PeakMemory, Race, RecordSpeed

CHANNELS, SIDE, SAMPLES = 256, 64, 64
GRID = MapGrid(SIDE, SIDE, 4, 1.5)
PUBLISHED_PEAK_MB = 1400.0
"""Peak memory of the release's process (the specification's section 15)."""
ONE = torch.tensor([[0, 0]])
pytestmark = [pytest.mark.full_size, pytest.mark.usefixtures("one_thread")]


def _scene() -> tuple[EpipolarSampler, Tensor, Tensor, Samples]:
    """Published block, two white-noise maps, and epipolar lines of two cameras on a 4 m ring around the subject."""
    K = np.array([[560, 0, 128], [0, 560, 128], [0, 0, 1.0]])
    P = K @ looking_at(ring(np.array([0.3, 1.5]), 4500, 1500.0), np.array([0, 0, 900.0]))
    cameras = torch.from_numpy(P)
    segments = epipolar_segments(cameras[:1], cameras[1:], GRID, published=True)
    generator = torch.Generator().manual_seed(0)
    reference, source = torch.randn(2, 1, CHANNELS, SIDE, SIDE, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = EpipolarSampler(CHANNELS, AttentionSettings(samples=SAMPLES))
    torch.nn.init.ones_(module.bn.weight)  # type: ignore[union-attr]  # the published block has one
    return module.eval(), reference, source, along_lines(segments, GRID, SAMPLES)


def _gather_all(module: EpipolarSampler, reference: Tensor, source: Tensor, samples: Samples) -> Tensor:
    """Plain reference: one bilinear look-up of all K x C x H x W samples (section 4.2 of the specification)."""
    places = normalised(samples.at(slice(None), torch.arange(SIDE * SIDE)), GRID).float()  # (1, H W, K, 2)
    gathered = functional.grid_sample(source, places.transpose(1, 2), align_corners=True)  # (1, C, K, H W)
    gathered = gathered.unflatten(3, (SIDE, SIDE))
    similarity = (reference[:, :, None] * gathered).sum(1)
    similarity = torch.where(similarity == 0, -1e10, similarity)
    weights = (0.125 * similarity).softmax(dim=1)
    attended = (weights[:, None] * gathered).sum(2)
    return torch.as_tensor(attended + module.bn(module.z(attended)))  # type: ignore[misc]  # present in this block


def _ours(module: EpipolarSampler, reference: Tensor, source: Tensor, samples: Samples) -> Tensor:
    return torch.as_tensor(module(reference, source, ONE, samples, GRID).features)


BLOCKS: dict[str, Callable[[EpipolarSampler, Tensor, Tensor, Samples], Tensor]] = {"ours": _ours, "peer": _gather_all}


def _forward(name: str) -> Callable[[], Tensor]:
    module, reference, source, samples = _scene()

    def run() -> Tensor:
        with torch.inference_mode():
            return BLOCKS[name](module, reference, source, samples)

    return run


def _with_gradients(name: str) -> Callable[[], Tensor]:
    module, reference, source, samples = _scene()
    reference.requires_grad_()
    source.requires_grad_()

    def run() -> Tensor:
        out = BLOCKS[name](module, reference, source, samples)
        out.square().sum().backward()
        return out

    return run


def test_epipolar_attention_speed(race: Race, peak_memory: PeakMemory, record_speed: RecordSpeed) -> None:
    runs = {name: _forward(name) for name in BLOCKS}
    ours, theirs = race(runs["ours"], runs["peer"], rounds=5)
    difference = float((runs["ours"]() - runs["peer"]()).abs().max())
    assert difference < 1e-3
    peaks = {f"{name}_forward_peak_mb": peak_memory(run)[1] for name, run in runs.items()}
    for name in BLOCKS:
        peaks[f"{name}_forward_and_backward_peak_mb"] = peak_memory(_with_gradients(name))[1]
    details = {name: value for name, value in peaks.items() if value is not None}
    record_speed(
        "epipolar-attention",
        f"Epipolar attention of one view, {SIDE}×{SIDE} cells × {CHANNELS} channels × {SAMPLES} samples",
        "a bilinear look-up of all samples, dot products, soft-max and sum",
        3,
        ours,
        theirs,
        {"largest_difference": difference, **details, "published_forward_peak_mb": PUBLISHED_PEAK_MB},
        kept=all(value <= PUBLISHED_PEAK_MB / 8 for name, value in details.items() if name.startswith("ours")),
    )
