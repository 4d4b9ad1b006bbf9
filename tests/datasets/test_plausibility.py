"""Labels that cannot be of people are found, with the factor of a wrong unit; every layout of ours passes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_human36m import BODY
from made_up_rhd import write_rhd

from poseboard.datasets.camera import Camera
from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.facts import Facts
from poseboard.datasets.plausibility import Finding, Labels, findings
from poseboard.datasets.plausibility.views import check_projection
from poseboard.datasets.sample import Dataset, Group, Sample, Truth, View, skeleton_of_truth
from poseboard.datasets.skeleton import HUMAN36M, ROOT, Skeleton
from poseboard.datasets.synthetic.layouts import human36m

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
K = np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]])
R = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
PEOPLE = 20


def camera(**changes: Any) -> Camera:
    """Four metres from the middle of the people, a metre above the floor."""
    return replace(Camera(K, R, np.array([0.0, 1000, 4000]), size=(1000, 1000)), **changes)


def moved(x_px: float) -> np.ndarray:
    """K with another principal point."""
    return K + np.array([[0, 0, x_px], [0, 0, 0], [0, 0, 0]])


def box_of(points_px: np.ndarray) -> np.ndarray:
    return np.concatenate([points_px.min(axis=0), points_px.max(axis=0)])[None]


def labels(
    joints_scale: float = 1.0,
    t_scale: float = 1.0,
    skeleton: Skeleton = HUMAN36M,
    joints: Sequence[int] = range(17),
    facts: Facts | None = None,
    **changes: Any,
) -> Labels:
    """People with boxes by a right camera; then joints and camera are changed."""
    rng = np.random.default_rng(0)
    poses = BODY + rng.normal(0, 20, (PEOPLE, 17, 3)) + rng.uniform((-500, -500, 0), (500, 500, 0), (PEOPLE, 1, 3))
    shown = camera(**changes)
    shown = replace(shown, t=t_scale * shown.t)
    samples = [
        Sample(str(n), (View("left", shown, None, box_of(camera().project(pose))),), Group("S1", "", ""))
        for n, pose in enumerate(poses)
    ]
    truths = [Truth(joints_scale * pose[None, list(joints)]) for pose in poses]
    return Labels(samples, truths, skeleton, facts or Facts(boxes="annotated", truth="motion capture"))


def first(of: Labels) -> Finding:
    return next(findings(of))[1]


def labels_of(dataset: Dataset, split: str) -> Labels:
    keys = dataset.keys(split)
    samples, truths = [dataset.sample(key) for key in keys], [dataset.truth(key) for key in keys]
    return Labels(samples, truths, skeleton_of_truth(dataset), dataset.facts(split), dataset.skeleton)


def test_people_pass() -> None:
    assert list(findings(labels())) == []


@pytest.mark.parametrize(
    ("joints_scale", "t_scale", "measured", "remedy"),
    [
        (0.001, 1, " 1.", ("joints", "metres", " 1000")),
        (0.1, 1, " 16", ("joints", "centimetres", " 10")),
        (0.001, 0.001, " 1.", ("joints", "cameras' t", "metres", " 1000")),
        (1000, 1, " 1.6", ("joints", "micrometres", " 0.001")),
        (0.25, 1, " 4", ("unit", "order")),
    ],
)
def test_people_of_another_size_are_found(
    joints_scale: float, t_scale: float, measured: str, remedy: tuple[str, ...]
) -> None:
    found = first(labels(joints_scale, t_scale))
    assert found.field == "joints"
    assert all(words in found.remedy for words in remedy)
    assert measured in found.problem
    assert "500 to 2500 mm" in found.problem


@pytest.mark.parametrize("t_scale", [0.001, 0.1, 1000])
def test_cameras_in_another_unit_are_found(t_scale: float) -> None:
    found = first(labels(t_scale=t_scale))
    assert "camera" in found.field
    assert f"{1 / t_scale:g}" in found.remedy


def test_joints_of_another_order_have_impossible_bones() -> None:
    found = first(labels(joints=[*range(8, 17), *range(8)]))
    assert "distance" in found.problem
    assert "right_ankle, right_knee" in found.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"R": R.T},  # looks at nobody
        {"R": R @ np.diag([-1.0, -1, 1])},  # from the other side
        {"K": moved(400)},
    ],
)
def test_a_camera_that_does_not_fit_is_named(changes: dict[str, Any]) -> None:
    found = first(labels(**changes))
    assert found.field == "camera left"
    assert "multiply" not in found.remedy


@pytest.mark.parametrize("changes", [{"R": R.T}, {"t": np.array([0.0, 1000, 400_000])}])
def test_people_project_into_some_image(changes: dict[str, Any]) -> None:
    """Without boxes of theirs; from 400 m away they are a dot."""
    unordered = Facts(boxes="detected", truth="annotated", associated=False)
    assert list(findings(labels(facts=unordered))) == []
    found = first(labels(facts=unordered, **changes))
    assert found.field == "cameras"
    nowhere = labels(facts=unordered)
    nowhere = replace(nowhere, samples=[replace(sample, views=()) for sample in nowhere.samples])
    assert first(nowhere).field == "cameras"


def test_boxes_in_another_order_are_not_compared() -> None:
    shifted = {"K": moved(300)}
    assert list(check_projection(labels(**shifted)))
    unordered = Facts(boxes="detected", truth="annotated", associated=False)
    assert not list(check_projection(labels(facts=unordered, **shifted)))


def test_2d_annotations_are_compared_rather_than_boxes() -> None:
    right = labels()
    for away, expected in ((0.0, 0), (0.3, 1)):
        truths = [
            replace(truth, annotated={"left": view.camera.normalised(view.camera.project(truth.joints_mm)) + away})
            for truth, (view,) in zip(right.truths, (sample.views for sample in right.samples), strict=True)
        ]
        found = [finding for _, finding in findings(replace(right, truths=truths))]
        assert sum("near their 2D annotations" in finding.problem for finding in found) == expected
        assert bool(found) == bool(expected)


def test_children_who_sit_and_people_without_3d_annotations_pass() -> None:
    small = labels(0.6)  # a child of a metre
    truths = [Truth(np.where(np.arange(17)[:, None] < 6, np.nan, truth.joints_mm)) for truth in small.truths]
    assert list(findings(replace(small, truths=truths))) == []
    in_view = [
        Truth.in_views({"left": view.camera.normalised(view.camera.project(truth.joints_mm))})
        for truth, (view,) in zip(truths, (sample.views for sample in small.samples), strict=True)
    ]
    annotated = Facts(boxes="annotated", truth="annotated")
    assert list(findings(replace(small, truths=in_view, facts=annotated))) == []


def test_joints_that_are_no_body_have_a_distance_and_no_size() -> None:
    assert list(findings(labels(skeleton=ROOT, joints=[6]))) == []
    assert "4.153 mm away" in first(labels(0.001, 0.001, skeleton=ROOT, joints=[6])).problem


def test_hands_are_as_large_as_hands(tmp_path: Path) -> None:
    write_rhd(tmp_path)
    for options in ({}, {"boxes": "compat", "hands": "both"}):
        right = labels_of(open_dataset("rhd", {"root": tmp_path, **options}), "train")
        assert len(right.joints_mm)
        assert list(findings(right)) == []
    metres = replace(right, truths=[replace(truth, joints_mm=truth.joints_mm / 1000) for truth in right.truths])
    assert "metres" in first(metres).remedy
    assert " 0.1" in first(metres).problem


def test_a_rendered_world_passes_and_is_found_in_metres(tmp_path: Path) -> None:
    options = human36m.WorldOptions(seed=5, side_px=64, train_subjects=("S1",), test_subjects=("S9",),
                                    actions=("SittingDown", "Walking"), train_frames=1, test_frames=1)  # fmt: skip
    human36m.generate(options, tmp_path)
    for split in ("train", "test"):
        right = labels_of(open_dataset("human36m", {"root": tmp_path}), split)
        assert list(findings(right)) == []
        metres = replace(right, truths=[replace(truth, joints_mm=truth.joints_mm / 1000) for truth in right.truths])
        assert "metres" in first(metres).remedy


BANDS = {"sequences": {"train": [], "test": ["160906_band1", "160906_band2"]}, "people": "all", "cameras": "all"}


@pytest.mark.parametrize(("name", "options"), [("shelf", {}), ("campus", {}), ("panoptic", BANDS)])
def test_samples_of_real_data_pass(name: str, options: dict[str, Any]) -> None:
    # The samples are under licence and not part of the repository: the test uses a copy where there is one.
    if not (SHARED / name).is_dir():
        pytest.skip(f"the sample of {name} is not beside the repository")
    real = labels_of(open_dataset(name, {"root": SHARED / name, **options}), "test")
    assert len(real.joints_mm)
    assert list(findings(real)) == []
