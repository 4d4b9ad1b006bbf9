"""Commands `poseboard rig …` for users' recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poseboard.datasets.errors import InputError

rig_app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Your own cameras: calibration and 2D detections in, 3D poses and their quality out. See docs/rig.md.",
)


@rig_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="name of the data set, such as myrig")],
    calibration: Annotated[Path, typer.Option(help="calibration file, or a folder with one")],
    detections: Annotated[Path, typer.Option(help="2D detections: a file, or a folder with one part per camera")],
    videos: Annotated[Path | None, typer.Option(help="folder of videos, named like the cameras")] = None,
    unit: Annotated[str | None, typer.Option(help="unit of the calibration, m, cm or mm, if the file has none")] = None,
    format: Annotated[str | None, typer.Option(help="format of the calibration, if it is not recognised")] = None,
    joints: Annotated[str | None, typer.Option(help="joint set of detections without joint names")] = None,
    confidence: Annotated[str | None, typer.Option(help="scale of confidences: unit, percent, logit or clip")] = None,
    fps: Annotated[float | None, typer.Option(help="frames per second; default: rate of the videos, else 60")] = None,
    offset: Annotated[
        list[str] | None, typer.Option(help="CAMERA=+3: its frame n + 3 is frame n of the rig; repeatable")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="DETECTIONS=CALIBRATION: names of one camera in both; repeatable")
    ] = None,
    up: Annotated[str | None, typer.Option(help="axis that points up: x, y, z, -x, -y or -z")] = None,
    truth: Annotated[Path | None, typer.Option(help="3D points of one person: TRC, C3D, CSV or Parquet")] = None,
    overwrite: Annotated[bool, typer.Option(help="replace data/NAME/rig.yaml")] = False,
) -> None:
    """Read a calibration and 2D detections, and write the data set of a rig to data/NAME."""
    from poseboard.benchmarks.rigs.new import NewRig, new_rig

    request = NewRig(
        name=name,
        calibration=calibration,
        detections=detections,
        videos=videos,
        unit=unit,
        format=format,
        joints=joints,
        confidence=confidence,
        fps=fps,
        offsets={key: _frames(key, value) for key, value in _pairs("--offset", offset).items()},
        cameras=_pairs("--camera", camera),
        up=up,
        truth=truth,
        overwrite=overwrite,
    )
    for line in new_rig(request, Path.cwd()):
        typer.echo(line)


@rig_app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="name of a rig in data/, or its folder")],
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Find mistakes in the calibration and detections of a rig. The exit status is 1 if there are any, or warnings."""
    from poseboard.benchmarks.rigs import check as rig_check

    folder = Path(name) if Path(name).is_dir() else Path.cwd() / "data" / name
    findings, fields = rig_check.check(folder)
    if json:
        typer.echo(rig_check.as_json(findings, fields))
    else:
        typer.echo("\n".join(rig_check.report(findings, fields)))
    if findings:
        raise typer.Exit(1)


@rig_app.command("detect")
def detect(
    videos: Annotated[str, typer.Argument(metavar="VIDEOS", help="folder with one video per camera, or name of a rig")],
    out: Annotated[
        Path | None, typer.Option(help="file to write; default: detections.parquet in the folder or in the rig")
    ] = None,
    people: Annotated[int, typer.Option(help="maximum number of people per camera; the largest are kept")] = 1,
    weights: Annotated[Path | None, typer.Option(help="weights; default: data/blazepose")] = None,
    overwrite: Annotated[bool, typer.Option(help="replace an existing file")] = False,
) -> None:
    """Detect people in videos with BlazePose, and write 2D detections for `rig new`.

    Run `poseboard data fetch blazepose` first. You can also use a stronger detector of your own; see docs/rig.md.
    """
    from poseboard.benchmarks.rigs.detect import detect as run

    run(videos, Path.cwd(), out=out, weights=weights, people=people, overwrite=overwrite, say=typer.echo)


@rig_app.command("run")
def run(
    name: Annotated[str, typer.Argument(help="name of the rig, such as myrig")],
    row: Annotated[str, typer.Option(help="row of `methods` in params.yaml")] = "ransac_swap",
    out: Annotated[Path | None, typer.Option(help="folder of the 3D points; default: data/NAME/poses")] = None,
    format: Annotated[
        list[str] | None, typer.Option(help="trc, c3d, parquet, csv or json; repeatable; default: all")
    ] = None,
) -> None:
    """Triangulate the people of a rig, print their scores, and write 3D points for other programs.

    Without ground truth, the scores are the reprojection error in a held-out camera, the spread of bone lengths,
    jitter, and the share of triangulated joints, each with a 95 % confidence interval over time blocks.
    """
    from poseboard.benchmarks.jobs import use_one_thread, workers
    from poseboard.benchmarks.plan import Plan
    from poseboard.benchmarks.rigs.run import run_of_rig, run_rig
    from poseboard.datasets.motion import FORMATS

    plan = Plan.read()
    found = run_of_rig(plan, name, row)
    use_one_thread()
    with workers(plan.profile.processes, plan.cluster):
        for line in run_rig(found, out or Path("data") / name / "poses", format or list(FORMATS)):
            typer.echo(line)


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    """Parse options of the form NAME=VALUE to a mapping."""
    pairs: dict[str, str] = {}
    for text in values or []:
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value:
            raise InputError(f"{option} {text}", "is not of the form NAME=VALUE", f"write {option} cam2=…")
        if name in pairs:
            raise InputError(f"{option} {text}", f"{name} is repeated", f"use {option} once per camera")
        pairs[name] = value
    return pairs


def _frames(camera: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        remedy = "write whole frames, such as cam2=+3"
        raise InputError(f"--offset {camera}={value}", "is not a number of frames", remedy) from None
