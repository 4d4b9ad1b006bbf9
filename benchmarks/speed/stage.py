"""The speed stage: run benchmarks/speed, and write how many times faster than its peer each function is.

A ratio below its target is written too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

from poseboard.benchmarks.layout import Layout
from poseboard.datasets.errors import InputError
from poseboard.protocols.records import SpeedFile


def speed_stage(layout: Layout, *, full_size: bool = True, record: bool = False) -> list[str]:
    """Run pytest on benchmarks/speed, and return a line per ratio.

    A ratio below its aim is reported, but is not an error here, because the machine may be busy. It is a failure if
    pytest is run without this function.

    Args:
        layout: paths of the results.
        full_size: whether to run the comparisons that take more than a few seconds.
        record: whether to write to results/speed, which is in git, instead of results/<profile>/speed.

    Raises:
        InputError: a comparison failed before its measurement.
    """
    target = (layout.home / "results" if record else layout.results) / "speed"
    target.mkdir(parents=True, exist_ok=True)
    began = datetime.now(UTC).replace(microsecond=0)
    folder = layout.home / "benchmarks" / "speed"
    command = [sys.executable, "-m", "pytest", "-q", str(folder), "--benchmark-quiet"]
    command += ["--no-header", "--no-summary", "--tb=no"]
    if not full_size:
        command += ["-m", "not full_size"]
    done = subprocess.run(
        command, cwd=layout.home, check=False, env={**os.environ, "POSEBOARD_SPEED": str(target)}, stdout=sys.stderr
    )
    files = [SpeedFile.read(path) for path in sorted(target.glob("*.json"))]
    fresh = [file for file in files if datetime.fromisoformat(file.created) >= began]
    if done.returncode != 0 or not fresh:
        raise InputError(folder, f"pytest ended with {done.returncode}", "correct the error in its report above")
    return [_line(file) for file in fresh]


def _line(file: SpeedFile) -> str:
    ratio = "-" if file.ratio is None else f"{file.ratio:.1f}×"
    return f"{file.name}: {ratio} against {file.peer} (aim {file.aim}{'' if file.met else ', not met'})"
