"""The whole pipeline, by DVC, on copied trees that params.yaml names, and with the documented methods as pasted.

Run by CI. The commands of the stages are forked from one process that has imported what they need, which is most of
their time; otherwise it is the pipeline of the repository but for the speed of our hot paths, which takes minutes and
reads no data.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_documents import documented_line, documented_method

from poseboard.benchmarks.pipeline import write_run
from poseboard.datasets.files import parse_yaml
from poseboard.datasets.synthetic.layouts.human36m import WorldOptions, generate
from poseboard.protocols.records import DataFile, ScoreFile, TrainingFile

ROOT = Path(__file__).resolve().parents[2]
ROWS = {
    "human36m": ("ransac", "algebraic", "volumetric", "epipolar", "lifting_image"),
    "human36m-toolbox": ("epipolar",),
    "panoptic": ("ransac", "algebraic", "volumetric"),
    "rhd": ("lifting_image",),
}
"""Rows of the pipeline by data set."""
WORLD = WorldOptions(
    seed=3,
    side_px=96,
    train_subjects=("S1",),
    test_subjects=("S9",),
    actions=("Greeting", "SittingDown", "Waiting"),
    train_frames=1,
    test_frames=1,
)

SERVER = """
import os, signal, socket, sys
import poseboard.benchmarks.cli as cli
import poseboard.benchmarks.pipeline, poseboard.benchmarks.score
import poseboard.benchmarks.train, poseboard.methods.loop, poseboard.report.site
address, sys.executable, methods = sys.argv[1:]
poseboard.methods.__path__.append(methods)  # those that a test adds to the copy
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.socket(socket.AF_UNIX)
listener.bind(address)
listener.listen()
while True:
    connection, _ = listener.accept()
    if os.fork():
        connection.close()
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told, streams, _, _ = socket.recv_fds(connection, 65536, 3)
    folder, profile, stage, *arguments = told.decode().split("\\0")
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ["DVC_STAGE"] = stage
    if profile:
        os.environ["POSEBOARD_PROFILE"] = profile
    sys.argv = ["poseboard", *arguments]
    code = 1
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code]))
        os._exit(0)
"""

CLIENT = """#!{python} -I
import os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
told = [os.getcwd(), os.environ.get("POSEBOARD_PROFILE", ""), os.environ.get("DVC_STAGE", ""), *sys.argv[1:]]
socket.send_fds(connection, ["\\0".join(told).encode()], [0, 1, 2])
sys.exit((connection.recv(1) or b"\\1")[0])
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of the repository's own files, whose ``poseboard`` is answered by a process that is ready."""
    home = tmp_path / "checkout"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if not name.startswith(("tests/", "results/default/", "results/seeds/", ".editable/")):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    dvc = yaml.safe_load((home / "dvc.yaml").read_text())
    del dvc["stages"]["speed"]
    dvc["stages"]["report"]["deps"].remove("results/${run.profile}/speed")
    (home / "dvc.yaml").write_text(yaml.safe_dump(dvc, sort_keys=False))
    program, address = home / ".venv" / "bin" / "poseboard", str(tmp_path / "s")
    program.parent.mkdir(parents=True)
    program.write_text(CLIENT.format(python=sys.executable, address=address))
    program.chmod(0o755)
    python = program.with_name("python")  # for what a stage runs as a process of its own
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    command = [sys.executable, "-c", SERVER, address, str(python), str(home / "methods")]
    server = subprocess.Popen(command, start_new_session=True)
    try:
        while not Path(address).exists():
            assert server.poll() is None
            time.sleep(0.1)
        yield home
    finally:
        server.kill()
        server.wait()


def small(value: Any) -> Any:
    """An option's value in the smoke profile."""
    if isinstance(value, dict) and "default" in value:
        return value.get("smoke", value["default"])
    return value


def write_params(home: Path, trees: Path) -> None:
    params = parse_yaml((home / "params.yaml").read_text())
    rows = {"backbone", *(row for of_dataset in ROWS.values() for row in of_dataset)}
    tiny = {"steps": 1, "batch_size": 2}
    params["methods"] = {
        name: {key: tiny.get(key, small(value)) for key, value in entry.items()}
        for name, entry in params["methods"].items()
        if name in rows
    }
    params["colours"] = {name: colour for name, colour in params["colours"].items() if name in rows}
    params["profile"], params["cost_reference"] = "tiny", "ransac"
    params["profiles"] = {"tiny": {"seeds": [0], "processes": 1, "worlds": {"human36m": {}}}}
    for dataset in params["datasets"]:
        params["datasets"][dataset]["root"] = str(trees / dataset) if (trees / dataset).exists() else None
    params["datasets"]["panoptic"]["cameras"] = ["00_01", "00_02", "00_10", "00_13"]  # those that were made up
    (home / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    write_run(home, "tiny")


def repro(home: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("dvc")), "repro"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.mark.pipeline
def test_the_pipeline_runs_on_copied_trees(checkout: Path, made_up: Callable[..., None], tmp_path: Path) -> None:
    trees = tmp_path / "trees"
    generate(WORLD, tmp_path / "world")
    for part in ("processed", "extra"):
        shutil.copytree(tmp_path / "world" / part, trees / "human36m" / part)
    made_up("toolbox", trees / "human36m-toolbox", damaged=True)
    made_up("panoptic", trees / "panoptic")
    made_up("rhd", trees / "rhd")
    made_up("shelf", trees / "shelf", frames=4)
    write_params(checkout, trees)
    before = {path: path.stat().st_mtime_ns for path in trees.rglob("*")}
    repro(checkout)

    results = checkout / "results" / "tiny"
    for dataset in ("human36m", "human36m-toolbox", "panoptic", "rhd", "shelf"):
        record = DataFile.read(results / "data" / f"{dataset}.json")
        assert (record.state, record.synthetic) == ("ready", False), dataset
        assert all((results / "data" / name).is_file() for name in record.pictures)
    for dataset, rows in ROWS.items():
        for row in rows:
            scores = ScoreFile.read(results / "scores" / row / f"{dataset}.json")
            assert not scores.synthetic
            assert all(score.n_samples for score in scores.scores)
        assert (results / "comparisons" / f"{dataset}.json").is_file()
    (index,) = checkout.glob("results/**/index.html")
    page = index.read_text(encoding="utf-8")
    assert all(dataset in page for dataset in ROWS)
    assert "are from a synthetic world" not in page
    assert not list(index.parent.rglob("*contact-sheet*"))
    assert {path: path.stat().st_mtime_ns for path in trees.rglob("*")} == before
    assert not list((checkout / "data").glob("synthetic*"))

    assert re.findall(r"Running stage '(\S+?)'", repro(checkout).stdout) == ["plan"]


@pytest.mark.pipeline
def test_the_documented_methods_run_as_pasted(checkout: Path) -> None:
    params = parse_yaml((checkout / "params.yaml").read_text())
    tiny = {"steps": 1, "batch_size": 2}
    params["methods"] = {
        name: {key: tiny.get(key, small(value)) for key, value in params["methods"][name].items()}
        for name in ("backbone", "ransac")
    }
    params["colours"], params["cost_reference"] = {"ransac": "rust"}, "ransac"
    params["profile"] = "smoke"
    worlds = {
        "human36m": WORLD.model_dump(mode="json"),
        "human36m-rigs": {"side_px": 96, "rigs": 2, "actions": ["Walking"], "frames_per_sequence": 1},
        "panoptic-people": {"frames": 1},
    }
    params["profiles"] = {name: {"seeds": [0], "processes": 1, "worlds": worlds} for name in ("smoke", "default")}
    for name in ("reweighted", "joint_powers"):
        (checkout / "methods" / name).mkdir()
        (checkout / "methods" / name / "method.py").write_text(documented_method(name))
    text = yaml.safe_dump(params, sort_keys=False)
    lines = "".join(map(documented_line, ("reweighted", "joint_powers")))
    (checkout / "params.yaml").write_text(text.replace("methods:\n", f"methods:\n{lines}", 1))
    write_run(checkout, "smoke")
    done = repro(checkout)

    results = checkout / "results" / "smoke"
    for row in ("reweighted", "joint_powers"):
        for dataset in ("human36m", "human36m-rigs"):
            scores = ScoreFile.read(results / "scores" / row / f"{dataset}.json").scores
            assert scores
            assert all(score.value is not None for score in scores if score.headline)
        assert not (results / "scores" / row / "panoptic-people.json").exists()
        assert (results / "leaderboard" / "methods" / f"{row}.html").is_file()
    assert TrainingFile.read(results / "training" / "joint_powers" / "human36m-rigs.json").same_as == "human36m"
    said = "panoptic-people/joint_powers: left out, it has no training samples, and joint_powers: it has no weights yet"
    assert said in done.stdout
