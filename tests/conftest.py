"""Settings of all tests.

Hypothesis draws the same examples in every run, so a failure repeats. ``--hypothesis-profile=explore`` draws 500 new
examples per test; ``mutation`` does not search for the smallest failing example. PyTorch and NumPy use one thread: the
arrays of the tests are small.
"""

import gc
import os
from functools import partial

import pytest
from hypothesis import Phase, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before either is imported

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=500, deadline=None)
settings.register_profile("mutation", derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile("fixed")


def pytest_collection_finish() -> None:
    """Exclude the imported modules from garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """End SciPy's least-squares fits after eight evaluations.

    Fits to points of an untrained network need hundreds to converge. A test that compares two such fits does not need
    convergence.
    """
    import scipy

    monkeypatch.setattr(scipy.optimize, "least_squares", partial(scipy.optimize.least_squares, max_nfev=8))
