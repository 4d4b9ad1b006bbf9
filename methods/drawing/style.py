"""Style of the methods' figures, and their rendering."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from poseboard.datasets.sample import Image

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Colours of people."""
INK, RULE, NO_IMAGE = "#1b1e23", "#d5d8dc", "#f2f2f2"
STYLE: Any = {  # matplotlib types every key of it as a literal
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "text.parse_math": False,  # a camera's name may hold dollar signs
}


def pixels(figure: Figure, style: Any = STYLE) -> Image:
    """Render a figure to (H, W, 3) uint8 RGB with the matplotlib settings ``style``."""
    canvas = FigureCanvasAgg(figure)
    with mpl.rc_context(style):
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
