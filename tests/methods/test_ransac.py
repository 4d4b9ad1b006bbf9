import random

import numpy as np
import pytest
from made_up import SIDE, given_sample, image_sample, person, write_checkpoint

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Truth
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.methods.base import find_method
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.geometry.robust import ransac, ransac_published
from poseboard.methods.nets.detector import Detections, Detector
from poseboard.methods.ransac.method import Ransac
from poseboard.methods.ransac.train import RansacTraining


def test_a_wrong_view_is_left_out():
    X = person()
    sample = given_sample([X], views=5, shift_px=np.array([0, 0, 90.0, 0, 0])[:, None, None])
    method = find_method("ransac")({"threshold_px": 10}, COCO)
    method.load(None, "cpu")
    (found,) = method.predict([sample])
    np.testing.assert_allclose(found.joints_mm[0], X, atol=1e-3)
    assert not method.inputs.images


@pytest.mark.usefixtures("short_fits")
def test_compat_is_the_published_scheme_seeded_by_the_key():
    X = person()
    sample = given_sample([X], views=3, key="S9/Walking-1/000001", shift_px=np.array([0, 0, 90.0])[:, None, None])
    P = np.stack([view.camera.P for view in sample.views])
    points = np.stack([view.joints_px[0] for view in sample.views])
    expected = ransac_published(P, points, random.Random(sample.key)).points_mm
    method = Ransac({"compat": True}, COCO)
    alone = method.predict([sample])[0]
    among = method.predict([given_sample([person(1)], key="x"), sample])[1]
    np.testing.assert_array_equal(alone.joints_mm[0], expected)
    np.testing.assert_array_equal(among.joints_mm, alone.joints_mm)


@pytest.mark.usefixtures("short_fits")
def test_images_go_through_the_network(tmp_path):
    path = write_checkpoint(tmp_path / "r.pt", constants={"threshold_px": 7.0})
    samples = [image_sample(0, 4), image_sample(1, 2)]
    for compat, decode in ((False, "softargmax"), (True, "argmax")):
        method = Ransac({"compat": compat}, HUMAN36M)
        method.load(path, "cpu")
        assert method.threshold_px == (30.0 if compat else 7.0)
        assert method.inputs.crop_px == SIDE
        found = Detector.read(path, "cpu", decode).detect(samples)
        for i, (answer, sample) in enumerate(zip(method.predict(samples), samples, strict=True)):
            expected = (
                ransac_published(found.P[i], found.points_px[i], random.Random(sample.key))
                if compat
                else ransac(found.P[i], found.points_px[i], 7.0)
            )
            np.testing.assert_allclose(answer.joints_mm[0], expected.points_mm, rtol=1e-3, atol=1e-3)


def test_training_continues_the_backbone_and_its_checkpoint_loads(tmp_path):
    start = write_checkpoint(tmp_path / "b.pt", "backbone")
    method = Ransac({"steps": 3, "batch_size": 2}, HUMAN36M)
    training = method.training(start, seed=0)
    assert isinstance(training, RansacTraining)
    assert (training.steps, training.batch_size, training.inputs.crop_px) == (3, 2, SIDE)
    state = Checkpoint.read(start).state
    assert all((value == state[key]).all() for key, value in training.model.state_dict().items())
    samples = [image_sample(i, 3) for i in range(2)]
    constants = training.finish(samples, [Truth(person(i)[None]) for i in range(2)])
    assert 0.01 * SIDE <= constants["threshold_px"] <= 0.5 * SIDE
    Checkpoint("ransac", training.architecture, training.model.state_dict(), constants).save(tmp_path / "r.pt")
    method.load(tmp_path / "r.pt", "cpu")
    assert method.threshold_px == constants["threshold_px"]


def test_the_threshold_is_the_one_with_the_least_error(tmp_path, monkeypatch):
    """Half a pixel of noise and outliers of 8 px: neither the smallest nor the largest threshold is best."""
    rng = np.random.default_rng(0)
    bodies = [person(i) for i in range(12)]
    samples = [given_sample([body], views=6) for body in bodies]
    P = np.stack([[view.camera.P for view in sample.views] for sample in samples])
    points = np.stack([[view.joints_px[0] for view in sample.views] for sample in samples])
    points += rng.normal(0, 0.5, points.shape)
    moved = np.argsort(rng.random(points.shape[:-1]), axis=1) < 2
    points += moved[..., None] * rng.choice([-8.0, 8.0], points.shape)
    found = Detections(points, np.ones(points.shape[:-1]), P, np.ones(P.shape[:2], dtype=bool))
    monkeypatch.setattr(Detector, "detect", lambda self, samples: found)
    training = RansacTraining.continued(
        write_checkpoint(tmp_path / "b.pt", "backbone"), Ransac({}, HUMAN36M).options, HUMAN36M
    )
    truths = [Truth(body[None]) for body in bodies]
    truths[0].joints_mm[0, 3] = np.nan  # a joint nobody annotated
    best = training.finish(samples, truths)["threshold_px"]

    def error(threshold):
        distance = np.linalg.norm(ransac(P, points, threshold).points_mm - np.stack(bodies), axis=-1)
        return np.nanmean(distance)

    assert 0.01 * SIDE < best < 0.2 * SIDE
    assert error(best) < error(0.01 * SIDE)
    assert error(best) < error(0.5 * SIDE)


def test_no_comparable_joint_fits_nothing(tmp_path):
    training = RansacTraining.continued(
        write_checkpoint(tmp_path / "b.pt", "backbone"), Ransac({}, HUMAN36M).options, HUMAN36M
    )
    assert training.finish([], []) == {}
    assert training.finish([image_sample(0, 1)], [Truth(person()[None])]) == {}


def test_wrong_use_is_told():
    with pytest.raises(InputError, match=r"^ransac.*threshold_px"):
        Ransac({"threshold_px": -1}, COCO)
    with pytest.raises(InputError, match="after: backbone"):
        Ransac({}, COCO).training(None, 0)
