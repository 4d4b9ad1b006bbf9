"""Broken and hostile result files: the error names the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_results import (
    edit_scores,
    provenance,
    write_data,
    write_examples,
    write_method,
    write_pictures,
)

from poseboard.protocols.records import ResultError
from poseboard.report.examples import read_examples
from poseboard.report.site import build


def test_a_name_that_is_none_is_refused_by_its_file(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    path = tmp_path / "default/scores/dlt/human36m.json"
    values = json.loads(path.read_text())
    for name in ("method", "dataset", "profile"):
        path.write_text(json.dumps({**values, name: "../../evil"}))
        with pytest.raises(ResultError, match=rf"human36m\.json: {name}: .*'\.\./\.\./evil' is not a name"):
            build(tmp_path, "default", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("default/scores/dlt/human36m.json", "{", "cannot be read"),
        ("default/scores/dlt/human36m.json", "{}", "method"),
        ("default/scores/dlt/human36m.json", '{"format": 1%s}' % ("0" * 400), "has an integer of 401 digits"),
        ("default/scores/dlt/human36m.json", '{"method": "\\ud800"}', "has half of a surrogate pair"),
        ("default/catalog/mupots.json", '{"surprise": 1}', "dataset: "),
        ("default/data/human36m.json", '{"dataset": 3}', "dataset"),
        ("published/T1.yaml", "id: [", "cannot be read"),
        ("default/comparisons/human36m.npz", "no zip", "cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(ResultError, match=re.escape(Path(name).name)) as caught:
        build(tmp_path, "default", tmp_path / "out")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"keys": np.array([{}], dtype=object)},
        {"edges": np.array([[0, 99]])},
        {"edges": np.array([[0, -1]])},
        {"pictured": np.array([0, 1, 2, 3, 5])},
        {"views": np.array(["a"])},
        {"jpegs": np.zeros(100_000, dtype=np.uint8)},
    ],
)
def test_examples_that_would_run_code_or_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = tmp_path / "human36m.npz"
    write_examples(path, {"dlt": 80.0})
    assert read_examples(path).images
    write_examples(path, {"dlt": 80.0}, **changed)
    with pytest.raises(ResultError, match=r"human36m\.npz: (cannot be read|edges|pictured|frusta_mm|jpegs)"):
        read_examples(path)


@pytest.mark.parametrize("picture", ["../secret.png", "/etc/passwd", "a\\b.png", "page.svg", "page.html"])
def test_a_picture_is_a_plain_file_name(tmp_path: Path, picture: str) -> None:
    write_data(tmp_path, "d", [picture])
    with pytest.raises(ResultError, match="pictures"):
        build(tmp_path, "default", tmp_path / "out")


@pytest.mark.parametrize("picture", ["../0.png", "/etc/passwd", "0.svg"])
def test_so_is_one_that_a_method_drew(tmp_path: Path, picture: str) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    folder = tmp_path / "default/predictions/dlt/human36m/pictures"
    write_pictures(folder, picture)
    with pytest.raises(ResultError, match=r"pictures\.json: pictures: "):
        build(tmp_path, "default", tmp_path / "out")
    write_pictures(folder)
    (folder / "0.png").write_bytes(b"no picture")
    with pytest.raises(ResultError, match=r"0\.png: cannot be read as a picture"):
        build(tmp_path, "default", tmp_path / "out")


def test_a_picture_is_no_link_to_another_one(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    folder = tmp_path / "default/predictions/dlt/human36m/pictures"
    write_pictures(folder)
    private = tmp_path / "private.png"
    (folder / "0.png").rename(private)
    (folder / "0.png").symlink_to(private)
    with pytest.raises(ResultError, match=r"pictures\.json: pictures: '0\.png' is a symbolic link; "):
        build(tmp_path, "default", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.jpg"))
    (folder / "0.png").unlink()
    private.rename(folder / "0.png")
    build(tmp_path, "default", tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.jpg"))


def test_one_method_is_not_scored_twice_and_profiles_do_not_mix(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    write_method(tmp_path, "human36m", "dlt", 70.0, stem="again")
    with pytest.raises(ResultError, match="dlt"):
        build(tmp_path, "default", tmp_path / "out")
    (tmp_path / "default" / "scores" / "again" / "human36m.json").unlink()
    (tmp_path / "default").rename(tmp_path / "smoke")
    with pytest.raises(ResultError, match="profile"):
        build(tmp_path, "smoke", tmp_path / "out")


def test_rows_of_two_states_of_a_data_set_do_not_share_a_page(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    write_method(tmp_path, "human36m", "ransac", 70.0)
    edit_scores(tmp_path, "ransac", provenance=provenance("ransac").model_copy(update={"data_manifest": "1234" * 16}))
    with pytest.raises(ResultError, match=r"ransac/human36m\.json: provenance\.data_manifest"):
        build(tmp_path, "default", tmp_path / "out")
