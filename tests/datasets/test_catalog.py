from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from poseboard.datasets.catalog import catalog, open_dataset
from poseboard.datasets.errors import InputError


def test_every_known_data_set_says_where_it_is_to_be_had() -> None:
    entries = catalog()
    assert {"human36m", "panoptic", "mupots", "muco", "mscoco", "mpii", "pw3d", "campus", "shelf", "rhd"} <= set(
        entries
    )
    for name, entry in entries.items():
        assert entry.name == name
        assert entry.title
        assert entry.licence
        status = entry.status(None)
        assert (status.state, bool(status.detail), bool(status.obtain)) == ("missing", True, True)


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
        ("human37m", {}, r"'human37m': .*human36m"),
        ("human36m", {}, r"'human36m': root: "),
        ("human36m", {"root": "x", "colour": 1}, r"'human36m': colour: .*images, .*root"),
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


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("human36m", {"actions": ("Flying",)}),
        ("human36m", {"test_subjects": ("S1",)}),
        ("human36m", {"train_subjects": ("S9",), "test_subjects": ()}),
        ("human36m", {"train_subjects": ("S1", "S1")}),
        ("human36m", {"train_subjects": ("../S1",)}),
        ("human36m", {"colour": 1}),
        ("human36m-rigs", {"actions": ("Flying",)}),
        ("human36m-rigs", {"actions": ()}),
        ("human36m-rigs", {"rigs": 0}),
        ("human36m-rigs", {"rigs": 100}),
        ("human36m-rigs", {"known_rig": -1}),
        ("human36m-coco", {"test_subjects": ("S9",)}),
        ("mupots", {"people": (3, 2)}),
        ("mupots", {"focal": (2, 1)}),
        ("mupots", {"frames": 0}),
        ("mupots", {"train_scenes": 1}),
        ("mupots", {"test_scenes": 0}),
        ("mupots", {"size_px": (10, 10)}),
        ("panoptic", {"width_px": 100}),
        ("panoptic", {"width_px": 3840}),
        ("panoptic", {"takes": 9}),
        ("panoptic", {"train_frames": 101, "frame_step": 20}),
        ("panoptic", {"occlusion": 0.5}),
        ("panoptic-people", {"width_px": 100}),
        ("panoptic-people", {"people": (4, 3)}),
        ("panoptic-people", {"people": (0, 3)}),
        ("panoptic-people", {"frames": 0}),
    ],
)
def test_options_of_a_world_that_make_no_sense_are_refused(name: str, wrong: dict[str, Any]) -> None:
    options = catalog()[name].writer().WorldOptions
    options()
    with pytest.raises(ValidationError):
        options(**wrong)
