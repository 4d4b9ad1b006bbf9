"""Golden vectors: numbers recorded from the reference implementations.

``POSEBOARD_GOLDEN`` names a folder with the same layout as ``vectors/``, to put another set through the same tests.
"""

import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

Golden = Callable[[str], Mapping[str, NDArray[np.generic]]]
Fill = Callable[[nn.Module, int], None]


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
        state = {}
        for key, old in module.state_dict().items():
            shape = tuple(old.shape)
            n = np.random.default_rng(zlib.crc32(key.encode()) + int(weight_seed)).standard_normal(shape)
            if key.endswith(".num_batches_tracked"):
                state[key] = torch.zeros(shape, dtype=torch.int64)
                continue
            if len(shape) > 1:
                value = n / np.sqrt(np.prod(shape[1:]))
            elif key.endswith(".running_var"):
                value = 1 + 0.1 * np.abs(n)
            elif key.endswith(".weight"):
                value = 1 + 0.1 * n
            else:
                value = 0.1 * n
            state[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
        module.load_state_dict(state)

    return fill
