"""Weights by the rule of the vectors' READMEs: a function of each key, its shape and a seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@cache
def _drawn(seed: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Networks of one file of tests share most keys; ``conftest.py`` forgets them with the file."""
    return np.random.default_rng(seed).standard_normal(shape)


def filled(
    keys: Iterable[str], shapes: Sequence[tuple[int, ...]], seed: int = 0, norm: float = 1.0
) -> dict[str, Tensor]:
    """One tensor per key; weights of batch normalisations are about ``norm``."""
    state = {}
    for key, shape in zip(keys, shapes, strict=True):
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        n = _drawn(zlib.crc32(key.encode()) + seed, shape)
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


def forget() -> None:
    """What has been drawn."""
    _drawn.cache_clear()
