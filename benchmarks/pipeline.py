"""A whole run: DVC over all stages, in one profile.

``results/run.yaml`` names the profile of the stages that DVC knows; dvc.yaml takes its paths from there. A run in
another profile than that of params.yaml writes the file and restores it at its end. If the run is killed, the stages
of a plain ``dvc repro`` refuse to run until ``poseboard repro`` has written the file anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from poseboard.benchmarks.layout import run_file
from poseboard.benchmarks.locks import only_writer
from poseboard.benchmarks.params import SCRATCH, parse_yaml
from poseboard.benchmarks.predicting import tables_on
from poseboard.benchmarks.provenance import ROOMS_FOLDER, adapter_code, closure, code_name, code_sha256, row_code
from poseboard.benchmarks.settings import PROFILE_VARIABLE, Settings
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.protocols.decisions import REFERENCE
from poseboard.protocols.records import RowKind

_STAGE = re.compile(r"(?:(Running) stage '([^']+)'|Stage '([^']+)' (?:didn't change|is cached))")
"""Lines of DVC's about a stage: one that runs, and one that is skipped."""

_ADVICE = re.compile(r"Use `dvc push`")
"""What DVC says at the end about a remote store, which a run here has no use for."""

_REFERENCE_NOTE = f"""# Scores of profile `{REFERENCE}`

How far trainings of the same row differ. Comparisons and pages of every profile take from here what one training cannot
say of itself; without scores here, and with one seed, they call no difference between trained rows decided.
""".encode()


@contextmanager
def in_profile(path: Path, profile: str | None = None) -> Iterator[Settings]:
    """Let DVC run the stages of a profile, and of the profile that params.yaml names afterwards.

    Args:
        path: params.yaml.
        profile: None: that of ``POSEBOARD_PROFILE``, or else of params.yaml.

    Raises:
        InputError: params.yaml has no such profile, or another process runs the pipeline.
    """
    with only_writer(path.resolve().parent / ".repro.lock", "running the pipeline"):
        settings = Settings.read(path)
        if profile is not None:
            settings = settings.in_profile(profile)
        write_run(settings.home, settings.params.profile)
        try:
            yield settings
        finally:
            write_run(settings.home, settings.own_profile)


def write_run(home: Path, profile: str) -> None:
    """Write `run_file`."""
    text = f"# Written by `poseboard repro`; dvc.yaml takes its paths from here.\nrun:\n  profile: {profile}\n"
    write_file(run_file(home), text.encode())


def keep_reference(settings: Settings) -> Path:
    """Have a folder for the scores of profile `REFERENCE`, with a note, though that profile may never have run.

    The stages of every profile that judge differences depend on it; DVC refuses a dependency that is not there.
    """
    path = settings.home / "results" / REFERENCE / "scores" / "README.md"
    write_file(path, _REFERENCE_NOTE)
    return path


def planned(settings: Settings) -> dict[Path, bytes]:
    """The files of results/<profile>/plan that stages depend on, with their content: one per stage.

    Each has the hashes of the code that the stage runs (`closure`), by file, and what params.yaml says of the stage's
    row or data sets. So dvc.yaml lists no code, and params.yaml does not fill dvc.lock.
    """
    params, profile = settings.params, settings.profile
    rows = {name: entry.model_dump(mode="json", by_alias=True) for name, entry in settings.rows.items()}
    board = {"datasets": params.datasets, "rows": rows}
    how = profile.model_dump(mode="json", include={"seeds", "processes"})
    worlds = {name: settings.world_options(name) for name in params.datasets if name in profile.worlds}
    writers = [entry.writer_module for name, entry in catalog().items() if name in worlds and entry.writer_module]
    data_code = ["poseboard.benchmarks.data", *adapter_code(params.datasets), *writers]
    stages: dict[str, tuple[object, list[Path]]] = {
        "data": ({"datasets": params.datasets, "worlds": worlds}, closure(data_code)),
        "compare": (board, closure(["poseboard.benchmarks.scoring", *_protocols(settings, params.datasets)])),
        "speed": (None, closure(["poseboard.benchmarks.timing", ROOMS_FOLDER / "benchmarks" / "speed"])),
        "report": ({**board, "colours": params.colours}, closure(["poseboard.report.site"])),
        "sync": (None, closure(["poseboard.benchmarks.mlflow_sync"])),
    }
    for row, of_row in rows.items():
        on = settings.may_run(row)
        datasets = dict.fromkeys([*on, *(name for dataset in on for name in settings.train_on(row, dataset))])
        own = [*row_code(settings, row), *adapter_code(datasets)]
        named = {**of_row, "train_on": settings.train_on_entry(row)}
        judged = ["poseboard.benchmarks.evaluating", *_protocols(settings, on)]
        stages[f"train/{row}"] = ({"row": named, **how}, closure([*own, "poseboard.benchmarks.training"]))
        stages[f"evaluate/{row}"] = ({"row": named, **how}, closure([*own, *judged]))
    values = {
        stage: {"params": values, "code": {code_name(path): code_sha256([path]) for path in code}}
        for stage, (values, code) in stages.items()
    }
    return {
        settings.layout.plan / f"{stage}.json": (
            json.dumps(of_stage, indent=1, sort_keys=True, default=str) + "\n"
        ).encode()
        for stage, of_stage in values.items()
    }


def _protocols(settings: Settings, datasets: Iterable[str]) -> list[str]:
    """The modules of the protocols of all tables on some data sets."""
    tables = [table for dataset in datasets for table in tables_on(dataset, settings.params.profile)]
    return list(dict.fromkeys(type(table.rule()).__module__ for table in tables))


def write_plan(settings: Settings) -> None:
    """Write results/<profile>/plan, and the folders that stages depend on whether or not a run fills them.

    These are the files of `planned`, the copy of params.yaml, the starts of rows that start from nothing, and the
    folder of `keep_reference`.
    """
    keep_reference(settings)
    if not settings.layout.run_file.is_file():  # by `make setup`: a plain `dvc repro` needs it
        write_run(settings.home, settings.own_profile)
    write_file(settings.layout.snapshot, (settings.home / "params.yaml").read_bytes())
    for path, content in planned(settings).items():
        write_file(path, content)
    kinds: tuple[RowKind, ...] = ("checkpoints", "predictions")
    for kind in kinds:
        note = f"What a row with `after: {SCRATCH}` starts from: nothing.\n"
        write_file(settings.row_folder(kind, SCRATCH) / "README.md", note.encode())


def stage_names(settings: Settings) -> list[str]:
    """All stages of dvc.yaml, one per row where they are generated: "train@dlt"."""
    stages = parse_yaml((settings.home / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [
        name
        for stage, entry in stages.items()
        for name in ([f"{stage}@{row}" for row in settings.rows] if "foreach" in entry else [stage])
    ]


def due_stages(settings: Settings) -> list[str]:
    """The stages whose dependencies changed, as ``dvc status`` says in the profile of `in_profile`.

    Stages that depend on their outputs may follow.

    Raises:
        InputError: DVC cannot say.
    """
    command = [str(Path(sys.executable).with_name("dvc")), "status", "--json"]
    done = subprocess.run(command, cwd=settings.home, capture_output=True, text=True, check=False)
    try:
        changed = json.loads(done.stdout)
    except json.JSONDecodeError:
        problem = f"did not say which stages are due ({done.stderr.strip()[-200:]})"
        raise InputError("dvc status", problem, "run `dvc status` to see why") from None
    return [name for name in stage_names(settings) if name in changed]


def stage_times(settings: Settings) -> dict[str, float]:
    """Wall time of each stage in its last run here, in seconds; empty if no run left any."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads(settings.layout.stage_times.read_text(encoding="utf-8")))
    return {}


def remove_broken_lock(home: Path) -> None:
    """Remove a lock file of DVC that a kill left empty or cut off, with which DVC does not start.

    DVC removes the locks of dead processes, and names the living one that holds a lock.
    """
    path = home / ".dvc" / "tmp" / "rwlock"
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        path.unlink()


def run_pipeline(settings: Settings) -> None:
    """Run ``dvc repro`` in the profile of `in_profile`; all that it and the stages print goes to stderr.

    A line before each stage says which it is ("stage 3 of 53"). The wall time of each is written down for
    `poseboard plan`.

    Raises:
        InputError: a stage failed.
    """
    command = [str(Path(sys.executable).with_name("dvc")), "repro"]
    environment = {**os.environ, PROFILE_VARIABLE: settings.params.profile}
    count, place, times = len(stage_names(settings)), 0, stage_times(settings)
    running, began = "", time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if stage := _STAGE.match(line):
                place += 1
                _note_time(settings, times, running, began)
                running, began = stage[2] or "", time.monotonic()
                if running:
                    print(f"stage {place} of {count}", file=sys.stderr, flush=True)
            if not _ADVICE.match(line):
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise InputError(
            "dvc repro", f"stopped with exit code {process.returncode}", "the failing stage says why above"
        )
    _note_time(settings, times, running, began)


def _note_time(settings: Settings, times: dict[str, float], stage: str, began: float) -> None:
    """Add the wall time of a stage that has ended to `Layout.stage_times`; a full disk is no error here."""
    if stage:
        times[stage] = round(time.monotonic() - began, 1)
        with contextlib.suppress(OSError):
            write_file(settings.layout.stage_times, (json.dumps(times, indent=1, sort_keys=True) + "\n").encode())
