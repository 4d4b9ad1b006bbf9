"""Trainings that save every 5 steps, of which one dies by SIGKILL in a given step: for test_resume.py.

``train_and_kill.py KILL_AT ROW...`` trains each row three times: left alone, killed, and run again after that. Every
training is a process of its own, forked from this one, which trains nothing. What each has left is moved to
``<how>/<row>``; how they ended is in ``ended-<rank>.json``.

The processes of a group die together: one that died while another still read what it had sent would end that other
by a broken connection, not by the signal.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from launching import draw_otherwise, under_a_name_of_its_own

import poseboard.methods.epipolar.method
import poseboard.methods.volumetric.method  # noqa: F401  # before the forks, not after each
from poseboard.benchmarks import cli
from poseboard.benchmarks import train as train_stage
from poseboard.methods import loop

SAVE_EVERY = 5
POINTS = 3
RESULTS = Path("results/smoke")
RANK, PROCESSES = os.environ.get("RANK", "0"), int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all(point: str) -> None:
    """Return when every process of the group has come to this point, told by files and not by the group itself."""
    Path("reached").mkdir(exist_ok=True)
    Path(f"reached/{point}-{RANK}").touch()
    while not all(Path(f"reached/{point}-{rank}").exists() for rank in range(PROCESSES)):
        time.sleep(0.01)


def train(row: str, kill_at: int) -> None:
    """The command, as its entry point runs it, with a loss that kills its process; 0 is not a step."""
    fit = loop.fit

    def fit_and_die(fabric: Any, learner: Any, *given: Any, **options: Any) -> loop.Fit:
        loss, seen = learner.loss, 0

        def counted(batch: Any) -> Any:
            nonlocal seen
            losses = loss(batch)
            seen += 1
            if seen == kill_at:
                wait_for_all(f"{row}-kill")
                os.kill(os.getpid(), signal.SIGKILL)
            return losses

        learner.loss = counted
        return fit(fabric, learner, *given, save_every=SAVE_EVERY, **options)

    train_stage.fit = fit_and_die
    # Fewer points than steps, so that what is saved holds half of one.
    loop.CURVE_POINTS = POINTS
    sys.argv = ["poseboard", "train", "human36m", row]
    cli.main()


def in_a_process(row: str, kill_at: int, number: int) -> int:
    """Train in a forked process; its exit code, negative for the signal that ended it."""
    if (child := os.fork()) == 0:
        code = 1
        try:
            draw_otherwise(number)
            if "MASTER_ADDR" in os.environ:
                under_a_name_of_its_own(str(number))
            train(row, kill_at)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    step, *rows = sys.argv[1:]
    ended: dict[str, dict[str, int]] = {row: {} for row in rows}
    plan = [(row, how, int(step) if how == "killed" else 0) for row in rows for how in ("alone", "killed", "again")]
    for number, (row, how, kill_at) in enumerate(plan):
        ended[row][how] = in_a_process(row, kill_at, number)
        if RANK == "0":
            checkpoints = RESULTS / "checkpoints" / row / "human36m"
            kept = Path(how) / row
            shutil.copytree(checkpoints, kept)
            if how != "killed":
                shutil.rmtree(checkpoints)
                shutil.copy(RESULTS / "training" / row / "human36m.json", kept)
        wait_for_all(f"moved-{number}")
    Path(f"ended-{RANK}.json").write_text(json.dumps(ended))
