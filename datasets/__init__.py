"""Cameras, skeletons, samples, and one adapter per published data set."""
