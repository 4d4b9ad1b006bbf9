"""Names of params.yaml are not text for a shell and lead nowhere else, even where DVC is run by itself."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks.pipeline import write_run
from poseboard.datasets.files import parse_yaml

ROOT = Path(__file__).resolve().parents[2]


def test_no_command_holds_a_name() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        command = stage.get("do", stage)["cmd"]
        assert set(re.findall(r"\$\{(.*?)\}", command)) == {"poseboard"}, name


def test_every_path_with_a_name_in_it_waits_for_the_check() -> None:
    stages = {
        name: stage.get("do", stage)
        for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()
    }
    made = {
        out if isinstance(out, str) else next(iter(out)): name
        for name, stage in stages.items()
        for out in stage["outs"]
    }

    def waits(name: str) -> bool:
        deps = stages[name].get("deps", [])
        return any(dep.startswith("results/${run.profile}/plan/") or made.get(dep) == "plan" for dep in deps) or any(
            waits(maker) for dep in deps for out, maker in made.items() if out == dep or out.startswith(f"{dep}/")
        )

    for name, stage in stages.items():
        if name != "plan" and any("${" in str(out) for out in stage["outs"]):
            assert waits(name), name


@pytest.mark.parametrize(
    "change",
    [
        {"methods": {"dlt; touch X #": {"code": "methods/dlt", "after": "scratch"}}},
        {"profile": "x'; touch PWNED; echo '"},
        {
            "profile": "../../elsewhere",
            "profiles": {"../../elsewhere": {"seeds": [0], "processes": 1, "worlds": {"human36m": {}}}},
        },
    ],
)
def test_dvc_stops_at_an_odd_name(tmp_path: Path, change: dict[str, Any]) -> None:
    home = tmp_path / "a" / "checkout"
    (home / ".dvc").mkdir(parents=True)
    (home / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    shutil.copy(ROOT / "dvc.yaml", home)
    params = parse_yaml((ROOT / "params.yaml").read_text())
    (home / "params.yaml").write_text(yaml.safe_dump(params | change))
    write_run(home, "default")
    for room in ("benchmarks", "datasets", "methods", "protocols", "report"):
        (home / room).mkdir()
    (home / ".venv").mkdir()
    (home / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    before = {path for path in tmp_path.rglob("*") if ".dvc" not in path.parts}
    command = [str(Path(sys.executable).with_name("dvc")), "repro", "data"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    refused = r"^poseboard: params\.yaml: (\w+: .* is not a name; use letters|profile: no profile)"
    assert re.search(refused, done.stderr, flags=re.MULTILINE)
    after = {path for path in tmp_path.rglob("*") if ".dvc" not in path.parts}
    assert {path.name for path in after - before} <= {"dvc.lock", ".dvcignore", ".gitignore"}
