"""Sweeps over cameras and over frames per rig."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fabricated_results import INCOMPLETE, LEVELS

from poseboard.protocols.records import CameraSets, Score
from poseboard.report.board import boards
from poseboard.report.results import Results
from poseboard.report.sweeps import sweeps


def test_a_sweep_counts_its_cameras(found: Results) -> None:
    (sweep,) = sweeps(boards(found))
    assert sweep.counts == (2, 3, 4)
    of_boards = [row.score.ci95 for column in sweep.columns if (row := column.row("algebraic"))]
    assert len(of_boards) == 3
    assert None not in of_boards
    assert sweep.intervals()["algebraic"] == of_boards
    assert replace(sweep, counts=(2, 2, 4)).intervals()["algebraic"] == [None, of_boards[2]], "two numbers at one point"
    assert INCOMPLETE in sweep.methods
    assert INCOMPLETE not in sweep.curves(), "its numbers are over other poses"
    assert sweep.intervals()[INCOMPLETE] == [None] * 3
    curve = sweep.curves()["algebraic"]
    assert curve.x == [2, 3, 4]
    assert curve.y == pytest.approx([LEVELS["algebraic"] * f for f in (1.72, 1.22, 1.0)], abs=1e-3)


def test_the_numbers_of_random_sets_of_cameras_show_how_far_these_are_apart(found: Results) -> None:
    first = found.entries[0]
    plain = next(score for score in first.scores.scores if score.table == "T1")

    def of_sets(cameras: tuple[tuple[str, ...], ...], values: list[float | None]) -> Score:
        stated = plain.signature.model_copy(update={"cameras": cameras})
        update = {"table": "sets", "signature": stated, "value": 45.0, "headline": False, "over_cameras": values}
        return plain.model_copy(update=update)

    pairs = of_sets((("a", "b"), ("a", "c"), ("b", "c")), [40.0, None, 50.0])
    triples = of_sets((("a", "b", "c"),), [30.0])
    scores = first.scores.model_copy(update={"scores": [pairs, triples]})
    (sweep,) = sweeps(boards(replace(found, entries=[replace(first, scores=scores)], comparisons=())))
    assert sweep.counts == (2, 3)
    assert sweep.over_sets
    assert sweep.between_sets() == {first.scores.method: [(40.0, 50.0), None]}
    assert sweep.columns[0].rows[0].score.sets == CameraSets.of([40.0, 50.0])
    (sweep,) = sweeps(boards(found))
    assert not sweep.over_sets


def test_frames_per_rig_are_a_sweep_of_rows_that_were_not_told_the_cameras(found: Results) -> None:
    first = found.entries[0]
    plain = next(score for score in first.scores.scores if score.table == "T1")

    def of_frames(frames: int, extrinsics: str) -> Score:
        stated = plain.signature.model_copy(update={"frames_per_rig": frames, "extrinsics": extrinsics})
        update = {"table": "frames", "signature": stated, "value": 30.0 + 60 / frames, "headline": False}
        return plain.model_copy(update=update)

    free = [of_frames(frames, "withheld") for frames in (1, 5, 10)]
    scores = first.scores.model_copy(update={"method": "free", "scores": free})
    told = first.scores.model_copy(update={"scores": [of_frames(1, "given")]})
    entries = [replace(first, scores=scores), replace(first, scores=told)]
    all_boards = boards(replace(found, entries=entries, comparisons=()))
    (sweep,) = sweeps(all_boards)
    assert (sweep.counts, sweep.over, sweep.methods) == ((1, 5, 10), "frames per rig", ("free",))
    assert sweep.curves()["free"].y == [90, 42, 36]
    assert sweep.curves()["free"].x_label == "number of frames per rig"
    calibrated = next(one for one in all_boards if not one.calibration_free)
    assert [row.method for row in calibrated.rows] == [first.scores.method], "each is ranked with its like"
    assert all_boards[0] is calibrated
    assert "extrinsics withheld" in sweep.columns[-1].details
    assert "10 frames per rig" in sweep.columns[-1].details
