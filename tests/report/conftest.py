"""Fabricated results, and their pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from fabricated_results import write_everything

from poseboard.report.results import Results, read_results
from poseboard.report.site import build


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the results; read only."""
    folder = tmp_path_factory.mktemp("results")
    write_everything(folder)
    return folder


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("results")
    write_everything(folder)
    return read_results(folder, "default")


@pytest.fixture(scope="session")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the pages."""
    out = tmp_path_factory.mktemp("out")
    build(results, "default", out)
    return out
