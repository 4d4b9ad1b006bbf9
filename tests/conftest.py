"""Hypothesis draws the same examples in every run: a suite that fails, fails for everybody and again.

``--hypothesis-profile=explore`` draws others, several hundred a test.

One thread for PyTorch's operators and those of NumPy: what tests compute is too small to be shared out.
"""

import gc
import os
from functools import partial

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before either is imported

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=500, deadline=None)
settings.load_profile("fixed")


def pytest_collection_finish() -> None:
    """What the tests have imported is not looked through for garbage during them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """SciPy's least-squares fits end after a few evaluations: those to what an untrained network sees converge in
    hundreds, of no use to a test that compares one such fit with another."""
    import scipy

    monkeypatch.setattr(scipy.optimize, "least_squares", partial(scipy.optimize.least_squares, max_nfev=8))
