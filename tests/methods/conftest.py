"""Weights that the tests of several methods start from."""

from pathlib import Path

import pytest
from made_up import write_checkpoint


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the small network for Human3.6M's joints."""
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "backbone.pt", "backbone")
