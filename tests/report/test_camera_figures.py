"""Rows without extrinsics on the pages: recovered rigs, stated uncertainty, and what bounds them."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
from fabricated_results import provenance, score, write_method

from poseboard.protocols.camera_coverage import LEVELS
from poseboard.protocols.records import (
    COVERAGE,
    Curve,
    PlannedCamera,
    PublishedRow,
    PublishedTable,
    RigFile,
    RigPlan,
    Score,
    ScoreFile,
)
from poseboard.report.axes import FRAMES
from poseboard.report.board import boards
from poseboard.report.drawing.cameras import ellipse_semi_axes, reliability, rig_plan
from poseboard.report.drawing.charts import lines, to_svg
from poseboard.report.papers import paper_tables
from poseboard.report.results import Results, read_results
from poseboard.report.site import build

DATASET = "human36m"


def coverage(held: float = 93.5) -> Score:
    """A row whose regions hold less than they say."""
    x = [100 * level for level in LEVELS]
    curve = Curve(x=x, y=[value * held / 95 for value in x], x_label="level (%)", y_label="cameras (%)")
    plain = score("free", 50.0, "camera-coverage", np.random.default_rng(0))
    update = {
        "metric": "camera coverage error@95%",
        "extrinsics": "withheld",
        "alignment": "none",
        "frames_per_rig": 10,
    }
    return plain.model_copy(
        update={
            "signature": plain.signature.model_copy(update=update),
            "unit": "%",
            "value": 95 - held,
            "ci95": (0.2, 97 - held),
            "secondary": {"coverage (%)": held, "median radius (deg)": 4.56},
            "curves": {COVERAGE: curve},
            "headline": False,
            "published": None,
        }
    )


def rig(place: str = "median", cameras: int = 3, covariance: tuple[float, float, float] | None = (0.01, 0.0, 0.04)):
    angles = 2 * np.pi * np.arange(cameras) / cameras
    made = [
        PlannedCamera(
            name=f"<b>{v}</b>",
            reference=v == 0,
            true_m=(4 * np.cos(a), 4 * np.sin(a)),
            true_direction=(-np.cos(a), -np.sin(a)),
            recovered_m=(4 * np.cos(a) + 0.1, 4 * np.sin(a)),
            recovered_direction=(-np.cos(a), -np.sin(a)),
            covariance_m2=covariance,
            rotation_deg=None if v == 0 else 0.75,
            direction_deg=None if v == 0 else 1.25,
        )
        for v, a in enumerate(angles)
    ]
    joints = [(0.0, 0.0, 1.7), (0.0, 0.1, 1.0), None]
    return RigPlan(
        place=place, rigs=30, key="S9/Posing-1/000032", frames=10, frames_per_rig=10, rotation_deg=0.75,
        direction_deg=1.25, scale=1.0, axes=("x", "y"), cameras=made, edges=[(0, 1), (1, 2)], true_joints_m=joints,
        recovered_joints_m=joints,
    )  # fmt: skip


def without_alignment(table: str, value: float, extrinsics: str, frames: int = 1) -> Score:
    plain = score("free", value, table, np.random.default_rng(0))
    update = {"extrinsics": extrinsics, "frames_per_rig": frames}
    published = "T6" if table == "T6" else None
    signature = plain.signature.model_copy(update=update)
    return plain.model_copy(update={"signature": signature, "published": published})


def write_row(root: Path, method: str, scores: list[Score], checkpoint: str) -> None:
    made = provenance(method).model_copy(update={"checkpoint_sha256": {"seed0": checkpoint * 64}})
    file = ScoreFile(
        method=method, dataset=DATASET, synthetic=True, profile="default", scores=scores, provenance=made
    )  # fmt: skip
    file.write(root / "default" / "scores" / method / f"{DATASET}.json")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, out = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("out")
    write_method(root, DATASET, "algebraic", 70.0)
    by_frames = [without_alignment("frames", value, "withheld", n) for n, value in ((1, 90.0), (5, 60.0), (10, 44.0))]
    silent = coverage()
    nothing = silent.curves[COVERAGE].model_copy(update={"y": [None] * len(LEVELS)})
    silent = silent.model_copy(update={"value": None, "ci95": None, "curves": {COVERAGE: nothing}})
    write_row(root, "silent", [silent], "d")
    free = [coverage(), without_alignment("T6", 50.0, "withheld"), *by_frames]
    write_row(root, "free", free, "a")
    write_row(root, "unrelated", [without_alignment("T6", 60.0, "withheld")], "b")
    for method, value, checkpoint in (("told", 40.0, "a"), ("told_elsewhere", 30.0, "c")):
        given = [without_alignment(table, value, "given") for table in ("T6", "frames")]
        write_row(root, method, given, checkpoint)
    PublishedTable(
        id="T6", title="Without extrinsics", paper="P", dataset=DATASET, unit="mm", sources={"paper": "page 1"},
        signature={}, rows=[PublishedRow(name="theirs", method="free", values={"paper": 26.0})],
    ).write(root / "published" / "T6.yaml")  # fmt: skip
    RigFile(plans=[rig(), rig("worst")]).write(root / "default" / "examples" / "free" / DATASET / "rigs.json")
    build(root, "default", out)
    (out / "root").write_text(str(root))
    return out


@pytest.fixture(scope="module")
def results(site: Path) -> Results:
    return read_results(Path((site / "root").read_text()), "default")


def section(page: str) -> str:
    """Text of the section of recovered cameras, without the plots."""
    text = page[page.index('<section id="rigs">') :]
    text = re.sub(r"<svg.*?</svg>", " ", text[: text.index("</section>")], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_a_page_shows_the_rigs_with_their_errors(site: Path) -> None:
    page = (site / "methods" / "free.html").read_text(encoding="utf-8")
    text = section(page)
    assert "human36m: median of 30 rigs by rotation error" in text
    assert "human36m: worst of 30 rigs by rotation error" in text
    assert "S9/Posing-1/000032, 10 of up to 10 frames together" in text
    assert "1 <b>0</b> reference – –" in text, "a name is text, and the reference has no error"
    assert "2 <b>1</b> 0.75 1.25" in text
    assert "Mean 0.75 1.25" in text
    assert len(list((site / "figures").glob("rig-free-human36m-*.svg"))) == 2


def test_a_page_says_how_often_the_stated_region_holds_the_truth(site: Path) -> None:
    text = section((site / "methods" / "free.html").read_text(encoding="utf-8"))
    assert "human36m: 93.5 % of the true rotations are in the 95 % region" in text
    assert "distance from 95 %: 1.5 percentage points, 95 % interval 0.2 to 3.5." in text
    assert "Coverage (%): 93.50. Median radius (deg): 4.56." in text
    assert "95 93.5 99 97.4" in text, "the curve as numbers"


def test_rows_that_recover_no_cameras_or_state_no_uncertainty_show_none(site: Path) -> None:
    for row in ("algebraic", "silent"):
        page = (site / "methods" / f"{row}.html").read_text(encoding="utf-8")
        assert 'id="rigs"' not in page
        assert "#rigs" not in page
    (drawn,) = (site / "figures").glob("human36m-camera-coverage-*.svg")
    assert "silent" not in drawn.read_text(encoding="utf-8")


def test_a_broken_file_of_rigs_is_named(tmp_path: Path) -> None:
    write_method(tmp_path, DATASET, "algebraic", 70.0)
    path = tmp_path / "default" / "examples" / "algebraic" / DATASET / "rigs.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 1, "plans": [{}]}')
    with pytest.raises(ValueError, match=r"rigs\.json: plans\.0\."):
        build(tmp_path, "default", tmp_path / "out")


@pytest.mark.parametrize("cameras", [2, 4, 9])
@pytest.mark.parametrize("covariance", [None, (0.0, 0.0, 0.0), (0.01, 0.015, 0.04)])
def test_every_camera_has_a_panel_with_its_region_inside(cameras, covariance):
    plan = rig(cameras=cameras, covariance=covariance)
    figure = rig_plan(plan)
    above, _, *zooms = figure.get_axes()
    shown = [axes for axes in zooms if axes.get_visible()]
    assert len(shown) == cameras
    assert len({axes.get_xlim() for axes in shown}) == 1, "one scale for all"
    for axes in shown[1:]:
        left, right = axes.get_xlim()
        assert len(axes.patches) == (0 if covariance is None else 2)
        for patch in axes.patches:
            outline = patch.get_path().transformed(patch.get_patch_transform()).vertices
            assert np.abs(outline).max() <= right == -left
    assert not shown[0].patches, "the reference has none"
    assert {text.get_text() for text in above.texts} == {str(v + 1) for v in range(cameras)}
    to_svg(figure, "rig")


def test_the_ellipse_is_the_region_of_its_level():
    rng = np.random.default_rng(0)
    covariance = np.array([[4.0, 1.5], [1.5, 1.0]])
    draws = rng.multivariate_normal(np.zeros(2), covariance, size=20_000)
    long, narrow, angle = ellipse_semi_axes((4.0, 1.5, 1.0))
    turn = np.deg2rad(angle)
    along = draws @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert np.mean((along[:, 0] / long) ** 2 + (along[:, 1] / narrow) ** 2 < 1) == pytest.approx(0.95, abs=0.01)


def test_the_reliability_curve_has_the_diagonal_and_the_band():
    curve = coverage().curves[COVERAGE]
    (axes,) = reliability({"free": curve}, {"free": 0}).get_axes()
    lines = [np.column_stack(line.get_data()).tolist() for line in axes.lines]
    assert [[0, 0], [100, 100]] in lines
    assert [[95.0, 90.0], [95.0, 98.0]] in lines
    assert [[x, y] for x, y in zip(curve.x, curve.y, strict=True)] in lines


def test_the_bound_is_what_the_same_weights_reach_with_the_true_cameras(results: Results) -> None:
    free = next(board for board in boards(results) if board.table == "T6" and board.calibration_free)
    assert [row.method for row in free.rows] == ["free", "unrelated"]
    assert [row.method for row in free.bounds] == ["told"], "told_elsewhere has other weights"
    assert free.beyond_bound(free.rows[0]) == 50 / 40
    assert free.beyond_bound(free.rows[1]) is None, "its own bound was not run"
    told = next(board for board in boards(results) if board.table == "T6" and not board.calibration_free)
    assert told.bounds == ()
    (paper,) = paper_tables(results, boards(results))
    assert [board.calibration_free for board in paper.ours] == [True]
    assert paper.extra == ("unrelated", "told")
    assert paper.ours[0].is_bound("told")
    assert not paper.ours[0].is_bound("unrelated")


def test_a_curve_over_frames_per_rig_has_its_bound(results: Results, site: Path) -> None:
    ((sweep,),) = [table.sweeps for table in FRAMES.tables(boards(results))]
    assert sweep.methods == ("free",)
    bounds = {name: row.over_all for name, row in sweep.bounds.items()}
    assert bounds == {"told": 40.0}
    figure = lines(sweep.curves(), {"free": 0, "told": 1}, marks=True, from_zero=False, bounds=bounds)
    (axes,) = figure.get_axes()
    assert axes.get_xscale() == "log"
    assert [line.get_ydata() for line in axes.lines if len(set(line.get_ydata())) == 1] == [[40.0, 40.0]]
    text = (site / "curves/frames.html").read_text(encoding="utf-8")
    table = text[text.index("<table") :]
    table = " ".join(re.sub(r"<[^>]+>", " ", table[: table.index("</table>")]).split())
    assert re.findall(r"\d\.\d\d ×", table) == ["2.25 ×", "1.50 ×", "1.10 ×"]
    assert re.search(r"Bounds, not ranked.* told true cameras 40\.0 .* 40\.0 .* 40\.0", table), table
