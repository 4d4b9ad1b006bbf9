"""Synthetic worlds: rendered people in motion, written in the layouts of published data sets.

``body``, ``motion``, ``scene`` and ``renderer`` make people, rooms and images. ``world`` combines them into sequences.
``generation`` writes files and manifest. ``layouts`` has one writer per published data set.
"""
