"""`make clean` removes what a run has made, and nothing that a user has put beside it."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = (
    "data/human36m/labels.npy",
    "data/weights/resnet.pt",
    "results/default/scores/dlt/human36m.json",
    "results/default/comparisons/human36m.json",
    "results/default/training/dlt/human36m.json",
    "results/default/data/human36m.json",
    "results/speed/one.json",
    "results/speed/rows/human36m.json",
    "results/published/T1.yaml",
    "results/seeds/scores/README.md",
)
MADE = (
    "data/synthetic-human36m-0123456789/manifest.json",
    "data/crops/human36m/96.npy",
    "results/default/leaderboard/index.html",
    "results/default/checkpoints/dlt/human36m/seed0.pt",
    "results/seeds/predictions/dlt/human36m/all.parquet",
    "results/default/speed/one.json",
    "results/default/costs/human36m.json",
    "results/smoke/scores/dlt/human36m.json",
    "results/run.yaml",
    "mlflow.db",
    "dvc.lock",
)


def test_clean_keeps_data_weights_and_recorded_results(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*KEPT, *MADE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert [name for name in KEPT if not (tmp_path / name).is_file()] == []
    assert [name for name in MADE if (tmp_path / name).exists()] == []
