"""The speed stage: runs the comparisons of benchmarks/speed and keeps their ratios, met or not."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from poseboard.benchmarks.settings import Settings
from poseboard.datasets.errors import InputError
from poseboard.protocols.records import SpeedFile


def speed_stage(settings: Settings) -> list[str]:
    """Run pytest over benchmarks/speed into results/speed; a line a ratio.

    A profile without ``full_size`` keeps what was measured before of the comparisons that take more than a few seconds.

    A ratio below its aim is recorded and said, and is no failure here: on a busy machine that is a measurement as well.
    The comparisons themselves fail when pytest runs them.

    Raises:
        InputError: the comparisons broke before they had all been measured.
    """
    target = settings.home / "results" / "speed"
    began = datetime.now(UTC).replace(microsecond=0)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        str(settings.home / "benchmarks" / "speed"),
        "--benchmark-columns=median",
        *(() if settings.profile.full_size else ("-m", "not full_size")),
    ]
    done = subprocess.run(
        command, cwd=settings.home, check=False, env={**os.environ, "POSEBOARD_SPEED": str(target)}, stdout=sys.stderr
    )
    files = [SpeedFile.read(path) for path in sorted(target.glob("*.json"))]
    fresh = [file for file in files if datetime.fromisoformat(file.created) >= began]
    # Exit code 1: a limit or an aim was missed, and what was measured stands in the files.
    if done.returncode not in (0, 1) or not fresh:
        raise InputError(Path("benchmarks/speed"), f"pytest ended with {done.returncode}", "its report is above")
    return [_line(file) for file in fresh]


def _line(file: SpeedFile) -> str:
    ratio = "-" if file.ratio is None else f"{file.ratio:.1f}×"
    return f"{file.name}: {ratio} against {file.peer} (aim {file.aim}{'' if file.met else ', not met'})"
