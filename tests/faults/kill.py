"""Kill -9 of a run at random moments: the results must come out equal, and no process may be left.

    python tests/faults/kill.py --moments 100 --seed 0

Makes a small checkout with one tiny world and two rows. Starts the run again and again, and kills the command, DVC, a
stage or a worker at a random moment of each. A finished run is deleted, so that the moments are spread over all stages;
its results must equal those of a run without a kill. Stages that only measure time are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml

from poseboard.protocols import predictions

ROOT = Path(__file__).resolve().parents[2]
PARAMS = {
    "profile": "smoke",
    "datasets": {"human36m": {"root": None}},
    "methods": {
        "backbone": {"code": "methods/backbone", "after": "scratch", "architecture": "small", "image_px": 64,
                     "steps": 6, "batch_size": 2},
        "dlt": {"code": "methods/dlt", "after": "backbone", "weighting": "peak"},
    },
    "profiles": {
        "smoke": {
            "seeds": [0],
            "processes": 2,
            "worlds": {
                "human36m": {"seed": 3, "side_px": 96, "train_subjects": ["S1"], "test_subjects": ["S9"],
                             "actions": ["Greeting", "Waiting"], "train_frames": 1, "test_frames": 1},
            },
        }
    },
}  # fmt: skip
TABLES = ("T1", "human36m-pck", "human36m-pa-mpjpe")
MEASURED = {"created", "seconds", "processor_seconds", "times", "git_commit", "git_dirty", "mlflow_run", "hardware",
            "basis_sha256"}  # fmt: skip
"""Fields of records that differ between two runs of the same code."""
GRACE_S, PATIENCE_S = 30, 1200
"""Time for the other processes to end after the command, and for the command to end after a kill."""


def make_checkout(folder: Path) -> None:
    """Write a small checkout: this code, `PARAMS`, `TABLES`, and no stage that only measures."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.split("\0")[:-1]:
        if name.split("/")[0] not in ("tests", "docs", "results") and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    for path in (folder / "benchmarks" / "tables").glob("*.yaml"):
        if path.stem not in TABLES:
            path.unlink()
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))
    measures = {out for stage in ("speed", "costs") for out in _paths(stages["stages"].pop(stage)["outs"])}
    for stage in stages["stages"].values():
        entry = stage.get("do", stage)
        entry["deps"] = [dep for dep in entry.get("deps", []) if dep not in measures]
    report = stages["stages"]["report"]["deps"]
    report[:] = [dep for dep in report if dep not in ("results/published", "results/speed")]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False), encoding="utf-8")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False), encoding="utf-8")


def _paths(outs: list[str | dict[str, object]]) -> list[str]:
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]


def start(folder: Path, log: Path) -> psutil.Popen:
    """Start the whole run in a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(folder / ".editable")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = [sys.executable, str(Path(sys.executable).with_name("poseboard")), "repro"]
    with log.open("ab") as out:
        return psutil.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)


def role(process: psutil.Process, command: psutil.Process) -> str:
    """The command, dvc, a stage, or a worker of a stage."""
    if process == command:
        return "command"
    words = process.cmdline()
    if any(word.endswith("/dvc") for word in words[:2]):
        return "dvc"
    if "poseboard" in " ".join(words[:3]):
        return "stage"
    return "worker"


def processes_in(folder: Path) -> list[psutil.Process]:
    """Processes whose working directory is the checkout."""
    inside = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                inside.append(process)
        except (psutil.Error, OSError):
            continue
    return inside


def contents(folder: Path) -> dict[str, str]:
    """Hashes of the results without the fields that are measured, and of the rendered world."""
    hashes = {}
    for path in sorted([*(folder / "results" / "smoke").rglob("*"), *(folder / "data").rglob("*")]):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.suffix == ".lock" or name.endswith((".state.pt", "stage-times.json")):
            continue
        if "/leaderboard/" in name or name.endswith(("/mlflow.json", "/finished.json")):
            hashes[name] = "exists"  # with dates, times and the addresses of runs
            continue
        if "/crops/" in name:
            name = "-".join(path.parent.name.split("-")[:-1]) + f"/{path.name}"  # the last part is of times of images
        content = path.read_bytes()
        if "/predictions/" in name and path.suffix == ".parquet":
            info = predictions.read(path).info
            assert info.answers_sha256 is not None, name
            content = json.dumps(_unmeasured(info.model_dump(mode="json")), sort_keys=True).encode()
        elif path.suffix == ".json":
            content = json.dumps(_unmeasured(json.loads(content)), sort_keys=True).encode()
        hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


def _unmeasured(value: object) -> object:
    if isinstance(value, dict):
        return {key: _unmeasured(entry) for key, entry in value.items() if key not in MEASURED}
    return [_unmeasured(entry) for entry in value] if isinstance(value, list) else value


def clear(folder: Path) -> None:
    """Delete all that a run makes."""
    for name in ("results", "data", "mlruns", ".dvc/tmp", ".dvc/cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("dvc.lock", "mlflow.db"):
        (folder / name).unlink(missing_ok=True)


def kill_at(folder: Path, log: Path, wait_s: float, draws: random.Random) -> str | None:
    """Start the run and kill one of its processes after a time; returns where, or None if the run ended before.

    Raises:
        AssertionError: a process outlives the run, or a run that was not killed fails.
    """
    log.write_bytes(b"")
    command = start(folder, log)
    try:
        assert command.wait(wait_s) == 0, log.read_text()[-3000:]
    except psutil.TimeoutExpired:
        pass
    else:
        return None
    stage = [line.split("'")[1] for line in log.read_text().splitlines() if line.startswith("Running stage ")]
    by_role: dict[str, list[psutil.Process]] = {}
    for process in [command, *command.children(recursive=True)]:
        try:
            by_role.setdefault(role(process, command), []).append(process)
        except psutil.Error:
            continue
    victim = draws.choice(sorted(by_role))
    process = draws.choice(by_role[victim])
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    command.wait(PATIENCE_S)  # without joblib's tracker, which is a worker too, a run goes on
    deadline = time.monotonic() + GRACE_S
    while left := processes_in(folder):
        assert time.monotonic() < deadline, [" ".join(process.cmdline()) for process in left]
        time.sleep(0.1)
    assert "Traceback" not in log.read_text().split("Running stage")[0], log.read_text()[-3000:]
    return f"{stage[-1] if stage else 'before the first'} ({victim})"


def kill_stage(folder: Path, arguments: Sequence[str], outs: Sequence[str], wait_s: float) -> None:
    """Delete what a stage writes, kill the stage while it writes it again, and run it to its end.

    Args:
        folder: checkout with the results of a whole run in profile smoke.
        arguments: of `poseboard`.
        outs: files and folders of the stage; it is killed after the first one exists again.
        wait_s: time from then to the kill.

    Raises:
        AssertionError: the stage fails, leaves a process, fails when run again, or its results differ.
    """
    whole = contents(folder)
    for name in outs:
        path = folder / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    command = [sys.executable, str(Path(sys.executable).with_name("poseboard")), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder / ".editable"), "POSEBOARD_PROFILE": "smoke"}
    with psutil.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as stage:
        while not any((folder / name).exists() for name in outs):
            assert stage.poll() is None, stage.returncode
            time.sleep(0.005)
        time.sleep(wait_s)
        children = stage.children(recursive=True)
        stage.kill()
    assert stage.returncode in (-signal.SIGKILL, 0), stage.returncode  # 0: it ended a moment before
    assert psutil.wait_procs(children, GRACE_S)[1] == []
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    result = contents(folder)
    assert result == whole, [name for name in result.keys() | whole if result.get(name) != whole.get(name)]


def main() -> None:
    """Run as in the docstring of the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=30, help="longest time from a start to the kill, s")
    options = parser.parse_args()
    draws = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as made:
        folder, log = Path(made, "checkout").resolve(), Path(made, "log")
        folder.mkdir()
        make_checkout(folder)
        places: Counter[str] = Counter()
        finished = []
        while places.total() < options.moments:
            place = kill_at(folder, log, draws.uniform(0.2, options.within), draws)
            if place is None:
                finished.append(contents(folder))
                clear(folder)
            else:
                places[place] += 1
                print(f"{places.total()}: {place}", flush=True)
        for _ in range(2):  # to the end of the last run, and once without a kill
            assert start(folder, log).wait() == 0, log.read_text()[-3000:]
            finished.append(contents(folder))
            clear(folder)
    *killed, whole = finished
    for result in killed:
        assert result == whole, [name for name in result.keys() | whole if result.get(name) != whole.get(name)]
    for place, count in sorted(places.items()):
        print(f"{count:4} {place}")
    print(f"{places.total()} kills, {len(killed)} runs of {len(whole)} files: equal results, no process left")


if __name__ == "__main__":
    main()
