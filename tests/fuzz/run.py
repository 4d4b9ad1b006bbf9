"""Damage inputs, read each in a process with limits, and count what happens.

    python tests/fuzz/run.py --cases 400
    python tests/fuzz/run.py --only shelf:17        # one case, with its traceback
    python tests/fuzz/run.py --cases 5000 --write docs/robustness.md

Case n of an input is always the same. The cases of an input are read by a process that is forked from this one, which
has imported everything and read nothing.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from inputs import INPUTS, Reading
from mutators import MUTATORS

from poseboard.datasets.errors import InputError
from poseboard.protocols.records import ResultError

SECONDS, BYTES = 20, 2**31
TOLERANCE = 0.05
"""Part of the largest number of an array up to which a changed number counts as equal."""

END = "end"

SLOW = ("human36m", "human36m-rigs", "human36m-toolbox", "campus", "shelf")
"""Inputs with large images, many images, or a process for each file."""
GOOD = ("refused", "equal", "warned")
BAD = ("traceback", "hang", "crash", "memory", "unclear", "silent")


@dataclass(frozen=True)
class Result:
    """What happened to one case."""

    case: str
    group: str
    mutator: str
    file: str
    verdict: str
    text: str


def in_child(work: Iterator[Any], seen: Callable[[Any], None]) -> tuple[list[Any], str]:
    """Items of an iterator that runs in a process with limits for each item, and why it ended early.

    `seen` gets each item when it arrives.
    """
    here, there = os.pipe()
    child = os.fork()
    if not child:
        os.close(here)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        try:
            with open(there, "wb", buffering=0) as file:
                limit()
                for item in work:
                    file.write(pickle.dumps(item))
                    limit()
                file.write(pickle.dumps(END))
        finally:
            os._exit(0)
    os.close(there)
    items = []
    with open(here, "rb") as file:
        while file.peek(1):
            items.append(pickle.load(file))
            seen(items[-1])
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return items, "hang" if number == signal.SIGALRM else f"crash by {signal.Signals(number).name}"
    return (items[:-1], "") if items and items[-1] == END else (items, "crash without a result")


def limit() -> None:
    """Limit the time and the memory of this process from now on."""
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)  # a share of a busy machine is slower
    signal.alarm(round(SECONDS * max(1.0, busy)))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def equal(read: Any, clean: Any) -> bool:
    """Whether two values are equal up to `TOLERANCE`."""
    if isinstance(read, str) or isinstance(clean, str):
        return bool(read == clean)
    a, b = np.asarray(read, dtype=np.float64), np.asarray(clean, dtype=np.float64)
    if a.shape != b.shape:
        return False
    largest = np.abs(b[np.isfinite(b)]).max(initial=0)
    return bool(np.isclose(a, b, rtol=0, atol=TOLERANCE * largest, equal_nan=True).all())


def differences(read: Reading, clean: Reading) -> list[str]:
    """Places whose values differ."""
    places = [*clean.values, *(place for place in read.values if place not in clean.values)]
    both = read.values.keys() & clean.values.keys()
    return [place for place in places if place not in both or not equal(read.values[place], clean.values[place])]


def damage(tree: Path, seed: list[int]) -> tuple[str, str, str]:
    """Damage one file of a tree; returns group and name of the mutator, and the file."""
    rng = np.random.default_rng(seed)
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    kinds = sorted({path.suffix for path in files})
    while True:
        suffix = kinds[int(rng.integers(len(kinds)))]
        alike = [path for path in files if path.suffix == suffix]
        path = alike[int(rng.integers(len(alike)))]
        group = list(MUTATORS)[int(rng.integers(len(MUTATORS)))]
        name = list(MUTATORS[group])[int(rng.integers(len(MUTATORS[group])))]
        try:
            MUTATORS[group][name](path, rng)
        except Exception:  # `NotApplicableError`, or values that the format of the file cannot hold
            continue
        return group, name, str(path.relative_to(tree))


def judge(name: str, number: int, clean_tree: Path, clean: Reading, case: Path) -> Result:
    """Verdict on one case, in the process that reads it."""
    shutil.copytree(clean_tree, case, copy_function=os.link)
    names = {part for path in case.rglob("*") for part in (path.name, path.stem)} | {case.name}
    group, mutator, file = damage(case, [number, *name.encode()])

    def result(verdict: str, text: str = "") -> Result:
        return Result(f"{name}:{number}", group, mutator, file, verdict, text.replace(str(case), "")[:300])

    try:
        read = INPUTS[name].read(case)
    except (InputError, ResultError) as error:
        text = str(error)
        if any(
            word in text.lower() for word in ("unable to allocate", "bad_alloc", "out of memory", "insufficient mem")
        ):
            return result("memory", text)
        clear = text.isprintable() and any(part in text for part in names) and len(text) < 2000
        return result("refused" if clear else "unclear", text)
    except MemoryError as error:
        return result("memory", str(error))
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = next((f for f in reversed(frames) if "/.editable/" in f.filename), frames[-1])
        return result("traceback", f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}")
    if new := read.warnings - clean.warnings:
        first = min(new)  # errors before warnings
        return result("refused" if first.startswith("error: ") else "warned", first)
    changed = differences(read, clean)
    return result("silent", f"{len(changed)} differ: {', '.join(changed[:3])}") if changed else result("equal")


def read_cases(name: str, numbers: list[int], tree: Path) -> Iterator[Result | None]:
    """None for the clean input, then the result of each case, in the process that reads them."""
    clean = INPUTS[name].read(tree)
    yield None
    for number in numbers:
        case = tree.with_name(f"{name}-{number}")
        yield judge(name, number, tree, clean, case)
        shutil.rmtree(case, ignore_errors=True)


def run(name: str, numbers: list[int]) -> list[Result]:
    """Results of the cases of an input. A process reads all of them; if it ends early, another one reads the rest."""
    gc.freeze()  # so that a child copies less of the memory
    results: list[Result] = []
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    tree = folder / name
    try:
        tree.mkdir()
        INPUTS[name].write(tree)
        while len(results) < len(numbers):
            items, failure = in_child(read_cases(name, numbers[len(results) :], tree), tell)
            assert items, (name, failure)
            results += items[1:]
            if failure and len(results) < len(numbers):
                number = numbers[len(results)]
                damaged = damage_again(tree, folder / f"{name}-{number}", name, number)
                results.append(Result(f"{name}:{number}", *damaged, failure.split()[0], failure))
                tell(results[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return results


def tell(item: Any) -> None:
    """Print a failed case."""
    if isinstance(item, Result) and item.verdict in BAD:
        print(f"{item.verdict}: {item.case}: {item.mutator} of {item.file}: {item.text}", flush=True)


def damage_again(tree: Path, case: Path, name: str, number: int) -> tuple[str, str, str]:
    """What was damaged in a case that ended without a result."""
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(tree, case, copy_function=os.link)
    try:
        return damage(case, [number, *name.encode()])
    finally:
        shutil.rmtree(case)


def table(results: list[Result]) -> str:
    """Counts by input in Markdown."""
    verdicts = [*GOOD, *BAD]
    lines = ["| input | cases | " + " | ".join(verdicts) + " |", "|---" * (len(verdicts) + 2) + "|"]
    names = list(dict.fromkeys(result.case.split(":")[0] for result in results))
    for name in [*names, "all"]:
        of_input = [r for r in results if name in ("all", r.case.split(":")[0])]
        counts = Counter(result.verdict for result in of_input)
        lines.append(f"| {name} | {len(of_input)} | " + " | ".join(str(counts[v]) for v in verdicts) + " |")
    return "\n".join(lines)


REASONS = (
    ("image", lambda r: r.file.endswith((".jpg", ".png", ".zip")), "JPEG has no checksum, and libjpeg finds no damage"),
    (
        "lens",
        lambda r: ".camera.lens" in r.text,
        "one coefficient of a lens changed: it moves points in the corners of images, and people are in the middle",
    ),
    ("exchanged", lambda r: r.mutator == "exchanged", "two people, boxes or lists changed places, and both fit"),
    (
        "detections",
        lambda r: "pred_" in r.file or "detections" in r.file or r.case.startswith("rig-new:"),
        "2D detections of single people or joints are wrong or missing, as those of real detectors are",
    ),
    (
        "frames",
        lambda r: r.group == "file" or r.text.count(".camera.") == 3,
        "labels of single frames are missing, or all frames have other numbers: the rest is read as it is",
    ),
    (
        "labels",
        lambda r: True,
        "labels of single people changed within the bounds of docs/data-checks.md, or one of few people is missing",
    ),
)
"""Kind of a change without a message, rule for a result, and reason."""


def reason(result: Result) -> str:
    """Kind of a change without a message."""
    return next(kind for kind, applies, _ in REASONS if applies(result))


def page(results: list[Result]) -> str:
    """docs/robustness.md."""
    silent = [result for result in results if result.verdict == "silent"]
    of_kind = Counter(map(reason, silent))
    failed = [r for r in results if r.verdict in BAD and r.verdict != "silent"]
    bad = "".join(f"* {r.verdict}: {r.case}, {r.mutator} of {r.file}\n" for r in failed)
    bad = f"Failed cases:\n\n{bad}\n" if bad else ""
    part = len(silent) / len(results)
    lines = [PAGE.format(cases=len(results), table=table(results), silent=len(silent), part=part, bad=bad)]
    lines += [f"* {of_kind[kind]} {kind}: {why}." for kind, _, why in REASONS if of_kind[kind]]
    lines += ["", "| case | kind | damage | differs |", "|---|---|---|---|"]
    lines += [f"| {r.case} | {reason(r)} | {r.mutator} of {r.file} | {r.text[:100]} |" for r in silent]
    return "\n".join(lines) + "\n"


PAGE = """# Damaged input

`tests/fuzz` damages one file of a small clean input and reads the input to the end, with all checks of
`poseboard data check`. Each case has 20 s and 2 GiB, in a process of its input. The damage is to bytes, to the kind of
file (FIFO, device, link to itself, 32 GiB), to nesting, to claimed sizes, to single values, and to the meaning of
arrays (another unit, NaN, x and y exchanged). An adapter of the catalogue is tested by being there. `state` is the
state of a training, `results` are scores with their errors, `roots` is a file of RootNet with its data set, and
`rig-new` a calibration of Pose2Sim with detections of OpenPose.

```sh
python tests/fuzz/run.py --cases 5060 --first 1000 --write docs/robustness.md    # writes this page
python tests/fuzz/run.py --only shelf:17                                         # one case
pytest -m fuzz tests/fuzz                                                        # these 5060 cases
```

* Good: **refused** in one line that names a file or sample; **equal** values, up to 5 % of the largest number of an
  array, and of a lens the places to which it moves a grid of points; **warned**.
* Bad: a **traceback**; a **hang** of 20 s; a **crash**; more than 2 GiB of **memory**; an **unclear** message;
  **silent**: other values without a message.

## {cases} cases

{table}

{bad}{silent} cases ({part:.1%}) are silent:
"""


def chosen(count: int, first: int = 0, quick: bool = False) -> list[tuple[str, int]]:
    """Cases spread evenly over all inputs; if quick, a quarter as many of the slow ones."""
    turns = [name for name in INPUTS for _ in range(1 if quick and name in SLOW else 4)]
    numbers = {name: itertools.count(first) for name in INPUTS}
    return sorted((name, next(numbers[name])) for name in itertools.islice(itertools.cycle(turns), count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=0, help="number of cases, spread evenly over all inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each input")
    parser.add_argument("--quick", action="store_true", help="a quarter as many cases of the slow inputs")
    parser.add_argument("--only", nargs="*", default=[], metavar="INPUT:NUMBER")
    parser.add_argument("--inputs", nargs="*", default=list(INPUTS))
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="page of counts and of changes without a message")
    parser.add_argument("--json", type=Path, help="file for all results")
    options = parser.parse_args()
    named = [(name, int(number)) for name, _, number in (case.rpartition(":") for case in options.only)]
    start = time.monotonic()
    cases = named + [case for case in chosen(options.cases, options.first, options.quick) if case[0] in options.inputs]
    of_input = [
        (name, [number for of, number in cases if of == name]) for name in dict.fromkeys(name for name, _ in cases)
    ]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        parts = pool.starmap(run, of_input, chunksize=1)
    results = [result for part in parts for result in part]
    for result in results:
        if result.verdict in GOOD and options.only:
            print(f"{result.verdict}: {result.case}: {result.mutator} of {result.file}: {result.text}")
    print(table(results))
    print(f"{time.monotonic() - start:.0f} s")
    if options.write:
        options.write.write_text(page(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    sys.exit(any(result.verdict in BAD for result in results))


if __name__ == "__main__":
    main()
