"""RootNet as a method: what it is handed, answers and learns; its baseline; the file that roots are exchanged by."""

import json

import numpy as np
import pytest
import torch

from poseboard.datasets.boxes import crop_boxes
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Group, Sample, Truth, View
from poseboard.datasets.skeleton import COCO, HUMAN36M, ROOT
from poseboard.methods.batches.mixing import Mixture, Roots
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.rootnet.crop import PersonCrop
from poseboard.methods.rootnet.method import Rootnet
from poseboard.methods.rootnet.model import JOINTS, RootArchitecture, RootNet
from poseboard.methods.rootnet.train import RootAugmentation
from poseboard.protocols.root_files import RootRecord, processed_boxes, read_roots, write_roots

SIZE = (320, 240)
K = np.array([[400.0, 0, 150], [0, 420, 110], [0, 0, 1]])


def scene(seed=0, people=2, skeleton=HUMAN36M):
    """People before a camera that is not at the world's origin, with tight boxes about their roots."""
    rng = np.random.default_rng(seed)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    camera = Camera(K, turn, np.array([100.0, -50, 200]), size=SIZE)
    depth = rng.uniform(2500, 6000, size=people)
    pixels = rng.uniform((60, 70), (260, 170), size=(people, 2))
    roots = np.concatenate([camera.normalised(pixels) * depth[:, None], depth[:, None]], axis=1)
    height = 1700 * K[1, 1] / depth
    half = np.stack([0.25 * height, 0.5 * height], axis=1)
    boxes = np.concatenate([pixels - half, pixels + half], axis=1)
    joints = rng.normal(0, 200, size=(people, len(skeleton), 3))
    joints -= skeleton.root_of(joints)[:, None] - roots[:, None]
    image = rng.integers(0, 256, size=(SIZE[1], SIZE[0], 3), dtype=np.uint8)
    view = View("a", camera, image, boxes)
    return Sample("one", (view,), Group("S1", "Walking", "Walking-1")), Truth((joints - camera.t) @ turn), roots


def shown(sample):
    """As the harness hands a sample to a method that declares no extrinsics."""
    view = sample.views[0]
    camera = view.camera.withhold(intrinsics=False, extrinsics=True)
    bare = View("x", camera, view.image, view.boxes_px, box_scores=view.box_scores)
    return Sample("opaque", (bare,), Group("", "", ""))


def saved(path, *, whole_frames, gamma=1.0, crop_px=64):
    backbone = Architecture(network="small", joints=JOINTS, crop_px=crop_px)
    architecture = RootArchitecture(backbone=backbone, whole_frames=whole_frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = RootNet(architecture, backbone.build(seed=0), gamma=gamma)
    Checkpoint("rootnet", architecture.plain(), net.state_dict()).save(path)
    return path


def test_whole_frames_and_crops_of_them_are_answered_alike(tmp_path):
    """k and the way back follow from the crop's own camera, whoever cropped."""
    sample, _, _ = scene()
    frames, crops = Rootnet({}, HUMAN36M), Rootnet({}, HUMAN36M)
    frames.load(saved(tmp_path / "frames.pt", whole_frames=True), "cpu")
    crops.load(saved(tmp_path / "crops.pt", whole_frames=False), "cpu")
    assert (frames.inputs.crop_px, crops.inputs.crop_px, crops.inputs.box_scale) == (None, 64, 1.25)
    assert not frames.inputs.extrinsics
    assert frames.inputs.views == (1, 1)
    whole = frames.predict([shown(sample)])[0]
    for person in range(2):
        left, upper, right, lower = sample.views[0].boxes_px[person]
        box = crop_boxes([left, upper, right - left, lower - upper], SIZE)[0]
        about = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
        view = View("x", sample.views[0].camera, sample.views[0].image, about[None])
        cropped = view.crop(64, 1.0, resampling="bilinear")
        one = crops.predict([Sample("one", (cropped,), sample.group)])[0]
        np.testing.assert_allclose(one.joints_mm[0], whole.joints_mm[person], rtol=0, atol=0.5)


def test_answers_are_roots_with_the_scores_of_the_boxes(tmp_path):
    sample, _, _ = scene()
    method = Rootnet({}, HUMAN36M)
    with pytest.raises(InputError, match="load a checkpoint"):
        method.predict([shown(sample)])
    method.load(saved(tmp_path / "net.pt", whole_frames=True), "cpu")
    annotated = method.predict([shown(sample)])[0]
    np.testing.assert_array_equal(annotated.score, [1, 1])
    view = sample.views[0]
    scored = View("a", view.camera, view.image, view.boxes_px, box_scores=np.array([0.9, 0.2]))
    empty = View("a", view.camera, view.image, np.empty((0, 4)))
    answers = method.predict([Sample("s", (scored,), sample.group), Sample("e", (empty,), sample.group)])
    np.testing.assert_array_equal(answers[0].score, [0.9, 0.2])
    assert answers[0].skeleton is ROOT
    assert answers[0].frame == "a"
    np.testing.assert_array_equal(answers[0].joints_mm, annotated.joints_mm)
    assert answers[1].joints_mm.shape == (0, 1, 3)


def test_examples_hold_the_true_root(tmp_path):
    """Whatever is done to the crop, the way back from its cells and depth leads to the root."""
    sample, truth, roots = scene()
    training = Rootnet({"recipe": "published", "architecture": "small", "image_px": 64}, HUMAN36M).training(None, 0)
    seen = set()
    for seed in range(12):
        example = training.example(sample, truth, np.random.default_rng(seed))
        again = training.example(sample, truth, np.random.default_rng(seed))
        assert all(np.array_equal(example[name], again[name]) for name in example)
        assert example["image"].shape == (64, 64, 3)
        assert example["visible"] == [1]
        person = int(np.argmin(np.abs(roots[:, 2] - example["root"][2])))
        seen.add(person)
        np.testing.assert_allclose(example["root"][2], roots[person, 2], rtol=1e-6)
        crop = PersonCrop.of(sample.views[0], person, cropped=False)
        np.testing.assert_allclose(example["k_mm"], crop.prior_mm, rtol=1e-6)
    assert seen == {0, 1}
    plain = {"recipe": "published", "architecture": "small", "image_px": 64}
    still = Rootnet({**plain, "augmentation": {"rotated": 0, "flip": 0, "colour": 0}}, HUMAN36M).training(None, 0)
    example = still.example(sample, truth, np.random.default_rng(0))
    person = int(np.argmin(np.abs(roots[:, 2] - example["root"][2])))
    crop = PersonCrop.of(sample.views[0], person, cropped=False)
    found = crop.root_mm(example["root"][:2] / 16, example["root"][2])
    np.testing.assert_allclose(found, roots[person], rtol=0, atol=0.1)


def test_people_without_depth_teach_where_they_are(tmp_path):
    """2D data: the root is annotated in the view alone, and of key points it is the mean of the hips."""
    sample, truth, _ = scene(people=1, skeleton=COCO)
    camera = sample.views[0].camera
    flat = Truth(
        np.full_like(truth.joints_mm, np.nan), annotated={"a": camera.normalised(camera.project(truth.joints_mm))}
    )
    training = Rootnet({"recipe": "published", "architecture": "small", "image_px": 64}, COCO).training(None, 0)
    deep, shallow = (training.example(sample, one, np.random.default_rng(3)) for one in (truth, flat))
    assert (deep["has_depth"], shallow["has_depth"]) == ([1], [0])
    assert shallow["root"][2] == 0
    # the middle of the hips in the image is not quite the image of their middle
    np.testing.assert_allclose(shallow["root"][:2], deep["root"][:2], rtol=0, atol=1)
    hidden = Truth(flat.joints_mm, {"a": np.arange(len(COCO))[None] != COCO.joints.index("left_hip")}, flat.annotated)
    assert training.example(sample, hidden, np.random.default_rng(3))["visible"] == [0]


def test_augmentation_is_that_of_the_release():
    settings = RootAugmentation()
    changes = [settings.draw(np.random.default_rng(seed)) for seed in range(4000)]
    turns = np.array([change.rotation_deg for change in changes])
    assert np.abs(turns).max() == 60
    assert np.mean(turns != 0) == pytest.approx(0.6, abs=0.03)
    assert np.mean([change.mirrored for change in changes]) == pytest.approx(0.5, abs=0.03)
    gains = np.array([change.gains for change in changes])
    assert 0.8 <= gains.min() < 0.81
    assert 1.19 < gains.max() <= 1.2


@pytest.mark.parametrize("recipe", ["small", "published"])
def test_it_learns(recipe):
    """A few steps on one batch bring the loss down, and the depth term is that of the recipe."""
    sample, truth, _ = scene()
    options = {"recipe": recipe, "architecture": "small", "image_px": 32, "steps": 12, "precision": "float32"}
    training = Rootnet({**options, "warmup_steps": 0}, HUMAN36M).training(None, 0)
    view = sample.views[0]
    if recipe == "small":  # it is handed crops of one person
        crop = view.crop(32, 1.25, resampling="bilinear")
        sample, truth = Sample("one", (crop,), sample.group), Truth(truth.joints_mm[:1])
    examples = [training.example(sample, truth, np.random.default_rng(seed)) for seed in range(6)]
    batch = {name: torch.from_numpy(np.stack([example[name] for example in examples])) for name in examples[0]}
    losses = []
    for _ in range(training.steps):
        loss = training.loss(batch)["total"]
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.scheduler.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]


def test_k_alone_is_a_baseline(tmp_path):
    """Its constant is the median over the training people; the root is taken to be at the centre of the crop."""
    samples, truths, expected = [], [], []
    for seed in range(5):
        sample, truth, roots = scene(seed, people=1)
        crop = sample.views[0].crop(32, 1.25, resampling="bilinear")
        samples.append(Sample(str(seed), (crop,), sample.group))
        truths.append(truth)
        expected.append(roots[0])
    method = Rootnet({"network": "none"}, HUMAN36M)
    training = method.training(None, 0)
    assert training.steps == 0
    constants = training.finish(samples, truths)
    path = tmp_path / "prior.pt"
    Checkpoint("rootnet", training.architecture, training.model.state_dict(), constants).save(path)
    method.load(path, "cpu")
    answers = method.predict(samples)
    priors = [PersonCrop.of(sample.views[0], 0, cropped=True).prior_mm for sample in samples]
    ratios = np.array([root[2] / prior for root, prior in zip(expected, priors, strict=True)])
    assert constants["gamma"] == pytest.approx(np.median(ratios))
    for answer, root, prior in zip(answers, expected, priors, strict=True):
        depth = constants["gamma"] * prior
        np.testing.assert_allclose(answer.joints_mm[0, 0], root / root[2] * depth, rtol=0, atol=1e-6 * depth)
    with pytest.raises(InputError, match="network"):
        Rootnet({}, HUMAN36M).load(path, "cpu")
    with pytest.raises(InputError, match="network"):
        method.load(saved(tmp_path / "net.pt", whole_frames=True), "cpu")
    with pytest.raises(InputError, match="depth"):
        training.finish(samples[:1], [Truth(np.full((1, 17, 3), np.nan))])


def test_boxes_that_are_none_are_refused(tmp_path):
    sample, _, _ = scene(people=1)
    method = Rootnet({}, HUMAN36M)
    method.load(saved(tmp_path / "net.pt", whole_frames=True), "cpu")
    view = sample.views[0]
    for box in ([400.0, 20, 500, 90], [10.0, 10, 10, 50]):
        outside = View("a", view.camera, view.image, np.array([box]))
        with pytest.raises(InputError, match="view a: box 0"):
            method.predict([Sample("s", (outside,), sample.group)])


def test_a_file_of_roots_is_read_as_it_was_written(tmp_path):
    sample, _, roots = scene()
    box = processed_boxes(sample.views[0])[0]
    left, upper, right, lower = sample.views[0].boxes_px[0]
    np.testing.assert_allclose(box, crop_boxes([left, upper, right - left, lower - upper], SIZE)[0])
    record = RootRecord(7, tuple(roots[0].tolist()), tuple(box.tolist()), 0.4)
    for unit, factor in (("mm", 1), ("m", 1000)):
        path = tmp_path / f"bbox_root_{unit}_output.json"
        write_roots(path, [record, RootRecord(8, (np.nan,) * 3, (0, 0, 1, 1))], unit)
        (entry,) = json.loads(path.read_text())
        assert entry["bbox_processed"]
        np.testing.assert_allclose(entry["root_cam"], roots[0] / factor)
        (back,) = read_roots(path, unit)
        assert (back.image_id, back.box_xywh, back.score) == (7, record.box_xywh, 0.4)
        np.testing.assert_allclose(back.root_mm, roots[0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"image_id": 1', "JSON"),
        ('{"image_id": 1}', "list"),
        ('[{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]', "entry 0: root_cam"),
        ('[{"image_id": 1, "bbox": [0, 0, 1, 1], "root_cam": [0, 0, NaN]}]', "entry 0: root_cam"),
        ('[{"image_id": 1, "bbox": [0, 0, 1], "root_cam": [0, 0, 1]}]', "entry 0: bbox"),
        ('[{"image_id": "a", "bbox": [0, 0, 1, 1], "root_cam": [0, 0, 1]}]', "entry 0: image_id"),
        ('[{"image_id": 1, "bbox": [0, 0, 1, 1], "root_cam": [0, 0, 1], "bbox_processed": false}]', "raw"),
        ('[{"image_id": 1, "bbox": [0, 0, 1, 1], "root_cam": [0, 0, 1%s]}]' % ("0" * 400), "entry 0: root_cam"),
        ("[3]", "entry 0"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, content, told):
    path = tmp_path / "bbox_root_output.json"
    path.write_text(content)
    with pytest.raises(InputError, match=told):
        read_roots(path)
    with pytest.raises(InputError, match=r"none.json"):
        read_roots(tmp_path / "none.json")


def test_data_sets_with_other_joints_are_mixed():
    """Half with depth, half without; the rest of the shorter half is drawn anew in each epoch, by the seed alone."""
    bodies = [scene(seed, people=1)[:2] for seed in range(3)]
    flat = []
    for seed in range(5):
        sample, truth, _ = scene(seed, people=1, skeleton=COCO)
        camera = sample.views[0].camera
        flat.append((sample, Truth.in_views({"a": camera.normalised(camera.project(truth.joints_mm))})))
    deep, shallow = Roots(bodies, HUMAN36M), Roots(flat, COCO)
    mixture, again = (Mixture([deep], [shallow], epochs=4, seed=7) for _ in range(2))
    assert len(mixture) == 4 * 2 * 5
    training = Rootnet({"recipe": "published", "architecture": "small", "image_px": 32}, ROOT).training(None, 0)
    examples = [training.example(*mixture[place], np.random.default_rng(place)) for place in range(len(mixture))]
    assert sum(float(example["has_depth"][0]) for example in examples) == 4 * 5
    assert all(example["visible"] == [1] for example in examples)
    depths = [example["root"][2] for example in examples[:5]]
    assert set(depths[:3]) == set(np.float32([scene(seed, people=1)[2][0, 2] for seed in range(3)]))
    places = range(len(mixture))
    assert [mixture[place][1].joints_mm.tolist() for place in places if place % 10 < 5] == [
        again[place][1].joints_mm.tolist() for place in places if place % 10 < 5
    ]
    assert len(Mixture([deep], [], epochs=2, seed=0)) == 6
