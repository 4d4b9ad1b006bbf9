"""Weights by the rule of the vectors' READMEs: a function of each key, its shape and a seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def filled(
    keys: Iterable[str], shapes: Sequence[tuple[int, ...]], seed: int = 0, norm: float = 1.0
) -> dict[str, Tensor]:
    """One tensor per key; weights of batch normalisations are about ``norm``."""
    state = {}
    for key, shape in zip(keys, shapes, strict=True):
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        n = np.random.default_rng(zlib.crc32(key.encode()) + seed).standard_normal(shape)
        if len(shape) > 1:
            value = n / np.sqrt(np.prod(shape[1:]))
        elif key.endswith("running_var"):
            value = 1 + 0.1 * np.abs(n)
        elif key.endswith(".weight"):
            value = norm * (1 + 0.1 * n)
        else:
            value = 0.1 * n
        state[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return state
