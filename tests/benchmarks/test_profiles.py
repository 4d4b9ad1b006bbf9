"""The profile of a run, of a single command and of a stage; params.yaml is only read."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks.cli import command
from poseboard.benchmarks.pipeline import in_profile, write_plan, write_run
from poseboard.benchmarks.plan import Plan, profile_of_run
from poseboard.datasets.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
DIES = """
import os, signal
from pathlib import Path
from poseboard.benchmarks.pipeline import in_profile
with in_profile(Path("params.yaml"), "smoke"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """params.yaml as users may have it: readable by its owner only, with the line ends of Windows."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "\nprofile: default\n" in text
    copy = tmp_path / "params.yaml"
    copy.write_bytes(text.replace("\n", "\r\n").encode())
    copy.chmod(0o600)
    return copy


def in_stage(monkeypatch: pytest.MonkeyPatch, path: Path, stage: str) -> str:
    """The profile that a stage runs in."""
    monkeypatch.setenv("DVC_STAGE", stage)
    try:
        return Plan.read(path).params.profile
    finally:
        monkeypatch.delenv("DVC_STAGE")


def test_a_run_leaves_params_as_it_is(path: Path) -> None:
    before = path.read_bytes(), path.stat()
    with in_profile(path, "smoke") as plan:
        assert (profile_of_run(path.parent), plan.params.profile) == ("smoke", "smoke")
        assert Plan.read(path).params.profile == "default"
    assert profile_of_run(path.parent) == "default"
    after = path.read_bytes(), path.stat()
    assert after == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_stages_run_in_the_profile_of_the_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_profile(path, "smoke") as plan:
        monkeypatch.setenv("POSEBOARD_PROFILE", "smoke")  # as `poseboard repro` does for DVC
        write_plan(plan)
        assert [in_stage(monkeypatch, path, stage) for stage in ("plan", "train@dlt", "report")] == ["smoke"] * 3


def test_after_a_killed_run_stages_refuse_its_profile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_profile(path, "smoke") as plan:
        write_plan(plan)
    done = subprocess.run([sys.executable, "-c", DIES], cwd=path.parent, env=os.environ, check=False, timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert profile_of_run(path.parent) == "smoke"
    assert Plan.read(path).params.profile == "default"
    for stage in ("plan", "train@dlt"):
        with pytest.raises(InputError, match=r"has profile smoke, and this run is of default; run `poseboard repro`"):
            in_stage(monkeypatch, path, stage)
    with in_profile(path) as plan:
        assert (profile_of_run(path.parent), plan.params.profile) == ("default", "default")


def test_an_edit_during_a_run_changes_the_next_run_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def weighting(stage: str) -> Any:
        monkeypatch.setenv("DVC_STAGE", stage)
        try:
            return Plan.read(path).run("dlt", "human36m").options["weighting"]
        finally:
            monkeypatch.delenv("DVC_STAGE")

    before = path.read_bytes()
    with in_profile(path) as plan:
        write_plan(plan)
        path.write_bytes(before.replace(b"weighting: uniform", b"weighting: peak"))
        assert weighting("evaluate@dlt") == "uniform"
        assert Plan.read(path).run("dlt", "human36m").options["weighting"] == "peak"  # of a command by hand
    with in_profile(path) as plan:
        write_plan(plan)
        path.write_bytes(before)
        assert weighting("evaluate@dlt") == "peak"


def test_one_run_at_a_time_and_only_in_a_profile_that_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(InputError, match=r"--profile smke: no such profile; did you mean smoke\?"),
        in_profile(path, "smke"),
    ):
        pass
    with in_profile(path), pytest.raises(InputError, match="another process is running"), in_profile(path):
        pass
    monkeypatch.setenv("POSEBOARD_PROFILE", "smke")
    with pytest.raises(InputError, match=r"^profile smke: no such profile"):
        Plan.read(path)


@pytest.mark.parametrize("text", ["", "run: 3", "run: {}", "profile: smoke", "\0", "[", "run: {profile: ../../x}"])
def test_a_damaged_file_of_the_run_is_one_line(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(path.parent, "default")
    (path.parent / "results" / "run.yaml").write_text(text)
    with pytest.raises(InputError, match=r"run\.yaml|is not a name"):
        in_stage(monkeypatch, path, "train@dlt")


def test_a_fifo_instead_of_the_file_of_the_run_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "results").mkdir(exist_ok=True)
    os.mkfifo(path.parent / "results" / "run.yaml")
    with pytest.raises(InputError, match=r"run\.yaml: does not name the profile of a run"):
        in_stage(monkeypatch, path, "train@dlt")


def test_every_command_takes_a_profile() -> None:
    groups, commands = [command()], []
    while groups:
        for each in groups.pop().commands.values():
            (groups if hasattr(each, "commands") else commands).append(each)
    assert len(commands) > 15
    for each in commands:
        assert [option.name for option in each.params].count("profile") == 1, each.name


def test_no_path_of_a_profile_is_shared() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, entry in stages.items():
        stage = entry.get("do", entry)
        outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
        of_none = {"results/seeds/scores/README.md"}  # which all profiles share
        assert all(out.startswith("results/${run.profile}/") for out in set(outs) - of_none), name
