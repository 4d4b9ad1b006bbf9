"""Monocular lifting to a root-relative pose, with the networks of epipolar transformers' release."""
