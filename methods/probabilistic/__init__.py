"""Probabilistic triangulation: poses and cameras from views without extrinsics."""
