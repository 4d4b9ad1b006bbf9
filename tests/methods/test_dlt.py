import numpy as np
import pytest
from made_up import SIDE, given_sample, image_sample, person, write_checkpoint

from poseboard.datasets.errors import InputError
from poseboard.datasets.multi_human_pose import TUM14
from poseboard.datasets.sample import Sample, View
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.methods.base import find_method
from poseboard.methods.dlt.method import Dlt
from poseboard.methods.geometry.triangulation import dlt
from poseboard.methods.nets.detector import Detector


def test_detections_need_no_network():
    method = find_method("dlt")({}, COCO)
    method.load(None, "cpu")
    assert not method.inputs.images
    X = person()
    (found,) = method.predict([given_sample([X])])
    np.testing.assert_allclose(found.joints_mm, X[None], atol=1e-4)
    assert found.frame == "world"
    assert found.skeleton is COCO
    assert found.score == pytest.approx([0.8])


def test_the_lens_is_undone_first():
    method = Dlt({}, COCO)
    X = person()
    (found,) = method.predict([given_sample([X], dist=(-0.2, 0.1, 1e-3, -1e-3, 0.0))])
    np.testing.assert_allclose(found.joints_mm[0], X, atol=0.1)


def test_several_people_are_associated_and_answered_one_each():
    method = Dlt({}, COCO)
    crowd = [person(0), person(1, at=(900, 300)), person(2, at=(-700, 800))]
    both = method.predict([given_sample(crowd, key="a"), given_sample(crowd[:1], key="b")])
    assert [len(found.joints_mm) for found in both] == [3, 1]
    found = both[0].joints_mm[np.argsort(both[0].joints_mm[:, :, 0].mean(axis=1))]
    np.testing.assert_allclose(found, np.stack([crowd[2], crowd[0], crowd[1]]), atol=1e-4)


def test_peak_weights_trust_the_surer_view():
    X = person()
    shift = np.array([0.0, 0.0, 0.0, 40.0])
    sample = given_sample([X], shift_px=shift[:, None, None])
    sure = [np.full((1, 17), 0.9)] * 3 + [np.full((1, 17), 0.01)]
    views = tuple(
        View(v.name, v.camera, None, v.boxes_px, v.joints_px, s) for v, s in zip(sample.views, sure, strict=True)
    )
    sample = Sample("s", views, sample.group)
    error = {}
    for weights in ("uniform", "peak"):
        (found,) = Dlt({"weighting": weights}, COCO).predict([sample])
        error[weights] = np.linalg.norm(found.joints_mm[0] - X, axis=-1).mean()
    assert error["peak"] < 0.05 * error["uniform"]


def test_joints_with_no_confidence_are_not_used():
    X = person()
    sample = given_sample([X])
    sample.views[0].joints_px[0, 3] += 500
    sample.views[0].confidence[0, 3] = 0
    (found,) = Dlt({}, COCO).predict([sample])
    np.testing.assert_allclose(found.joints_mm[0], X, atol=1e-4)


def test_nobody_detected_is_nobody_answered():
    empty = given_sample([person()])
    for view in empty.views:
        object.__setattr__(view, "joints_px", np.zeros((0, 17, 2)))
        object.__setattr__(view, "confidence", np.zeros((0, 17)))
    alone = given_sample([person()], views=1)
    nobody, one, somebody = Dlt({}, COCO).predict([empty, alone, given_sample([person()])])
    assert np.isnan(nobody.joints_mm).all()
    assert np.isnan(one.joints_mm).all()
    assert np.isfinite(somebody.joints_mm).all()


def test_images_go_through_the_network_of_ransacs_checkpoint(tmp_path):
    path = write_checkpoint(tmp_path / "r.pt")
    method = Dlt({"weighting": "peak"}, HUMAN36M)
    method.load(path, "cpu")
    assert method.inputs.crop_px == SIDE
    assert method.inputs.images
    samples = [image_sample(0, 4), image_sample(1, 2), image_sample(2, 1)]
    found = Detector.read(path, "cpu").detect(samples)
    expected = dlt(found.P, found.points_px, found.peak)
    answers = method.predict(samples)
    for i, answer in enumerate(answers):
        np.testing.assert_allclose(answer.joints_mm[0], expected[i], rtol=1e-5)
    assert np.isnan(answers[2].joints_mm).all()
    assert 0 < answers[0].score[0] <= 1
    assert method.predict([]) == []


def test_compat_restores_the_published_weakness_at_the_world_origin():
    X = np.random.default_rng(0).uniform(-20, 20, (17, 3))
    noise = np.random.default_rng(1).normal(0, 4, (4, 1, 17, 2))
    error = {}
    for compat in (False, True):
        (found,) = Dlt({"compat": compat}, COCO).predict([given_sample([X], shift_px=noise)])
        error[compat] = np.linalg.norm(found.joints_mm[0] - X, axis=-1).mean()
    assert error[False] < 25
    assert error[True] > 2 * error[False]


def test_wrong_use_is_told(tmp_path):
    with pytest.raises(InputError, match=r"^dlt.*\bweight\b.*weighting"):
        Dlt({"weight": "peak"}, COCO)
    with pytest.raises(InputError, match=r"^dlt.*detections"):
        Dlt({}, HUMAN36M).predict([image_sample(0, 2)])
    with pytest.raises(InputError, match=r"joints_px.*\(1, 17, 2\)"):
        Dlt({}, TUM14).predict([given_sample([person()])])
    with pytest.raises(InputError, match="algebraic"):
        Dlt({}, HUMAN36M).load(write_checkpoint(tmp_path / "a.pt", "algebraic"), "cpu")
    with pytest.raises(InputError, match="coco-17"):
        Dlt({}, COCO).load(write_checkpoint(tmp_path / "r.pt"), "cpu")
