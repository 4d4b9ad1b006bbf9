"""Plots of the pages: all that imports matplotlib or seaborn."""
