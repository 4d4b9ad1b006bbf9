"""The area under a robustness curve, as a number with its interval, comparison and signature."""

from __future__ import annotations

import numpy as np
import pytest
from predicted import answered

from poseboard.protocols.comparison import compare
from poseboard.protocols.records import Score
from poseboard.protocols.scoring import score
from poseboard.protocols.table import Table

KIND = "extrinsics"
ERRORS_MM = {0: 1.0, 2: 4.0, 5: 20.0}
AREA_MM = (2 * 2.5 + 3 * 12.0) / 5


@pytest.fixture
def curve(make_truth, make_predictions, make_table):
    truth = make_truth()
    table = make_table("mpjpe_absolute", perturbed={KIND: [2, 5]})

    def row(factor: float = 1.0, lacking: tuple[int, ...] = ()):
        offered = {
            group[0].perturbation.severity if group[0].perturbation else 0: group[0]
            for group in table.conditions(truth.views)[:3]
        }
        noise = np.random.default_rng(0).uniform(0.9, 1.1, (len(truth.joints_mm), 1, 1))
        return answered(
            *(
                make_predictions(
                    truth, truth.joints_mm + noise * (factor * ERRORS_MM[severity], 0, 0), **dict(condition)
                )
                for severity, condition in offered.items()
                if severity not in lacking
            )
        )

    return table, truth, row


def test_severities_and_the_area_are_one_number_each(curve) -> None:
    table, truth, row = curve
    scored = score(table, row(), truth, resamples=200)
    assert [one.signature.severities for one in scored.scores] == [(), (), (), (0, 2, 5)]
    assert [one.group for one in scored.scores] == [0, 1, 2, 3]
    values = [one.value for one in scored.scores]
    np.testing.assert_allclose(values[:3], list(ERRORS_MM.values()), rtol=0.05)
    area = scored.scores[3]
    expected = (2 * (values[0] + values[1]) / 2 + 3 * (values[1] + values[2]) / 2) / 5
    assert area.value == pytest.approx(expected)
    assert area.ci95[0] < area.value < area.ci95[1]
    assert area.unit == "mm"
    assert len({str(one.signature) for one in scored.scores}) == 4, "none is ranked with another"
    assert "severities 0, 2, 5" in area.signature.facts["perturbed"]
    assert scored.scores[0].signature.usual
    assert not any(one.signature.usual for one in scored.scores[1:])
    assert Score.model_validate_json(area.model_dump_json()) == area
    action = next(iter(area.breakdown["action"]))
    of_severity = [one.breakdown["action"][action] for one in scored.scores[:3]]
    assert area.breakdown["action"][action] == pytest.approx(
        (2 * (of_severity[0] + of_severity[1]) / 2 + 3 * (of_severity[1] + of_severity[2]) / 2) / 5
    )


def test_a_curve_with_a_gap_has_no_area(curve) -> None:
    table, truth, row = curve
    scores = score(table, row(lacking=(2,)), truth, resamples=50).scores
    assert [one.group for one in scores] == [0, 2]


def test_areas_are_compared_pose_by_pose(curve) -> None:
    table, truth, row = curve
    rows = {name: score(table, row(factor), truth, resamples=50) for name, factor in (("a", 1.0), ("b", 2.0))}
    compared = {one.signature.severities: one for one in compare(table, rows, resamples=200)}
    assert set(compared) == {(), (0, 2, 5)}, "of the curve its area, and what is not spoiled"
    (pair,) = compared[(0, 2, 5)].pairs
    assert pair.difference == pytest.approx(-AREA_MM, rel=0.05)
    assert pair.ci95[1] < 0
    assert pair.n_samples == 3 * len(truth.keys)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"perturbed": {KIND: []}}, "severities"),
        ({"perturbed": {KIND: [2, 1]}}, "severities"),
        ({"perturbed": {KIND: [0, 1]}}, "severities"),
        ({"perturbed": {KIND: [6]}}, "severities"),
        ({"perturbed": {"fog": [1]}}, "fog"),
    ],
)
def test_curves_that_are_none_are_refused(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Table.model_validate({"id": "t", "title": "t", "dataset": "d", "protocol": "pck", **fields})
