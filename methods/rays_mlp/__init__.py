"""Rays of 2D detections in several uncalibrated views, fused by a network into one pose."""
