"""The command line with samples that are shared out in small chunks."""

import os
from functools import partial

from poseboard.benchmarks import cli, harness, predicting

predicting.chunks = partial(harness.chunks, size=int(os.environ["CHUNK"]))
if __name__ == "__main__":
    cli.main()
