"""Page of a rig in one file: scores of a run, cameras, pictures, and a 3D viewer of the people."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from poseboard.report.site import TEMPLATES, environment, stylesheet
from poseboard.report.viewer import RigCamera, RigPerson, viewer_data

BLIND_SPOTS: Mapping[str, str] = {
    "rig-held-out": "An error that all cameras share. It includes the error of the detections.",
    "rig-held-out-p90": "An error that all cameras share. It includes the error of the detections.",
    "rig-bones": "Errors that do not change over time.",
    "rig-jitter": "Errors that change slowly; smoothing lowers it.",
    "rig-joints": "Whether they are right.",
    "rig-reprojection": "Errors in depth.",
    "rig-mpjpe": "An error of the whole rig.",
}
"""Table -> what its number does not see, as in docs/rig.md."""


@dataclass(frozen=True)
class RigNumber:
    """Score of a run on a rig.

    Args:
        table: id of the table.
        title: name of the measure.
        unit: unit of the score.
        value: the score; None: no score.
        ci95: 95 % confidence interval; None: no interval.
        counts: missing and false predictions in words; empty: none.
        details: lines with values by camera and of the worst joints.
    """

    table: str
    title: str
    unit: str
    value: float | None
    ci95: tuple[float, float] | None = None
    counts: str = ""
    details: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class RigRun:
    """Content of a rig's page.

    Args:
        rig: name of the rig.
        row: row that predicted the people.
        detail: frames, cameras and joints in one line.
        up: axis of the calibration's world frame that points up.
        rate_hz: frames per second.
        joints: J joint names.
        edges: limbs as pairs of joint indices.
        numbers: scores in the order of the page.
        cameras: cameras of the rig.
        people: tracks of the people.
        pictures: caption and PNG of some frames.
        warning: warning of the profile if its scores must not be quoted; empty: none.
        profile: name of the profile.
    """

    rig: str
    row: str
    detail: str
    up: str
    rate_hz: float
    joints: Sequence[str]
    edges: Sequence[tuple[int, int]]
    numbers: Sequence[RigNumber]
    cameras: Sequence[RigCamera]
    people: Sequence[RigPerson]
    pictures: Sequence[tuple[str, bytes]] = ()
    warning: str | None = None
    profile: str = "default"


def rig_page(run: RigRun) -> bytes:
    """Render the page of a rig as one HTML file without requests. Only the 3D viewer needs JavaScript.

    Example:
        >>> run = RigRun("hall", "dlt", "no frames", "z", 60.0, ["nose"], [], [], [], [])
        >>> rig_page(run).decode().splitlines()[0]
        '<!doctype html>'
    """
    templates = environment()
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    scene = viewer_data(run.joints, run.edges, run.cameras, run.people, run.rate_hz)
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("viewer.js", "rig.js"))
    return (
        templates.get_template("rig.html.j2")
        .render(
            run=run,
            style=Markup(stylesheet()),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            scene=scene,
            blind_spots=BLIND_SPOTS,
            pictures=[(caption, base64.b64encode(png).decode()) for caption, png in run.pictures],
            warnings=[run.warning] if run.warning else [],
            profile=run.profile,
        )
        .encode()
    )
