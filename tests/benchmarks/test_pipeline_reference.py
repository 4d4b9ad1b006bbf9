"""Stages whose answers follow from the recorded seeds run again when those change, and run where there are none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from poseboard.benchmarks.pipeline import keep_reference, write_run
from poseboard.benchmarks.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
JUDGING = ("compare", "report")
PLAN = {"plan": ["always changed"]}


def dvc(home: Path, *arguments: str) -> str:
    program = Path(sys.executable).with_name("dvc")
    done = subprocess.run([program, *arguments], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def checkout(home: Path) -> None:
    """The pipeline's judging stages and the one that they wait for, with commands that only make their outputs."""
    (home / ".dvc").mkdir()
    (home / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    shutil.copy(ROOT / "params.yaml", home)
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    folders = {next(iter(out)) for out in stages["plan"]["outs"]} - {"results/seeds/scores/README.md"}
    files = [
        "results/seeds/scores/README.md",
        *(f"results/${{run.profile}}/plan/{name}.json" for name in JUDGING),
    ]
    notes = [*files, *(f"{path}/note" for path in folders)]
    stages["plan"]["cmd"] = " && ".join(f"mkdir -p $(dirname {note}) && echo note > {note}" for note in sorted(notes))
    for name in JUDGING:
        for dep in stages[name]["deps"]:
            path = home / dep.replace("${run.profile}", "default")
            if dep != "results/seeds/scores":
                (path if not path.suffix else path.parent).mkdir(parents=True, exist_ok=True)
                if path.suffix:
                    path.touch()
        made = [next(iter(out)) if isinstance(out, dict) else out for out in stages[name]["outs"]]
        stages[name]["cmd"] = " && ".join(f"mkdir -p {out} && echo made > {out}/made" for out in made)
    kept = {name: stages[name] for name in ("plan", *JUDGING)}
    (home / "dvc.yaml").write_text(yaml.safe_dump({"vars": ["results/run.yaml"], "stages": kept}))
    write_run(home, "default")


def test_new_seeds_are_judged_anew_and_none_is_no_error(tmp_path: Path) -> None:
    checkout(tmp_path)
    dvc(tmp_path, "repro")
    assert json.loads(dvc(tmp_path, "status", "--json")) == PLAN
    recorded = tmp_path / "results/seeds/scores/dlt/human36m.json"
    recorded.parent.mkdir()
    recorded.write_text("{}")
    assert set(json.loads(dvc(tmp_path, "status", "--json"))) == {*PLAN, *JUDGING}
    shutil.rmtree(tmp_path / "results/seeds")
    dvc(tmp_path, "repro")
    assert json.loads(dvc(tmp_path, "status", "--json")) == PLAN


def test_the_kept_note_is_the_committed_one(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    path = keep_reference(Plan.read(tmp_path / "params.yaml"))
    committed = ROOT / "results/seeds/scores/README.md"
    assert path.relative_to(tmp_path) == committed.relative_to(ROOT)
    assert path.read_bytes() == committed.read_bytes()
