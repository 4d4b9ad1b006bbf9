"""The 2D backbone from which the multi-view methods start."""
