"""Faults that are planted one at a time into a plausible recording: each is an error or a warning, by name."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from made_up_human36m import BODY

from poseboard.datasets.camera import Camera
from poseboard.datasets.facts import Facts
from poseboard.datasets.plausibility import Labels, check_image, findings
from poseboard.datasets.sample import Group, Sample, Truth, View
from poseboard.datasets.skeleton import HUMAN36M

FRAMES = 24
SIZE = (1000, 800)
K = np.array([[900.0, 0, 500], [0, 905, 400], [0, 0, 1]])
NAMES = ("north", "east", "south", "west")
FACTS = Facts(boxes="annotated", truth="motion capture")


def cameras() -> list[Camera]:
    """Four cameras around the room, at different distances and heights."""
    made = []
    for n in range(4):
        angle = n * np.pi / 2 + 0.3
        forward = np.array([-np.cos(angle), -np.sin(angle), -0.1])
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        centre = -(4200 + 300 * n) * forward + [0, 0, 900 + 80 * n]
        made.append(Camera(K, R, -R @ centre, size=SIZE))
    return made


def recording() -> Labels:
    """A person who walks about, with boxes and 2D detections in four views."""
    rng = np.random.default_rng(1)
    angles, rig = rng.uniform(0, 2 * np.pi, FRAMES), cameras()
    turns = [np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) for a in angles]
    places = rng.uniform((-900, -900, 0), (900, 900, 0), (FRAMES, 1, 3))
    poses = np.stack([(BODY + rng.normal(0, 10, BODY.shape)) @ turn.T for turn in turns]) + places
    samples = []
    for n, pose in enumerate(poses):
        views = []
        for name, camera in zip(NAMES, rig, strict=True):
            points = camera.project(pose)
            box = np.concatenate([points.min(axis=0) - 10, points.max(axis=0) + 10])[None]
            found = points + rng.normal(0, 2, points.shape)
            views.append(View(name, camera, None, box, found[None], rng.uniform(0.5, 1, (1, 17))))
        samples.append(Sample(f"S1/Walking/{n:06d}", tuple(views), Group("S1", "Walking", "Walking")))
    return Labels(samples, [Truth(pose[None]) for pose in poses], HUMAN36M, FACTS)


def with_views(labels: Labels, change: Callable[[View], View], name: str | None = "east") -> Labels:
    """The recording with one view changed in all samples, or all views."""
    samples = [
        replace(s, views=tuple(change(v) if name in (None, v.name) else v for v in s.views)) for s in labels.samples
    ]
    return replace(labels, samples=samples)


def camera(name: str | None = "east", **of: Callable[[Camera], Any]) -> Callable[[Labels], Labels]:
    """A fault of one camera, or of all."""

    def change(view: View) -> View:
        fields = {field: value(view.camera) for field, value in of.items()}
        return replace(view, camera=replace(view.camera, **fields))

    return lambda labels: with_views(labels, change, name)


def intrinsics(name: str = "east", /, **of: float) -> Callable[[Labels], Labels]:
    def changed(camera: Camera) -> np.ndarray:
        K = camera.K.copy()
        for place, value in of.items():
            K[int(place[1]), int(place[2])] = value
        return K

    return camera(name, K=changed)


def joints(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Labels], Labels]:
    """A fault of all true poses (frames, 17, 3)."""

    def changed(labels: Labels) -> Labels:
        poses = change(np.concatenate([truth.joints_mm for truth in labels.truths]))
        return replace(labels, truths=[Truth(pose[None]) for pose in poses])

    return changed


def put(poses: np.ndarray, where: Any, value: Any) -> np.ndarray:
    poses[where] = value
    return poses


def boxes(change: Callable[[np.ndarray], np.ndarray], name: str | None = "east") -> Callable[[Labels], Labels]:
    return lambda labels: with_views(labels, lambda view: replace(view, boxes_px=change(view.boxes_px)), name)


def detections(change: Callable[[np.ndarray], np.ndarray], name: str | None = "east") -> Callable[[Labels], Labels]:
    return lambda labels: with_views(labels, lambda view: replace(view, joints_px=change(view.joints_px)), name)


def without_truth(fault: Callable[[Labels], Labels]) -> Callable[[Labels], Labels]:
    """A fault of a recording that has no true poses, whose boxes are of the detections."""

    def changed(labels: Labels) -> Labels:
        labels = fault(labels)
        none = [Truth(np.empty((0, 17, 3))) for _ in labels.truths]
        return replace(labels, truths=none, facts=Facts(boxes="detected", truth="none"))

    return changed


def exchanged(of: str) -> Callable[[Labels], Labels]:
    """North and east with each other's cameras, or detections."""

    def changed(labels: Labels) -> Labels:
        samples = []
        for sample in labels.samples:
            north, east, *others = sample.views
            a, b = {of: getattr(east, of)}, {of: getattr(north, of)}
            samples.append(replace(sample, views=(replace(north, **a), replace(east, **b), *others)))
        return replace(labels, samples=samples)

    return changed


def copied(of: str, name: str = "south") -> Callable[[Labels], Labels]:
    """East with something of another view."""

    def changed(labels: Labels) -> Labels:
        samples = []
        for sample in labels.samples:
            other = next(view for view in sample.views if view.name == name)
            views = tuple(replace(v, **{of: getattr(other, of)}) if v.name == "east" else v for v in sample.views)
            samples.append(replace(sample, views=views))
        return replace(labels, samples=samples)

    return changed


def annotated(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Labels], Labels]:
    """A recording with 2D annotations in pixels and without 3D poses, such as photographs; all in one view."""

    def changed(labels: Labels) -> Labels:
        samples = [replace(sample, views=sample.views[:1]) for sample in labels.samples]
        truths = []
        for sample in samples:
            view = sample.views[0]
            points = change(np.asarray(view.joints_px))
            truths.append(Truth.in_views({view.name: view.camera.normalised(points)}))
        samples = [replace(s, views=(replace(s.views[0], joints_px=None, confidence=None),)) for s in samples]
        facts = Facts(boxes="annotated", truth="annotated")
        return replace(labels, samples=samples, truths=truths, facts=facts)

    return changed


def moved(points: np.ndarray, x: float, y: float) -> np.ndarray:
    return points + np.tile([x, y], points.shape[-1] // 2)


def in_one_frame(fault: Callable[[Labels], Labels]) -> Callable[[Labels], Labels]:
    """The fault in the sixth frame only."""

    def changed(labels: Labels) -> Labels:
        bad = fault(recording())
        samples, truths = list(labels.samples), list(labels.truths)
        samples[5], truths[5] = bad.samples[5], bad.truths[5]
        return replace(labels, samples=samples, truths=truths)

    return changed


def scaled_t(factor: float) -> Callable[[Camera], np.ndarray]:
    return lambda c: c.t * factor


CASES: dict[str, tuple[Callable[[Labels], Labels], str, bool]] = {
    # cameras
    "K transposed": (camera(K=lambda c: c.K.T), "camera east: K: last row", True),
    "last row": (intrinsics(_21=0.5), "camera east: K: last row", True),
    "f of 0.1 sides": (intrinsics(_00=100, _11=100), "sides", True),
    "f of 30 sides": (intrinsics(_00=30_000, _11=30_000), "sides", True),
    "f in mm": (intrinsics(_00=25, _11=25), "sides", True),
    "f negative": (intrinsics(_00=-900), "not above 0", True),
    "fx of another camera": (intrinsics(_00=4000), "fx", True),
    "skew": (intrinsics(_01=90), "skew", True),
    "centre outside": (intrinsics(_02=1100), "principal point", True),
    "centre near the border": (
        lambda labels: annotated(lambda points: points)(intrinsics("north", _12=40)(labels)), "near the border", False,
    ),
    "time reversed": (
        lambda labels: replace(labels, samples=labels.samples[::-1], truths=labels.truths[::-1]),
        "frames: go back 23 times", False,
    ),
    "f of one frame": (in_one_frame(intrinsics(_00=950, _11=950)), "camera east: 1 of 24 samples of S1 have an", False),
    "lens of one frame": (
        in_one_frame(camera(dist=lambda c: np.array([-0.05, 0, 0, 0, 0]))), "camera east: 1 of 24 samples", False,
    ),
    "all alike": (camera(None, R=lambda c: cameras()[0].R, t=lambda c: cameras()[0].t), "all 4", True),
    "one twice": (copied("camera"), "cameras east and south: have the same centre", True),
    "all centres at the origin": (camera(None, t=lambda c: np.zeros(3)), "at the origin", True),
    "one centre at the origin": (camera(t=lambda c: np.zeros(3)), "camera east", True),
    "t of one camera in metres": (camera(t=scaled_t(0.001)), "multiply it by 1000", True),
    "t of all cameras in metres": (camera(None, t=scaled_t(0.001)), "cameras: .*metres: multiply it by 1000", True),
    "t of one camera in micrometres": (camera(t=scaled_t(1000)), "multiply it by 0.001", True),
    "t of all cameras in micrometres": (camera(None, t=scaled_t(1000)), "multiply it by 0.001", True),
    "t is the centre": (camera(t=lambda c: c.centre_mm), "camera east", True),
    "R inverted": (camera("west", R=lambda c: c.R.T), "camera west", True),
    "R of another camera": (camera(R=lambda c: cameras()[2].R), "camera east", True),
    "two swapped": (exchanged("camera"), "cameras north and east: look swapped", True),
    "lens of 1000": (camera(dist=lambda c: np.array([1000.0, 0, 0, 0, 0])), "camera east: K: lens distortion", True),
    "one 50 m away": (camera(t=lambda c: c.t + 50_000), "camera east: t: is 8.* mm from the nearest", True),
    # truth
    "a joint 1.5 m away": (joints(lambda p: put(p, (3, 15, 0), p[3, 15, 0] + 1500)), "1 of 24 .*1050 mm", False),
    "one in metres": (joints(lambda p: put(p, 3, p[3] / 1000)), "S1/Walking/000003: joints: 1 of 24 .*within", True),
    "one rolled": (in_one_frame(joints(lambda p: np.roll(p, 1, axis=1))), "1 of 24 people have bones of other", False),
    "NaN everywhere": (joints(lambda p: np.full_like(p, np.nan)), "joints: all are NaN", True),
    "infinite": (joints(lambda p: put(p, (3, 4), np.inf)), "S1/Walking/000003: joints: 1 of 24 people .*infin", True),
    "beyond 1 km": (joints(lambda p: put(p, (3, 4, 0), 2e6)), "1 km", True),
    "metres": (joints(lambda p: p / 1000), "metres: multiply the joints by 1000", True),
    "centimetres": (joints(lambda p: p / 10), "centimetres", True),
    "a dwarf": (joints(lambda p: p / 4), "tall", True),
    "one long bone": (joints(lambda p: put(p, (3, 0), (0, 0, 9000))), "apart", True),
    "all zero": (joints(np.zeros_like), "have all joints at the origin", True),
    "one of them zero": (joints(lambda p: put(p, 3, 0)), "S1/Walking/000003: joints: 1 of 24", True),
    "one joint at the origin": (joints(lambda p: put(p, (slice(None), 10), 0)), "right_wrist lies exactly", True),
    "in some frames": (joints(lambda p: put(p, (slice(0, 6), 15), 0)), "left_wrist lies exactly", True),
    "mirrored sides": (joints(lambda p: p[:, HUMAN36M.flip_order]), "backwards", False),
    "rolled by one": (joints(lambda p: np.roll(p, 1, axis=1)), "rolled by 1", True),
    "rolled back by one": (joints(lambda p: np.roll(p, -1, axis=1)), "check their order", True),
    "knee and elbow swapped": (joints(lambda p: p[:, [0, 11, *range(2, 11), 1, *range(12, 17)]]), "swapped", True),
    "axes permuted": (joints(lambda p: p[..., [0, 2, 1]]), "camera", True),
    "relative to the pelvis": (joints(lambda p: p - p[:, [6]]), "pelvis lies exactly at the origin", True),
    "a turned camera": (camera(R=lambda c: np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]) @ c.R), "degrees", True),
    "truth of other frames": (lambda labels: replace(labels, truths=labels.truths[::-1]), "are in no box", True),
    "truth beside": (in_one_frame(joints(lambda p: p + np.array([400, 400, 0]))), "away from their boxes", False),
    "t in centimetres": (camera(t=scaled_t(0.1)), "camera east", True),
    "f doubled": (intrinsics(_00=1800, _11=1810), "view east: boxes: the median person is 1.9", True),
    "other frames": (joints(lambda p: p + np.array([0, 4000, 0])), "project", True),
    "another subject's": (in_one_frame(joints(lambda p: p + np.array([2500, 0, 0]))), "are in no box", True),
    # boxes
    "empty boxes": (boxes(lambda b: b * [[1, 1, 0, 0]]), "view east: boxes: .*empty", True),
    "boxes of no width": (boxes(lambda b: b[:, [0, 1, 0, 3]]), "view east: boxes: .*empty", True),
    "width and height": (boxes(lambda b: np.hstack([b[:, :2], b[:, 2:] - b[:, :2]])), "view east", True),
    "huge boxes": (boxes(lambda b: b * [[1, 1, 100, 100]]), "larger than 20 image sides", True),
    "normalised boxes": (boxes(lambda b: b / 1000), "normalised", True),
    "shifted boxes": (boxes(lambda b: moved(b, 0.6 * (b[0, 2] - b[0, 0]), 0)), "sides away", True),
    "boxes alike": (boxes(lambda b: np.array([[300.0, 200, 700, 700]])), "view east: boxes: all 24 are alike", True),
    "x and y of boxes": (boxes(lambda b: b[:, [1, 0, 3, 2]]), "east", True),
    "boxes of another view": (copied("boxes_px", "west"), "east", True),
    "a box beside": (in_one_frame(boxes(lambda b: moved(b, 0.6 * (b[0, 2] - b[0, 0]), 0))), "boxes: 1 of 24", False),
    "box of one frame": (in_one_frame(boxes(lambda b: moved(b, 400, 0))), "view east: 1 boxes or", False),
    # detections
    "detections rolled": (detections(lambda d: np.roll(d, 1, axis=1), None), "detections: look rolled by 1", False),
    "one in a point": (in_one_frame(detections(lambda d: d * 0 + 300)), "view east: detections: 1 of .*point", False),
    "one elsewhere": (in_one_frame(detections(lambda d: moved(d, 300, 0), None)), "joints: 1 of 24 true people", False),
    "one rolled detection": (in_one_frame(detections(lambda d: np.roll(d, 1, axis=1))), "1 of 24 .*look rolled", False),
    "one with x and y": (in_one_frame(detections(lambda d: d[..., ::-1])), "view east: .*1 people .*exchanged", False),
    "a joint at 0 0": (in_one_frame(detections(lambda d: put(d.copy(), (0, 3), 0))), "1 of 24 .*exactly 0 0", False),
    "a far joint": (in_one_frame(detections(lambda d: put(d.copy(), (0, 9, 1), 1600))), "1 of 96 .*neighbours", False),
    "a view of nobody": (in_one_frame(detections(lambda d: d[:0])), "east: detections: none in 1 of 24", False),
    "detections NaN": (detections(lambda d: d * np.nan, None), "detections: all are NaN", True),
    "detections of one view NaN": (detections(lambda d: d * np.nan), "view east: detections: all are NaN", False),
    "outside": (detections(lambda d: moved(d, 1500, 0)), "view east: detections: .*in the image", True),
    "normalised": (detections(lambda d: d / SIZE), "normalised", True),
    "x and y": (detections(lambda d: d[..., ::-1]), "write x before y", True),
    "x and y of all": (detections(lambda d: d[..., ::-1], None), "write x before y", True),
    "another camera's": (copied("joints_px"), "views east and south: detections: are the same", True),
    "300 people": (detections(lambda d: np.repeat(d, 300, axis=0)), "300 people", True),
    "scores in thousandths": (
        lambda labels: with_views(labels, lambda v: replace(v, confidence=v.confidence / 1000)), "median score", False,
    ),
    "scores of 100": (
        lambda labels: with_views(labels, lambda v: replace(v, confidence=np.full((1, 17), 100.0))), "scores", False,
    ),
    # without truth
    "t in metres, no truth": (without_truth(camera(t=scaled_t(0.001))), "camera east: .*epipolar", True),
    "all t in metres, no truth": (without_truth(camera(None, t=scaled_t(0.001))), "cameras: .*metres", True),
    "swapped, no truth": (without_truth(exchanged("camera")), "cameras north and east: look swapped", False),
    "swapped detections, no truth": (without_truth(exchanged("joints_px")), "north and east: look swapped", False),
    "x and y, no truth": (without_truth(detections(lambda d: d[..., ::-1])), "camera east: .*epipolar", True),
    "R inverted, no truth": (without_truth(camera("west", R=lambda c: c.R.T)), "camera west: .*epipolar", True),
    "copied, no truth": (without_truth(copied("joints_px")), "are the same numbers", True),
    # photographs
    "2D x and y": (annotated(lambda d: d[..., ::-1]), "view north: 2D annotations", False),
    "2D normalised": (annotated(lambda d: d / SIZE), "view north: 2D annotations: .*", False),
    "a 2D joint far away": (annotated(lambda d: put(d.copy(), (0, 3, 0), 1e18)), "24 of 24 people .*side away", False),
    "2D negative": (annotated(lambda d: -d), "view north: 2D annotations: .*in the image", False),
}  # fmt: skip


def test_the_recording_is_plausible() -> None:
    assert list(findings(recording())) == []
    assert list(findings(without_truth(lambda labels: labels)(recording()))) == []
    assert list(findings(annotated(lambda points: points)(recording()))) == []


def test_false_boxes_of_a_detector_in_photographs_are_plausible() -> None:
    false_box = in_one_frame(boxes(lambda b: moved(b, 400, 0), "north"))(recording())
    facts = Facts(boxes="detected", truth="motion capture")
    samples = [replace(sample, views=sample.views[:1]) for sample in false_box.samples]
    assert list(findings(replace(false_box, samples=samples, facts=facts))) == []


@pytest.mark.parametrize(("frames", "expected"), [(1, 0), (2, 1)])
def test_boxes_by_hand_without_the_hidden_joints_are_plausible_up_to_a_share(frames: int, expected: int) -> None:
    labels = annotated(lambda points: points)(recording())
    samples = list(labels.samples)
    for n in range(frames):
        (view,) = samples[n].views
        left, upper, right, lower = view.boxes_px[0]
        head = np.array([[left, upper, right, upper + (lower - upper) / 8]])
        samples[n] = replace(samples[n], views=(replace(view, boxes_px=head),))
    assert len(list(findings(replace(labels, samples=samples)))) == expected


@pytest.mark.parametrize("name", CASES)
def test_a_planted_fault_is_named(name: str) -> None:
    fault, words, is_error = CASES[name]
    found = [finding for _, finding in findings(fault(recording()))]
    assert found
    assert any(finding.is_error for finding in found) == is_error
    assert any(re.search(words, str(finding)) for finding in found), list(map(str, found))


def image_findings(path: Path, camera_size: tuple[int, int] = SIZE) -> list[str]:
    view = replace(recording().samples[0].views[0], image=path, camera=replace(cameras()[0], size=camera_size))
    return [f"{'error' if found.is_error else 'warning'}: {found}" for found in check_image("S1/000000", view)]


def test_images_are_read_and_measured(tmp_path: Path) -> None:
    path = tmp_path / "img.jpg"
    assert image_findings(path) == []  # absent: named by the status of the data set
    photograph = PIL.Image.new("RGB", SIZE)
    photograph.save(path)
    assert image_findings(path) == []
    for size in ((800, 1000), (500, 400)):
        (found,) = image_findings(path, size)
        assert found.startswith("error: S1/000000: view north: image: is 1000 x 800 px, the camera is of ")
    for size, severity in (((1008, 800), "warning"), ((1000, 785), "warning"), ((1000, 816), "error")):
        (found,) = image_findings(path, size)
        assert found.startswith(f"{severity}: S1/000000: view north: image: is 1000 x 800 px")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    photograph.save(path, exif=exif)
    (found,) = image_findings(path)
    assert found.startswith("warning: S1/000000: view north: image: has EXIF orientation 6")
    PIL.Image.effect_noise(SIZE, 60).save(path)
    path.write_bytes(path.read_bytes()[:50_000] + bytes(range(255)) + path.read_bytes()[50_000:])
    (found,) = image_findings(path)
    assert re.search("^warning: .*img.jpg: has damaged pixels .*extraneous bytes", found), found
    path.write_bytes(path.read_bytes()[:100])
    (found,) = image_findings(path)
    assert found.startswith(f"error: S1/000000: view north: image: {path}: ")
    PIL.Image.new("RGB", (1, 1)).save(path)
    (found,) = image_findings(path, (1, 1))
    assert "is 1 x 1 px" in found
