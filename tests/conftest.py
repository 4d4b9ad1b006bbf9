"""Hypothesis draws the same examples in every run: a suite that fails, fails for everybody and again.

``--hypothesis-profile=explore`` draws others, several hundred a test.
"""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=500, deadline=None)
settings.load_profile("fixed")
