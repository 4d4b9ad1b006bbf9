"""One thread for the speed comparisons that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest
import torch
from threadpoolctl import threadpool_limits


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for both sides: small linear algebra is slower in several."""
    threads, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(of_opencv)
