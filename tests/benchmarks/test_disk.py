"""What a run will write, before it does."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks.disk import BLOCK, STATE_BYTES, WEIGHT_BYTES, DiskPart, disk_plan, image_bytes, lines
from poseboard.benchmarks.settings import Settings
from poseboard.protocols.records import DataFile, TrainingFile

ROOT = Path(__file__).resolve().parents[2]
FREE = 10**12


def small(home: Path, **of_datasets: object) -> Settings:
    """A pipeline of the backbone and four rows on a world of 24 moments, two of them of the test split."""
    world = {"seed": 3, "side_px": 96, "train_subjects": ["S1"], "test_subjects": ["S9"], "actions": ["Walking"]}
    on = ["human36m", *of_datasets]
    params = {
        "profile": "tiny",
        "datasets": {"human36m": {"root": None}, **of_datasets},
        "methods": {
            "backbone": {"code": "methods/backbone", "after": "scratch", "on": on, "image_px": 64},
            "dlt": {"code": "methods/dlt", "after": "backbone", "on": ["human36m"], "weighting": "uniform"},
            "lifting": {"code": "methods/lifting", "after": "backbone", "on": on},
            "lifting_image": {"code": "methods/lifting", "after": "backbone", "on": on},
            "wide": {"code": "methods/epipolar", "after": "dlt", "on": ["human36m"], "image_px": 128},
        },
        "profiles": {
            "tiny": {
                "seeds": [0, 1],
                "processes": 1,
                "worlds": {"human36m": {**world, "train_frames": 11, "test_frames": 1}},
            }
        },
    }
    (home / "params.yaml").write_text(yaml.safe_dump(params))
    (home / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    return Settings.read(home / "params.yaml")


def part(settings: Settings, name: str, free: int = FREE) -> DiskPart:
    return next(part for part in disk_plan(settings, free) if part.name == name)


def test_crops_are_counted_exactly_and_left_out_where_they_are_not_kept(tmp_path: Path) -> None:
    settings = small(tmp_path)
    sides = (64**2 + 128**2) * 3
    assert part(settings, "crops").bytes == (22 + 2) * 4 * sides
    only_test = 2 * 2 * 4 * 3 * 128**2
    assert part(settings, "crops", only_test).bytes == 2 * 4 * sides, "the crops of training fill half of the disk"


def test_people_before_the_known_rig_are_counted_too(tmp_path: Path) -> None:
    rigs: dict[str, Any] = {"seed": 1, "side_px": 96, "rigs": 2, "actions": ["Posing"], "frames_per_sequence": 3}
    crops, answers = [], []
    for more in ({}, {"known_rig": "human36m"}):
        params = yaml.safe_load((small(tmp_path).home / "params.yaml").read_text())
        params["datasets"]["human36m-rigs"] = {"root": None}
        params["profiles"]["tiny"]["worlds"]["human36m-rigs"] = rigs | more
        params["methods"]["backbone"]["on"].append("human36m-rigs")
        params["methods"]["dlt"]["on"].append("human36m-rigs")
        for row in ("backbone", "dlt"):
            params["methods"][row]["train_on"] = {"human36m-rigs": ["human36m"]}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        settings = Settings.read(tmp_path / "params.yaml")
        crops.append(part(settings, "crops").bytes)
        answers.append(part(settings, "predictions and errors").bytes)
    assert crops[1] - crops[0] == 2 * 3 * 4 * 3 * 64**2
    assert answers[1] > answers[0]


def test_checkpoints_are_of_every_row_and_seed_with_what_resumes_them(tmp_path: Path) -> None:
    settings = small(tmp_path)
    assert part(settings, "checkpoints").bytes == 5 * 2 * 1_000_000 * 16
    assert part(settings, "copies in DVC's cache").bytes > part(settings, "checkpoints").bytes


def test_what_is_there_is_not_to_come(tmp_path: Path) -> None:
    settings = small(tmp_path)
    folder = tmp_path / "data" / "crops" / "human36m-64px-0123-4567"
    folder.mkdir(parents=True)
    (folder / "crops.npy").write_bytes(b"x" * 300_000)
    crops = part(settings, "crops")
    assert 300_000 <= crops.present <= 320_000
    assert crops.to_come == crops.bytes - crops.present
    assert DiskPart("crops", 5.0, 7).to_come == 0


def test_a_users_data_counts_once_its_stage_has_counted_it(tmp_path: Path) -> None:
    own = tmp_path / "hands"
    own.mkdir()
    settings = small(tmp_path, rhd={"root": str(own)})
    before = part(settings, "crops").bytes
    counts = {"cameras": 1, "train samples": 50, "test samples": 7}
    record = DataFile(dataset="rhd", synthetic=False, state="ready", detail="", obtain="", manifest="0", counts=counts)
    record.write(settings.dataset_file("data", "rhd"))
    assert part(settings, "crops").bytes - before == 57 * 3 * 64**2


def test_a_run_writes_what_was_estimated(ready_workspace: Any, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    shutil.copy(ready_workspace.folder / "params.yaml", tmp_path)
    for folder in ("data", "results"):
        (tmp_path / folder).symlink_to(ready_workspace.folder / folder)
    settings = Settings.read(tmp_path / "params.yaml")
    images = [path.stat().st_size for path in ready_workspace.world.rglob("*.jpg")]
    assert sum(images) / len(images) == pytest.approx(image_bytes(96), rel=0.3)
    crops = part(settings, "crops")
    assert crops.bytes == (4 + 8) * 4 * 3 * 64**2
    # Beside the pixels stand a header and the row of each view; a folder for each split.
    assert crops.bytes < crops.present < crops.bytes + 12 * BLOCK
    seed = ready_workspace.folder / "results/smoke/checkpoints/backbone/human36m"
    parameters = TrainingFile.read(ready_workspace.folder / "results/smoke/training/backbone/human36m.json").parameters
    written = sum(path.stat().st_size for path in seed.glob("seed0*.pt"))
    assert written == pytest.approx(parameters * (WEIGHT_BYTES + STATE_BYTES), rel=0.05)


def test_a_disk_that_is_too_small_is_said() -> None:
    parts = [DiskPart("crops", 3e9, 0), DiskPart("page", 1e8, 2 * 10**8)]
    assert list(lines(parts, 2 * 10**9))[-1] == "disk: about 3.0 GB to come (estimate), 2.0 GB free: it does not fit"
    assert list(lines(parts, 4 * 10**9))[-1].endswith("4.0 GB free")
