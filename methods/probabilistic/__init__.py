"""Probabilistic triangulation: 3D poses and camera poses from views without extrinsics."""
