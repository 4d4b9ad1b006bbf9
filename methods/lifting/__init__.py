"""Lifting one view to a root-relative pose: the monocular networks of epipolar transformers' release."""
