"""Robust triangulation of 2D detections."""
