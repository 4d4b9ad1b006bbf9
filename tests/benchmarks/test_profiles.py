"""A run in another profile than that of params.yaml: for that run only, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poseboard.benchmarks.pipeline import in_profile
from poseboard.benchmarks.settings import Settings
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
    copy = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "\nprofile: default\n" in text
    copy.write_text(text.replace("\nprofile: default\n", "\nprofile:  'default' # ours\n"), encoding="utf-8")
    return copy


def dvc_reads(path: Path) -> str:
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))["profile"])


def test_the_profile_of_a_run_is_what_dvc_reads_and_nobody_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    with in_profile(path, "smoke") as settings:
        assert (dvc_reads(path), settings.params.profile) == ("smoke", "smoke")
        assert Settings.read(path).params.profile == "default"
        monkeypatch.setenv("POSEBOARD_PROFILE", "smoke")  # as dvc.yaml does for its stages
        assert Settings.read(path).params.profile == "smoke"
        monkeypatch.delenv("POSEBOARD_PROFILE")
    assert path.read_bytes() == before
    with in_profile(path, None) as settings:
        assert (dvc_reads(path), settings.params.profile) == ("default", "default")


def test_edits_made_during_the_run_stay(path: Path) -> None:
    with in_profile(path, "smoke"):
        path.write_text(path.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    assert dvc_reads(path) == "default"
    assert path.read_text(encoding="utf-8").endswith("# mine\n")


def test_a_killed_run_leaves_no_other_profile_to_the_next(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES], cwd=path.parent, env=os.environ, check=False, timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert dvc_reads(path) == "smoke"
    assert Settings.read(path).params.profile == "default"
    with in_profile(path, None) as settings:
        assert (dvc_reads(path), settings.params.profile) == ("default", "default")


def test_one_run_at_a_time_and_only_in_a_profile_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    with (
        pytest.raises(InputError, match=r"--profile smke: no such profile; did you mean smoke\?"),
        in_profile(path, "smke"),
    ):
        pass
    with in_profile(path, None), pytest.raises(InputError, match="another process is running"), in_profile(path, None):
        pass
    monkeypatch.setenv("POSEBOARD_PROFILE", "smke")
    with pytest.raises(InputError, match="POSEBOARD_PROFILE smke: no such profile"):
        Settings.read(path)
    assert path.read_bytes() == before


def test_a_file_whose_profile_cannot_be_borrowed_is_refused_and_left_as_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("\nprofile:", '\n"profile":'), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"params\.yaml: profile: stands in no line"), in_profile(path, "smoke"):
        pass
    with in_profile(path, None) as settings:  # its own needs no borrowing
        assert settings.params.profile == "default"
    assert path.read_bytes() == before


def test_every_stage_is_told_its_profile() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, entry in stages.items():
        stage = entry.get("do", entry)
        outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
        assert stage["cmd"].startswith("POSEBOARD_PROFILE='${profile}' "), name
        of_none = {"results/code", "results/seeds/scores/README.md", "results/speed"}  # which all profiles share
        assert all(out.startswith("results/${profile}/") for out in set(outs) - of_none), name
