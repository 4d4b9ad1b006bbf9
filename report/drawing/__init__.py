"""Figures of the pages: all that imports matplotlib or seaborn."""

from matplotlib.figure import Figure

__all__ = ["Figure"]
