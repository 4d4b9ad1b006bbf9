"""The whole pipeline: all stages of one profile, run by DVC.

``results/run.yaml`` has the name of the profile whose stages DVC runs; dvc.yaml reads it for its paths. A run in
another profile than the default of params.yaml changes the file and restores it at the end. If the run is killed, the
stages of a plain ``dvc repro`` raise an error until ``poseboard repro`` has written the file again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import poseboard.methods
from poseboard.benchmarks.jobs import end_with_parent, only_writer
from poseboard.benchmarks.layout import run_file
from poseboard.benchmarks.params import PROFILE_VARIABLE, RUN_VARIABLE, SCRATCH
from poseboard.benchmarks.plan import Plan, Run
from poseboard.benchmarks.provenance import ROOMS_FOLDER, adapter_code, closure, code_name, code_sha256, row_code
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import files_sha256, parse_json, parse_yaml, read_bytes, read_file, write_file
from poseboard.protocols.decisions import REFERENCE
from poseboard.protocols.records import RowKind, Score, ScoreFile, row_paths
from poseboard.protocols.submissions import submission_folders

_STAGE = re.compile(r"(?:(Running) stage '([^']+)'|Stage '([^']+)' (?:didn't change|is cached))")
"""Lines of DVC's about a stage: one that runs, and one that is skipped."""

_ADVICE = re.compile(r"Use `dvc push`")
"""What DVC says at the end about a remote store, which a run here has no use for."""

_REFERENCE_NOTE = f"""# Scores of profile `{REFERENCE}`

How far trainings of the same row differ. Comparisons and pages of every profile take from here what one training cannot
say of itself; without scores here, and with one seed, they call no difference between trained rows decided.
""".encode()


@contextmanager
def in_profile(path: Path, profile: str | None = None) -> Iterator[Plan]:
    """Select the profile whose stages DVC runs during a block; afterwards, DVC runs the profile of params.yaml.

    Args:
        path: path of params.yaml.
        profile: name of the profile; None: the value of ``POSEBOARD_PROFILE``, or else the profile of params.yaml.

    Raises:
        InputError: the profile is unknown, or another process runs the pipeline.
    """
    with only_writer(Path(os.path.realpath(path)).parent / ".repro.lock", "running the pipeline"):
        plan = Plan.read(path)
        if profile is not None:
            plan = plan.in_profile(profile)
        write_run(plan.home, plan.params.profile)
        try:
            yield plan
        finally:
            write_run(plan.home, plan.own_profile)


def write_run(home: Path, profile: str) -> None:
    """Write the name of a profile to `run_file`."""
    text = f"# Written by `poseboard repro`; dvc.yaml takes its paths from here.\nrun:\n  profile: {profile}\n"
    write_file(run_file(home), text.encode())


def keep_reference(plan: Plan) -> Path:
    """Create the folder for the scores of profile `REFERENCE` with a note, even if that profile has never run.

    The compare stages of every profile depend on the folder, and DVC rejects missing dependencies.
    """
    path = plan.home / "results" / REFERENCE / "scores" / "README.md"
    write_file(path, _REFERENCE_NOTE)
    return path


def planned(plan: Plan) -> dict[Path, bytes]:
    """Content of the files in results/<profile>/plan: one file per stage, on which the stage depends.

    A file has the hashes of the code that the stage runs (`closure`), and its Runs or data sets. Therefore dvc.yaml
    need not list code files, and dvc.lock need not contain params.yaml.
    """
    params, worlds = plan.params, {name: source.world for name, source in plan.sources.items()}
    writers = [entry.writer_module for name, entry in catalog().items() if worlds.get(name) and entry.writer_module]
    data_code = ["poseboard.benchmarks.data", *adapter_code(dict.fromkeys(map(params.kind, params.datasets))), *writers]
    by_row = {row: [plan.run(row, dataset) for dataset in plan.may_run(row)] for row in plan.rows}
    board = {row: plan.may_run(row) for row in plan.rows}
    submitted = {
        folder.name: files_sha256("", sorted(filter(Path.is_file, folder.iterdir())), "make it readable")
        for folder in submission_folders(plan.home)
    }
    with_submitted = {"submissions": submitted} if submitted else {}
    all_runs = [run for runs in by_row.values() for run in runs]
    code_of_rows = [part for runs in by_row.values() if runs for part in row_code(runs[0])]
    stages: dict[str, tuple[object, list[Path]]] = {
        "data": ({"datasets": params.datasets, "worlds": worlds}, closure(data_code)),
        "compare": (board | with_submitted, closure(["poseboard.benchmarks.score", *_protocols(all_runs)])),
        "speed": (None, closure([ROOMS_FOLDER / "benchmarks" / "speed"])),
        "costs": (params.cost_reference, closure(["poseboard.benchmarks.speed.costs", *code_of_rows])),
        "report": ({"rows": board, "colours": params.colours} | with_submitted, closure(["poseboard.report.site"])),
        "sync": (None, closure(["poseboard.benchmarks.mlflow_sync"])),
    }
    for row, runs in by_row.items():
        facts = [run.facts() for run in runs]
        kinds = [source.kind for run in runs for source in (run.source, *run.training)]
        own = [*(row_code(runs[0]) if runs else []), *adapter_code(dict.fromkeys(kinds))]
        trained = {"runs": facts, "processes": plan.profile.processes}
        stages[f"train/{row}"] = (trained, closure([*own, "poseboard.benchmarks.train"]))
        stages[f"evaluate/{row}"] = (facts, closure([*own, "poseboard.benchmarks.score", *_protocols(runs)]))
    values = {
        stage: {"params": values, "code": {code_name(path): code_sha256([path]) for path in code}}
        for stage, (values, code) in stages.items()
    }
    return {
        plan.layout.plan / f"{stage}.json": (
            json.dumps(of_stage, indent=1, sort_keys=True, default=str) + "\n"
        ).encode()
        for stage, of_stage in values.items()
    }


def _protocols(runs: Iterable[Run]) -> list[str]:
    """Modules of the protocols of all tables of some runs."""
    return list(dict.fromkeys(type(table.rule()).__module__ for run in runs for table in run.tables))


def write_plan(plan: Plan) -> None:
    """Write results/<profile>/plan, and the folders that stages depend on.

    The function writes the files of `planned`, the copy of params.yaml, the empty start folder of rows that start from
    scratch, and the folder of `keep_reference`.
    """
    keep_reference(plan)
    if not plan.layout.run_file.is_file():  # by `make setup`: a plain `dvc repro` needs it
        write_run(plan.home, plan.own_profile)
    write_file(plan.layout.snapshot, read_bytes(plan.home / "params.yaml"))
    for path, content in planned(plan).items():
        write_file(path, content)
    kinds: tuple[RowKind, ...] = ("checkpoints", "predictions")
    for kind in kinds:
        note = f"What a row with `after: {SCRATCH}` starts from: nothing.\n"
        write_file(plan.layout.row_folder(kind, SCRATCH) / "README.md", note.encode())


def stage_names(plan: Plan) -> list[str]:
    """Names of all stages of dvc.yaml; stages that are generated per row are named like "train@dlt".

    Raises:
        InputError: dvc.yaml cannot be read.
    """
    path, remedy = plan.home / "dvc.yaml", "restore it with git"
    text = read_file(path, remedy)
    try:
        of_rows = {stage: "foreach" in entry for stage, entry in parse_yaml(text.decode())["stages"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(path, "is not a list of stages", remedy) from None
    return [
        name
        for stage, each_row in of_rows.items()
        for name in ([f"{stage}@{row}" for row in plan.rows] if each_row else [stage])
    ]


def due_stages(plan: Plan) -> list[str]:
    """Stages with changed dependencies, by ``dvc status`` in the profile of `in_profile`.

    Stages that depend on outputs of these stages may also have to run.

    Raises:
        InputError: ``dvc status`` failed.
    """
    stages = stage_names(plan)  # dvc fails on a damaged dvc.yaml without naming it
    command = [str(Path(sys.executable).with_name("dvc")), "status", "--json"]
    done = subprocess.run(command, cwd=plan.home, capture_output=True, text=True, check=False)
    try:
        changed = json.loads(done.stdout)
    except json.JSONDecodeError:
        problem = f"did not list the changed stages ({done.stderr.strip()[-200:]})"
        raise InputError("dvc status", problem, "run `dvc status` and correct its error") from None
    return [name for name in stages if name in changed]


def stage_times(plan: Plan) -> dict[str, float]:
    """Wall time of each stage in its last run on this machine, in seconds; empty: none is recorded."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(parse_json(read_bytes(plan.layout.stage_times)))
    return {}


def remove_broken_lock(home: Path) -> None:
    """Remove an empty or truncated lock file of a killed run, which would keep DVC from starting.

    Other locks are left to DVC. It removes locks of dead processes and reports the process that holds a lock.
    """
    path = home / ".dvc" / "tmp" / "rwlock"
    try:
        parse_json(read_bytes(path))
    except FileNotFoundError:
        return
    except ValueError:
        path.unlink()


def run_pipeline(plan: Plan) -> None:
    """Run ``dvc repro`` in the profile of `in_profile`; the output of DVC and the stages goes to stderr.

    A line before each stage gives its number ("stage 3 of 53"). The wall time of each stage is recorded for
    `poseboard plan`.

    Raises:
        InputError: a stage failed.
    """
    # Nothing outlives a kill: DVC ends with this process, and its stages, which are children of a shell, with DVC.
    command = ["sh", "-c", f'{RUN_VARIABLE}=$$ exec "$0" repro', str(Path(sys.executable).with_name("dvc"))]
    environment = {**os.environ, PROFILE_VARIABLE: plan.params.profile}
    count, place, times = len(stage_names(plan)), 0, stage_times(plan)
    running, began = "", time.monotonic()
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=end_with_parent,  # noqa: PLW1509  (there are no threads yet)
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if stage := _STAGE.match(line):
                place += 1
                _note_time(plan, times, running, began)
                running, began = stage[2] or "", time.monotonic()
                if running:
                    print(f"stage {place} of {count}", file=sys.stderr, flush=True)
            if not _ADVICE.match(line):
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise InputError(
            "dvc repro", f"stopped with exit code {process.returncode}", "correct the error of the failed stage above"
        )
    _note_time(plan, times, running, began)


def _note_time(plan: Plan, times: dict[str, float], stage: str, began: float) -> None:
    """Add the wall time of a finished stage to `Layout.stage_times`; errors of the disk are ignored."""
    if stage:
        times[stage] = round(time.monotonic() - began, 1)
        with contextlib.suppress(OSError):
            write_file(plan.layout.stage_times, (json.dumps(times, indent=1, sort_keys=True) + "\n").encode())


FREE_BYTES = 3 * 10**9
"""Free disk that a first run of the default profile needs; the README states it."""


def summary(plan: Plan) -> str:
    """Summary of a run as text: scored rows by the first headline table, best first, and the path of the page."""
    rows = []
    for path in row_paths(plan.layout.results, "scores"):
        record = ScoreFile.read(path)
        if record.method not in plan.rows:
            continue
        chosen = [found for found in record.scores if found.headline and found.signature.usual]
        if chosen:
            rows.append((record, chosen))
    if not rows:
        return f"nothing has been scored in profile {plan.params.profile}"
    rows.sort(key=lambda row: (row[0].dataset, *_place(*row)))
    width = max(len(record.method) for record, _ in rows)
    warning = plan.profile.warning
    lines = [f"profile {plan.params.profile}" + (f": {warning}" if warning else "")]
    for record, chosen in rows:
        values = "   ".join(
            f"{found.signature.metric} {'relative' if found.signature.alignment == 'root' else 'absolute'} "
            + (
                f"{found.value:6.1f} {found.unit}"
                + (f" [{found.ci95[0]:.1f}, {found.ci95[1]:.1f}]" if found.ci95 else "")
                + (f", {found.n_missing} missing" if found.n_missing else "")
                if found.value is not None
                else "     -"
            )
            for found in chosen
        )
        label = " (synthetic)" if record.synthetic else ""
        standing = "   (bound)" if record.bound else "" if chosen[0].complete else "   (incomplete, not ranked)"
        lines.append(f"  {record.dataset}{label}  {record.method:{width}}  {values}{standing}")
    page = plan.layout.page / "index.html"
    return "\n".join([*lines, f"page: {page.as_uri()}", "runs: make runs"])


def _place(record: ScoreFile, chosen: Sequence[Score]) -> tuple[bool, bool, float]:
    """Sort key of a row by its first score."""
    value = chosen[0].value or 0.0
    return record.bound, not chosen[0].complete, value if chosen[0].lower_is_better else -value


def duration(seconds: float) -> str:
    """Format a duration: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def disk_line(home: Path) -> str:
    """Warning if the free disk space is too small for a run of the default profile; empty: it suffices."""
    free = shutil.disk_usage(home).free
    if free >= FREE_BYTES:
        return ""
    return f"{free / 1e9:.1f} GB of disk are free, and a first run in profile default needs {FREE_BYTES / 1e9:.0f} GB"


def method_lines(plan: Plan) -> Iterator[str]:
    """Rows of params.yaml with their resolved options, and the folders of methods/ without a row, as lines of text."""
    yield f"rows of params.yaml (profile {plan.params.profile}):"
    width = max(map(len, plan.rows), default=0)
    for name, entry in plan.rows.items():
        options = ", ".join(f"{key}={value}" for key, value in plan.options(name).items())
        yield f"  {name:{width}}  {entry.spec}, after {entry.after}" + (f"; {options}" if options else "")
    room = Path(poseboard.methods.__path__[0])
    used = {entry.spec for entry in plan.rows.values()}
    unused = sorted(path.parent.name for path in room.glob("*/method.py") if path.parent.name not in used)
    if unused:
        yield f"folders without a row: {', '.join(unused)}"
