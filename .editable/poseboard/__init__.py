"""Benchmark suite and leaderboard for 3D human pose estimation.

Example:
    >>> import poseboard as pb
    >>> samples = pb.load("human36m", split="test")
    >>> def perfect(sample):
    ...     return samples.truth(sample.key).joints_mm
    >>> print(pb.evaluate(perfect, "T1"))
    T1: 0.0 mm [0.0, 0.0]
    >>> joints_mm = [perfect(sample)[0] for sample in samples]
    >>> file = pb.write_predictions("perfect.parquet", samples.keys, joints_mm, dataset="human36m", method="perfect")
    >>> pb.compare("dlt", file, table="T1").difference < 0  # B - A, mm
    True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poseboard.benchmarks.api import Difference, Samples, Score, compare, evaluate, load, write_predictions
    from poseboard.datasets.errors import InputError
    from poseboard.datasets.sample import Poses, Sample, Truth, View
    from poseboard.methods.base import Inputs

_MODULES = {
    "load": "benchmarks.api",
    "evaluate": "benchmarks.api",
    "write_predictions": "benchmarks.api",
    "compare": "benchmarks.api",
    "Samples": "benchmarks.api",
    "Score": "benchmarks.api",
    "Difference": "benchmarks.api",
    "Sample": "datasets.sample",
    "View": "datasets.sample",
    "Truth": "datasets.sample",
    "Poses": "datasets.sample",
    "Inputs": "methods.base",
    "InputError": "datasets.errors",
}
"""Public name -> module. Modules are imported at first use, since PyTorch and pandas take seconds."""

__all__ = [
    "load",
    "evaluate",
    "write_predictions",
    "compare",
    "Samples",
    "Score",
    "Difference",
    "Sample",
    "View",
    "Truth",
    "Poses",
    "Inputs",
    "InputError",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'poseboard' has no attribute {name!r}")
    return getattr(import_module(f"poseboard.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
