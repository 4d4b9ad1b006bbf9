"""Program that reads cell arrays of a MATLAB file by SciPy and writes them to standard output as JSON.

A damaged file can crash SciPy's reader. It is therefore run apart (`read_apart`), and only this process ends.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import scipy  # its parts load when they are used


def main(path: str, *names: str) -> None:
    """Write an object of the cells of each variable, as nested lists of numbers, without variables that are absent."""
    content = scipy.io.loadmat(path, variable_names=list(names))
    json.dump({name: _cells(content[name]) for name in names if name in content}, sys.stdout)


def _cells(array: Any) -> Any:
    if array.dtype == object:
        return [_cells(cell) for cell in array.reshape(-1)]
    return np.asarray(array, dtype=np.float64).tolist()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}"[:200])
