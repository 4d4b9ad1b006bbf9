"""Check of a rig for mistakes in its calibration and detections (`poseboard rig check`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.rig import RIG_FILE, Rig
from poseboard.methods.geometry.rig_mistakes import KINDS, Finding, check_rig

MOST_FRAMES = 1500
"""Frames that are checked: of a longer recording, those in the middle."""


def check(root: Path) -> tuple[list[Finding], dict[str, dict[str, Any]]]:
    """Find mistakes in the calibration and detections of a rig.

    Frames with several people in any view are ignored.

    Returns:
        Findings, the most certain first; and, by kind of mistake, the fields of rig.yaml that correct it.

    Raises:
        InputError: the rig cannot be read, or has too few frames with one person.
    """
    rig = Rig(root)
    where = root / RIG_FILE
    status = rig.status()
    if status.state != "ready":
        raise InputError(where, status.detail, "write it with `poseboard rig new`")
    frames = _middle(rig.frames, MOST_FRAMES)
    joints_px, confidence = _one_person(rig, frames)
    try:
        findings = check_rig(rig.cameras, joints_px, rig.skeleton.joints, confidence, rig.rig.up)
    except ValueError as error:
        remedy = "check the frame numbers of the detections, or record one person"
        raise InputError(where, f"{error}, with one person in view", remedy) from None
    return findings, {finding.kind: _fields(rig, finding) for finding in findings}


def _middle(frames: range, most: int) -> range:
    spare = max(0, len(frames) - most) // 2
    return frames[spare : spare + most]


def _one_person(rig: Rig, frames: range) -> tuple[Array, Array]:
    """Joints (V, F, J, 2) in px and confidences (V, F, J) of the frames; NaN for frames with several people."""
    shape = (len(rig.views), len(frames), len(rig.skeleton))
    joints_px, confidence = np.full((*shape, 2), np.nan), np.zeros(shape)
    several: NDArray[np.bool_] = np.zeros(len(frames), dtype=bool)
    for view, people in enumerate(rig.people.values()):
        at = people.frame - frames.start
        inside = (at >= 0) & (at < len(frames))
        at = at[inside]
        joints_px[view, at], confidence[view, at] = people.xy_px[inside], people.confidence[inside]
        several |= np.bincount(at, minlength=len(frames)) > 1
    joints_px[:, several] = np.nan
    return joints_px, confidence


def _fields(rig: Rig, finding: Finding) -> dict[str, Any]:
    """Fields of rig.yaml that correct a finding, with their new values."""
    out = finding.repair.changes(rig.cameras)
    for name, camera in rig.rig.cameras.items():
        if name in finding.repair.offset_frames:
            out[f"cameras.{name}.offset_frames"] += camera.offset_frames
        if name in finding.repair.swap_sides:
            out[f"cameras.{name}.swap_sides"] = not camera.swap_sides
    return out


def report(findings: Sequence[Finding], fields: dict[str, dict[str, Any]]) -> list[str]:
    """Findings as text: each mistake, its evidence in numbers, and the change of rig.yaml that corrects it."""
    lines = []
    for number, finding in enumerate(findings, 1):
        lines.append(f"{number}. {'warning: ' if finding.warning else ''}{finding.text}")
        evidence = finding.evidence
        if "before_px" in evidence:
            lines.append(
                f"   distance to epipolar lines {evidence['before_px']:.1f} px, after the repair "
                f"{evidence['after_px']:.1f} px; log evidence {evidence['score']:.0f}"
                + (
                    f", next explanation {finding.runner_up} {evidence['runner_up_score']:.0f}"
                    * bool(finding.runner_up)
                )
            )
        else:
            lines.append("   " + ", ".join(f"{name} {value:.4g}" for name, value in evidence.items()))
        if finding.alternatives:
            also = "; ".join(f"{', '.join(a.cameras)}: {KINDS[a.kind]}" for a in finding.alternatives)
            lines.append(f"   one of: the above, or {also}")
        lines += [f"   {RIG_FILE}: {field}: {json.dumps(value)}" for field, value in fields[finding.kind].items()]
    return lines or ["no mistake found"]


def as_json(findings: Sequence[Finding], fields: dict[str, dict[str, Any]]) -> str:
    """The findings as JSON."""
    content = [
        {
            "kind": f.kind,
            "cameras": f.cameras,
            "text": f.text,
            "warning": f.warning,
            "figures": f.figures,
            "evidence": f.evidence,
            "runner_up": f.runner_up,
            "one_of": [{"kind": a.kind, "cameras": a.cameras} for a in f.alternatives],
            "changes": fields[f.kind],
        }
        for f in findings
    ]
    return json.dumps(content, indent=2, ensure_ascii=False)
