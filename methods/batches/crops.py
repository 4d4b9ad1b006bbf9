"""Arrays of the crops and cameras of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Sample, View


def crop_pixels(view: View, crop_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels of a view's crop, (S, S, 3) uint8 RGB; ValueError if its side S is not ``crop_px``."""
    pixels = view.pixels()
    if pixels.shape != (crop_px, crop_px, 3):
        raise ValueError(f"view {view.name}: crop of {crop_px} px expected, got {pixels.shape}")
    return pixels


def stack_views(samples: Sequence[Sample], crop_px: int) -> tuple[Tensor, Array, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Stack the crops and cameras of B samples with up to V views.

    Returns:
        Crops (n, S, S, 3) uint8 of all n views, ordered by sample, then view; P (B, V, 3, 4), zero where a view is
        absent; and valid (B, V) bool, whether the sample has this view.

    Raises:
        ValueError: a view is not a crop of ``crop_px``.
    """
    crops, valid = stack_crops(samples, crop_px)
    P = np.zeros((*valid.shape, 3, 4))
    P[valid] = np.reshape([view.camera.P for sample in samples for view in sample.views], (-1, 3, 4))
    return crops, P, valid


def stack_crops(samples: Sequence[Sample], crop_px: int) -> tuple[Tensor, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Stack the crops of B samples with up to V views, for methods without extrinsics.

    Returns:
        Crops (n, S, S, 3) uint8 of all n views, ordered by sample, then view; and valid (B, V) bool, whether the
        sample has this view.

    Raises:
        ValueError: a view is not a crop of ``crop_px``.
    """
    most = max((len(sample.views) for sample in samples), default=0)
    valid = np.arange(most) < np.array([len(sample.views) for sample in samples])[:, None]
    crops = [crop_pixels(view, crop_px) for sample in samples for view in sample.views]
    stacked = np.stack(crops) if crops else np.zeros((0, crop_px, crop_px, 3), dtype=np.uint8)
    return torch.from_numpy(stacked), valid
