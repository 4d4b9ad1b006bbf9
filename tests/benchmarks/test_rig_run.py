"""`poseboard rig run`: 3D poses of a rig without an entry in params.yaml, their numbers, all files and the page."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
from made_up_rig import write_rig_tree

from poseboard.datasets.motion import FORMATS, read_motion
from poseboard.datasets.rig import Rig
from poseboard.protocols.records import ScoreFile


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, workspace_with: Any) -> Any:
    rows = {name: {"code": f"methods/{name}", "after": "backbone"} for name in ("ransac", "dlt")}
    workspace = workspace_with(tmp_path_factory.mktemp("rigs"), "rhd", "rhd", "hands", rows)
    (workspace.folder / "data" / "hall").mkdir(parents=True)
    write_rig_tree(workspace.folder / "data" / "hall", frames=60)
    rig = workspace.folder / "data" / "hall" / "rig.yaml"
    rig.write_text("block_s: 0.1\n" + rig.read_text())
    return workspace


def test_a_rig_is_run_and_exported(home: Any) -> None:
    done = home.must("rig", "run", "hall", "--row", "ransac")
    assert "hall by ransac: " in done.out
    scores = {
        score.table: score for score in ScoreFile.read(home.folder / "results/smoke/scores/ransac/hall.json").scores
    }
    assert {"rig-held-out", "rig-held-out-p90", "rig-bones", "rig-jitter", "rig-joints", "rig-reprojection"} <= set(
        scores
    )
    assert scores["rig-held-out"].value < 5, "detections have little noise"
    assert scores["rig-joints"].value > 95
    assert all(score.ci95 is not None for score in scores.values())
    assert all(score.signature.truth == "none" for score in scores.values())
    motions = {}
    for name, kind in FORMATS.items():
        path = home.folder / "data" / "hall" / "poses" / f"ransac{kind.suffix}"
        assert f"ransac{kind.suffix}" in done.out
        assert path.stat().st_size
        if kind.read is not None:
            motions[name] = read_motion(path).turned("z")
    drawn = sorted((home.folder / "data" / "hall" / "poses").glob("ransac-*.png"))
    assert [path.stem for path in drawn] == ["ransac-000000", "ransac-000029", "ransac-000059"]
    assert done.out.splitlines()[-1].startswith("data/hall/poses/ransac.html: ")
    page = (home.folder / "data" / "hall" / "poses" / "ransac.html").read_text(encoding="utf-8")
    exported = json.loads((home.folder / "data" / "hall" / "poses" / "ransac.json").read_bytes())
    match = re.search(r'id="scene">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    scene = json.loads(match[1])
    assert [person["frames"] for person in scene["people"]] == [exported["frames"]]
    assert (scene["edges"], scene["names"]) == (exported["edges"], exported["names"])
    assert page.count("data:image/png;base64,") == len(drawn)
    rig = Rig(home.folder / "data" / "hall")
    for camera, (name, own) in zip(scene["cameras"], rig.cameras.items(), strict=True):
        x, y, z = own.centre_mm
        assert camera["name"] == name
        np.testing.assert_allclose(camera["centre"], [x, z, -y], atol=0.06)
        towards = np.mean(camera["corners"], axis=0) - camera["centre"]
        ax, ay, az = own.R[2]
        assert towards @ [ax, az, -ay] > 0.9 * np.linalg.norm(towards), "the frustum opens in the viewing direction"
    first = motions.pop("parquet")
    for motion in motions.values():
        np.testing.assert_allclose(motion.points_mm, first.points_mm, atol=1e-2)
        assert motion.rate_hz == pytest.approx(first.rate_hz)


def test_what_cannot_be_run_is_said_in_a_line(home: Any) -> None:
    assert "did you mean hall" in home.run("rig", "run", "hal").error
    assert "predicts nothing" in home.run("rig", "run", "hall", "--row", "backbone").error
    assert "--format obj: no such format" in home.run("rig", "run", "hall", "--row", "dlt", "--format", "obj").error
    assert "is not a rig" in home.run("rig", "run", "rhd", "--row", "dlt").error
