"""Fabricated results that several tests read."""

from __future__ import annotations

import pytest
from fabricated_results import write_everything

from poseboard.report.results import Results, read_results


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("results")
    write_everything(folder)
    return read_results(folder, "default")
