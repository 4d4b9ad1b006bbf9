"""The page of a method."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from fabricated_results import (
    edit_scores,
    write_method,
    write_training,
)
from page_reader import page

from poseboard.report.site import build


def test_a_method_page_says_what_it_is_and_shows_its_readme(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "methods" / "algebraic"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nsummary: It votes. It triangulates.\npaper: A Paper\nyear: 2019\nlink: https://example.org/a\n---\n\n"
        "# Algebraic\n\nWords of it. <script>alert(1)</script>\n"
    )
    folders = {"algebraic": folder, "algebraic_no_conf": folder, "dlt": tmp_path / "absent"}
    source = tmp_path / "results"
    shutil.copytree(results, source)
    inputs = {"views": [2, 1000], "intrinsics": True, "extrinsics": True, "crop_px": 96, "root": "none", "window": 1}
    edit_scores(source, "algebraic", inputs=inputs)
    build(source, "default", tmp_path / "out", folders=folders)
    text = page(tmp_path / "out" / "methods" / "algebraic.html").text
    assert "It votes. It triangulates." in text
    assert "Words of it. <script>alert(1)</script>" in text
    assert "This row is a variant" not in text
    variant = page(tmp_path / "out" / "methods" / "algebraic_no_conf.html").text
    assert re.search(r"a variant of algebraic ?, with use_confidences = False", variant)
    assert "Inputs not recorded" in variant


def test_the_training_runs_of_each_data_set_have_their_own_label(tmp_path: Path) -> None:
    for dataset in ("human36m", "panoptic"):
        write_method(tmp_path / "results", dataset, "algebraic", 70.0)
        write_training(tmp_path / "results", dataset, "algebraic", None, learns=True)
    build(tmp_path / "results", "default", tmp_path / "out")
    tags = page(tmp_path / "out" / "methods" / "algebraic.html").tags
    labels = [attributes["aria-label"] for _, attributes in tags if attributes.get("role") == "region"]
    assert [label for label in labels if "runs" in label] == ["Training runs on human36m", "Training runs on panoptic"]


def test_a_method_page_shows_the_options_in_force(site: Path) -> None:
    text = page(site / "methods" / "algebraic.html").text
    assert "learning_rate = 0.001 , steps = 600 , use_confidences = True" in text


def test_what_a_method_drew_is_on_its_page_alone(site: Path) -> None:
    found = page(site / "methods" / "algebraic.html")
    assert "Right wrist of S9/Posing-1/000000" in found.text
    assert "Right wrist of S9/Eating-1/000064" not in found.text, "its file is not there"
    assert "Brighter is <b>surer</b>." in found.text, "it is text, not markup"
    (picture,) = (site / "pictures").glob("algebraic-human36m-*")
    assert f"../pictures/{picture.name}" in {attributes.get("src") for _, attributes in found.tags}
    assert "Right wrist of" not in page(site / "methods" / "ransac.html").text


def test_predictions_are_drawn_best_median_and_worst(site: Path) -> None:
    found = page(site / "methods" / "ransac.html")
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 3 * 4
    for place in ("Best", "Median", "Worst"):
        assert f"{place} frame: " in found.text
    assert "nothing predicted" in found.text
    assert "9c0a" * 16 in found.text
