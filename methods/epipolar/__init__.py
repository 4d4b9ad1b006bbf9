"""Epipolar transformers: 2D features with attention along epipolar lines of other views (He et al., CVPR 2020)."""
