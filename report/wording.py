"""Signatures and inputs of methods in words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue

from poseboard.protocols.records import Signature
from poseboard.report.formatting import ordinal

_METRIC_WORDS = {
    "root": " of roots",
    "people": " of people",
    "matched": " of matched people",
    "recall": "recall",
    "sound": "sound ",
}
"""Parts of a metric's name that are words, not abbreviations."""
_ALIGNMENTS = {
    "root": "root-relative",
    "root and scale": "root-relative and scaled",
    "none": "absolute",
    "procrustes": "Procrustes-aligned",
}


def measure(signature: Signature) -> str:
    """Name of the measure of a signature: metric, alignment and number of cameras.

    Example:
        A signature of metric ``mpjpe<=150mm`` and alignment ``none`` gives "MPJPE clipped at 150 mm, absolute".
    """
    metric = re.sub(r"≤(\S+?)mm", r" clipped at \1 mm", metric_label(signature))
    parts = [re.sub(r"@(\S+?)mm", r" at \1 mm", metric)]
    alignment = signature.alignment.partition(",")[0]
    if not signature.metric.startswith("pa_"):  # its name says Procrustes
        parts.append(_ALIGNMENTS.get(alignment, alignment))
    if signature.each_alone and not signature.whole:
        parts.append("one camera")
    elif not signature.whole:
        parts.append(f"{camera_count(signature)} cameras")
    return ", ".join([*parts, *([signature.root_from] if signature.root_from else [])])


WITHHELD = "extrinsics withheld"
"""The condition that headings of tables state for all their columns."""


def conditions(signature: Signature) -> list[str]:
    """Conditions that distinguish scores of the same measure, in words; empty for a usual signature."""
    words = []
    if signature.every > 1:
        words.append(f"every {ordinal(signature.every)} frame")
    if count := len(signature.exclusions):
        words.append(f"without {count} sequence{'s' if count != 1 else ''}")
    if signature.average == "actions":
        words.append("mean of the actions")
    elif signature.average == "worst_subject":
        words.append("worst of the subjects")
    if signature.given:
        words.append(f"true {', '.join(signature.given)} given")
    if signature.trained_on is not None:
        words.append(f"trained on {signature.trained}" if signature.trained_on else "training data not known")
    if signature.extrinsics == "withheld":
        words.append(WITHHELD)
    if signature.frames_per_rig > 1:
        words.append(f"{signature.frames_per_rig} frames per rig")
    if signature.perturbation:
        words.append(signature.perturbed if signature.severities else f"perturbed by {signature.perturbed}")
    return words


def metric_label(signature: Signature) -> str:
    """Name of the metric as in papers.

    Example:
        pa_mpjpe -> PA-MPJPE, pck@150mm -> PCK@150mm, mpjpe<=150mm -> MPJPE≤150mm, sound_ap_root@250mm -> sound AP of
        roots@250mm; a name in words, such as camera rotation, is unchanged.
    """
    name, limit = re.fullmatch(r"([^@<>=]*)(.*)", signature.metric, re.DOTALL).groups()  # type: ignore[union-attr]
    parts = [_METRIC_WORDS.get(part, part if " " in part else f"-{part.upper()}") for part in name.split("_")]
    return "".join(parts).replace(" -", " ").strip(" -") + limit.replace("<=", "≤")


def camera_count(signature: Signature) -> int:
    """Number of cameras per prediction; with several sets of cameras, that of the largest set."""
    return max(map(len, signature.cameras))


def kinds_of_inputs(inputs: Mapping[str, JsonValue] | None) -> list[str]:
    """Kinds of a method's inputs in words, by which readers filter the rows of a table.

    Example:
        >>> kinds_of_inputs({"views": [1, 1], "extrinsics": False, "images": False})
        ['one view', '2D detections']
    """
    if not inputs:
        return ["not stated"]
    one_view = isinstance(views := inputs.get("views"), list) and views[-1] == 1
    calibration = "calibrated" if inputs.get("extrinsics") else "without extrinsics"
    return ["one view" if one_view else calibration, *(["2D detections"] if inputs.get("images") is False else [])]


def inputs_in_words(inputs: Mapping[str, JsonValue]) -> list[tuple[str, str]]:
    """Inputs of a method in words, as (name, value); inputs that the score file does not record are skipped."""
    facts = []
    match inputs.get("views"):
        case [int() as fewest, int() as most] if most == 1:
            facts.append(("cameras", "one at a time"))
        case [int() as fewest, int() as most]:
            facts.append(("cameras", f"{fewest} or more" if most >= 1000 else f"{fewest} to {most}"))
    calibration = [name for name in ("intrinsics", "extrinsics") if inputs.get(name)]
    if "intrinsics" in inputs:
        facts.append(("calibration", " and ".join(calibration) or "none"))
    if inputs.get("images") is False:
        facts.append(("images", "none, only 2D detections"))
    elif "crop_px" in inputs:
        side = inputs["crop_px"]
        facts.append(("images", "whole frames" if side is None else f"the person’s crops, {side} px square"))
    roots = {"none": "none", "predicted": "predicted by another row", "truth": "ground truth"}
    if "root" in inputs:
        facts.append(("root", roots.get(str(inputs["root"]), str(inputs["root"]))))
    if isinstance(window := inputs.get("window"), int):
        facts.append(("frames", "one at a time" if window == 1 else f"{window} in a row"))
    if isinstance(frames := inputs.get("frames_per_rig"), int) and frames > 1:
        facts.append(("frames per rig", f"up to {frames} used together"))
    return facts
