"""Matching of people and average precision against plain loops over predictions."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseboard.protocols import average_precision as ap

seeds = st.integers(0, 2**32 - 1)
NONE = np.zeros((0, 3))


def people(seed, tied=True):
    """Predicted and true people of five images on a grid of 100 mm, where distances and scores are often equal."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(0, 12, 2)
    pred, truth = 100.0 * rng.integers(0, 4, (n, 3)), 100.0 * rng.integers(0, 4, (m, 3))
    score = rng.integers(0, 4, n) / 4 if tied else rng.uniform(size=n)
    return pred, rng.integers(3, 8, n), score, truth, rng.integers(2, 7, m)


def distances(pred, pred_image, truth, truth_image):
    """Distances (N, M), infinite between images."""
    apart = np.linalg.norm(pred[:, None] - truth, axis=-1)
    return np.where(pred_image[:, None] == truth_image, apart, np.inf)


def plain_match(pred, pred_image, score, truth, truth_image, within_mm):
    """Sound rule: pairs by falling score, then by distance."""
    apart, matched = distances(pred, pred_image, truth, truth_image), np.full(len(pred), -1)
    for _, _, t, p in sorted((-score[p], apart[p, t], t, p) for p, t in np.argwhere(apart < within_mm)):
        if matched[p] < 0 and t not in matched:
            matched[p] = t
    return matched


def plain_nearest(order, apart, within):
    """Predictions in an order, each with the nearest true person if it is free."""
    matched = np.full(len(apart), -1)
    for p in order:
        if apart.shape[1] and apart[p].min() < within and apart[p].argmin() not in matched:
            matched[p] = apart[p].argmin()
    return matched


def smallest(apart):
    nearest = apart.min(1, initial=np.inf)
    return np.where(np.isinf(nearest), np.nan, nearest)


@given(seeds, st.booleans(), st.sampled_from([100.0, 150.0, 250.0]))
def test_matching_by_falling_score_and_then_by_distance(seed, tied, within_mm):
    pred, pred_image, score, truth, truth_image = people(seed, tied)
    found = ap.match(pred, pred_image, score, truth, truth_image, within_mm)
    expected = plain_match(pred, pred_image, score, truth, truth_image, within_mm)
    np.testing.assert_array_equal(np.sort(found.truth), np.sort(expected))
    if not tied:
        np.testing.assert_array_equal(found.truth, expected)
    assert found.judged.all()
    assert found.judged.shape == score.shape
    np.testing.assert_array_equal(found.correct, found.truth >= 0)
    np.testing.assert_allclose(found.distance_mm, smallest(distances(pred, pred_image, truth, truth_image)))


@given(seeds, st.sampled_from([100.0, 150.0, 250.0]))
def test_the_published_rule_compares_only_with_the_nearest_person(seed, within_mm):
    pred, pred_image, score, truth, truth_image = people(seed)
    found = ap.match_published(pred, pred_image, score, truth, truth_image, within_mm)
    apart = distances(pred, pred_image, truth, truth_image)
    np.testing.assert_array_equal(found.truth, plain_nearest(np.argsort(-score, kind="stable"), apart, within_mm))
    np.testing.assert_array_equal(found.judged, np.isin(pred_image, truth_image))
    np.testing.assert_allclose(found.distance_mm, smallest(apart))


@given(seeds, st.sampled_from([100.0, 150.0, 250.0]))
def test_the_nearest_rule_takes_the_farthest_of_equal_scores_first(seed, within):
    pred, pred_image, score, truth, truth_image = people(seed)
    apart = distances(pred, pred_image, truth, truth_image)
    p, t = ap.same_image(pred_image, truth_image)
    shuffled = np.random.default_rng(seed).permutation(len(p))
    p, t = p[shuffled], t[shuffled]
    found = ap.match_nearest(p, t, apart[p, t], score, len(truth), within)
    nearest = smallest(apart)
    np.testing.assert_array_equal(found.judged, np.isin(pred_image, truth_image))
    np.testing.assert_array_equal(found.distance_mm, nearest)
    expected = plain_nearest(np.lexsort((-nearest, -score)), apart, within)
    np.testing.assert_array_equal(np.sort(found.truth), np.sort(expected))
    right = found.truth >= 0
    np.testing.assert_allclose(np.sort(nearest[right]), np.sort(nearest[expected >= 0]))
    assert (apart[right, found.truth[right]] == nearest[right]).all()


def test_a_distance_below_the_limit_and_a_pair_that_cannot_match():
    p, t = np.array([0, 1]), np.array([0, 1])
    found = ap.match_nearest(p, t, np.array([100.0, np.inf]), np.ones(3), 2, 100.0)
    assert found.truth.tolist() == [-1, -1, -1]
    assert found.judged.tolist() == [True, True, False]
    assert ap.match_nearest(p, t, np.array([99.9, 0]), np.ones(2), 2, 100.0).truth.tolist() == [0, 1]


def test_the_default_limit_is_250_mm_and_the_published_one_below_9999_mm():
    image = np.zeros(1, dtype=int)
    for rule in (ap.match, ap.match_published):
        for away, matched in ((249.9, 0), (250.0, -1)):
            assert rule(np.array([[away, 0, 0]]), image, np.ones(1), np.zeros((1, 3)), image).truth.tolist() == [
                matched
            ]
    far = partial(ap.match_published, truth=np.zeros((1, 3)), truth_image=image, within_mm=1e5)
    assert far(np.array([[9998.0, 0, 0]]), image, np.ones(1)).truth.tolist() == [0]
    assert far(np.array([[9999.0, 0, 0]]), image, np.ones(1)).truth.tolist() == [-1]
    assert ap.match(np.array([[9999.0, 0, 0]]), image, np.ones(1), np.zeros((1, 3)), image, 1e5).truth.tolist() == [0]


def test_the_true_persons_number_decides_between_two_equally_near():
    truth, image = np.array([[100.0, 0, 0], [-100, 0, 0]]), np.zeros(2, dtype=int)
    for rule in (ap.match, ap.match_published):
        assert rule(np.zeros((1, 3)), image[:1], np.ones(1), truth, image).truth.tolist() == [0]
    p, t = np.array([0, 0]), np.array([1, 0])
    assert ap.match_nearest(p, t, np.array([5.0, 5.0]), np.ones(1), 2, 10).truth.tolist() == [0]


def test_coordinates_of_float32_and_scores_of_unsigned_integers():
    image, score = np.zeros(2, dtype=int), np.array([0, 2], dtype=np.uint8)
    pred = np.array([[0, 0, 3000], [0, 0, 3000.1]], dtype=np.float32)
    truth = np.array([[0.0, 0, 3000]])
    p, t = ap.same_image(image, image[:1])
    away = pred[1, 2] - 3000.0
    for found in (
        ap.match(pred, image, score, truth, image[:1]),
        ap.match_published(pred, image, score, truth, image[:1]),
        ap.match_nearest(p, t, np.array([0, away]), score, 1, 250),
    ):
        assert found.truth.tolist() == [-1, 0]
        assert found.distance_mm.tolist() == [0, away]
        precision, recall = ap.curve(found, score, 1)
        assert (precision.tolist(), recall.tolist()) == ([1, 0.5], [1, 1])
    assert ap.by_score(np.array([1, 0, 2, 2], dtype=np.uint8)).tolist() == [2, 3, 0, 1]


def test_greedy_matching_takes_pairs_in_their_order():
    p, t = np.array([2, 2, 0, 1, 0]), np.array([1, 0, 1, 0, 2])
    assert ap.greedy(p, t, 4, 3).tolist() == [2, 0, 1, -1]
    assert ap.greedy(p[:0], t[:0], 2, 0).tolist() == [-1, -1]


@given(seeds)
def test_pairs_of_the_same_image(seed):
    _, pred_image, _, _, truth_image = people(seed)
    p, t = ap.same_image(pred_image, truth_image)
    assert p.tolist() == sorted(p)
    pairs = list(zip(p.tolist(), t.tolist(), strict=True))
    assert pairs == [tuple(pair) for pair in np.argwhere(pred_image[:, None] == truth_image).tolist()]
    assert p.dtype == t.dtype == np.int64


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pred": np.zeros(3)}, r"pred needs \(N, 3\) points with an image each, got \(3,\) and \(2,\)"),
        ({"pred": np.zeros((2, 2))}, r"pred needs \(N, 3\) points with an image each, got \(2, 2\) and \(2,\)"),
        ({"pred_image": np.zeros(3)}, r"pred needs \(N, 3\) points with an image each, got \(2, 3\) and \(3,\)"),
        (
            {"truth_image": np.zeros((1, 1))},
            r"truth needs \(N, 3\) points with an image each, got \(1, 3\) and \(1, 1\)",
        ),
        ({"pred": np.array([[0, 0, 0], [0, np.nan, 0]])}, "pred has coordinates that are not finite"),
        ({"truth": np.array([[np.inf, 0, 0]])}, "truth has coordinates that are not finite"),
        ({"score": np.zeros(3)}, r"score needs \(2,\) finite numbers, got \(3,\)"),
        ({"score": np.array([1, np.nan])}, r"score needs \(2,\) finite numbers, got \(2,\)"),
    ],
)
def test_people_that_cannot_be_matched_are_refused(changed, message):
    valid = {
        "pred": np.zeros((2, 3)), "pred_image": np.zeros(2), "score": np.zeros(2),
        "truth": np.zeros((1, 3)), "truth_image": np.zeros(1),
    }  # fmt: skip
    ap.validate(**valid)
    for rule in (ap.validate, ap.match, ap.match_published):
        with pytest.raises(ValueError, match=f"^{message}$"):
            rule(**{**valid, **changed})


def test_precision_and_recall_after_each_judged_prediction():
    matches = ap.Matches(np.array([0, -1, -1, 1]), np.array([True, False, True, True]), np.zeros(4))
    precision, recall = ap.curve(matches, np.array([0.1, 0.9, 0.5, 0.8]), 4)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 4, 1 / 4, 2 / 4])
    assert ap.curve(ap.Matches(np.array([-1]), np.array([True]), np.zeros(1)), np.ones(1), 0)[1].tolist() == [0]


def plain_average_precision(correct, score, total):
    """Area under the highest precision at each recall or beyond, with one point for each distinct score."""
    points = [(correct[score >= s].sum(), (score >= s).sum()) for s in np.unique(score)[::-1]]
    area, before = 0.0, 0
    for k, (right, _) in enumerate(points):
        area += (right - before) * max(r / n for r, n in points[k:])
        before = right
    return area / total


def plain_published(correct, score, total):
    """Rectangles of precision and steps of recall, without the first prediction's."""
    right = np.cumsum(correct[np.argsort(-score, kind="stable")])
    precision = right / (np.arange(len(right)) + 1)
    return (precision[1:] * np.diff(right)).sum() / total


def ranked(seed, tied=True):
    """Judged predictions of four groups, and the number of true people in each."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 30)
    score = rng.integers(0, 8, n) / 8 if tied else rng.uniform(size=n)
    return rng.random(n) < rng.random(), score, rng.integers(0, 4, n), rng.integers(5, 15, 4)


@given(seeds, st.booleans(), st.sampled_from([1, 30, 10**6]))
def test_average_precision_of_resamples_is_that_of_their_lists(seed, tied, cells):
    correct, score, codes, people = ranked(seed, tied)
    multiplicity = np.random.default_rng(seed).integers(0, 3, (7, 4)).astype(float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ap, "_CELLS", cells)
        found = ap.average_precision(correct, score, codes, people, multiplicity)
        published = ap.average_precision(correct, score, codes, people, np.minimum(multiplicity, 1), published=True)
    for row, value, of_published in zip(multiplicity, found, published, strict=True):
        if not row.any():
            assert np.isnan(value)
            assert np.isnan(of_published)
            continue
        times = row[codes].astype(int)
        expected = plain_average_precision(np.repeat(correct, times), np.repeat(score, times), people @ row)
        assert value == pytest.approx(expected)
        drawn = row[codes] > 0
        expected = plain_published(correct[drawn], score[drawn], people @ (row > 0))
        assert of_published == pytest.approx(expected)


def test_average_precision_without_people_or_predictions():
    one = np.ones((1, 1))
    none = np.zeros(0, dtype=bool), np.zeros(0), np.zeros(0, dtype=int)
    for published in (False, True):
        empty = ap.average_precision(*none, np.array([2]), np.array([[1.0], [0.0]]), published=published)
        np.testing.assert_array_equal(empty, [0, np.nan])
        wrong = ap.average_precision(
            np.array([False]), np.ones(1), np.zeros(1, int), np.array([1]), one, published=published
        )
        assert wrong.tolist() == [0]
        nobody = ap.average_precision(
            np.array([False]), np.ones(1), np.zeros(1, int), np.array([0]), one, published=published
        )
        assert np.isnan(nobody).all()


def test_the_published_rule_leaves_out_one_rectangle_of_a_group_that_is_drawn_twice():
    correct, score, codes = np.array([True, True]), np.array([0.9, 0.8]), np.array([0, 1])
    found = ap.average_precision(
        correct, score, codes, np.array([1, 1]), np.array([[2.0, 2.0], [0, 2]]), published=True
    )
    np.testing.assert_allclose(found, [3 / 4, 1 / 2])
