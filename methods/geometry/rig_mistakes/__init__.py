"""Diagnosis of mistakes in the calibration and the detections of a rig, from the data only."""

from poseboard.methods.geometry.rig_mistakes.findings import KINDS, Finding, Repair, check_rig, flip_order

__all__ = ["KINDS", "Finding", "Repair", "check_rig", "flip_order"]
