import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import DAMAGED, Human36M, read_predictions
from poseboard.datasets.skeleton import HUMAN36M

Save = Callable[[Any], Path]


def test_splits_share_nothing_and_lose_nothing(human36m_tree: Path, labels: dict) -> None:
    dataset = Human36M(human36m_tree)
    train, test = dataset.keys("train"), dataset.keys("test")
    assert {key.split("/")[0] for key in train} == {"S1", "S2"}
    assert {key.split("/")[0] for key in test} == {"S9", "S11"}
    assert len(train) + len(test) == len(set(train) | set(test)) == len(labels["table"])


def test_damaged_sequences_go_first_and_the_stride_comes_after(human36m_tree: Path) -> None:
    dataset = Human36M(human36m_tree)
    everything = list(dataset.keys("test"))
    clean = [key for key in everything if key.rsplit("/", 1)[0] not in DAMAGED]
    assert any(key.startswith("S9/Greeting-2/") for key in everything)
    assert any(key.startswith("S11/Greeting-2/") for key in clean)
    assert list(dataset.select("test", damaged=False)) == clean
    for every in (1, 2, 5):
        assert list(dataset.select("test", damaged=False, every=every)) == clean[::every]
        assert list(dataset.select("test", every=every)) == everything[::every]
    assert dataset.select("train", damaged=False) == dataset.select("train")


def test_samples_hold_what_the_labels_say(human36m_tree: Path, labels: dict) -> None:
    dataset = Human36M(human36m_tree)
    for row in labels["table"]:
        subject = labels["subject_names"][row["subject_idx"]]
        sequence = labels["action_names"][row["action_idx"]]
        key = f"{subject}/{sequence}/{row['frame_idx']:06d}"
        sample = dataset.sample(key)
        assert sample.key == key
        assert (sample.group.subject, sample.group.sequence) == (subject, sequence)
        assert f"{sample.group.action}-{sequence[-1]}" == sequence
        boxes = dict(zip(labels["camera_names"], row["bbox_by_camera_tlbr"].tolist(), strict=True))
        assert [v.name for v in sample.views] == [n for n, (top, _, bottom, _) in boxes.items() if bottom > top]
        for view in sample.views:
            top, left, bottom, right = boxes[view.name]
            assert view.boxes_px.tolist() == [[left, top, right, bottom]]
            assert view.pixels().shape == (view.camera.size[1], view.camera.size[0], 3)
        truth = dataset.truth(key).joints_mm
        assert truth.dtype == np.float64
        np.testing.assert_array_equal(truth, row["keypoints"][None])


def test_the_lens_stays_with_original_images(human36m_tree: Path, labels: dict) -> None:
    original = Human36M(human36m_tree, images="original").sample("S9/Walking-1/000005")
    undistorted = Human36M(human36m_tree).sample("S9/Walking-1/000005")
    for c, (a, b) in enumerate(zip(original.views, undistorted.views, strict=True)):
        expected = labels["cameras"][2, c]
        np.testing.assert_array_equal(a.camera.dist, expected["dist"])
        assert a.camera.distortion == "human36m"
        assert not b.camera.dist.any()
        np.testing.assert_array_equal(a.camera.P, b.camera.P)
        assert a.image != b.image
        assert "imageSequence-undistorted" in str(b.image)


def test_boxes_can_be_scaled(human36m_tree: Path) -> None:
    plain = Human36M(human36m_tree).sample("S1/Walking-1/000005").views[0].boxes_px[0]
    wide = Human36M(human36m_tree, box_scale=1.5).sample("S1/Walking-1/000005").views[0].boxes_px[0]
    assert wide[2] - wide[0] == int(1.5 * (plain[2] - plain[0]))


def test_missing_images_are_found_by_sequence(human36m_tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(human36m_tree, root)
    gone = root / "processed/S9/Walking-1/imageSequence-undistorted/55011271/img_000018.jpg"
    gone.unlink()
    status = Human36M(root).status()
    assert status.state == "partial"
    assert "1 of " in status.detail
    assert "S9/Walking-1/imageSequence-undistorted/55011271" in status.detail
    assert Human36M(root, images="original").status().state == "ready"
    with pytest.raises(InputError, match=r"img_000018\.jpg"):
        Human36M(root).sample("S9/Walking-1/000017").views[1].pixels()
    shutil.rmtree(root / "processed")
    assert Human36M(root).status().state == "partial"
    assert Human36M(root).sample("S9/Walking-1/000017").views[1].camera.size == (0, 0)


def test_the_manifest_follows_labels_and_images(save_labels: Save, labels: dict, tmp_path: Path) -> None:
    save_labels(labels)
    first = Human36M(tmp_path).manifest()
    assert Human36M(tmp_path).manifest() == first
    assert Human36M(tmp_path, images="original").manifest() != first
    assert Human36M(tmp_path, box_scale=1.2).manifest() != first


def test_a_rendered_tree_says_so(save_labels: Save, labels: dict, tmp_path: Path) -> None:
    save_labels(labels)
    real = Human36M(tmp_path)
    assert not real.synthetic
    manifest = tmp_path / "manifest.json"
    whole = {"sha256": "ab" * 32, "generator": "g", "options": {"seed": 1}}
    manifest.write_text(json.dumps(whole))
    rendered = Human36M(tmp_path)
    assert rendered.synthetic
    assert (real.facts("test").truth, rendered.facts("test").truth) == ("motion capture", "synthetic")
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        rendered.manifest()
    entries = ("ab" * 32, {"bytes": 1}, {"sha256": "ab" * 32, "bytes": "1"})
    listed = (["S9/Walking-1"], 7, *({"S9/Walking-1": entry} for entry in entries))
    damaged = [json.dumps(whole | change) for change in ({"sha256": "short"}, *({"images": one} for one in listed))]
    for damage in ("{}", "", "[]", *damaged):
        manifest.write_text(damage)
        with pytest.raises(InputError, match=r"manifest\.json: "):
            Human36M(tmp_path).manifest()
    before = real.manifest()
    labels["table"]["keypoints"] += 1
    assert Human36M(tmp_path, labels=save_labels(labels)).manifest() != before


def _without(field: str) -> Callable[[dict], Any]:
    return lambda labels: labels.pop(field)


def _drop(field: str, column: str) -> Callable[[dict], None]:
    def change(labels: dict) -> None:
        kept = [name for name in labels[field].dtype.names if name != column]
        labels[field] = _columns(labels[field], {name: labels[field][name] for name in kept})

    return change


def _columns(like: np.ndarray, columns: dict[str, np.ndarray]) -> np.ndarray:
    array = np.zeros(like.shape, dtype=[(n, v.dtype, v.shape[like.ndim :]) for n, v in columns.items()])
    for name, values in columns.items():
        array[name] = values
    return array


def _retype(field: str, column: str, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], None]:
    def change(labels: dict) -> None:
        columns = {name: labels[field][name] for name in labels[field].dtype.names}
        labels[field] = _columns(labels[field], {**columns, column: function(columns[column])})

    return change


def _put(field: str, column: str, index: Any, value: Any) -> Callable[[dict], None]:
    def change(labels: dict) -> None:
        labels[field][column][index] = value

    return change


def _replace(field: str, value: Any) -> Callable[[dict], None]:
    return lambda labels: labels.update({field: value})


DAMAGE = {
    "no table": (_without("table"), r"npy: table: "),
    "no camera names": (_without("camera_names"), r"npy: camera_names: "),
    "no boxes": (_drop("table", "bbox_by_camera_tlbr"), r"table\.bbox_by_camera_tlbr: "),
    "no K": (_drop("cameras", "K"), r"cameras\.K: "),
    "table is a list": (_replace("table", [1, 2]), r"table: "),
    "empty table": (lambda labels: labels.update(table=labels["table"][:0]), r"table: .*\(0,\)"),
    "float boxes": (
        _retype("table", "bbox_by_camera_tlbr", lambda v: v.astype("f4")),
        r"table\.bbox_by_camera_tlbr: .*float32",
    ),
    "16 joints": (_retype("table", "keypoints", lambda v: v[:, :16]), r"table\.keypoints: .*\(16, 3\)"),
    "3 cameras of boxes": (
        _retype("table", "bbox_by_camera_tlbr", lambda v: v[:, :3]),
        r"table\.bbox_by_camera_tlbr: .*\(3, 4\)",
    ),
    "4 lens values": (_retype("cameras", "dist", lambda v: v[..., :4]), r"cameras\.dist: .*\(4,\)"),
    "cameras of fewer subjects": (lambda labels: labels.update(cameras=labels["cameras"][:2]), r"cameras: .*\(2, 4\)"),
    "singular K": (_put("cameras", "K", (2, 1), 0), r"cameras\[S9, 55011271\]\.K: "),
    "infinite t": (_put("cameras", "t", (0, 3), np.inf), r"cameras\[S1, 60457274\]\.t: "),
    "subject beyond": (_put("table", "subject_idx", 5, 9), r"table\.subject_idx: row 5 "),
    "negative action": (_put("table", "action_idx", 7, -1), r"table\.action_idx: row 7 "),
    "negative frame": (_put("table", "frame_idx", 7, -1), r"table\.frame_idx: row 7 "),
    "nan joint": (_put("table", "keypoints", (4, 3, 1), np.nan), r"table\.keypoints: row 4 "),
    "inverted box": (
        _put("table", "bbox_by_camera_tlbr", (2, 1), (50, 50, 10, 60)),
        r"table\.bbox_by_camera_tlbr: row 2 ",
    ),
    "twice": (_put("table", "frame_idx", 1, 0), r"table: S1/Greeting-2/000000 "),
    "name leaves the tree": (_replace("action_names", ["../../etc", "b", "c", "d"]), r"action_names: "),
    "absolute name": (_replace("camera_names", ["/", "b", "c", "d"]), r"camera_names: "),
    "name twice": (_replace("subject_names", ["S1", "S1", "S9", "S11"]), r"subject_names: "),
    "names are a number": (_replace("subject_names", 3), r"subject_names: "),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_by_field(save_labels: Save, labels: dict, tmp_path: Path, damage: str) -> None:
    change, message = DAMAGE[damage]
    change(labels)
    save_labels(labels)
    dataset = Human36M(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        dataset.sample(dataset.keys("test")[0])
    assert "\n" not in str(caught.value)
    status = dataset.status()
    assert status.state in ("damaged", "partial")


def test_a_camera_that_does_not_rotate_is_named(save_labels: Save, labels: dict, tmp_path: Path) -> None:
    labels["cameras"]["R"][3, 2] *= 2
    save_labels(labels)
    dataset = Human36M(tmp_path)
    assert dataset.sample("S9/Walking-1/000005").views
    with pytest.raises(InputError, match=r"cameras\[S11, 58860488\]: .*\bR\b"):
        dataset.sample("S11/Walking-1/000005")


def test_cameras_of_a_subject_without_rows_may_be_blank(save_labels: Save, labels: dict, tmp_path: Path) -> None:
    labels["table"] = labels["table"][labels["table"]["subject_idx"] != 1]
    labels["cameras"][1] = 0
    save_labels(labels)
    assert Human36M(tmp_path).sample("S1/Walking-1/000005").views


@pytest.mark.parametrize("content", [[1, 2], "labels", 3.5])
def test_labels_that_are_no_dict_are_refused(save_labels: Save, tmp_path: Path, content: Any) -> None:
    path = save_labels({})
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=re.escape(str(path))):
        Human36M(tmp_path).keys("test")


def test_hostile_labels_are_refused(save_labels: Save, labels: dict, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    save_labels({**labels, "table": Hostile()})
    with pytest.raises(InputError, match=r"system.*nothing was run"):
        Human36M(tmp_path).keys("test")
    assert "system" in Human36M(tmp_path).status().detail
    assert not (tmp_path / "ran").exists()


def predictions(n: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {"keypoints_3d": rng.normal(size=(n, len(HUMAN36M), 3)).astype("f4"), "indexes": rng.permutation(n)}


def save_predictions(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("every", [1, 3])
def test_predictions_come_in_the_order_of_the_keys(tmp_path: Path, every: int) -> None:
    content = predictions()
    keys = [f"k{i}" for i in range(8)][::every]
    read = read_predictions(save_predictions(tmp_path / "val.pkl", content), keys, every)
    assert read.dtype == np.float64
    for pose, index in zip(read, range(0, 8, every), strict=True):
        np.testing.assert_array_equal(pose, content["keypoints_3d"][content["indexes"].tolist().index(index)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints_3d": None}, "keypoints_3d: "),
        ({"keypoints_3d": [[1, 2], [3]]}, "keypoints_3d: "),
        ({"keypoints_3d": np.zeros((8, 17, 2))}, "keypoints_3d: "),
        ({"indexes": np.arange(7)}, r"indexes: .*\(7,\)"),
        ({"indexes": np.arange(8) + 1}, "indexes: "),
        ({"indexes": [0, 1, 2, 3, 4, 5, 6, 6]}, "indexes: "),
        ({"indexes": np.arange(8.0)}, "indexes: .*float64"),
    ],
)
def test_misfitting_predictions_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = save_predictions(tmp_path / "val.pkl", {**predictions(), **change})
    with pytest.raises(InputError, match=message):
        read_predictions(path, [f"k{i}" for i in range(8)])


def test_predictions_of_another_selection_are_refused(tmp_path: Path) -> None:
    path = save_predictions(tmp_path / "val.pkl", predictions())
    with pytest.raises(InputError, match=r"keypoints_3d: .*8 .* 5 "):
        read_predictions(path, ["k"] * 5)
    save_predictions(path, {"keypoints_3d": np.zeros((8, 17, 3))})
    with pytest.raises(InputError, match="indexes: "):
        read_predictions(path, ["k"] * 8)
    save_predictions(path, [1])
    with pytest.raises(InputError, match=r"val\.pkl"):
        read_predictions(path, ["k"] * 8)
