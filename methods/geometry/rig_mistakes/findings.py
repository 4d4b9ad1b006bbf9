"""Findings about a rig: the mistake, its size, the evidence, and a repair as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from poseboard.datasets.camera import Array, Camera
from poseboard.methods.geometry.rig_mistakes.body import UNITS_MM, BodyEvidence, body_evidence
from poseboard.methods.geometry.rig_mistakes.comparison import Round, Scored, explain
from poseboard.methods.geometry.rig_mistakes.explanations import triangulated
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState, Tracks

KINDS: Mapping[str, str] = {
    "extrinsics inverted": "the extrinsics lead from camera to world, but were read as from world to camera",
    "centre for translation": "the translation is the camera centre, but was read as t of x_cam = R X + t",
    "rotation transposed": "the rotation was read by columns instead of rows, or the reverse",
    "cameras swapped": "the detections of each camera belong to the calibration of the other",
    "resolution": "the intrinsics are those of another image size than the detections",
    "distortion": "the lens distortion of the calibration is not that of the detections",
    "frame offset": "the detections are out of sync with those of the other cameras",
    "sides swapped": "left and right are exchanged in the detections",
    "focal length": "the focal length is wrong",
    "camera moved": "the camera is not where the calibration says",
    "unit": "the translations are not in mm",
    "up axis": "another axis of the world points up",
    "no explanation": "the detections do not fit those of the other cameras, and no single change explains it",
}
"""Kinds of findings and what they say."""
ACCEPTED = 6.0
"""Score, in nats, from which an explanation is a finding."""
_ACCEPTED_LATER = 20.0
"""The same after a first repair, which may not be exact."""
_CLOSE = 6.0
"""Explanations whose score is lower by less cannot be told from the best."""
_MOST = 3
"""Mistakes that are searched one after another."""
_NO_FIT = 0.15
"""Misfit of a camera, relative to the size of people in it, from which it is reported without an explanation."""
_BODY_FRAMES = 80


@dataclass(frozen=True, eq=False)
class Repair:
    """Changes of a rig and its detections that repair a mistake.

    Args:
        cameras: name -> new camera.
        offset_frames: name -> frames to add to the camera's offset. Frame n of the rig is frame n + offset of the
            detections.
        swap_sides: names of the cameras in which to exchange left and right.
        up: axis of the world that points up, such as "y" or "-y"; None: unchanged.
    """

    cameras: Mapping[str, Camera] = field(default_factory=dict)
    offset_frames: Mapping[str, int] = field(default_factory=dict)
    swap_sides: tuple[str, ...] = ()
    up: str | None = None

    def apply(
        self, cameras: Mapping[str, Camera], joints_px: Array, joints: Sequence[str]
    ) -> tuple[dict[str, Camera], Array]:
        """Cameras and joints (V, F, J, 2) after the repair; NaN for frames without a detection."""
        names = list(cameras)
        out = np.array(joints_px, dtype=np.float64)
        frames = out.shape[1]
        for name, offset in self.offset_frames.items():
            v = names.index(name)
            at = np.arange(frames) + offset
            inside = (at >= 0) & (at < frames)
            out[v] = np.where(inside[:, None, None], out[v][np.clip(at, 0, frames - 1)], np.nan)
        for name in self.swap_sides:
            out[names.index(name)] = out[names.index(name)][:, flip_order(joints)]
        return {name: self.cameras.get(name, camera) for name, camera in cameras.items()}, out

    def changes(self, cameras: Mapping[str, Camera]) -> dict[str, Any]:
        """Fields of rig.yaml with their new values. Frame offsets are relative to the current ones."""
        out: dict[str, Any] = {}
        for name, after in self.cameras.items():
            before = cameras[name]
            if not np.array_equal(before.K, after.K):
                out[f"cameras.{name}.f"] = [round(float(after.K[0, 0]), 3), round(float(after.K[1, 1]), 3)]
                if not np.array_equal(before.K[:2, 2], after.K[:2, 2]):
                    out[f"cameras.{name}.c"] = [round(float(x), 3) for x in after.K[:2, 2]]
            if before.size != after.size:
                out[f"cameras.{name}.size"] = list(after.size)
            if not np.array_equal(before.dist, after.dist):
                out[f"cameras.{name}.dist"] = [round(float(x), 6) for x in after.dist]
            if not np.array_equal(before.R, after.R):
                out[f"cameras.{name}.rotation"] = [round(float(x), 6) for x in cv2.Rodrigues(after.R)[0].ravel()]
            if not np.array_equal(before.t, after.t):
                out[f"cameras.{name}.t_mm"] = [round(float(x), 3) for x in after.t]
        for name, offset in self.offset_frames.items():
            out[f"cameras.{name}.offset_frames"] = offset
        for name in self.swap_sides:
            out[f"cameras.{name}.swap_sides"] = True
        if self.up is not None:
            out["up"] = self.up
        return out


@dataclass(frozen=True, eq=False)
class Finding:
    """Mistake of a rig, with evidence and repair.

    Args:
        kind: kind of the mistake, a key of `KINDS`.
        cameras: names of the cameras with the mistake.
        whole_rig: whether all cameras have the same mistake.
        figures: size of the mistake, such as ``frames`` or ``factor``.
        evidence: ``before_px`` and ``after_px``, robust scales of the epipolar distances before and after the repair;
            their ``ratio``; ``score`` relative to the unchanged rig and ``runner_up_score``, nats. For mistakes of unit
            or axis: length and direction of the body.
        runner_up: text of the next explanation of another kind or camera; None if there is none.
        repair: changes that repair the mistake.
        alternatives: findings that explain the data equally well ("one of").
        warning: True if results are correct but in an unexpected frame or unit; False if results are wrong.
        certainty: score by which findings are sorted, nats.
    """

    kind: str
    cameras: tuple[str, ...]
    whole_rig: bool
    figures: Mapping[str, float]
    evidence: Mapping[str, float]
    repair: Repair
    runner_up: str | None = None
    alternatives: tuple[Finding, ...] = ()
    warning: bool = False
    certainty: float = 0.0

    @property
    def text(self) -> str:
        """One line with the cameras, the mistake and its size."""
        where = "all cameras" if self.whole_rig else " and ".join(self.cameras)
        size = ", ".join(f"{name} {value:.3g}" for name, value in self.figures.items())
        return f"{where}: {KINDS[self.kind]}" + (f" ({size})" if size else "")


def flip_order(joints: Sequence[str]) -> list[int]:
    """Index of each joint's partner on the other side of the body, from the names left_… and right_…."""
    index = {name: i for i, name in enumerate(joints)}
    out = list(range(len(joints)))
    for name, i in index.items():
        for one, other in (("left_", "right_"), ("right_", "left_")):
            if name.startswith(one):
                out[i] = index.get(other + name.removeprefix(one), i)
    return out


def check_rig(
    cameras: Mapping[str, Camera],
    joints_px: Array,
    joints: Sequence[str],
    confidence: Array | None = None,
    up: str | None = "z",
) -> list[Finding]:
    """Find mistakes of a rig from 2D detections of one person. The most certain is first; [] for a correct rig.

    Args:
        cameras: name -> camera, in the order of ``joints_px``.
        joints_px: (V, F, J, 2) detections of one person in distorted pixels; NaN where missing.
        joints: (J,) joint names. The prefixes left_ and right_ mark sides.
        confidence: (V, F, J) confidences. Detections at 0 or below a quarter of the view's median are not used.
        up: world axis that should point up, such as "z"; None: not checked.

    Raises:
        ValueError: shapes do not match, or two cameras have fewer than 100 joints in common frames.

    Example:
        >>> for finding in check_rig(cameras, joints_px, COCO.joints):
        ...     print(finding.text)
    """
    names = list(cameras)
    joints_px = _usable(np.asarray(joints_px, dtype=np.float64), confidence, len(names), len(joints))
    order = flip_order(joints)
    state = RigState.of(list(cameras.values()))
    findings: list[Finding] = []
    for number in range(_MOST):
        compared = explain(joints_px, state, order)
        best = _accepted(compared, ACCEPTED if number == 0 else _ACCEPTED_LATER)
        if best is None:
            break
        alternatives = tuple(
            _finding(names, compared, s)
            for s in _distinct(compared.scored, best)
            if s.clear and s.score > best.score - _CLOSE
        )
        findings.append(replace(_finding(names, compared, best), alternatives=alternatives))
        state = best.state
    if len(findings) < _MOST:
        findings += _without_explanation(names, joints_px, compared)
    findings += _of_body(names, joints_px, joints, state, up)
    return sorted(findings, key=lambda f: f.certainty, reverse=True)


def _usable(joints_px: Array, confidence: Array | None, views: int, joints: int) -> Array:
    if joints_px.ndim != 4 or joints_px.shape[0] != views or joints_px.shape[2:] != (joints, 2):
        raise ValueError(f"joints ({views}, F, {joints}, 2) expected, got {joints_px.shape}")
    joints_px = np.where(np.isfinite(joints_px).all(-1, keepdims=True), joints_px, np.nan)
    if confidence is not None:
        for v, of_view in enumerate(np.asarray(confidence, dtype=np.float64)):
            positive = of_view[of_view > 0]
            least = 0.25 * float(np.median(positive)) if len(positive) else 0.0
            joints_px[v][~(of_view > least)] = np.nan
    if (np.isfinite(joints_px[..., 0]).sum(0) >= 2).sum() < 100:
        raise ValueError("fewer than 100 joints are detected by two cameras in the same frame")
    return joints_px


def _accepted(compared: Round, least: float) -> Scored | None:
    """Best explanation with a large change whose score is at least ``least`` and close to the best score; else None."""
    if not compared.scored or compared.scored[0].score < least:
        return None
    best = compared.scored[0].score
    for s in compared.scored:
        if s.score < max(least, best - _CLOSE):
            return None
        if s.clear:
            return s
    return None


def _distinct(scored: Sequence[Scored], best: Scored) -> Iterator[Scored]:
    """Iterate over explanations other than ``best``, best first, with one per kind and set of views."""
    seen = {(best.kind, best.views)}
    for s in scored:
        if (s.kind, s.views) not in seen:
            seen.add((s.kind, s.views))
            yield s


def _finding(names: Sequence[str], compared: Round, s: Scored) -> Finding:
    concerned = np.isin(s.fit.pairs, s.views).any(1)
    before = _median_px(compared.before_px[concerned])
    after = _median_px(s.fit.scale_px[concerned])
    evidence = {"before_px": before, "after_px": after, "ratio": after / before, "score": s.score}
    other = next(_distinct(compared.scored, s), None)
    runner_up = None
    if other is not None:
        evidence["runner_up_score"] = other.score
        runner_up = f"{other.kind} ({_cameras(names, other.views)})"
    base, state = compared.base, s.state
    changed = [v for v in range(len(names)) if state.cameras[v] is not base.cameras[v]]
    repair = Repair(
        cameras={names[v]: state.cameras[v] for v in changed},
        offset_frames={
            names[v]: state.offset_frames[v] - base.offset_frames[v]
            for v in range(len(names))
            if state.offset_frames[v] != base.offset_frames[v]
        },
        swap_sides=tuple(names[v] for v in range(len(names)) if state.swapped[v] != base.swapped[v]),
    )
    return Finding(
        s.kind,
        tuple(names[v] for v in s.views),
        len(s.views) == len(names),
        s.figures,
        evidence,
        repair,
        runner_up=runner_up,
        certainty=s.score,
    )


def _median_px(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def _cameras(names: Sequence[str], views: Sequence[int]) -> str:
    return "all cameras" if len(views) == len(names) else ", ".join(names[v] for v in views)


def _without_explanation(names: Sequence[str], joints_px: Array, compared: Round) -> list[Finding]:
    """Findings for cameras that disagree with all others by much, relative to the size of people in the image."""
    sizes = np.array([_person_px(of_view) for of_view in joints_px])
    pairs = compared.unchanged.pairs
    relative = compared.unchanged.scale_px / np.sqrt((sizes[pairs[:, 0]] ** 2 + sizes[pairs[:, 1]] ** 2) / 2)
    out = []
    for v, name in enumerate(names):
        of_view = relative[(pairs == v).any(1)]
        # A view whose detections are all left out as outliers has no pair at all.
        detections = int(np.isfinite(joints_px[v, ..., 0]).sum())
        if (np.isfinite(of_view).any() and np.nanmin(of_view) > _NO_FIT) or (
            detections > 200 and not np.isfinite(of_view).any()
        ):
            misfit = _median_px(compared.unchanged.scale_px[(pairs == v).any(1)])
            evidence = {"misfit_px": misfit, "person_px": float(sizes[v])}
            out.append(Finding("no explanation", (name,), False, {}, evidence, Repair()))
    return out


def _person_px(joints_px: Array) -> float:
    """Median over frames of the diagonal of the bounding box of joints (F, J, 2), pixels."""
    complete = np.isfinite(joints_px[..., 0]).sum(1) >= 5
    if not complete.any():
        return float("nan")
    low, high = np.nanpercentile(joints_px[complete], [5, 95], axis=1)
    return float(np.median(np.linalg.norm(high - low, axis=-1)))


def _of_body(
    names: Sequence[str], joints_px: Array, joints: Sequence[str], state: RigState, up: str | None
) -> list[Finding]:
    evidence = _body(joints_px, joints, state)
    out = []
    if evidence.unit not in {None, "mm"}:
        factor = UNITS_MM[str(evidence.unit)]
        cameras = {name: replace(c, t=c.t * factor) for name, c in zip(names, state.cameras, strict=True)}
        figures = {"factor": factor}
        of_chain = {"shoulder_to_ankle": evidence.chain, "shoulder_to_ankle_repaired_mm": evidence.chain * factor}
        out.append(Finding("unit", tuple(names), True, figures, of_chain, Repair(cameras), certainty=1000.0))
    axis = evidence.up_axis
    if up is not None and axis is not None and axis != up:
        direction = dict(zip(("up_x", "up_y", "up_z"), map(float, evidence.up), strict=True))
        out.append(
            Finding("up axis", tuple(names), True, {}, direction, Repair(up=axis), warning=True, certainty=500.0)
        )
    return out


def _body(joints_px: Array, joints: Sequence[str], state: RigState) -> BodyEvidence:
    """Size and direction of the body, triangulated in up to `_BODY_FRAMES` frames of the repaired rig."""
    grid = Tracks.grid(joints_px, flip_order(joints), _BODY_FRAMES)
    rays = grid.rays(state)
    P = np.concatenate([rays.R, -(rays.R @ rays.centres[..., None])], -1)
    focal_px = np.array([c.K[0, 0] for c in state.cameras])
    X = triangulated(P, rays.points, focal_px)
    return body_evidence(X.reshape(-1, len(joints), 3), joints)
