"""Synthetic worlds: people in motion, ray cast, and written in the layouts of published data sets.

``body``, ``motion``, ``scene`` and ``renderer`` know people, rooms and cameras but no data set; ``human36m`` puts them
into the Human3.6M multi-view layout.
"""
