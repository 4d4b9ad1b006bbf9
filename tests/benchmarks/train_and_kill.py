"""``poseboard …`` that saves every 5 steps and dies by SIGKILL in a given step of training: for test_resume.py."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from poseboard.benchmarks import cli, training
from poseboard.methods import loop

SAVE_EVERY = 5
POINTS = 4

fit = loop.fit
kill_at = int(sys.argv.pop(1))


def fit_and_die(fabric: Any, learner: Any, *given: Any, **options: Any) -> loop.Fit:
    loss, seen = learner.loss, 0

    def counted(batch: Any) -> Any:
        nonlocal seen
        losses = loss(batch)
        seen += 1
        if seen == kill_at:  # every process of a group comes here
            os.kill(os.getpid(), signal.SIGKILL)
        return losses

    learner.loss = counted
    return fit(fabric, learner, *given, save_every=SAVE_EVERY, **options)


if __name__ == "__main__":
    training.fit = fit_and_die
    # Fewer points than steps, so that what is saved holds half of one.
    loop.CURVE_POINTS = POINTS
    cli.main()
