"""Figures that several methods draw for their pages, and the style that these figures share."""
