"""Fusion of rays from several views without extrinsics into one 3D pose by a neural network."""
