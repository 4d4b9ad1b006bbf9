"""Hypothesis draws the same examples in every run: a suite that fails, fails for everybody and again.

``--hypothesis-profile=explore`` draws others, several hundred a test.

One thread for PyTorch's operators and those of NumPy: what tests compute is too small to be shared out.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before either is imported

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=500, deadline=None)
settings.load_profile("fixed")
