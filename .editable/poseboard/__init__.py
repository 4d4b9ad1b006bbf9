"""Benchmark suite and leaderboard for 3D human pose estimation.

Example:
    >>> import poseboard as pb
    >>> samples = pb.load("human36m", split="test")  # doctest: +SKIP
    >>> score = pb.evaluate(my_function, "T1")  # doctest: +SKIP
    >>> pb.write_predictions("mine.parquet", keys, joints_mm, dataset="human36m", method="mine")  # doctest: +SKIP
    >>> pb.compare("mine.parquet", "volumetric", table="T1").decided  # doctest: +SKIP
    True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poseboard.benchmarks.api import Samples, Score, compare, evaluate, load, write_predictions
    from poseboard.benchmarks.exchange.differences import TableDifference
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
    "TableDifference": "benchmarks.exchange.differences",
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
    "TableDifference",
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
