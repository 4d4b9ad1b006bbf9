from pathlib import Path
from typing import Any

import pytest

from poseboard.datasets.catalog import catalog, open_dataset
from poseboard.datasets.errors import InputError


def test_every_known_data_set_says_where_it_is_to_be_had(tmp_path: Path) -> None:
    entries = catalog()
    assert {"human36m", "panoptic", "mupots", "muco", "mscoco", "mpii", "pw3d", "campus", "shelf", "rhd"} <= set(
        entries
    )
    for name, entry in entries.items():
        assert entry.name == name
        assert entry.title
        assert entry.licence
        for root in (None, tmp_path):
            status = entry.status(root)
            assert status.state == "missing"
            assert status.detail
            assert status.obtain


def test_status_follows_the_folder(human36m_tree: Path) -> None:
    entries = catalog()
    assert entries["human36m"].status(human36m_tree).state == "ready"
    assert entries["panoptic"].status(human36m_tree).state == "missing"


def test_options_reach_the_adapter(human36m_tree: Path) -> None:
    options = {"root": str(human36m_tree), "images": "original", "box_scale": 1.5, "synthetic": True}
    dataset = open_dataset("human36m", options)
    assert dataset.synthetic
    view = dataset.sample(dataset.keys("test")[0]).views[0]
    assert "imageSequence-undistorted" not in str(view.image)
    plain = open_dataset("human36m", {"root": str(human36m_tree)})
    assert not plain.synthetic
    assert plain.sample(plain.keys("test")[0]).views[0].boxes_px.tolist() != view.boxes_px.tolist()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("human37m", {}, r"data set 'human37m': there is no such data set; known: human36m"),
        ("human36m", {}, r"data set 'human36m': root: field required"),
        ("human36m", {"root": "x", "colour": 1}, r"'human36m': colour: .*known: .*images, .*root"),
        ("human36m", {"root": 3}, r"'human36m': root: "),
        ("human36m", {"root": "x", "images": "sepia"}, r"'human36m': images: "),
        ("human36m", {"root": "x", "box_scale": "wide"}, r"'human36m': box_scale: "),
        ("human36m", {"root": "x", "box_scale": 0}, "box_scale"),
        ("human36m", {"root": "x", "box_scale": float("nan")}, "box_scale"),
        ("human36m-coco", {"root": "x", "protocol": 3}, "protocol"),
        ("human36m-coco", {"root": "x", "every_test": 0}, "every_test"),
        ("human36m-toolbox", {"root": "x", "truth": "drawn"}, "truth"),
        ("panoptic", {"root": "x", "every": 0}, "every"),
        ("panoptic-people", {"root": "x", "box_scale": 1.2}, "box_scale"),
        ("rhd", {"root": "x", "hands": "left"}, "hands"),
        ("shelf", {"root": "x", "images": "original"}, r"'shelf': images: "),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(name, options)
    assert "\n" not in str(caught.value)
