"""CMU Panoptic: units, joints, boxes, splits, several people, the real samples, and files that are wrong."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_up_panoptic import CAMERAS, FRAMES, make_body, write_image, write_label, write_panoptic

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.panoptic import HD_CAMERAS, RANGES, SEQUENCES, Panoptic, _boxes_about
from poseboard.datasets.skeleton import COCO

SAMPLE = Path(__file__).resolve().parents[2] / "../shared/data/panoptic"
TEST = {"train": (), "test": ("171204_pose5", "171204_pose6")}
KEY = "171204_pose5/00001500"
CALIBRATION = Path("171204_pose5/calibration_171204_pose5.json")
LABEL = Path("171204_pose5/hdPose3d_stage1_coco19/body3DScene_00001500.json")
# learnable triangulation's conversion, by number
COCO_FROM_19 = [1, 15, 17, 16, 18, 3, 9, 4, 10, 5, 11, 6, 12, 7, 13, 8, 14]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("panoptic")
    return root, write_panoptic(root)


@pytest.fixture
def small(tmp_path):
    """The test sequences alone, to be spoilt."""
    write_panoptic(tmp_path, {name: FRAMES[name] for name in TEST["test"]})
    return tmp_path


def rewrite(path, change):
    content = json.loads(path.read_text())
    changed = change(content)
    path.write_text(json.dumps(content if changed is None else changed))


def test_the_split_and_its_frames(whole):
    root, made = whole
    dataset = Panoptic(root)
    assert dataset.status().state == "ready"
    assert dataset.status().detail.startswith("13 frames of one person in 4 cameras (0 with no or several people")
    keys = {split: dataset.keys(split) for split in ("train", "test")}
    assert keys["test"] == [f"{name}/{f:08d}" for name in ("171204_pose5", "171204_pose6") for f in (1500, 1501, 15000)]
    assert [key.partition("/")[0] for key in keys["train"]] == list(SEQUENCES["train"])
    assert len(SEQUENCES["train"]) == 7
    assert set(SEQUENCES["train"]) | set(SEQUENCES["test"]) == set(RANGES)
    groups = [dataset.sample(key).group for key in keys["test"]]
    # two takes of each sequence: what the bootstrap resamples
    assert {group.sequence for group in groups} == {
        *("171204_pose5/400-4300", "171204_pose5/14200-18000"),
        *("171204_pose6/1000-4500", "171204_pose6/14370-18300"),
    }
    assert len(made) == 13


def test_centimetres_become_millimetres_and_joints_those_of_coco(whole):
    root, made = whole
    dataset = Panoptic(root)
    for (sequence, frame), body in made.items():
        (joints_mm,) = dataset.truth(f"{sequence}/{frame:08d}").joints_mm
        np.testing.assert_allclose(joints_mm, 10 * body[COCO_FROM_19, :3], rtol=1e-12)
        left, right = (joints_mm[COCO.joints.index(f"{side}_hip")] for side in ("left", "right"))
        np.testing.assert_allclose(COCO.root_of(joints_mm), (left + right) / 2, rtol=1e-12)
        # y is down: the head is at smaller y than the feet
        assert joints_mm[COCO.joints.index("nose"), 1] < joints_mm[COCO.joints.index("left_ankle"), 1] - 1000


def test_cameras_project_as_the_files_say_lens_included(whole):
    root, made = whole
    dataset = Panoptic(root)
    calibration = {c["name"]: c for c in json.loads((root / CALIBRATION).read_text())["cameras"]}
    body = made["171204_pose5", 1500][COCO_FROM_19, :3]
    views = dataset.sample(KEY).views
    assert tuple(view.name for view in views) == dataset.views == CAMERAS
    for view in views:
        c = calibration[view.name]
        rvec, tvec = cv2.Rodrigues(np.array(c["R"]))[0], np.array(c["t"])
        want = cv2.projectPoints(body, rvec, tvec, np.array(c["K"]), np.array(c["distCoef"]))[0][:, 0]
        np.testing.assert_allclose(view.camera.project(10 * body), want, atol=1e-6)
        assert view.camera.dist.any()
        assert view.camera.size == (160, 90)
        assert view.pixels().shape == (90, 160, 3)
    pixels = cv2.imread(str(root / "171204_pose5/hdImgs/00_01/00_01_00001500.jpg"))
    np.testing.assert_array_equal(views[0].pixels(), pixels[..., ::-1])


def test_boxes_about_the_true_joints(whole):
    root, _ = whole
    for scale in (None, 1.0):
        dataset = Panoptic(root, box_scale=scale)
        truth = dataset.truth(KEY).joints_mm[0]
        for view in dataset.sample(KEY).views:
            points = view.camera.project(truth)
            points = points[((points >= 0) & (points < (160, 90))).all(axis=1)]
            ((left, upper, right, lower),) = view.boxes_px
            side = int((1.3 if scale is None else 1.0) * max(np.floor(points.max(0)) + 1 - np.floor(points.min(0))))
            assert right - left == lower - upper == side
            middle = (np.floor(points.min(0)) + np.floor(points.max(0)) + 1) / 2
            np.testing.assert_allclose([(left + right) / 2, (upper + lower) / 2], middle, atol=1.5)
    assert "boxes about the true joints" in Panoptic(root).status().detail


def write_detections(root, sequence, camera, boxes):
    path = root / sequence / "mrcnn-detections" / f"{camera}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(boxes))


def test_detected_boxes_where_they_are_there(small):
    about_joints = Panoptic(small, TEST)
    before = about_joints.manifest()
    boxes = [[10.4, 20, 39.8, 80, 0.9] for _ in range(15001)]
    boxes[1501] = [0, 0, 0, 0, 0]
    for sequence in TEST["test"]:
        for camera in CAMERAS:
            assert Panoptic(small, TEST).manifest() == before  # one file alone changes nothing
            write_detections(small, sequence, camera, boxes)
    dataset = Panoptic(small, TEST)
    assert dataset.status().detail.endswith("detected boxes")
    assert {dataset.facts(split).boxes for split in dataset.splits} == {"detected"}
    assert (
        Panoptic(small, TEST, boxes="joints").facts("test").boxes == about_joints.facts("test").boxes == "true joints"
    )
    assert dataset.manifest() != before
    for view in dataset.sample(KEY).views:
        assert view.boxes_px.tolist() == [[-5, 20, 55, 80]]  # 30 x 60, made square about its middle
    assert Panoptic(small, TEST, box_scale=2).sample(KEY).views[0].boxes_px.tolist() == [[-35, -10, 85, 110]]
    assert dataset.sample("171204_pose5/00001501").views == ()
    assert Panoptic(small, TEST, boxes="joints").sample("171204_pose5/00001501").views

    write_detections(small, "171204_pose5", "00_02", boxes[:1501])
    with pytest.raises(InputError, match=r"00_02\.json: .*1501"):
        Panoptic(small, TEST).sample("171204_pose5/00001501")
    for wrong in ("{}", "[]", "[[1, 2, 3, 4]]", '[["a", 0, 0, 0, 0]]', "[[NaN, 0, 0, 0, 1]]", "[null]", "[[1], []]"):
        (small / "171204_pose5/mrcnn-detections/00_02.json").write_text(wrong)
        assert Panoptic(small, TEST).status().state == "damaged"
        with pytest.raises(InputError, match=r"00_02\.json: "):
            Panoptic(small, TEST).sample(KEY)
    for wrong in ([9, 9, 9, 80, 1], [9, 80, 40, 20, 1], [0, 0, 99999, 10, 1]):
        write_detections(small, "171204_pose5", "00_02", [wrong] * 1600)
        with pytest.raises(InputError, match=r"00_02\.json: 1500: "):
            Panoptic(small, TEST).sample(KEY)
    (small / "171204_pose5/mrcnn-detections/00_02.json").unlink()
    assert Panoptic(small, TEST, boxes="detections").status().state == "missing"


def test_every_nth_labelled_frame_of_the_ranges(small):
    write_label(small, "171204_pose5", 399, [make_body(1)])  # before the first range
    write_label(small, "171204_pose5", 4300, [make_body(1)])  # behind its end
    write_label(small, "171204_pose5", 400, [make_body(2)])
    found = Panoptic(small, {"test": ("171204_pose5",)}, every=2).keys("test")
    assert found == ["171204_pose5/00000400", "171204_pose5/00001501"]
    assert len(Panoptic(small, {"test": ("171204_pose5",)}).keys("test")) == 4


def test_frames_with_nobody_or_several(small):
    write_label(small, "171204_pose5", 1501, [])
    two = [make_body(7), make_body(8)]
    write_label(small, "171204_pose5", 15000, two)
    ghost = make_body(9)
    ghost[:, 3] = -1
    write_label(small, "171204_pose5", 1500, [ghost, make_body(10)])
    one = Panoptic(small, {"test": ("171204_pose5",)})
    assert one.keys("test") == [KEY]
    assert one.status().detail.startswith("1 frames of one person in 4 cameras (2 with no or several people left out)")
    everybody = Panoptic(small, {"test": ("171204_pose5",)}, people="all")
    assert everybody.keys("test") == [KEY, "171204_pose5/00015000"]
    truth = everybody.truth("171204_pose5/00015000").joints_mm
    np.testing.assert_allclose(truth, [10 * body[COCO_FROM_19, :3] for body in two])
    assert {len(view.boxes_px) for view in everybody.sample("171204_pose5/00015000").views} == {2}
    assert everybody.manifest() != one.manifest()


def test_joints_that_are_not_annotated(small):
    body = make_body(11)
    body[15] = 0, 0, 0, -1
    body[6, 3] = 0.1  # the left hip
    write_label(small, "171204_pose5", 1500, [body])
    (joints,) = Panoptic(small, TEST).truth(KEY).joints_mm
    absent = np.isnan(joints).any(axis=-1)
    assert [COCO.joints[i] for i in np.flatnonzero(absent)] == ["left_eye", "left_hip"]
    assert np.isnan(COCO.root_of(joints)).all()


def test_a_camera_that_shows_nobody_is_left_out(small):
    def away(content):
        camera = next(c for c in content["cameras"] if c["name"] == "00_02")
        R = np.array(camera["R"]) * [[-1], [1], [-1]]  # turned round about its own vertical
        camera["t"] = (-R @ (-np.array(camera["R"]).T @ np.array(camera["t"]))).tolist()
        camera["R"] = R.tolist()

    rewrite(small / CALIBRATION, away)
    assert [view.name for view in Panoptic(small, TEST).sample(KEY).views] == ["00_01", "00_10", "00_13"]


def test_boxes_stay_in_the_order_of_the_truth(small):
    """Somebody whom no camera shows comes first: the second person's boxes stay second."""
    away = make_body(7)
    away[:, 1] += 5000
    write_label(small, "171204_pose5", 1500, [away, make_body(8)])
    alone = make_body(8)
    write_label(small, "171204_pose5", 1501, [alone])
    dataset = Panoptic(small, TEST, people="all")
    assert len(dataset.truth(KEY).joints_mm) == 2
    views, of_one = dataset.sample(KEY).views, dataset.sample("171204_pose5/00001501").views
    assert len(views) == len(of_one) == 4
    for view, one in zip(views, of_one, strict=True):
        assert np.isnan(view.boxes_px[0]).all()
        np.testing.assert_array_equal(view.boxes_px[1:], one.boxes_px)


@pytest.mark.parametrize("boxes", ["joints", "detections"])
def test_frames_that_no_camera_shows(small, boxes):
    """They are left out of training and stay in the test, whatever tells who is seen."""
    away = make_body(7)
    away[:, 1] += 5000
    write_label(small, "171204_pose5", 1501, [away])
    detected = [[10, 20, 40, 80, 0.9] for _ in range(15000)]  # one too few: an error, which must not be hidden
    detected[1501] = [0, 0, 0, 0, 0.009]
    detected[1500][4] = 0.01
    for camera in CAMERAS:
        write_detections(small, "171204_pose5", camera, detected)
    test = Panoptic(small, {"train": (), "test": ("171204_pose5",)}, boxes=boxes)
    train = Panoptic(small, {"train": ("171204_pose5",), "test": ()}, boxes=boxes)
    assert test.keys("test") == [f"171204_pose5/{frame:08d}" for frame in (1500, 1501, 15000)]
    assert test.sample("171204_pose5/00001501").views == ()
    assert train.keys("train") == [f"171204_pose5/{frame:08d}" for frame in (1500, 15000)]
    assert train.sample(KEY).views
    assert train.status().detail.startswith("2 frames of one person")
    assert "(0 with no or several people, 1 of training that no camera shows left out)" in train.status().detail
    assert "shows" not in test.status().detail
    if boxes == "detections":  # one camera is enough
        detected[1501][4] = 0.5
        write_detections(small, "171204_pose5", CAMERAS[3], detected)
        assert len(Panoptic(small, {"train": ("171204_pose5",)}, boxes=boxes).keys("train")) == 3


def test_seen_frames_with_several_people(small):
    away = make_body(7)
    away[:, 1] += 5000
    write_label(small, "171204_pose5", 1500, [away, away, make_body(8)])
    write_label(small, "171204_pose5", 1501, [away, away])
    write_label(small, "171204_pose5", 15000, [make_body(8)])
    dataset = Panoptic(small, {"train": ("171204_pose5",)}, people="all")
    assert dataset.keys("train") == [KEY, "171204_pose5/00015000"]
    assert [bool(dataset.sample(f"171204_pose5/{n:08d}").views) for n in (1500, 1501, 15000)] == [True, False, True]


def test_a_lens_that_folds_back():
    """r (1 - 0.12 r^2) grows up to r^2 = 1 / 0.36, 59 degrees: farther out points land within the image again."""
    K = [[1400.0, 0, 960], [0, 1400, 540], [0, 0, 1]]
    lens = Camera(K, np.eye(3), np.zeros(3), [-0.12, 0, 0, 0, 0], (3840, 2160))
    axis = np.radians([5.0, 20, 58, 60, 68])
    points = 2000 * np.stack([np.sin(axis), np.zeros(5), np.cos(axis)], axis=-1)
    pixels = lens.project(points)
    assert ((pixels >= 0) & (pixels < lens.size)).all()  # all five would count
    (box,) = _boxes_about(lens, points[None])
    assert box is not None
    assert (box[0], box[2]) == (np.floor(pixels[0, 0]), np.floor(pixels[2, 0]) + 1)
    assert _boxes_about(lens, points[None, 3:]) == [None]
    for grows in ([0.1, 0.1, 0, 0, 0.1], [0.0, 0, 0, 0, 0]):
        wide = Camera(K, np.eye(3), np.zeros(3), grows, (100_000, 2160))
        (box,) = _boxes_about(wide, points[None])
        assert box is not None
        assert box[2] == np.floor(wide.project(points)[4, 0]) + 1


def test_what_is_not_there(small):
    dataset = Panoptic(small)
    assert dataset.status().state == "partial"
    assert dataset.status().detail.endswith("171026_pose1")
    assert len(dataset.keys("test")) == 6
    with pytest.raises(InputError, match=r"171026_pose1.*datasets\.panoptic\.sequences"):
        dataset.keys("train")
    assert Panoptic(small, TEST).status().state == "ready"
    assert Panoptic(small, TEST).keys("train") == []
    image = small / "171204_pose5/hdImgs/00_10/00_10_00001500.jpg"
    image.unlink()
    status = Panoptic(small, TEST).status()
    assert status.state == "partial"
    assert status.detail.endswith("171204_pose5/hdImgs/00_10/00_10_00001500.jpg")
    view = Panoptic(small, TEST).sample(KEY).views[2]
    with pytest.raises(InputError, match=r"00_10_00001500\.jpg: "):
        view.pixels()
    image.write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(InputError, match=r"00_10_00001500\.jpg: "):
        view.pixels()
    cv2.imwrite(str(image), np.zeros((45, 80, 3), dtype=np.uint8))
    with pytest.raises(InputError, match=r"00_10_00001500\.jpg: .*80 x 45.*160 x 90"):
        view.pixels()
    with pytest.raises(InputError, match="171204_pose5/1500"):
        Panoptic(small, TEST).sample("171204_pose5/1500")
    for file in (small / "171204_pose6/hdPose3d_stage1_coco19").iterdir():
        file.unlink()
    assert "171204_pose6" in Panoptic(small, {"test": ("171204_pose6",)}).status().detail


def joints19(values):
    return lambda content: {**content, "bodies": [{"id": 0, "joints19": values}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: [1], "bodies: "),
        (lambda content: {"version": 0.7}, "bodies: "),
        (lambda content: {**content, "bodies": {"0": 1}}, "bodies: "),
        (lambda content: {**content, "bodies": [3]}, r"bodies\[0\]\.joints19"),
        (lambda content: {**content, "bodies": [*content["bodies"], {}]}, r"bodies\[1\]\.joints19"),
        (joints19([0.0] * 57), r"bodies\[0\]\.joints19"),
        (joints19([[0.0] * 4] * 19), r"bodies\[0\]\.joints19"),
        (joints19(["0"] * 76), r"bodies\[0\]\.joints19"),
        (joints19([True] * 76), r"bodies\[0\]\.joints19"),
        (joints19([float("nan")] * 76), r"bodies\[0\]\.joints19"),
        (joints19([1e300] * 76), r"bodies\[0\]\.joints19"),
        (joints19([10**400] * 76), r"bodies\[0\]\.joints19"),
        (joints19([None] * 76), r"bodies\[0\]\.joints19"),
    ],
)
def test_labels_that_are_wrong(small, change, message):
    rewrite(small / LABEL, change)
    with pytest.raises(InputError, match=message) as told:
        Panoptic(small, TEST).keys("test")
    assert "body3DScene_00001500.json" in str(told.value)
    assert "\n" not in str(told.value)
    assert Panoptic(small, TEST).status().state == "damaged"


def camera(field, value):
    def changed(content):
        next(c for c in content["cameras"] if c["name"] == "00_02")[field] = value

    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: [], "cameras: "),
        (lambda content: {"cameras": [1]}, "cameras: "),
        (camera("name", ["00_02"]), "00_02: "),
        (camera("K", None), r"00_02\.K: "),
        (camera("K", np.eye(4).tolist()), r"00_02\.K: "),
        (camera("K", np.zeros((3, 3)).tolist()), r"00_02: .*\bK\b"),
        (camera("K", [[90.0, 0, 80], [0, 90.0, 45], [0, 0, True]]), r"00_02\.K: "),
        (camera("R", (2 * np.eye(3)).tolist()), r"00_02: .*\bR\b"),
        (camera("t", [1, 2, 3]), r"00_02\.t: "),
        (camera("distCoef", [0, 0, 0, 0]), r"00_02\.distCoef: "),
        (camera("resolution", [0, 90]), r"00_02\.resolution: "),
    ],
)
def test_a_calibration_that_is_wrong(small, change, message):
    rewrite(small / CALIBRATION, change)
    with pytest.raises(InputError, match=message) as told:
        Panoptic(small, TEST).sample(KEY)
    assert CALIBRATION.name in str(told.value)
    assert Panoptic(small, TEST).status().state == "damaged"


@pytest.mark.parametrize(
    "options",
    [
        {"sequences": {"test": ("../away",)}},
        {"sequences": {"train": ("171204_pose5",), "test": ("171204_pose5",)}},
        {"sequences": {}},
        {"cameras": ("00_01/..", "00_02")},
        {"cameras": ("00_01", "00_01")},
        {"cameras": ()},
        {"boxes": "detections", "people": "all"},
    ],
)
def test_options_that_are_wrong(tmp_path, options: dict[str, Any]):
    with pytest.raises(InputError, match="panoptic: "):
        Panoptic(tmp_path, **options)


def test_the_manifest_follows_labels_and_options(small):
    before = Panoptic(small, TEST).manifest()
    assert Panoptic(small, TEST).manifest() == before
    for options in ({"every": 2}, {"cameras": CAMERAS[:2]}, {"boxes": "joints", "box_scale": 1.2}):
        assert Panoptic(small, TEST, **options).manifest() != before
    write_image(small, "171204_pose5", "00_01", 1500)
    write_label(small, "171204_pose5", 20, [make_body(3)])  # in no range, so not in use
    assert Panoptic(small, TEST).manifest() == before
    rewrite(small / LABEL, lambda content: content["bodies"][0]["joints19"].__setitem__(0, 1.0))
    assert Panoptic(small, TEST).manifest() != before


@pytest.fixture
def sample() -> Panoptic:
    """Real calibration and labels of two moments of two musicians' sequences, without images."""
    if not SAMPLE.is_dir():
        pytest.skip("the sample of CMU Panoptic is not beside the repository")
    sequences = {"train": ("160906_band1",), "test": ("160906_band2",)}
    return Panoptic(SAMPLE, sequences, ("00_03", "00_06", "00_12", "00_13", "00_23"), people="all")


def test_the_real_sample(sample):
    status = sample.status()
    assert (status.state, "20 things missing" in status.detail) == ("partial", True)
    assert sample.keys("train") == ["160906_band1/00000168", "160906_band1/00000169"]
    assert sample.keys("test") == ["160906_band2/00000139", "160906_band2/00000140"]
    for split in ("train", "test"):
        for key in sample.keys(split):
            joints_mm = sample.truth(key).joints_mm
            assert joints_mm.shape == (3, 17, 3)
            # people in a dome of 5.5 m: sitting or standing, upright in a world whose y points down
            assert np.nanmax(np.abs(joints_mm[..., [0, 2]])) < 2750
            nose = joints_mm[:, COCO.joints.index("nose"), 1]
            assert ((nose > -1900) & (nose < -800)).all()
            assert np.nanmax(nose - COCO.root_of(joints_mm)[:, 1]) < -100  # one bends down
            # left and right: shoulders and hips point the same way, and the nose lies before the ears
            across = joints_mm[:, COCO.indices(["left_shoulder", "left_hip"])]
            across = across - joints_mm[:, COCO.indices(["right_shoulder", "right_hip"])]
            assert np.nansum(across[:, 0] * across[:, 1], axis=-1).min() >= 0
            forward = joints_mm[:, 0] - np.nanmean(joints_mm[:, COCO.indices(["left_ear", "right_ear"])], axis=1)
            ahead = np.cross(across[:, 0], [0.0, -1.0, 0.0])
            assert (np.einsum("pk,pk->p", forward, ahead) > 0).all()
            for view in sample.sample(key).views:
                assert view.camera.size == (1920, 1080)
                depth_mm = view.camera.to_camera(joints_mm)[..., 2]
                assert 1000 < np.nanmin(depth_mm) < np.nanmax(depth_mm) < 5000
                assert len(view.boxes_px) == 3
                inside = view.camera.project(joints_mm)
                inside = inside[np.isfinite(inside).all(axis=-1)]
                assert ((inside >= 0) & (inside < (1920, 1080))).all(axis=-1).mean() > 0.8
    joints = np.concatenate([sample.truth(key).joints_mm for key in sample.keys("train")])
    assert np.isnan(joints).any(axis=-1).sum() == 8


def test_the_real_bodies_project_as_the_toolbox_projects_them():
    """All 31 HD cameras: through the lens as OpenCV does it, and as the formula of the toolbox's projection does.

    The sample has no images. So it is checked that ours is the same model, that it matters, that it is undone again,
    and that the bodies are in the images; not where the pixels of the people are.
    """
    if not SAMPLE.is_dir():
        pytest.skip("the sample of CMU Panoptic is not beside the repository")
    dataset = Panoptic(SAMPLE, {"train": ("160906_band1",), "test": ("160906_band2",)}, HD_CAMERAS, people="all")
    checked = 0
    for key in [key for split in dataset.splits for key in dataset.keys(split)]:
        joints_mm = dataset.truth(key).joints_mm.reshape(-1, 3)
        joints_mm = joints_mm[np.isfinite(joints_mm).all(axis=1)]
        views = dataset.sample(key).views
        assert tuple(view.name for view in views) == HD_CAMERAS
        for view in views:
            camera = view.camera
            points = camera.project(joints_mm)
            assert np.isfinite(points).all(), "nobody is behind a camera that looks into the dome"
            of_opencv, _ = cv2.projectPoints(joints_mm, cv2.Rodrigues(camera.R)[0], camera.t, camera.K, camera.dist)
            np.testing.assert_allclose(points, of_opencv[:, 0], atol=1e-6)
            inside = ((points >= 0) & (points < camera.size)).all(axis=1)
            assert inside.mean() > 0.6, view.name
            # The toolbox takes the x that it has just distorted into the tangential part of y: 0.03 px.
            np.testing.assert_allclose(points[inside], projected_by_the_toolbox(camera, joints_mm)[inside], atol=0.05)
            straight = camera.undistorted().project(joints_mm)
            assert 10 < np.abs(points - straight)[inside].max() < 100, "without the lens all would be elsewhere"
            np.testing.assert_allclose(camera.undistort(points[inside]), straight[inside], atol=0.01)
            checked += int(inside.sum())
    assert checked > 4 * 31 * 3 * 17 * 0.7


def projected_by_the_toolbox(camera: Camera, points_mm: np.ndarray) -> np.ndarray:
    """Pixels (N, 2), by the formula of the panoptic-toolbox; its distCoef are k1, k2, p1, p2, k3."""
    k1, k2, p1, p2, k3 = camera.dist
    (x, y), z = camera.to_camera(points_mm).T[:2], camera.to_camera(points_mm)[:, 2]
    x, y = x / z, y / z
    square = x**2 + y**2
    radial = 1 + k1 * square + k2 * square**2 + k3 * square**3
    x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x**2)
    y = y * radial + 2 * p2 * x * y + p1 * (square + 2 * y**2)
    return np.stack([x, y], axis=1) @ camera.K[:2, :2].T + camera.K[:2, 2]
