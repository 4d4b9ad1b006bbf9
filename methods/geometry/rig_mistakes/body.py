"""Unit and vertical axis of a rig's world, estimated from the triangulated body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from poseboard.datasets.camera import Array

_CHAIN = ("shoulder", "hip", "knee", "ankle")
_CHAIN_MM = 1330.0
"""Length of the chain from shoulder to ankle of an adult of 1.75 m."""
UNITS_MM: Mapping[str, float] = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_TOLERANCE = 1.8
"""Ratio to the expected length within which a unit is accepted: children and tall people."""


@dataclass(frozen=True)
class BodyEvidence:
    """Size and direction of the triangulated body.

    Args:
        chain: median length of the chain shoulder, hip, knee, ankle, in the rig's unit; NaN if unknown.
        unit: unit in which the chain has the length of a real person; None if no unit fits or the length is unknown.
        up: unit vector (3,) from ankles to shoulders, median over frames; NaN if unknown.
    """

    chain: float
    unit: str | None
    up: Array

    @property
    def up_axis(self) -> str | None:
        """World axis nearest to ``up``, such as "z" or "-y"; None if unknown or more than 35° from any axis."""
        if not np.isfinite(self.up).all():
            return None
        i = int(np.abs(self.up).argmax())
        if abs(self.up[i]) < np.cos(np.deg2rad(35)):
            return None
        return ("" if self.up[i] > 0 else "-") + "xyz"[i]


def body_evidence(joints: Array, names: Sequence[str]) -> BodyEvidence:
    """Measure size and direction of a body from joints (F, J, 3) over F frames; NaN for missing joints."""
    index = {name: i for i, name in enumerate(names)}
    lengths, ups = [], []
    for side in ("left", "right"):
        if any(f"{side}_{part}" not in index for part in _CHAIN):
            continue
        chain = joints[:, [index[f"{side}_{part}"] for part in _CHAIN]]
        bones = _median(np.linalg.norm(np.diff(chain, axis=1), axis=-1))
        lengths.append(float(bones.sum()))
        ups.append(chain[:, 0] - chain[:, -1])
    chain_length = float(np.mean(lengths)) if lengths else float("nan")
    up = np.full(3, np.nan)
    if ups:
        directions = np.concatenate(ups)
        with np.errstate(all="ignore"):
            directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        up = _median(directions)
        up = up / max(float(np.linalg.norm(up)), 1e-9)
    unit = None
    if np.isfinite(chain_length) and chain_length > 0:
        ratio = {name: abs(np.log(chain_length * mm / _CHAIN_MM)) for name, mm in UNITS_MM.items()}
        best = min(ratio, key=lambda name: ratio[name])
        unit = best if ratio[best] < np.log(_TOLERANCE) else None
    return BodyEvidence(chain_length, unit, up)


def _median(values: Array) -> Array:
    """Median over the first axis, ignoring NaN; NaN where no value is finite."""
    out = np.full(values.shape[1:], np.nan)
    some = np.isfinite(values).any(0)
    if some.any():
        out[some] = np.nanmedian(values[:, some], axis=0)
    return out
