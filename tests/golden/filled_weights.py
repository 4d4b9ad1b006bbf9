"""Weights by the rule of the vectors' READMEs: a function of each key, its shape and a seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def _filled(key: str, shape: tuple[int, ...], seed: int, norm: float) -> Tensor:
    """Weights of one key, cached: networks of one test file share most keys."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    value = np.random.default_rng(zlib.crc32(key.encode()) + seed).standard_normal(shape)
    if len(shape) > 1:
        value /= np.sqrt(np.prod(shape[1:]))
    elif key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(value)
    elif key.endswith(".weight"):
        value = norm * (1 + 0.1 * value)
    else:
        value *= 0.1
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def filled(
    keys: Iterable[str], shapes: Sequence[tuple[int, ...]], seed: int = 0, norm: float = 1.0
) -> dict[str, Tensor]:
    """One tensor per key, to be copied and not changed; weights of batch normalisations are about ``norm``."""
    return {key: _filled(key, shape, seed, norm) for key, shape in zip(keys, shapes, strict=True)}


def forget() -> None:
    """Clear the cache."""
    _filled.cache_clear()
