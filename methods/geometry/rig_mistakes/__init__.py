"""Mistakes in the calibration and detections of a rig, named from the data alone."""

from poseboard.methods.geometry.rig_mistakes.findings import KINDS, Finding, Repair, check_rig, flip_order

__all__ = ["KINDS", "Finding", "Repair", "check_rig", "flip_order"]
