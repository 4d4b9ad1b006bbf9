"""A whole run: DVC over all stages, in one profile.

``results/run.yaml`` names the profile of the stages that DVC knows; dvc.yaml takes its paths from there. A run in
another profile than that of params.yaml writes the file and restores it at its end. If the run is killed, the stages
of a plain ``dvc repro`` refuse to run until ``poseboard repro`` has written the file anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from poseboard.benchmarks import stage_server
from poseboard.benchmarks.locks import only_writer
from poseboard.benchmarks.plan import Countdown, dependencies, plan
from poseboard.benchmarks.predicting import tables_on
from poseboard.benchmarks.provenance import ROOMS_FOLDER, adapter_code, closure, code_name, code_sha256, row_code
from poseboard.benchmarks.settings import PROFILE_VARIABLE, SCRATCH, Settings, run_file, snapshot
from poseboard.benchmarks.stage_times import StageTimes
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.protocols.decisions import REFERENCE
from poseboard.protocols.records import RowKind

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


def awaited(settings: Settings) -> dict[Path, bytes]:
    """The files that stages depend on instead of code and parameters, with their content: one per stage.

    Each has the hashes of the code that the stage runs (`closure`), by file, and what params.yaml says of the stage's
    row or data set. So dvc.yaml lists no code, and params.yaml does not fill dvc.lock.
    """
    params, profile = settings.params, settings.profile
    rows = {name: entry.model_dump(mode="json", by_alias=True) for name, entry in settings.rows.items()}
    board = {"datasets": params.datasets, "rows": rows}
    how = profile.model_dump(mode="json", include={"seeds", "processes", "threads"})
    stages: dict[str, tuple[object, list[Path]]] = {
        "compare": (board, closure(["poseboard.benchmarks.scoring", *_protocols(settings, params.datasets)])),
        "speed": (None, closure(["poseboard.benchmarks.timing", ROOMS_FOLDER / "benchmarks" / "speed"])),
        "report": ({**board, "colours": params.colours}, closure(["poseboard.report.site"])),
        "sync": (None, closure(["poseboard.benchmarks.mlflow_sync"])),
    }
    for dataset, options in params.datasets.items():
        world = settings.world_options(dataset) if dataset in profile.worlds else None
        entry = catalog().get(dataset)
        writer = [] if entry is None or entry.writer_module is None else [entry.writer_module]
        code = closure(["poseboard.benchmarks.data", *adapter_code([dataset]), *writer])
        stages[f"data/{dataset}"] = ({"options": options, "world": world}, code)
    for row, of_row in rows.items():
        on = settings.may_run(row)
        datasets = dict.fromkeys([*on, *(name for dataset in on for name in settings.train_on(row, dataset))])
        own = [*row_code(settings, row), *adapter_code(datasets)]
        named = {**of_row, "train_on": settings.train_on_entry(row)}
        judged = ["poseboard.benchmarks.evaluating", *_protocols(settings, on)]
        stages[f"train/{row}"] = ({"row": named, **how}, closure([*own, "poseboard.benchmarks.training"]))
        stages[f"evaluate/{row}"] = ({"row": named, **how}, closure([*own, *judged]))
    values = {
        stage: {"settings": values, "code": {code_name(path): code_sha256([path]) for path in code}}
        for stage, (values, code) in stages.items()
    }
    return {
        settings.results / "settings" / f"{stage}.json": (
            json.dumps(of_stage, indent=1, sort_keys=True, default=str) + "\n"
        ).encode()
        for stage, of_stage in values.items()
    }


def _protocols(settings: Settings, datasets: Iterable[str]) -> list[str]:
    """The modules of the protocols of all tables on some data sets."""
    tables = [table for dataset in datasets for table in tables_on(dataset, settings.params.profile)]
    return list(dict.fromkeys(type(table.rule()).__module__ for table in tables))


def changed_since_begin(settings: Settings) -> set[str]:
    """Stages that a run makes again because the `begin` stage will write another file of `awaited` than lies there.

    ``dvc status`` cannot say so before that stage has run.
    """
    changed = {
        path for path, content in awaited(settings).items() if not path.is_file() or path.read_bytes() != content
    }
    return {name for name, paths in dependencies(settings).items() if not changed.isdisjoint(paths)}


def begin(settings: Settings) -> list[Path]:
    """Write what the stages of rows and data sets wait for, after the names in params.yaml have been checked.

    That is the files of `awaited`; an empty place of what a row starts from that starts from nothing; and the folder
    of `keep_reference`.

    Returns:
        The files.
    """
    files = [keep_reference(settings), snapshot(settings.home, settings.params.profile)]
    write_file(files[-1], (settings.home / "params.yaml").read_bytes())
    if not run_file(settings.home).is_file():  # by `make setup`: a plain `dvc repro` needs it
        write_run(settings.home, settings.own_profile)
    for path, content in awaited(settings).items():
        files.append(path)
        write_file(path, content)
    kinds: tuple[RowKind, ...] = ("checkpoints", "predictions")
    for folder in (settings.row_folder(kind, SCRATCH) for kind in kinds):
        files.append(folder / "README.md")
        write_file(files[-1], f"What a row with `after: {SCRATCH}` starts from: nothing.\n".encode())
    return files


def run_pipeline(settings: Settings) -> None:
    """Run ``dvc repro`` in the profile of `in_profile`; all that it and the stages say goes to stderr.

    Before each stage a line says which of how many it is, and about how long the rest takes. How long each took is
    kept for the estimates of the next run.

    Raises:
        InputError: a stage failed.
    """
    command = [str(Path(sys.executable).with_name("dvc")), "repro"]
    environment = {**os.environ, PROFILE_VARIABLE: settings.params.profile}
    countdown, times = Countdown(plan(settings)), StageTimes(settings.stage_times)
    with (
        stage_server.serving(environment) as served,
        subprocess.Popen(command, env=served, stdout=subprocess.PIPE, text=True, errors="replace") as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            times.follow(line)
            if progress := countdown.line(line):
                print(progress, file=sys.stderr, flush=True)
            if not _ADVICE.match(line):
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise InputError(
            "dvc repro", f"stopped with exit code {process.returncode}", "the failing stage says why above"
        )
    times.finish()


def dvc_status(settings: Settings) -> str:
    """What ``dvc status --json`` prints; nothing where DVC is busy, damaged or cannot say for another reason."""
    command = [str(Path(sys.executable).with_name("dvc")), "status", "--json"]
    done = subprocess.run(command, cwd=settings.home, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
