"""JSON for web viewers: Y up as in three.js, millimetres with one decimal, limbs as pairs of indices.

{"format": "poseboard-motion", "version": 1, "unit": "mm", "up": "y", "rate_hz": 60.0, "start_frame": 0,
 "names": ["nose", …], "edges": [[0, 1], …], "frames": [[[x, y, z] or null, …], …]}
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from poseboard.datasets.files import write_file
from poseboard.datasets.keypoints.joint_sets import skeleton_of
from poseboard.datasets.motion.motion import Motion


def write(path: Path, motion: Motion) -> None:
    """Write a motion as JSON for web viewers; missing points are null."""
    turned = motion.turned("y")
    frames = [
        [None if gap else point for point, gap in zip(points, gaps, strict=True)]
        for points, gaps in zip(np.round(turned.points_mm, 1).tolist(), turned.missing.tolist(), strict=True)
    ]
    content = {
        "format": "poseboard-motion",
        "version": 1,
        "unit": "mm",
        "up": "y",
        "rate_hz": motion.rate_hz,
        "start_frame": motion.start_frame,
        "names": list(motion.names),
        "edges": skeleton_of(motion.names).edge_indices,
        "frames": frames,
    }
    write_file(path, msgspec.json.encode(content))
