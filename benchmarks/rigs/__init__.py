"""Commands for users' rigs: `poseboard rig new`, `check`, `detect` and `run`, one file per command."""
