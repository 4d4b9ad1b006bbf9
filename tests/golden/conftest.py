"""Golden vectors: numbers recorded from the reference implementations.

``POSEBOARD_GOLDEN`` names a folder with the same layout as ``vectors/``, to put another set through the same tests.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from filled_weights import filled, forget
from numpy.typing import NDArray
from torch import nn

Golden = Callable[[str], Mapping[str, NDArray[np.generic]]]
Fill = Callable[[nn.Module, int], None]


@pytest.fixture
def weights_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Initialise kernels with NaN, so that a kernel that is neither filled nor loaded is found."""
    for draw in ("kaiming_uniform_", "kaiming_normal_", "xavier_normal_", "normal_"):
        monkeypatch.setattr(nn.init, draw, lambda weight, *_, **__: weight.detach().fill_(torch.nan))


@pytest.fixture(scope="module", autouse=True)
def _drawn_for_one_file() -> Iterator[None]:
    yield
    forget()


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Folder of learnable triangulation's vectors."""
    default = Path(__file__).parent / "vectors"
    return Path(os.environ.get("POSEBOARD_GOLDEN", default)) / "learnable_triangulation"


@pytest.fixture(scope="session")
def golden(golden_folder: Path) -> Golden:
    """``golden("dlt")`` is the content of dlt.npz; the test is skipped if the set has no such file."""
    return _reader(golden_folder)


@pytest.fixture(scope="session")
def golden_epipolar(golden_folder: Path) -> Golden:
    """As ``golden``, of the vectors of epipolar transformers."""
    return _reader(golden_folder.with_name("epipolar_transformers"))


@pytest.fixture(scope="session")
def golden_rootnet(golden_folder: Path) -> Golden:
    """As ``golden``, of the vectors of RootNet."""
    return _reader(golden_folder.with_name("rootnet"))


@pytest.fixture(scope="session")
def golden_probabilistic(golden_folder: Path) -> Golden:
    """As ``golden``, of the vectors of probabilistic triangulation."""
    return _reader(golden_folder.with_name("probabilistic_triangulation"))


def _reader(folder: Path) -> Golden:
    def read(name: str) -> Mapping[str, NDArray[np.generic]]:
        path = folder / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"{path} is not in this set of vectors")
        with np.load(path) as file:
            return {key: file[key] for key in file.files}

    return read


@pytest.fixture(scope="session")
def fill_by_rule() -> Fill:
    """``fill_by_rule(module, weight_seed)`` sets every weight by the rule of the vectors' README."""

    def fill(module: nn.Module, weight_seed: int) -> None:
        values = module.state_dict()
        module.load_state_dict(filled(values, [tuple(old.shape) for old in values.values()], int(weight_seed)))

    return fill
