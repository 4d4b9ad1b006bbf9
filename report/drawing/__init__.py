"""Figures of the pages. Only this folder imports matplotlib and seaborn."""

from matplotlib.figure import Figure

__all__ = ["Figure"]
