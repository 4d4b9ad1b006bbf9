"""Arrays of 2D detections: people of several samples, absent views and joints, and the poses that are made of them."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import cameras, given_sample, person

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.methods.geometry.observations import has_detections, observe
from poseboard.methods.geometry.triangulation import dlt

LENS = (0.1, -0.05, 0.01, 0.002, 0.0)


def with_views(sample, **values):
    return replace(sample, views=tuple(replace(view, **values) for view in sample.views))


def test_people_of_samples_with_different_numbers_of_views():
    alone, two = person(0), [person(1, at=(-900, 0)), person(2, at=(900, 300))]
    samples = [given_sample([alone], views=3, dist=LENS), given_sample(two, views=4, dist=LENS, confidence=0.5)]
    seen = observe(samples, HUMAN36M, threshold_px=15)
    assert seen.sample.tolist() == [0, 1, 1]
    assert seen.sample.dtype == np.intp
    assert [values.shape for values in (seen.points_px, seen.confidence, seen.P)] == [
        (3, 4, 17, 2), (3, 4, 17), (3, 4, 3, 4),
    ]  # fmt: skip
    assert np.isnan(seen.points_px[0, 3]).all()
    assert (seen.P[0, 3] == 0).all()
    assert (seen.confidence[:, :3] == np.array([0.8, 0.5, 0.5])[:, None, None]).all()
    assert (seen.confidence[0, 3] == 0).all()
    for people, count in ((seen.P[1], 4), (seen.P[2], 4), (seen.P[0, :3], 3)):
        np.testing.assert_array_equal(people, [camera.P for camera in cameras(count)])
    found = dlt(seen.P, seen.points_px, seen.confidence)
    np.testing.assert_allclose(found[0], alone, atol=0.01)
    first = int(np.linalg.norm(found[1] - two[0]) > 1)
    np.testing.assert_allclose(found[1:], [two[first], two[1 - first]], atol=0.01)


def test_one_detection_per_view_is_one_person_at_any_distance():
    sample = given_sample([person(0)], shift_px=np.array([0, 0, 0, 200])[:, None, None, None])
    assert observe([sample], HUMAN36M, threshold_px=15).points_px.shape == (1, 4, 17, 2)
    empty = replace(sample.views[1], joints_px=np.empty((0, 17, 2)), confidence=None, boxes_px=np.empty((0, 4)))
    seen = observe([replace(sample, views=(sample.views[0], empty, *sample.views[2:]))], HUMAN36M, 15)
    assert np.isnan(seen.points_px).all(axis=(2, 3)).tolist() == [[False, True, False, False]]
    assert (seen.P[0, 1] == 0).all()


def test_joints_without_confidence_are_not_observed():
    sample = given_sample([person(0)])
    sure = np.full((1, 17), 0.6)
    sure[0, :3] = 0, -1, np.nan
    seen = observe([with_views(sample, confidence=sure)], HUMAN36M, 15)
    assert np.isnan(seen.points_px).any(axis=(0, 1, 3)).tolist() == [True] * 3 + [False] * 14
    assert (seen.confidence[..., :3] == 0).all()
    assert (seen.confidence[..., 3:] == 0.6).all()
    assert (observe([with_views(sample, confidence=None)], HUMAN36M, 15).confidence == 1).all()


def test_the_score_of_a_person_is_the_mean_confidence_of_the_observed_joints():
    sure = np.full((1, 17), 0.9)
    sure[0, :4] = 0
    samples = [with_views(given_sample([person(0)]), confidence=c) for c in (np.full((1, 17), 0.5), sure)]
    seen = observe(samples, HUMAN36M, 15)
    joints_mm = dlt(seen.P, seen.points_px)
    poses = replace(seen, sample=seen.sample + 1).answers(joints_mm, HUMAN36M, count=3)
    assert [len(of_sample.joints_mm) for of_sample in poses] == [0, 1, 1]
    np.testing.assert_allclose(np.concatenate([of_sample.score for of_sample in poses]), [0.5, 0.9])
    np.testing.assert_array_equal(np.concatenate([of_sample.joints_mm for of_sample in poses]), joints_mm)
    assert all(of_sample.skeleton is HUMAN36M for of_sample in poses)
    unseen = replace(seen, points_px=np.full_like(seen.points_px, np.nan))
    single = unseen.points_px.copy()
    single[:, 1, 6] = 100.0
    one_joint = replace(seen, points_px=single).answers(joints_mm, HUMAN36M, 2)
    assert [of_sample.score.tolist() for of_sample in one_joint] == [[0.5], [0.9]]
    assert [of_sample.score.tolist() for of_sample in unseen.answers(joints_mm, HUMAN36M, 2)] == [[0], [0]]


def test_detections_are_needed_in_every_view():
    sample = given_sample([person(0)])
    assert has_detections(sample)
    without = replace(sample.views[2], joints_px=None, confidence=None)
    assert not has_detections(replace(sample, views=(*sample.views[:2], without)))
    assert not has_detections(replace(sample, views=()))


@pytest.mark.parametrize("shape", [(1, 16, 2), (1, 17, 3), (17, 2)])
def test_detections_of_another_skeleton_are_refused(shape):
    sample = given_sample([person(0)])
    views = (replace(sample.views[0], joints_px=np.zeros(shape), confidence=None), *sample.views[1:])
    with pytest.raises(InputError) as raised:
        observe([replace(sample, views=views)], HUMAN36M, 15)
    message = str(raised.value)
    assert message.startswith("sample s, view c0: joints_px")
    assert f"shape {shape} is not (people, 17, 2) as {HUMAN36M.name} needs" in message
    assert message.endswith("use the same skeleton for detections and predictions")


def test_no_samples_have_no_people():
    seen = observe([], COCO, 15)
    assert (seen.points_px.shape, seen.P.shape) == ((0, 0, 17, 2), (0, 0, 3, 4))
    assert seen.sample.dtype == np.intp
    assert seen.answers(np.empty((0, 17, 3)), COCO, 0) == []
