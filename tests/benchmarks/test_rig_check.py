"""`poseboard rig check` on rigs on disk."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_rigs import Simulation, World, simulate
from typer.testing import CliRunner

from poseboard.benchmarks.rigs.cli import rig_app
from poseboard.datasets.errors import InputError
from poseboard.datasets.keypoints import Keypoints, People, write_keypoints
from poseboard.datasets.rig import RigFile, own_camera, rig_text

PLAIN = World(cameras=(4, 4), frames=(150, 150), noise_px=(2.0, 3.0), lag=(6, 10))


def write_rig(folder: Path, rig: Simulation, offset: int = 0) -> None:
    """Rig.yaml and the detections of a simulated rig; the file's frames of all cameras are later by an offset."""
    folder.mkdir(parents=True)
    people = {}
    for view, name in enumerate(rig.cameras):
        frames = np.flatnonzero(np.isfinite(rig.joints_px[view, ..., 0]).any(1))
        xy, confidence = rig.joints_px[view, frames], rig.confidence[view, frames]
        people[name] = People(frames + offset, xy, confidence, np.zeros(len(frames), dtype=np.int64))
    write_keypoints(folder / "detections.parquet", Keypoints(rig.joints, people))
    cameras = {name: own_camera(camera, offset_frames=offset) for name, camera in rig.cameras.items()}
    (folder / "rig.yaml").write_text(rig_text(RigFile(fps=rig.fps, cameras=cameras), {}), encoding="utf-8")


def test_an_offset_is_named_with_the_line_of_the_rig_file(tmp_path: Path) -> None:
    rig = simulate(20020, "frame offset", PLAIN)
    write_rig(tmp_path / "data", rig, offset=100)
    result = CliRunner().invoke(rig_app, ["check", str(tmp_path / "data")])
    assert result.exit_code == 1
    lag, camera = int(rig.magnitude.split()[0]), rig.concerned[0]
    lines = [f"rig.yaml: cameras.{camera}.offset_frames: {100 - lag + more}" for more in (-1, 0, 1)]
    assert any(line in result.output for line in lines), result.output
    assert f"1. {camera}: the detections are out of sync" in result.output


def test_a_clean_rig_exits_with_0(tmp_path: Path) -> None:
    write_rig(tmp_path / "data", simulate(20011, None, PLAIN))
    result = CliRunner().invoke(rig_app, ["check", str(tmp_path / "data"), "--json"])
    assert (result.exit_code, json.loads(result.output)) == (0, [])


def test_too_few_frames_and_absent_rigs_are_errors(tmp_path: Path) -> None:
    rig = simulate(20011, None, PLAIN)
    write_rig(tmp_path / "short", replace(rig, joints_px=rig.joints_px[:, :3], confidence=rig.confidence[:, :3]))
    for folder, message in (("short", "fewer than 100 joints"), ("absent", "no rig.yaml")):
        result = CliRunner().invoke(rig_app, ["check", str(tmp_path / folder)])
        assert isinstance(result.exception, InputError)
        assert message in str(result.exception)
        with pytest.raises(InputError):
            raise result.exception
