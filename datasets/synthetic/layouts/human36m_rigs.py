"""A synthetic world of random rigs in the layout of Human3.6M multi-view; see `synthetic.rigs` and `human36m_rigs`."""

from __future__ import annotations

from functools import partial

from poseboard.datasets.human36m_rigs import Human36MRigs
from poseboard.datasets.synthetic import generation
from poseboard.datasets.synthetic.layouts.human36m import Human36MLayout
from poseboard.datasets.synthetic.rigs import RigsOptions

WorldOptions = RigsOptions


generate = partial(generation.generate, Human36MLayout(Human36MRigs, "human36m-rigs-1"))
"""Write a world in this layout, unless the folder already has it; see `generation.generate`."""
