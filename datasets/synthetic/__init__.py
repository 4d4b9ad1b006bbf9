"""Synthetic worlds: people in motion, ray cast, and written in the layouts of published data sets.

``body``, ``motion``, ``scene`` and ``renderer`` know people, rooms and cameras; ``world`` directs them and keeps the
manifest of a tree; ``layouts`` has one writer per published data set.
"""
