"""What stands on the pages, before any template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from fabricated_results import INCOMPLETE, LEVELS, judged, write_everything, write_method, write_published
from hypothesis import given
from hypothesis import strategies as st

from poseboard.protocols.perturbation import Perturbation
from poseboard.protocols.records import ScoreFile, Weights
from poseboard.report import board
from poseboard.report.papers import paper_tables
from poseboard.report.results import Entry, Results, read_results

ORDER = [*(method for method in LEVELS if method != INCOMPLETE), INCOMPLETE]
"""Of the fabricated rows on T1."""
SPOILED = Perturbation(kind="boxes", severity=2)


def test_a_board_never_mixes_signatures_or_worlds(found: Results, tmp_path: Path) -> None:
    for one in board.boards(found):
        assert {str(row.score.signature) for row in one.rows} == {str(one.signature)}
    write_method(tmp_path, "human36m", "dlt", 80.0)
    path = tmp_path / "default" / "scores" / "dlt" / "human36m.json"
    real = ScoreFile.read(path).model_copy(update={"synthetic": False, "method": "real"})
    real.write(path.with_name("real.json"))
    mixed = board.boards(read_results(tmp_path, "default"))
    assert {tuple(row.method for row in one.rows) for one in mixed} == {("dlt",), ("real",)}


@pytest.mark.parametrize("change", [{"given": ("root",)}, {"trained_on": ("panoptic",)}, {"perturbation": SPOILED}])
def test_numbers_of_methods_that_had_other_help_stand_by_themselves(tmp_path: Path, change: dict[str, object]) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    folder = tmp_path / "default" / "scores"
    honest = ScoreFile.read(folder / "dlt" / "human36m.json")
    told = [s.model_copy(update={"signature": s.signature.model_copy(update=change)}) for s in honest.scores]
    for name in ("told", "told_too"):  # more rows than the honest board has
        honest.model_copy(update={"method": name, "scores": told}).write(folder / name / "human36m.json")
    all_boards = board.boards(read_results(tmp_path, "default"))
    (main,) = board.main_boards(all_boards).values()
    assert {row.method for one in main for row in one.rows} == {"dlt"}
    assert {row.method for one in all_boards if not one.signature.usual for row in one.rows} == {
        "told",
        "told_too",
    }
    papers = paper_tables(read_results(tmp_path, "default"), all_boards)
    assert {row.method for paper in papers for one in paper.ours for row in one.rows} <= {"dlt"}


def test_of_many_boards_a_paper_has_the_headline_ones_beside_it_and_names_the_others(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    path = tmp_path / "default" / "scores" / "dlt" / "human36m.json"
    file = ScoreFile.read(path)
    first = next(score for score in file.scores if score.published)
    write_published(tmp_path)
    of_metrics = [
        first.model_copy(
            update={
                "table": f"{first.table}-{metric}",
                "signature": first.signature.model_copy(update={"metric": metric}),
                "headline": metric == "mpjpe",
            }
        )
        for metric in ("mpjpe", "mrpe", "pa_mpjpe", "pck_rel", "mrpe_x")
    ]
    for scores, shown in ((of_metrics, 1), (of_metrics[:4], 4)):
        file.model_copy(update={"scores": scores}).write(path)
        results = read_results(tmp_path, "default")
        (paper,) = [one for one in paper_tables(results, board.boards(results)) if one.table.id == first.published]
        assert len(paper.ours) == shown
        assert len(paper.ours) + len(paper.elsewhere) == len(scores)


def test_weights_of_other_data_sets_are_on_a_main_board_where_there_are_no_others(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    path = tmp_path / "default" / "scores" / "dlt" / "human36m.json"
    file = ScoreFile.read(path)
    trained = {"trained_on": ("muco", "mscoco")}
    elsewhere = [s.model_copy(update={"signature": s.signature.model_copy(update=trained)}) for s in file.scores]
    path.unlink()
    file.model_copy(update={"scores": elsewhere}).write(path)
    results = read_results(tmp_path, "default")
    (main,) = board.main_boards(board.boards(results)).values()
    assert {row.method for one in main for row in one.rows} == {"dlt"}
    assert "trained on muco, mscoco" in main[0].label


def test_pairs_read_both_ways(found: Results) -> None:
    one = t1(found)
    forth, back = one.pair("algebraic", "dlt"), one.pair("dlt", "algebraic")
    assert forth is not None
    assert back is not None
    assert forth[0] == -back[0]
    assert forth[1] == (-back[1][1], -back[1][0])
    assert one.verdict("algebraic", "dlt") == "better"
    assert one.verdict("dlt", "algebraic") == "worse"
    assert one.verdict("algebraic_no_conf", "ransac") == "open"
    assert one.verdict("algebraic", "unknown") == ""


def test_best_is_first_whichever_way_is_better(found: Results) -> None:
    by_table = {b.table: b for b in board.boards(found)}
    assert [row.method for row in by_table["T1"].rows] == ORDER
    assert [row.method for row in by_table["human36m-pck"].rows] == list(LEVELS), "what is missing is wrong there"
    assert not by_table["human36m-pck"].lower_is_better


def test_a_row_with_missing_predictions_stands_last_and_changes_no_other_rank(found: Results) -> None:
    """A method that leaves out its worst pose has the best number, and no place, no mark and no headline."""
    before = t1(found)
    others = [entry for entry in found.entries if entry.scores.method != "dlt"]
    (last,) = (entry.scores for entry in found.entries if entry.scores.method == "dlt")
    scores = [
        s.model_copy(update={"value": s.value / 9, "n_missing": 1, "n_left_out": 1}) for s in last.scores if s.value
    ]
    shy = Entry(last.model_copy(update={"scores": scores}))
    after = t1(replace(found, entries=(*others, shy)))
    assert [row.method for row in after.rows] == [
        *(m for m in ORDER if m not in ("dlt", INCOMPLETE)),
        "dlt",
        INCOMPLETE,
    ]
    assert [row.method for row in after.incomplete] == ["dlt", INCOMPLETE]
    assert [(row.order, row.rank, row.bold) for row in after.rows[-2:]] == [(None, None, False)] * 2
    assert [(row.method, row.rank.rank if row.rank else None) for row in after.ranked] == [
        (row.method, row.rank.rank if row.rank else None) for row in before.ranked if row.method != "dlt"
    ]
    assert "dlt " not in after.finding
    assert {after.verdict("dlt", other.method) for other in after.rows[:3]} == {"open"}
    assert after.pair("dlt", "algebraic") is not None, "its differences are stated, without a mark"
    alone = t1(replace(found, entries=(*others, shy), comparisons=()))
    assert [row.method for row in alone.rows] == [row.method for row in after.rows]
    assert not any(row.bold for row in alone.rows)
    fewer = board.boards(replace(found, entries=tuple(others)))
    assert all(row.rank is None for one in fewer for row in one.rows), "the comparison is of other rows"


def as_bound(found: Results, method: str) -> Results:
    """The results with one row as a bound."""
    entries = [
        replace(entry, scores=entry.scores.model_copy(update={"bound": True}))
        if entry.scores.method == method
        else entry
        for entry in found.entries
    ]
    return replace(found, entries=tuple(entries))


def test_a_bound_is_shown_without_rank_mark_or_headline(found: Results) -> None:
    with_bound = t1(as_bound(found, "algebraic"))
    assert [row.method for row in with_bound.rows] == [*ORDER[1:], "algebraic"]
    last = with_bound.rows[-1]
    assert (last.order, last.rank, last.bold, last.ranked) == (None, None, False, False)
    assert last.score.value == LEVELS["algebraic"]
    assert [row.rank.ci95 if row.rank else None for row in with_bound.ranked] == [(1, 1), (2, 3), (2, 3)]
    assert {with_bound.verdict("algebraic", row.method) for row in with_bound.ranked} == {"open"}
    assert with_bound.is_bound("algebraic")
    assert "algebraic " not in with_bound.finding
    assert with_bound.finding.startswith("dlt_peak is significantly better than both other ranked rows")


def test_the_finding_names_the_best_row_that_is_decidedly_better(found: Results) -> None:
    one = t1(found)
    assert one.decided is not None
    assert (one.decided[0].method, [row.method for row in one.decided[1]]) == ("algebraic", ORDER[1:4])
    assert one.finding == (
        f"algebraic is significantly better than all 3 other ranked rows by {one.label}: "
        f"6.4 mm lower than dlt_peak, the best of them (95 % interval {interval(one, 'algebraic', 'dlt_peak')})."
    )
    close = t1(with_pair(found, "algebraic", "dlt_peak", -0.1))
    assert close.decided is not None
    assert close.finding.startswith("algebraic is significantly better than 2 of 3 other ranked rows by ")
    assert "than algebraic_no_conf, the best of them" in close.finding


def test_an_interval_in_the_finding_keeps_its_sign(found: Results) -> None:
    """The interval is of its pair alone: it may include zero where the pair is decided."""
    one = t1(found)
    assert one.comparison is not None
    pairs = [pair.model_copy(update={"ci95": (-9.0, 0.5)}) for pair in one.comparison.pairs]
    wide = replace(one, comparison=one.comparison.model_copy(update={"pairs": pairs}))
    assert wide.finding.endswith("(95 % interval −0.5 to 9.0).")


def interval(one: board.Board, a: str, b: str) -> str:
    difference = one.pair(a, b)
    assert difference is not None
    low, high = difference[1]
    return f"{-high:.1f} to {-low:.1f}"


def test_the_finding_may_be_of_a_row_that_is_not_first(found: Results) -> None:
    """The first row's training is unknown, or it is close to all: the next row that is decided is named."""
    unclear = found
    for other in ORDER[1:4]:
        unclear = with_pair(unclear, "algebraic", other, -0.1)
    second = t1(unclear)
    assert second.decided is not None
    assert second.decided[0].method == "dlt_peak"
    assert second.finding.startswith("dlt_peak is significantly better than 2 of 3 other ranked rows by ")


def test_a_board_without_a_decided_difference_says_so_and_why(found: Results) -> None:
    unknown = t1(replace(found, reference=None))
    label = f"Nothing is decided by {unknown.label}: "
    assert unknown.finding == f"{label}the variation between trainings is not known."
    assert t1(replace(found, comparisons=())).finding == f"{label}its rows have not been compared."
    shy = found
    for method in ORDER[1:]:
        shy = one_row(shy, method, n_missing=7, n_left_out=7)
    assert t1(shy).finding == f"{label}fewer than two rows are ranked."
    assert board.finding([unknown]) == unknown.finding
    assert board.finding([unknown, unknown]).startswith("Nothing is decided by these 2 tables: no difference")
    assert board.finding([unknown, t1(found)]) == t1(found).finding


def test_by_a_share_more_is_better_in_the_finding(found: Results) -> None:
    more = t1(found)
    flipped = replace(more, lower_is_better=False, unit="%", rows=tuple(reversed(more.rows[:4])))
    assert flipped.finding.startswith("dlt is significantly better than 2 of 3 other ranked rows by ")
    assert "percentage points higher than dlt_peak, the best of them (95 % interval " in flipped.finding


def one_row(found: Results, method: str, **changes: object) -> Results:
    """The results with the T1 score of one row changed."""

    def changed(entry: Entry) -> Entry:
        if entry.scores.method != method:
            return entry
        scores = [s.model_copy(update=changes) if s.table == "T1" else s for s in entry.scores.scores]
        return replace(entry, scores=entry.scores.model_copy(update={"scores": scores}))

    return replace(found, entries=tuple(changed(entry) for entry in found.entries))


def t1(found: Results) -> board.Board:
    return next(b for b in board.boards(judged(found)) if b.table == "T1")


def with_pair(found: Results, a: str, b: str, difference: float) -> Results:
    """The results with another difference of two rows in every comparison."""
    comparisons = []
    for file in found.comparisons:
        tables = []
        for table in file.tables:
            pairs = [
                pair.model_copy(update={"difference": difference, "ci95": (difference - 0.5, difference + 0.5)})
                if (pair.a, pair.b) == (a, b)
                else pair
                for pair in table.pairs
            ]
            tables.append(table.model_copy(update={"pairs": pairs}))
        comparisons.append(file.model_copy(update={"tables": tables}))
    return replace(found, comparisons=tuple(comparisons))


def test_bold_is_decidedly_better_than_the_next(found: Results) -> None:
    first = t1(found).rows[0]
    assert (first.method, first.bold) == ("algebraic", True)
    assert not any(row.bold for row in t1(found).rows[1:])
    close = t1(with_pair(found, "algebraic", "dlt_peak", 0.2)).rows  # the recorded trainings say otherwise
    assert (close[0].method, close[0].bold) == ("algebraic", False)
    assert not any(row.bold for row in t1(replace(found, comparisons=())).rows), "nothing was compared"
    assert not any(row.bold for row in t1(replace(found, reference=None)).rows), "trainings may differ by anything"


def test_the_spread_of_training_stands_beside_a_number_of_one_seed(found: Results) -> None:
    row = t1(found).rows[0]
    assert row.of_one_training
    assert row.training is not None
    assert (row.training.seeds, row.training.sd) == (3, pytest.approx(0.5))
    assert all(row.training is None for row in t1(replace(found, reference=None)).rows)
    assert found.reference is not None
    several = next(b for b in board.boards(found.reference) if b.table == "T1").rows[0]
    assert (several.training, several.between) == (None, pytest.approx(0.5))


def test_the_run_of_several_seeds_is_of_the_same_rows(found: Results, tmp_path: Path) -> None:
    write_everything(tmp_path)
    path = tmp_path / "seeds" / "scores" / "dlt" / "human36m.json"
    file = ScoreFile.read(path)
    other = {"checkpoint_sha256": {"seed0": "of another training"}, "options": {"steps": 1}}
    file.model_copy(update={"provenance": file.provenance.model_copy(update=other)}).write(path)
    again = read_results(tmp_path, "default").reference
    assert again is not None
    assert {entry.scores.method for entry in again.entries} == LEVELS.keys() - {"dlt"}
    assert read_results(tmp_path, "seeds").reference is None
    unknown = next(row for row in t1(read_results(tmp_path, "default")).rows if row.method == "dlt")
    assert (unknown.training, unknown.of_one_training) == (None, True)


@pytest.mark.parametrize(
    ("file", "origin", "badge", "traits"),
    [
        ({"inputs": {"views": [2, 9], "extrinsics": True}}, "trained", "", "calibrated/trained here/reproduced here"),
        ({"inputs": {"views": [2, 9], "images": False}}, "imported", "claimed",
         "without extrinsics; 2D detections/imported/claimed"),
        ({"inputs": {"views": [1, 1], "extrinsics": True}}, None, "", "one view/no training/reproduced here"),
        ({"source": "submission"}, None, "verified", "not stated/not stated/verified"),
    ],
)  # fmt: skip
def test_rows_are_filtered_by_inputs_weights_and_source(
    found: Results, file: dict[str, object], origin: Literal["trained", "imported"] | None, badge: str, traits: str
) -> None:
    row = board.boards(found)[0].rows[0]
    weights = {
        "weights": Weights(origin=origin) if origin else None,
        "checkpoint_sha256": {"seed0": "7"} if origin else {},
    }
    scores = row.file.model_copy(update=file | {"provenance": row.file.provenance.model_copy(update=weights)})
    assert "/".join(replace(row, file=scores, badge=badge).traits.values()) == traits


def test_few_samples_crown_no_winner(found: Results) -> None:
    for method in LEVELS:
        found = one_row(found, method, n_groups=5, n_samples=5)
    comparisons = []
    for file in found.comparisons:
        tables = [
            t.model_copy(update={"pairs": [p.model_copy(update={"n_groups": 5}) for p in t.pairs]}) for t in file.tables
        ]
        comparisons.append(file.model_copy(update={"tables": tables}))
    few = t1(replace(found, comparisons=tuple(comparisons)))
    assert few.few
    assert all(row.few and not row.bold for row in few.rows)
    assert {few.verdict(a.method, b.method) for a in few.rows for b in few.rows if a is not b} == {"open"}


def test_boards_with_the_same_caveat_say_it_together_and_no_note_twice(found: Results) -> None:
    one = t1(found)

    def few(table: str, notes: list[str], n_samples: int = 5) -> board.Board:
        score = one.rows[0].score.model_copy(update={"notes": notes, "n_samples": n_samples, "n_groups": 5})
        return replace(one, table=table, comparison=None, rows=(replace(one.rows[0], score=score),))

    a, b, c = few("a", ["x", "y"]), few("b", ["x", "y"]), few("c", ["x", "z"])
    other = few("d", ["x", "y"], n_samples=6)
    said = board.caveats([a, b, one, c, other])
    assert [[of.table for of in caveat.boards] for caveat in said] == [["a", "b"], ["c"], ["d"]]
    assert [caveat.notes for caveat in said] == [("x", "y"), ("z",), ()]


def test_a_row_that_misses_people_keeps_its_place_where_they_count_as_wrong(found: Results) -> None:
    of_people = found
    for name in LEVELS:
        of_people = one_row(of_people, name, counted="people", n_missing=7, n_left_out=0)
    table = t1(of_people)
    assert table.incomplete == ()
    assert [row.method for row in table.ranked] == list(LEVELS)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_an_axis_holds_its_values(values: list[float]) -> None:
    axis = board.ValueAxis.around(values)
    assert axis is not None
    for value in values:
        assert -1e-6 <= float(axis.place(value)) <= 100 + 1e-6


def test_no_two_tables_of_a_data_set_have_the_same_name_and_conditions_on_the_committed_page() -> None:
    root = Path(__file__).parents[2]
    labels = [(one.dataset, one.label) for one in board.boards(read_results(root / "results", "default"))]
    assert labels
    assert len(labels) == len(set(labels))
