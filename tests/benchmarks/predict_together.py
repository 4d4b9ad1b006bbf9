"""The command line with samples that are shared out in small chunks; SPOIL says what befalls a process."""

import os
import signal
from functools import partial

from poseboard.benchmarks import cli, harness, predicting

FIRST = os.getpid()
answers_of = predicting.answers_of


def spoiled(*given: object, **options: object) -> object:
    """Predict; another process than the first is killed after that."""
    answers = answers_of(*given, **options)  # type: ignore[arg-type]
    if os.environ["SPOIL"] == "kill" and (os.getpid() != FIRST or os.environ.get("LOCAL_RANK") == "1"):
        os.kill(os.getpid(), signal.SIGKILL)
    return answers


predicting.chunks = partial(harness.chunks, size=int(os.environ["CHUNK"]))
predicting.answers_of = spoiled  # type: ignore[assignment]
if __name__ == "__main__":
    cli.main()
