"""Rendered Hand Pose: units, the palm, the dominant hand and its box, and files that are wrong."""

import pickle

import numpy as np
import pytest
from made_up_rhd import PICTURES, make_annotations, write_annotations, write_rhd

from poseboard.datasets.errors import InputError
from poseboard.datasets.rhd import RHD_HAND, Rhd, released_box
from poseboard.datasets.sample import HANDS

DOMINANT = {0: 0, 1: 1, 2: 1, 5: 0}  # 2 is a tie


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("rhd")
    return root, write_rhd(root)


def palm_instead_of_wrist(points):
    points = points.astype(np.float64).reshape(2, 21, -1).copy()
    points[:, 0] = (points[:, 0] + points[:, 12]) / 2
    return points


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_dominant_hand_of_each_picture(tree, split):
    root, made = tree
    name = {"train": "training", "test": "evaluation"}[split]
    dataset = Rhd(root)
    assert dataset.status().state == "ready"
    assert dataset.keys(split) == [f"{name}/{number:05d}" for number in PICTURES]
    for number, hand in DOMINANT.items():
        key, entry = f"{name}/{number:05d}", made[name][number]
        joints_mm = dataset.truth(key).joints_mm
        np.testing.assert_allclose(joints_mm, 1000 * palm_instead_of_wrist(entry["xyz"])[[hand]], rtol=1e-12)
        sample = dataset.sample(key)
        assert sample.group.action == f"{HANDS[hand]} hand"
        (view,) = sample.views
        uv = view.camera.project(joints_mm[0])
        # projecting the mean of two points is near the mean of their projections, and the others are exact
        np.testing.assert_allclose(uv[1:], entry["uv_vis"][21 * hand + 1 : 21 * hand + 21, :2], atol=1e-3)
        assert view.pixels().shape == (320, 320, 3)
        (directions,) = dataset.truth(key).annotated[view.name]
        annotated = palm_instead_of_wrist(entry["uv_vis"][:, :2])[hand]
        np.testing.assert_allclose(view.camera.image(directions), annotated, atol=1e-9)


def test_the_box_is_about_the_middle_fingers_base(tree):
    root, made = tree
    dataset = Rhd(root)
    for number, hand in DOMINANT.items():
        entry = made["training"][number]
        uv, visible = palm_instead_of_wrist(entry["uv_vis"][:, :2])[hand], entry["uv_vis"][21 * hand :][:21, 2] > 0
        visible[0] |= visible[12]
        (left, upper, right, lower) = dataset.sample(f"training/{number:05d}").views[0].boxes_px[0]
        assert ((left + right) / 2, (upper + lower) / 2) == pytest.approx(tuple(uv[12]))
        assert right - left == pytest.approx(lower - upper)
        assert right - left == pytest.approx(np.clip(2 * np.abs(uv[visible] - uv[12]).max(), 50, 256))


def test_the_releases_boxes_by_hand():
    """Its centre is (row, column), its reach (x, y), hidden key points are at 0, and all is clipped to the picture."""
    uv = np.full((21, 2), (200.0, 100.0))
    uv[12] = (200, 100)  # the base of the middle finger: row 100, column 200
    uv[3], uv[4] = (230.4, 90), (180, 130)
    visible = np.ones(21, dtype=bool)
    # x reaches 180 … 230.4 about row 100: 130.4; y reaches 90 … 130 about column 200: 110; the side is twice 130.4
    rows, columns = (0, 230), (69, 319)
    assert released_box(uv, visible).tolist() == [columns[0], rows[0], columns[1], rows[1]]
    visible[7] = False  # at (0, 0): 200 columns before the centre
    assert released_box(uv, visible).tolist() == [0, 0, 319, 300]
    uv[:] = uv[12] = (310, 300)
    # one point off the diagonal by 10 px: the least side, cut at the picture's last column and row
    assert released_box(uv, np.ones(21, dtype=bool)).tolist() == [285, 275, 319, 319]


def test_boxes_of_the_release_are_asked_for_and_declared(tree):
    root, made = tree
    dataset, own = Rhd(root, boxes="compat"), Rhd(root)
    assert dataset.manifest() != own.manifest()
    assert "as in the release of epipolar transformers" in dataset.status().detail
    assert "about the hand" in own.status().detail
    larger = []
    for number, hand in DOMINANT.items():
        key, entry = f"training/{number:05d}", made["training"][number]
        uv, visible = palm_instead_of_wrist(entry["uv_vis"][:, :2])[hand], entry["uv_vis"][21 * hand :][:21, 2] > 0
        visible[0] |= visible[12]
        (box,) = dataset.sample(key).views[0].boxes_px
        np.testing.assert_array_equal(box, released_box(uv, visible))
        assert ((box >= 0) & (box <= 319)).all()
        crop = dataset.sample(key).views[0].crop(256)  # stretched to a square; the camera goes with it
        x, y = crop.camera.project(dataset.truth(key).joints_mm[0])[12]
        left, upper, right, lower = box
        expected = (uv[12] - (left, upper)) * 256 / (right - left, lower - upper)
        np.testing.assert_allclose((x, y), expected, atol=0.01)
        larger.append(
            (right - left) * (lower - upper) > np.diff(own.sample(key).views[0].boxes_px.reshape(2, 2)[:, 0])[0] ** 2
        )
    assert any(larger)


def test_every_visible_hand(tree):
    root, made = tree
    dataset = Rhd(root, hands="both")
    for number, (_, _, seen) in PICTURES.items():
        key = f"evaluation/{number:05d}"
        hands = np.flatnonzero(seen)
        want = 1000 * palm_instead_of_wrist(made["evaluation"][number]["xyz"])[hands]
        np.testing.assert_allclose(dataset.truth(key).joints_mm, want, rtol=1e-12)
        sample = dataset.sample(key)
        uv_vis = made["evaluation"][number]["uv_vis"][:, 2].reshape(2, 21)[hands] > 0
        uv_vis[:, 0] |= uv_vis[:, 12]  # the palm
        np.testing.assert_array_equal(dataset.truth(key).seen[sample.views[0].name], uv_vis)
        assert sample.views[0].boxes_px.shape == (len(hands), 4)
        assert sample.group.action == ("both hands" if len(hands) == 2 else f"{HANDS[hands[0]]} hand")
    assert dataset.manifest() != Rhd(root).manifest()


def test_fingers_are_chains_from_the_palm():
    assert len(RHD_HAND) == 21
    assert RHD_HAND.joints[0] == RHD_HAND.root == "palm"
    assert [RHD_HAND.joints[i] for i in (1, 4, 12, 20)] == ["thumb_tip", "thumb_base", "middle_base", "little_base"]
    ends = [b for _, b in RHD_HAND.edges]
    assert len(RHD_HAND.edges) == len(set(ends)) == 20


def test_what_is_not_there(tmp_path):
    assert Rhd(tmp_path).status().state == "missing"
    write_annotations(tmp_path, "evaluation", make_annotations(0))
    dataset = Rhd(tmp_path)
    assert (dataset.status().state, dataset.status().detail) == ("partial", "training/anno_training.pickle is missing")
    with pytest.raises(InputError, match=r"anno_training\.pickle"):
        dataset.keys("train")
    with pytest.raises(InputError, match=r"mask/00000\.png"):
        dataset.truth("evaluation/00000")
    (tmp_path / "evaluation" / "mask").mkdir()
    (tmp_path / "evaluation" / "mask" / "00000.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"mask/00000\.png"):
        dataset.truth("evaluation/00000")


class Evil:
    def __reduce__(self):
        return print, ("run",)


def change(field, value):
    def changed(content):
        content[1][field] = value

    return changed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content.update({1: Evil()}), "nothing was run"),
        (lambda content: content[1].pop("K"), r"1\.K: "),
        (change("xyz", np.zeros((21, 3))), r"1\.xyz: "),
        (change("uv_vis", np.full((42, 3), np.nan)), r"1\.uv_vis: "),
        (change("uv_vis", "none"), r"1\.uv_vis: "),
        (change("K", np.zeros((3, 3))), r"1\.K: "),
        (lambda content: content.update({"two": {}}), "two: "),
        (lambda content: content.clear(), "dict"),
    ],
)
def test_annotations_that_are_wrong(tmp_path, capsys, spoil, message):
    content = make_annotations(0)
    spoil(content)
    write_annotations(tmp_path, "training", content)
    with pytest.raises(InputError, match=message) as told:
        Rhd(tmp_path).keys("train")
    assert "\n" not in str(told.value)
    assert "anno_training.pickle" in str(told.value)
    assert capsys.readouterr().out == ""


def test_annotations_in_another_order_and_protocol(tmp_path):
    content = make_annotations(0)
    write_annotations(tmp_path, "training", dict(reversed(content.items())))
    keys = Rhd(tmp_path).keys("train")
    assert keys == [f"training/{number:05d}" for number in PICTURES]
    (tmp_path / "training" / "anno_training.pickle").write_bytes(pickle.dumps(content, protocol=4))
    assert Rhd(tmp_path).keys("train") == keys
