"""Epipolar transformers: heat maps whose features look along epipolar lines (He et al., CVPR 2020)."""
