"""What a stage imports before it has something to do: DVC starts it dozens of times in a run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numba", "mlflow", "matplotlib", "pandas", "pyarrow", "lightning_fabric", "dvc"}


def imported(statement: str) -> set[str]:
    """The packages of `HEAVY` that a statement imports in a new interpreter."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("statement", "needed"),
    [
        ("from poseboard.benchmarks import cli, data", set()),
        ("from poseboard.benchmarks import score", {"pandas", "pyarrow"}),
        ("import poseboard.report.site", {"pandas", "pyarrow", "matplotlib"}),
        ("from poseboard.methods.epipolar import method\nfrom poseboard.methods.dlt import method", {"torch", "numba"}),
    ],
)
def test_a_stage_imports_what_it_needs(statement: str, needed: set[str]) -> None:
    assert imported(statement) <= needed


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_row_that_runs_nowhere_imports_no_network(command: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    call = f"import os; os.chdir({str(tmp_path)!r}); sys.argv = ['poseboard', {command!r}, 'epipolar_augmented']"
    statement = f"{call}\nfrom poseboard.benchmarks.cli import main\ntry:\n    main()\nexcept SystemExit: pass"
    # check_rows, which a stage of a run leaves to the run, tries every row's options with the row's code.
    of_stage = f"import os; os.environ |= {{'POSEBOARD_PROFILE': 'smoke', 'DVC_STAGE': 'a'}}\n{statement}"
    assert imported(of_stage) <= {"pandas", "pyarrow"}
    assert (tmp_path / "results/smoke").is_dir()
