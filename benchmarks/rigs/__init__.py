"""Rigs of the user: `poseboard rig new`, `check`, `detect` and `run`, one file per command."""
