"""The speed stage: runs the comparisons of benchmarks/speed and writes their ratios, met or not."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

from poseboard.benchmarks.layout import Layout
from poseboard.datasets.errors import InputError
from poseboard.protocols.records import SpeedFile


def speed_stage(layout: Layout, *, full_size: bool = True, record: bool = False) -> list[str]:
    """Run pytest over benchmarks/speed; a line per ratio.

    A profile without ``full_size`` leaves out the comparisons that take more than a few seconds. A ratio below its aim
    is a line like any other: on a busy machine that is a measurement as well. When pytest runs the comparisons by
    itself, a ratio below its aim fails.

    Args:
        layout: where results lie.
        full_size: whether to run the comparisons that take more than a few seconds.
        record: write into results/speed, which is kept in git, instead of results/<profile>/speed.

    Raises:
        InputError: a comparison broke before it was measured.
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
        raise InputError(folder, f"pytest ended with {done.returncode}", "its report is above")
    return [_line(file) for file in fresh]


def _line(file: SpeedFile) -> str:
    ratio = "-" if file.ratio is None else f"{file.ratio:.1f}×"
    return f"{file.name}: {ratio} against {file.peer} (aim {file.aim}{'' if file.met else ', not met'})"
