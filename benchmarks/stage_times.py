"""Wall times of stages, measured by one run for the estimates of the next.

They stand beside a profile's results, and are no result: git does not track the file, no stage reads it, and losing it
costs nothing but a worse guess.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from poseboard.datasets.files import write_file

_ANNOUNCEMENT = re.compile(r"(?:(Running) stage '([^']+)'|Stage '([^']+)' (?:didn't change|is cached))")


def announced(line: str) -> tuple[str, Literal["runs", "skipped"]] | None:
    """The stage that a line of DVC's is about, and whether it runs now; None for any other line.

    Example:
        >>> announced("Running stage 'evaluate@dlt':")
        ('evaluate@dlt', 'runs')
        >>> announced("Stage 'begin' didn't change, skipping")
        ('begin', 'skipped')
    """
    match = _ANNOUNCEMENT.match(line)
    if match is None:
        return None
    return (match[2], "runs") if match[1] else (match[3], "skipped")


class StageTimes:
    """The file of a profile's stage times: seconds of each stage the last time that it ran to its end.

    Args:
        path: of the file, JSON.
        clock: seconds that only go forward.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._running: tuple[str, float] | None = None

    def read(self) -> dict[str, float]:
        """Seconds by stage; nothing where there is no file, or one that is damaged."""
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(values, dict):
            return {}
        return {name: float(s) for name, s in values.items() if isinstance(s, int | float) and 0 <= s < float("inf")}

    def follow(self, line: str) -> None:
        """Take a line of DVC's: where it is about a stage, the one before has ended."""
        stage = announced(line)
        if stage is None:
            return
        self.finish()
        if stage[1] == "runs":
            self._running = (stage[0], self._clock())

    def finish(self) -> None:
        """The stage that was running has ended well; to be called at the end of a run that has not failed."""
        if self._running is None:
            return
        name, began = self._running
        self._running = None
        times = {**self.read(), name: round(self._clock() - began, 1)}
        # A full disk ends a run where it costs a result, not here.
        with contextlib.suppress(OSError):
            write_file(self._path, (json.dumps(times, indent=1, sort_keys=True) + "\n").encode())
