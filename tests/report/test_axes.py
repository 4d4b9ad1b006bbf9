"""Axes: numbers of one table that differ in one thing, beside each other and nowhere else on the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated_results import INCOMPLETE, LEVELS, score, write_everything

from poseboard.protocols.perturbation import SCALES, Perturbation
from poseboard.protocols.records import (
    CameraSets,
    ComparisonFile,
    ControlComparison,
    Increase,
    PublishedRow,
    PublishedTable,
    Score,
    ScoreFile,
    SeedValue,
)
from poseboard.report import axes, board
from poseboard.report.axes import CAMERAS, FRAMES, SEVERITY, SPLIT, TRAINING
from poseboard.report.board import boards, main_boards
from poseboard.report.drawing import charts
from poseboard.report.formatting import integer
from poseboard.report.papers import paper_tables
from poseboard.report.results import Results, read_results
from poseboard.report.site import build

ROWS = ("dlt", "algebraic")
STALE = "ransac"
INCREASES = {"dlt": 20.0, "algebraic": 10.0, STALE: 5.0}
WORSE = 2.5
TITLE = "Transfer from CMU Panoptic to Human3.6M"
NOTE = "The same people before the cameras of the training."


def add(folder: Path, name: str, scores: Sequence[Score]) -> None:
    path = folder / "default" / "scores" / name / "human36m.json"
    record = ScoreFile.read(path)
    record.model_copy(update={"scores": [*record.scores, *scores]}).write(path)


def plain(name: str, table: str) -> Score:
    found = score(name, LEVELS[name], table, np.random.default_rng(0))
    return found.model_copy(update={"headline": False, "published": None, "n_missing": 0})


def add_perturbed(folder: Path) -> None:
    """Two rows under two kinds, one of which has an area."""
    for name in ROWS:
        first = plain(name, "human36m-robustness")
        scores = [first]
        for kind, severity, severities in (
            ("extrinsics", 1, ()), ("extrinsics", 4, ()), ("extrinsics", 4, (0, 1, 4)), ("left_right_swap", 1, ()),
        ):  # fmt: skip
            spoiled = Perturbation.model_validate({"kind": kind, "severity": severity})
            signature = first.signature.model_copy(update={"perturbation": spoiled, "severities": severities})
            changes = {"signature": signature, "value": LEVELS[name] + severity, "ci95": None, "group": len(scores)}
            scores.append(first.model_copy(update=changes))
        add(folder, name, scores)


def add_transferred(folder: Path) -> None:
    """Two rows with both trainings, and one with imported weights of other data only; and the published table."""
    for name in (*ROWS, "ransac"):
        own = plain(name, "transfer-human36m").model_copy(update={"published": "F2", "title": TITLE})
        changes = {"signature": own.signature.model_copy(update={"trained_on": ("panoptic",)}), "group": 1}
        value = WORSE * LEVELS[name]
        scores = [own, own.model_copy(update={**changes, "value": value, "ci95": (value - 9, value + 9)})]
        if name == "ransac":
            imported = own.signature.model_copy(update={"trained_on": ("mpii",)})
            scores = [own.model_copy(update={"signature": imported})]
        add(folder, name, scores)
    rows = [PublishedRow(name="algebraic", method="algebraic", values={"paper": 36})]
    PublishedTable(
        id="F2", title=TITLE, paper="Learnable Triangulation of Human Pose (ICCV 2019)", dataset="human36m", unit="mm",
        trained_on=("panoptic",), sources={"paper": "a sentence"}, signature={}, rows=rows,
    ).write(folder / "published" / "F2.yaml")  # fmt: skip


def add_controlled(folder: Path) -> None:
    """Three rows with an increase, one of which was scored again since."""
    found = []
    for name, value in INCREASES.items():
        other = plain(name, "elsewhere").model_copy(update={"title": "Other cameras"})
        of_control = LEVELS[name] / (1 + value / 100)
        split = {"signature": other.signature.in_split("known")}
        known = {"table": "known", "title": "Known cameras", "value": of_control, "notes": [NOTE], **split}
        add(folder, name, [other, other.model_copy(update=known)])
        found.append(
            Increase(
                method=name, value=value, ci95=(value - 7, value + 8), n_samples=897, n_people=20,
                seeds=[SeedValue(seed=0, value=value)], scores=(of_control + (name == STALE), LEVELS[name]),
            )
        )  # fmt: skip
    path = folder / "default" / "comparisons" / "human36m.json"
    signature = plain("dlt", "elsewhere").signature
    compared = ControlComparison(table="elsewhere", control="known", signature=signature, increases=found)
    ComparisonFile.read(path).model_copy(update={"controls": [compared]}).write(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_everything(folder)
    for write in (add_perturbed, add_transferred, add_controlled):
        write(folder)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return read_results(folder, "default")


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    build(folder, "default", out)
    return out


def section(page: Path, name: str) -> str:
    return re.split("<main[^>]*>|<footer>", (page / name).read_text(encoding="utf-8"))[1]


def test_a_sweep_counts_its_cameras(found: Results) -> None:
    (table,) = CAMERAS.tables(boards(found))
    (sweep,) = table.sweeps
    assert sweep.places == (2, 3, 4)
    assert sweep.heads == ("2 cameras", "3 cameras", "4 cameras")
    of_boards = [row.score.ci95 for column in sweep.columns if (row := column.row("algebraic"))]
    assert len(of_boards) == 3
    assert None not in of_boards
    assert sweep.intervals()["algebraic"] == of_boards
    first, second, last = sweep.columns
    twice = replace(sweep, columns=(first, replace(second, signature=first.signature), last))
    assert twice.intervals()["algebraic"] == [None, of_boards[2]], "two numbers at one point"
    assert INCOMPLETE in sweep.methods
    assert INCOMPLETE not in sweep.curves(), "its numbers are over other poses"
    assert sweep.intervals()[INCOMPLETE] == [None] * 3
    curve = sweep.curves()["algebraic"]
    assert (curve.x, curve.x_label) == ([2, 3, 4], "number of cameras")
    assert curve.y == pytest.approx([LEVELS["algebraic"] * f for f in (1.72, 1.22, 1.0)], abs=1e-3)
    assert sweep.growth(first, "algebraic") is None, "no number of cameras is the base"


def test_the_numbers_of_random_sets_of_cameras_show_how_far_these_are_apart(found: Results) -> None:
    first = found.entries[0]
    of_all = next(score for score in first.scores.scores if score.table == "T1")

    def of_sets(cameras: tuple[tuple[str, ...], ...], values: list[float | None]) -> Score:
        stated = of_all.signature.model_copy(update={"cameras": cameras})
        update = {"table": "sets", "signature": stated, "value": 45.0, "headline": False, "over_cameras": values}
        return of_all.model_copy(update=update)

    pairs = of_sets((("a", "b"), ("a", "c"), ("b", "c")), [40.0, None, 50.0])
    triples = of_sets((("a", "b", "c"),), [30.0])
    scores = first.scores.model_copy(update={"scores": [pairs, triples]})
    (table,) = CAMERAS.tables(boards(replace(found, entries=[replace(first, scores=scores)], comparisons=())))
    (sweep,) = table.sweeps
    assert sweep.places == (2, 3)
    assert sweep.over_sets
    assert sweep.between_sets() == {first.scores.method: [(40.0, 50.0), None]}
    assert sweep.columns[0].rows[0].score.sets == CameraSets.of([40.0, 50.0])
    assert not CAMERAS.tables(boards(found))[0].sweeps[0].over_sets


def test_frames_per_rig_are_an_axis_of_rows_without_extrinsics(found: Results) -> None:
    first = found.entries[0]
    of_all = next(score for score in first.scores.scores if score.table == "T1")

    def of_frames(frames: int, extrinsics: str) -> Score:
        stated = of_all.signature.model_copy(update={"frames_per_rig": frames, "extrinsics": extrinsics})
        update = {"table": "frames", "signature": stated, "value": 30.0 + 60 / frames, "headline": False}
        return of_all.model_copy(update=update)

    free = [of_frames(frames, "withheld") for frames in (1, 5, 10)]
    scores = first.scores.model_copy(update={"method": "free", "scores": free})
    told = first.scores.model_copy(update={"scores": [of_frames(1, "given")]})
    entries = [replace(first, scores=scores), replace(first, scores=told)]
    all_boards = boards(replace(found, entries=entries, comparisons=()))
    (table,) = FRAMES.tables(all_boards)
    (sweep,) = table.sweeps
    assert (sweep.places, sweep.methods) == ((1, 5, 10), ("free",))
    assert sweep.heads == ("1 frame per rig", "5 frames per rig", "10 frames per rig")
    assert sweep.curves()["free"].y == [90, 42, 36]
    calibrated = next(one for one in all_boards if not one.calibration_free)
    assert [row.method for row in calibrated.rows] == [first.scores.method], "each is ranked with its like"
    assert all_boards[0] is calibrated
    assert axes.not_on_boards([table], all_boards) == set(map(id, all_boards)), "it is a bound beside the others"
    assert "extrinsics withheld" in sweep.columns[-1].details
    assert "10 frames per rig" in sweep.columns[-1].details


def test_a_curve_per_kind_starts_unperturbed_and_ends_in_its_area(results: Results) -> None:
    all_boards = boards(results)
    (table,) = SEVERITY.tables(all_boards)
    extrinsics, swap = table.sweeps
    assert (extrinsics.title, extrinsics.places) == ("extrinsics", (0, 1, 4))
    assert extrinsics.heads == ("unperturbed", "severity 1", "severity 4", "area under the curve")
    assert extrinsics.area is not None
    assert extrinsics.area.signature.severities == (0, 1, 4)
    assert set(extrinsics.methods) == set(ROWS)
    assert extrinsics.curves()["dlt"].x == [0, 1, 4]
    assert extrinsics.curves()["dlt"].y[1:] == [LEVELS["dlt"] + 1, LEVELS["dlt"] + 4]
    assert (swap.title, swap.places, swap.area) == ("left right swap", (0, 1), None)
    kept = {id(one) for columns in main_boards(all_boards).values() for one in columns}
    assert not kept & {id(one) for sweep in table.sweeps for one in sweep.columns[1:]}
    assert [(column.head, column.note) for column in table.columns] == [
        ("unperturbed", ""), ("extrinsics", "0, 1, 4"), ("left right swap", "0, 1"),
    ]  # fmt: skip
    assert table.base is not None
    assert table.methods == tuple(row.method for row in table.base.rows), "in the order of the unperturbed numbers"
    row = table.base.row("dlt")
    assert row is not None
    assert extrinsics.growth(extrinsics.area, "dlt") == pytest.approx((LEVELS["dlt"] + 4) / row.score.value)
    assert swap.growth(swap.area, "dlt") is None, "it has no area"
    assert "spoiled" not in table.details


def test_predictions_are_counted_once_however_many_tables_have_them(results: Results) -> None:
    all_boards = boards(results)
    tables = SEVERITY.tables(all_boards)
    again = [replace(one, table="human36m-robustness-pa") for one in all_boards if one.table == "human36m-robustness"]
    assert len(SEVERITY.tables([*all_boards, *again])) == 2
    poses = 3 * len(ROWS) * tables[0].sweeps[0].columns[1].rows[0].score.n_samples
    for counted in (tables, SEVERITY.tables([*all_boards, *again])):
        _, words = SEVERITY.explain(counted)
        assert f"take {integer(poses)} predicted poses" in words
        assert "2 rows under up to 3 perturbed conditions" in words


def test_rows_with_both_trainings_stand_side_by_side(results: Results) -> None:
    all_boards = boards(results)
    (table,) = TRAINING.tables(all_boards)
    (sweep,) = table.sweeps
    assert sweep.heads == ("trained on human36m", "trained on panoptic")
    assert set(sweep.methods) == set(ROWS)
    own, other = sweep.columns
    assert (own.signature.trained_on, other.signature.trained_on) == (None, ("panoptic",))
    for name in ROWS:
        assert sweep.growth(other, name) == pytest.approx(WORSE)
        assert sweep.growth(own, name) is None
        assert [one.value for one in sweep.pairs(other)[name]] == [LEVELS[name], WORSE * LEVELS[name]]
    assert sweep.growth(other, "ransac") is None, "it has no number of either"
    assert not {id(b) for columns in main_boards(all_boards).values() for b in columns} & set(map(id, sweep.columns))
    pairs = sweep.pairs(other)
    (drawn,) = charts.transfer(pairs, {name: k for k, name in enumerate(pairs)}, ("a", "b"), "MPJPE, mm").axes
    values = [one.value for pair in pairs.values() for one in pair]
    assert sorted(bar.get_width() for bar in drawn.patches) == sorted(values)
    assert len(drawn.lines) == 4, "an interval each"


def test_beside_a_published_transfer_stand_weights_of_that_training_first(results: Results) -> None:
    (paper,) = [one for one in paper_tables(results, boards(results)) if one.table.id == "F2"]
    assert [one.signature.trained_on for one in paper.ours] == [("panoptic",), None]
    cells = paper.cells(paper.table.rows[0])
    assert [cell.score.value for cell in cells if cell] == [WORSE * LEVELS["algebraic"], LEVELS["algebraic"]]
    assert paper.extra == ("dlt",)
    assert not paper.absent


def test_rows_stand_beside_their_control_the_least_increase_first(results: Results) -> None:
    (table,) = SPLIT.tables(boards(results))
    (sweep,) = table.sweeps
    assert sweep.heads == ("Control (known)", "elsewhere")
    assert list(sweep.increases) == ["algebraic", "dlt"], "a row that was scored again since has none"
    assert table.methods == ("algebraic", "dlt", STALE)
    assert (table.people, table.few) == (20, False)
    assert "of one training" in " ".join(SPLIT.explain([table]))


def test_the_site_has_a_page_for_each_axis(page: Path) -> None:
    files = {path.name for path in (page / "figures").glob("*.svg")}
    robustness = section(page, "curves/robustness.html")
    assert robustness.count("<table") == 3, "the areas, and each of two kinds"
    assert SCALES["extrinsics"].meaning in robustness
    drawn = (page / "figures" / "human36m-robustness-human36m-robustness-1.svg").read_text(encoding="utf-8")
    assert all(word in drawn for word in (*ROWS, "extrinsics", "left right swap", "severity"))
    transfer = section(page, "curves/transfer.html")
    assert "human36m-transfer-transfer-human36m-1-1.svg" in files
    assert transfer.count('class="plot"') == 1
    assert "2.50 ×" in transfer
    controls = section(page, "curves/rigs.html")
    assert "human36m-rigs-elsewhere-1.svg" in files
    assert controls.count('class="plot"') == 1
    assert "+20.0" in controls
    assert "[+13.0, +28.0]" in controls
    assert NOTE in controls
    assert controls.count('data-label="Increase, %" data-value=""') == 1, "the row that was scored again"
    further = section(page, "boards/human36m.html").partition('<section id="differences">')[0]
    assert "spoiled by" not in further
    assert "trained on mpii" in further
    assert "trained on panoptic" not in further, "numbers side by side do not stand among the others"
    assert "elsewhere" in further
    assert "known" not in further.replace("not known", ""), "a control does not stand among the others"


def test_results_without_such_numbers_have_no_such_pages(found: Results) -> None:
    all_boards = board.boards(found)
    assert [axis.name for axis in axes.AXES if axis.tables(all_boards)] == ["cameras"]
