"""The page of a rig: numbers, cameras and frames in one file, and names that must not become markup."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_reader import Page

from poseboard.report.rig_page import BLIND_SPOTS, RigNumber, RigRun, rig_page
from poseboard.report.viewer import RigCamera, RigPerson, viewer_data

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028&amp;\"'"
PNG = b"\x89PNG made up"


def person(name: str, start: int, frames: int) -> RigPerson:
    """Two joints; the first is at x = frame number, the second 1 m lower and missing in the first frame."""
    points_mm = np.zeros((frames, 2, 3))
    points_mm[:, 0] = [[start + k, 1500.04, 0] for k in range(frames)]
    points_mm[:, 1] = [0, 500.0, 0]
    points_mm[0, 1] = np.nan
    return RigPerson(name, start, points_mm)


def camera(name: str, x_mm: float) -> RigCamera:
    corners = np.array([[-1.0, 1, -0.5], [-1, 1, 0.5], [-1, -1, 0.5], [-1, -1, -0.5]])
    return RigCamera(
        name, "at (3.00, 0.00, 1.50) m, looks along (-1.00, 0.00, 0.00)", np.array([x_mm, 1500, 0]), corners
    )


@pytest.fixture
def run() -> RigRun:
    numbers = [
        RigNumber("rig-held-out", "Camera held out", "px", 27.24, (25.2, 29.1), "2 missing", ["by camera: left 12.3"]),
        RigNumber("rig-mpjpe", "MPJPE", "mm", None),
    ]
    return RigRun(
        rig="hall",
        row="ransac",
        detail="10 frames in 2 cameras",
        up="z",
        rate_hz=50.0,
        joints=["left_hip", "right_hip"],
        edges=[(0, 1)],
        numbers=numbers,
        cameras=[camera("left", 3000), camera("right", -3000)],
        people=[person("person1", 7, 10), person("person2", 10, 3)],
        pictures=[("Frame 7", PNG)],
    )


def data_of(run: RigRun, *most_points: int) -> Any:
    return viewer_data(run.joints, run.edges, run.cameras, run.people, run.rate_hz, *most_points)


def scene(html: bytes) -> Any:
    """The data of the viewer, as the browser's parser takes them out of the page."""
    match = re.search(r'<script type="application/json" id="scene">(.*?)</script>', html.decode(), re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def test_numbers_cameras_and_pictures_need_no_script(run: RigRun) -> None:
    page = Page(rig_page(run).decode())
    cells = [text for _, text in page.cells]
    assert cells[0].startswith("27.2 px")
    assert cells[0].endswith("2 missing")
    assert cells[1:3] == ["[25.2, 29.1]", BLIND_SPOTS["rig-held-out"]]
    assert cells[3:5] == ["no number", "–"]
    assert "by camera: left 12.3" in page.text
    assert "whose z axis points up" in page.text
    assert "at (3.00, 0.00, 1.50) m, looks along (-1.00, 0.00, 0.00)" in cells
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [image["alt"].partition(":")[0] for image in images] == ["Frame 7"]
    assert base64.b64decode(images[0]["src"].removeprefix("data:image/png;base64,")) == PNG
    assert [attributes for tag, attributes in page.tags if attributes.get("id") == "viewer"] == [
        {"class": "viewer", "id": "viewer", "hidden": ""}
    ]
    assert any(tag == "noscript" for tag, _ in page.tags)


def test_the_page_is_one_file_whose_policy_admits_only_its_script(run: RigRun) -> None:
    text = rig_page(run).decode()
    page = Page(text)
    assert all(link.startswith(("#", "data:")) for link in page.links())
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", text)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_viewer_has_the_frames_of_the_export(run: RigRun) -> None:
    data = scene(rig_page(run))
    assert data == json.loads(json.dumps(data_of(run)))
    assert (data["first_frame"], data["frames"], data["stride"], data["rate_hz"]) == (7, 10, 1, 50.0)
    assert [(each["start"], len(each["frames"])) for each in data["people"]] == [(0, 10), (3, 3)]
    assert data["people"][1]["frames"][:2] == [[[10.0, 1500.0, 0.0], None], [[11.0, 1500.0, 0.0], [0.0, 500.0, 0.0]]]
    assert data["floor"] == 500.0
    assert data["cameras"][0]["centre"] == [3000.0, 1500.0, 0.0]
    assert all(corner[0] < 3000 for corner in data["cameras"][0]["corners"])


@pytest.mark.parametrize(("most_points", "stride"), [(36, 1), (35, 2), (12, 3), (9, 4), (2, 18)])
def test_a_stride_keeps_people_at_the_same_time(run: RigRun, most_points: int, stride: int) -> None:
    people = [person("person1", 7, 10), person("person2", 12, 8)]
    data = data_of(replace(run, people=people), most_points)
    assert data["stride"] == stride
    assert data["frames"] == len(range(7, 20, stride))
    for each, of in zip(data["people"], people, strict=True):
        shown = [data["first_frame"] + (each["start"] + k) * stride for k in range(len(each["frames"]))]
        assert shown == [n for n in range(7, 20, stride) if of.start_frame <= n < of.start_frame + len(of.points_mm)]
        assert [points[0][0] for points in each["frames"]] == shown


def test_a_stride_is_stated(run: RigRun) -> None:
    long = replace(run, people=[person("person1", 0, 150_000)])
    html = rig_page(long)
    assert scene(html)["stride"] == 2
    assert "the view has one of 2 frames" in Page(html.decode()).text
    assert "the view has one of" not in Page(rig_page(run).decode()).text


def test_hostile_names_are_text(run: RigRun) -> None:
    hostile = replace(
        run,
        rig=HOSTILE,
        row=HOSTILE,
        detail=HOSTILE,
        warning=HOSTILE,
        profile=HOSTILE,
        joints=[HOSTILE, "right_hip"],
        numbers=[
            replace(run.numbers[0], table=HOSTILE, title=HOSTILE, unit=HOSTILE, counts=HOSTILE, details=[HOSTILE])
        ],
        cameras=[replace(run.cameras[0], name=HOSTILE, description=HOSTILE)],
        people=[replace(person, name=HOSTILE) for person in run.people],
        pictures=[(HOSTILE, PNG)],
    )
    html = rig_page(hostile)
    assert "</script><script>alert" not in html.decode()
    assert "<img src=x" not in html.decode()
    assert "\u2028" not in html.decode().partition('id="scene">')[2]
    page = Page(html.decode())
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "scene"},
        {},
    ]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert scene(html)["cameras"][0]["name"] == HOSTILE
    assert HOSTILE.partition("\u2028")[0] in page.text


def test_the_warning_of_a_profile_is_on_the_page(run: RigRun) -> None:
    warned = Page(rig_page(replace(run, warning="the numbers mean nothing", profile="smoke")).decode())
    assert "Profile smoke: the numbers mean nothing." in warned.text
    assert "Do not quote" not in Page(rig_page(run).decode()).text


def test_without_people_there_is_no_viewer(run: RigRun) -> None:
    html = rig_page(replace(run, people=[]))
    page = Page(html.decode())
    assert "No person is triangulated" in page.text
    assert "27.2 px" in page.text
    assert not any(tag == "canvas" for tag, _ in page.tags)
    assert scene(html)["frames"] == 0
    alone = data_of(replace(run, people=[], cameras=[]))
    assert (alone["centre"], alone["reach"], alone["floor"]) == ([0.0, 0.0, 0.0], 2000.0, 0.0)


def test_a_camera_far_away_does_not_shrink_the_people(run: RigRun) -> None:
    cameras = [*run.cameras, camera("other", 3000), camera("wrong", 1e9)]
    assert data_of(replace(run, cameras=cameras))["reach"] < 10_000


def test_blind_spots_are_those_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "rig.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `rig-")
    ]
    documented = {name.strip("` "): blind for names, _, blind in rows for name in names.split(",")}
    assert documented.keys() == BLIND_SPOTS.keys()
    for table, blind in documented.items():
        said = BLIND_SPOTS[table].lower().replace(". it", "; it").rstrip(".")
        assert said == blind.replace(", see below", "").lower(), table
