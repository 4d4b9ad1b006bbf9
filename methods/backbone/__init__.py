"""The 2D backbone: what the multi-view methods start from."""
