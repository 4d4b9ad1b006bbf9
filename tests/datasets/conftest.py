"""A small Human3.6M tree in the published layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_human36m import make_labels, write_human36m, write_labels


@pytest.fixture
def labels() -> dict[str, Any]:
    """The content of a labels file, to be changed at will."""
    return make_labels()


@pytest.fixture
def save_labels(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a labels file into the tree at ``tmp_path``."""
    return lambda content: write_labels(tmp_path, content)


@pytest.fixture(scope="session")
def human36m_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete tree with both kinds of images; tests do not change it."""
    root = tmp_path_factory.mktemp("human36m")
    write_human36m(root)
    return root
