"""Plausibility checks of what is in images: projections of the truth, boxes, 2D annotations and 2D detections."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.plausibility.labels import (
    FEW,
    LEAST_SHARE,
    SCALES,
    SOME,
    Finding,
    Labels,
    Sight,
    share_in_image,
    share_of,
)
from poseboard.datasets.sample import View

_SURE_SHARE = 0.9
"""Minimum share of projected joints at which a remedy suggests a factor, an exchange of x and y or of cameras."""
_MISPLACED = 0.1
"""Maximum share of joints near the box or annotation, in every view, of a person who is elsewhere."""
_SWAPPED_OFFSET = 0.08
"""Minimum median offset of boxes from projections, relative to their sides, at which an exchange is tried."""
_SAME_FRAME = "check that poses, boxes and images are of the same subject and frame"
_MOST_OFFSET = 0.5
"""Maximum of the median offset of boxes from projections, relative to their sides."""
_WHOLE = 0.9
"""Minimum share of joints of people who are compared with the sizes and centres of their boxes."""
_EXTENTS = (0.4, 1.5)
"""Bounds of the median extent of people, relative to their boxes."""
_FAR_OFFSET = 0.25
"""Maximum offset of a person in the median view, or of a box around its joints, relative to the sides of the boxes."""
_OCCLUDED = 0.05
"""Minimum share of people with joints outside of a box that was drawn by hand, for a warning."""
_UPRIGHT = (0.8, 0.5)
"""People lie on their side if their directions agree (length of the mean above) and the mean is not upwards (below)."""
_MOST_SIDES = 20.0
"""Maximum side of a box in longer sides of the image."""
_LEAST_BOX_PX = 4.0
"""Minimum of the median longer side of boxes."""
_MOST_DETECTIONS = 200
"""Maximum number of detected people in a view."""
_SCORES = (-0.05, 1.2)
"""Bounds of confidences; the peaks of heat maps may exceed 1 a little."""
_LEAST_SCORE = 0.005
"""Minimum of the median confidence above 0."""
_MARGIN = 0.1
"""Distance from the image, relative to its longer side, up to which detections count as inside."""
_LEAST_EXTENT = 0.01
"""Minimum of the median extent of detected people, relative to the longer side of the image."""
_DOT = 0.002
"""Extent of a person, relative to the longer side of the image, below which all joints are in one point."""
_DETECTION_AWAY = 0.6
"""Maximum of the median distance of true people from the nearest detection, relative to their extent in the image."""
_ROLLED = 0.75
"""Length of a detected person's edges with rolled joints, relative to their length, below which joints look rolled."""
_SURE_SCORE, _FAR_EDGE = 0.5, 0.6
"""Minimum score of two joints, and excess of their distance over that of the median person, in extents, that is odd."""
_OFF_ANNOTATION = 0.1
"""Maximum distance of a projected joint from its 2D annotation, relative to the person's extent."""
_MOST_PAIRS = 1500
"""Maximum number of pairs of views, over all samples, that are compared."""
_EPIPOLAR = (0.04, 0.1)
"""Median epipolar distance of detections, relative to their extent, that is a warning and an error."""


def check_swapped(labels: Labels) -> Iterator[Finding]:
    """Warn if true people fit the boxes of another camera better: two cameras are swapped."""
    own = {view: _offset(labels, view, view) for view in labels.judged if len(labels.sights) > 1}
    away = [view for view, offset in own.items() if offset > _SWAPPED_OFFSET]
    for a, b in combinations(away, 2):
        crossed = max(_offset(labels, a, b), _offset(labels, b, a))
        if crossed < min(2 * _SWAPPED_OFFSET, own[a] / 2, own[b] / 2):
            problem = (
                f"look swapped: boxes are {crossed:.2f} sides away from the people if they are exchanged, "
                f"{max(own[a], own[b]):.2f} as they are"
            )
            remedy = "exchange their calibrations, or their boxes and images"
            yield Finding(f"cameras {a} and {b}", problem, remedy, is_error=False)


def check_projection(labels: Labels) -> Iterator[Finding]:
    """Check for each camera that joints project to their 2D annotations, or into the enlarged box of the person."""
    shares = {view: share for view in labels.judged if (share := labels.share(view)) is not None}
    for view in sorted(shares, key=lambda name: shares[name]):
        if shares[view] >= LEAST_SHARE:
            break
        where = "into the person's box" if labels.sights[view][0].points_px is None else "near their 2D annotations"
        problem = f"{shares[view]:.0%} of the median person's joints project {where}, not {LEAST_SHARE:.0%} or more"
        remedy = "check its K, R and t, and that labels and images are of the same frames"
        for factor in sorted(SCALES):  # the nearest camera first: far ones put everyone into the middle
            if (labels.share(view, camera_scale=factor) or 0.0) >= _SURE_SHARE:
                remedy = f"its t is in another unit: multiply it by {factor:g}"
                break
        yield Finding(f"camera {view}", problem, remedy)


def check_images(labels: Labels) -> Iterator[Finding]:
    """Check that people project into the image of at least one camera, and warn of cameras without people."""
    share = labels.in_images
    if share is not None and share < LEAST_SHARE:
        problem = f"{share:.0%} of the median person's joints project into any image, not {LEAST_SHARE:.0%} or more"
        yield Finding("cameras", problem, "check their K, R and t, and their unit of length")
    elif share is not None and len(labels.samples) > 1:
        nowhere = [
            index
            for index, (sample, truth) in enumerate(zip(labels.samples, labels.truths, strict=True))
            for pose in truth.joints_mm
            if np.isfinite(pose).any() and not any(share_in_image(view.camera, pose) for view in sample.views)
        ]
        if nowhere and len(nowhere) >= SOME * len(labels.joints_mm):
            problem = f"{len(nowhere)} of {len(labels.joints_mm)} people are in no image"
            yield Finding("joints", problem, _SAME_FRAME, is_error=False, key=labels.key(nowhere[0]))
        for name in labels.cameras or labels.views:
            views = labels.views.get(name, [])
            poses = ((view.camera, pose) for index, view in views for pose in labels.truths[index].joints_mm)
            if not any(share_in_image(camera, pose) for camera, pose in poses):
                problem = f"no true person is in its images, in {len(labels.samples)} samples"
                yield Finding(f"camera {name}", problem, "check its K, R and t", is_error=False)


def check_places(labels: Labels) -> Iterator[Finding]:
    """Check that single people are in their boxes, or near their 2D annotations, in at least one view."""
    if _has_false_boxes(labels):
        return
    of_person: dict[int, list[Sight]] = {}
    for sights in labels.sights.values():
        for sight in sights:
            of_person.setdefault(sight.person, []).append(sight)
    shares = {
        person: [share_of(sight, labels.joints_mm[person]) for sight in sights] for person, sights in of_person.items()
    }
    elsewhere = [sights[0] for person, sights in of_person.items() if max(shares[person]) <= _MISPLACED]
    if elsewhere:
        problem = f"{len(elsewhere)} of {len(of_person)} people are in no box or 2D annotation of their own"
        is_error = len(elsewhere) >= SOME * len(of_person)
        yield Finding("joints", problem, _SAME_FRAME, is_error, labels.key(elsewhere[0].sample))
        return
    misplaced = [
        sight
        for person, sights in of_person.items()
        for sight, share in zip(sights, shares[person], strict=True)
        if share <= _MISPLACED and max(shares[person]) >= LEAST_SHARE
    ]
    if misplaced and len(misplaced) >= SOME * sum(map(len, of_person.values())):
        problem = f"{len(misplaced)} boxes or 2D annotations do not fit people who fit in other views"
        field = f"view {misplaced[0].view.name}"
        yield Finding(field, problem, _SAME_FRAME, is_error=False, key=labels.key(misplaced[0].sample))
    offsets: dict[int, list[float]] = {}
    sample_of: dict[int, int] = {}
    for sights in labels.sights.values():
        for sight, offset, _ in _fits(labels, sights):
            offsets.setdefault(sight.person, []).append(float(np.abs(offset).max()))
            sample_of[sight.person] = sight.sample
    far = [person for person, of_person in offsets.items() if np.median(of_person) > _FAR_OFFSET]
    if far:
        problem = f"{len(far)} of {len(offsets)} people are more than {_FAR_OFFSET:g} sides away from their boxes"
        yield Finding("joints", problem, _SAME_FRAME, is_error=False, key=labels.key(sample_of[far[0]]))


def check_upright(labels: Labels) -> Iterator[Finding]:
    """Warn if all people lie on their side in the images of a camera: images, R or axes are turned."""
    joints = labels.skeleton.joints
    if not {"left_hip", "right_hip", "left_shoulder", "right_shoulder"} <= set(joints):
        return
    lower, upper = (labels.skeleton.indices([f"left_{part}", f"right_{part}"]) for part in ("hip", "shoulder"))
    for name in labels.judged:
        directions = []
        for sight in labels.sights[name]:
            points = sight.camera.project(labels.joints_mm[sight.person])
            trunk = points[upper].mean(axis=0) - points[lower].mean(axis=0)
            if np.isfinite(trunk).all() and np.linalg.norm(trunk) > 0:
                directions.append(trunk / np.linalg.norm(trunk))
        if len(directions) >= FEW // 2:
            mean = np.mean(directions, axis=0)
            length = float(np.linalg.norm(mean))
            if length > _UPRIGHT[0] and -mean[1] / length < _UPRIGHT[1]:
                angle = float(np.degrees(np.arctan2(mean[0], -mean[1])))
                problem = f"the trunks of people point {angle:+.0f} degrees away from upwards in its images"
                remedy = "check R, the axes of the joints, and that images and labels are not turned"
                yield Finding(f"camera {name}", problem, remedy, is_error=False)


def check_boxes(labels: Labels) -> Iterator[Finding]:
    """Check that boxes are not empty, not huge, not all alike and not shifted against the true people."""
    for name, views in labels.views.items():
        field = f"view {name}: boxes"
        boxes = np.concatenate([view.boxes_px for _, view in views])
        of_sample = np.repeat([index for index, _ in views], [len(view.boxes_px) for _, view in views])
        if not len(boxes):
            continue
        sides = boxes[:, 2:] - boxes[:, :2]
        # A box of NaN is of a person outside of the view. A detected person of a single joint has an empty box.
        empty = np.isinf(boxes).any(axis=1) | (sides < 0).any(axis=1)
        if labels.facts.boxes != "detected":
            empty |= (sides == 0).any(axis=1)
        if empty.any():
            key = labels.key(int(of_sample[np.argmax(empty)]))
            problem = f"{int(empty.sum())} of {len(boxes)} are empty, inverted or infinite"
            yield Finding(field, problem, "leave the view out, or write left, upper, right, lower", key=key)
        image_px = max(max(view.camera.size) for _, view in views)
        large = (sides > _MOST_SIDES * image_px).any(axis=1) if image_px else np.zeros(len(boxes), dtype=bool)
        if large.any():
            key, worst = labels.key(int(of_sample[np.argmax(large)])), float(np.nanmax(sides))
            problem = f"{int(large.sum())} of {len(boxes)} are larger than {_MOST_SIDES:g} image sides, {worst:.4g} px"
            yield Finding(field, problem, "give them in pixels", key=key)
        usable = np.isfinite(sides).all(axis=1) & ~empty
        if usable.any() and (side_px := float(np.median(sides[usable].max(axis=1)))) < _LEAST_BOX_PX:
            problem = f"the median has a side of {side_px:.3g} px, not {_LEAST_BOX_PX:g} px or more"
            yield Finding(field, problem, "give them in pixels: these look normalised")
    for name in labels.judged:
        fits = list(_fits(labels, labels.sights[name]))
        if not fits:
            continue
        field = f"view {name}: boxes"
        offsets = np.stack([offset for _, offset, _ in fits])
        x, y = (float(value) for value in np.median(offsets, axis=0))
        if max(abs(x), abs(y)) > _MOST_OFFSET:
            problem = f"are {x:+.2f} and {y:+.2f} sides away from the true people in x and y, in the median"
            yield Finding(field, problem, "check their corners, and that they are of the full image")
        extent = float(np.median([extent for _, _, extent in fits]))
        if labels.limbs and not _EXTENTS[0] <= extent <= _EXTENTS[1]:
            problem = (
                f"the median person is {extent:.2g} sides of its box large, not {_EXTENTS[0]:g} to {_EXTENTS[1]:g}"
            )
            yield Finding(field, problem, f"check the unit of t and the focal length of camera {name}, and the boxes")
        boxes = np.stack([sight.box_px for sight, _, _ in fits if sight.box_px is not None])
        if len(boxes) >= FEW // 2 and np.ptp(boxes, axis=0).max() == 0 and np.ptp(offsets, axis=0).max() > 2 * _MARGIN:
            yield Finding(field, f"all {len(boxes)} are alike, and the people move", "write the box of each frame")
    if not _has_false_boxes(labels):
        yield from _single_boxes(labels)


def _has_false_boxes(labels: Labels) -> bool:
    """Whether boxes of single people may be false detections: there is one view, and a detector made its boxes."""
    return labels.facts.boxes == "detected" and len(labels.views) == 1


def _single_boxes(labels: Labels) -> Iterator[Finding]:
    """Warnings of boxes of single people that are away from their joints."""
    most = _FAR_OFFSET if labels.facts.boxes == "true joints" else _MOST_OFFSET
    for name, sights in labels.sights.items():
        fits = list(_fits(labels, sights))
        away = [sight for sight, offset, _ in fits if np.abs(offset).max() > most]
        if away and SOME * len(fits) <= len(away) < len(fits) / 2:
            problem = f"{len(away)} of {len(fits)} are more than {most:g} sides away from the true people"
            key = labels.key(away[0].sample)
            yield Finding(f"view {name}: boxes", problem, "check the boxes of these people", is_error=False, key=key)


def check_annotations(labels: Labels) -> Iterator[Finding]:
    """Warn if 2D annotations are outside of the image, normalised, or have x and y exchanged."""
    for name, views in labels.views.items():
        points = [
            (view, view.camera.image(labels.truths[index].annotated[name]))
            for index, view in views
            if name in labels.truths[index].annotated
        ]
        in_order = labels.facts.boxes != "detected"
        for problem, remedy in _of_points(points) or (_of_points(points, in_boxes=True) if in_order else []):
            yield Finding(f"view {name}: 2D annotations", problem, remedy, is_error=False)
        yield from _annotated_elsewhere(labels, name, views)
        yield from _annotated_otherwise(labels, name, views)


def _annotated_elsewhere(labels: Labels, name: str, views: list[tuple[int, View]]) -> Iterator[Finding]:
    """A warning if the 2D annotations of single people are outside of their boxes, or one is a side away."""
    elsewhere, compared = [], 0
    for index, view in views:
        annotated, boxes = labels.truths[index].annotated.get(name), view.boxes_px
        if annotated is None or len(annotated) != len(boxes) or labels.facts.boxes == "detected":
            continue
        points = view.camera.image(annotated)
        is_finite = np.isfinite(points).all(axis=-1)
        margin = (boxes[:, None, 2:] - boxes[:, None, :2]).max(axis=-1, keepdims=True) / 4
        inside = np.all((points >= boxes[:, None, :2] - margin) & (points < boxes[:, None, 2:] + margin), axis=-1)
        many = (is_finite.sum(axis=1) >= 3) & np.isfinite(boxes).all(axis=1)
        share = inside.sum(axis=1) / np.maximum(is_finite.sum(axis=1), 1)
        beyond = np.maximum(boxes[:, None, :2] - points, points - boxes[:, None, 2:])
        far = np.nan_to_num(beyond).max(axis=(1, 2), initial=0.0) > 4 * margin[:, 0, 0]
        compared += int(many.sum())
        elsewhere += [index] * int((many & ((share < LEAST_SHARE) | far)).sum())
    # A box by hand is of the visible parts, and hidden joints are annotated too.
    if elsewhere and len(elsewhere) >= (_OCCLUDED if labels.facts.boxes == "annotated" else SOME) * compared:
        problem = f"{len(elsewhere)} of {compared} people have most joints outside of their box, or a joint a side away"
        key = labels.key(elsewhere[0])
        yield Finding(f"view {name}: 2D annotations", problem, "check the boxes of these people", False, key)


def _annotated_otherwise(labels: Labels, name: str, views: list[tuple[int, View]]) -> Iterator[Finding]:
    """A warning if true joints do not project to their 2D annotations, or single people have only 2D annotations."""
    bad: dict[str, list[int]] = {
        "have joints away from their 2D annotations": [],
        "have no 3D pose, as others have": [],
    }
    compared = 0
    for index, view in views:
        truth = labels.truths[index]
        if name not in truth.annotated or not len(labels.joints_mm):
            continue
        points, projected = view.camera.image(truth.annotated[name]), view.camera.project(truth.joints_mm)
        is_annotated: NDArray[np.bool_] = np.all(np.isfinite(points), axis=-1)
        apart = np.linalg.norm(projected - points, axis=-1) / np.linalg.norm(_extents(points), axis=-1)[:, None]
        people = is_annotated.sum(axis=1) >= 3
        compared += int(people.sum())
        off, without = (apart > _OFF_ANNOTATION).any(axis=1), ~np.isfinite(truth.joints_mm[..., 0]).any(axis=1)
        for problem, rows in zip(bad, (off, without), strict=True):
            bad[problem] += [index] * int((people & rows).sum())
    for problem, samples in bad.items():
        if samples and len(samples) >= SOME * compared:
            key = labels.key(samples[0])
            yield Finding(
                f"view {name}: 2D annotations",
                f"{len(samples)} of {compared} people {problem}",
                _SAME_FRAME,
                False,
                key,
            )


def check_detections(labels: Labels) -> Iterator[Finding]:
    """Check that 2D detections are finite, in pixels, in the image, and of the right view."""
    with_joints = {
        name: [(index, view) for index, view in views if view.joints_px is not None and view.joints_px.size]
        for name, views in labels.views.items()
    }
    with_joints = {name: views for name, views in with_joints.items() if views}
    nowhere = [name for name, views in with_joints.items() if all(np.isnan(_joints(v)).all() for _, v in views)]
    for name in nowhere:
        is_error = len(nowhere) == len(with_joints)
        yield Finding(f"view {name}: detections", "all are NaN", "detect people again", is_error)
    for name, views in with_joints.items():
        field = f"view {name}: detections"
        index, most = max(((index, len(_joints(view))) for index, view in views), key=lambda pair: pair[1])
        if most > _MOST_DETECTIONS:
            problem = f"{most} people, not {_MOST_DETECTIONS} or fewer"
            yield Finding(field, problem, "check the frame numbers of the detections", key=labels.key(index))
        scores = np.concatenate([np.empty(0), *(v.confidence.ravel() for _, v in views if v.confidence is not None)])
        outside = (scores < _SCORES[0]) | (scores > _SCORES[1])
        if outside.any():
            problem = f"{int(outside.sum())} of {len(scores)} scores are outside of 0 to 1, up to {scores.max():.4g}"
            yield Finding(field, problem, "divide them by the detector's largest score", is_error=False)
        positive = scores[scores > 0]
        if positive.size and (median := float(np.median(positive))) < _LEAST_SCORE:
            problem = f"the median score above 0 is {median:.2g}, not {_LEAST_SCORE:g} or more"
            yield Finding(field, problem, "multiply them, so that the largest score is near 1", is_error=False)
        for problem, remedy in _of_points([(view, _joints(view)) for _, view in views]):
            yield Finding(field, problem, remedy)
        yield from _single_detections(labels, name, views)
        yield from _away_from_truth(labels, name, views)
        yield from _undetected(labels, name, [(i, v) for i, v in labels.views[name] if v.joints_px is not None])
    yield from _far_joints(labels)
    yield from _missed(labels)
    yield from _copied(labels)


def check_epipolar(labels: Labels) -> Iterator[Finding]:
    """Check that the 2D detections of every pair of views agree with the two cameras. No ground truth is needed.

    Each detected person is compared with the person in the other view that has the smallest epipolar (Sampson)
    distance. A camera is suspect if it agrees with no other camera.
    """
    distances = _epipolar_distances(labels)
    least = {name: _least(distances, name) for name in labels.views}
    suspects = [name for name, value in least.items() if value > _EPIPOLAR[0]]
    for a, b in combinations(suspects, 2):
        crossed = _epipolar_distances(labels, {a: b, b: a})
        after = max((value for pair, value in crossed.items() if {a, b} & set(pair)), default=np.inf)
        if after < min(_EPIPOLAR[0], least[a] / 2, least[b] / 2):
            problem = f"look swapped: epipolar distances fall from {least[a]:.2f} to {after:.2f} of a person's extent"
            remedy = "exchange their calibrations, or their detections"
            yield Finding(f"cameras {a} and {b}", problem, remedy, is_error=least[a] > _EPIPOLAR[1])
            suspects = [name for name in suspects if name not in (a, b)]
    for name in suspects:
        nearest = min((value, pair) for pair, value in distances.items() if name in pair)[1]
        other = nearest[1] if nearest[0] == name else nearest[0]
        problem = (
            f"its detections are {least[name]:.2f} of a person's extent away from their epipolar lines even in "
            f"{other}, the best of the other views, not {_EPIPOLAR[0]:g} or less"
        )
        remedy = "check its K, R, t and frame numbers, and that the detections are of this camera"
        # If every camera is suspect, x and y may be exchanged in all of them.
        flipped = {name} if len(suspects) < len(least) else set(least)
        if _least(_epipolar_distances(labels, flipped=flipped), name) < _EPIPOLAR[0] / 2:
            remedy = "its detections have x and y exchanged: write x before y"
        yield Finding(f"camera {name}", problem, remedy, is_error=least[name] > _EPIPOLAR[1])


def _least(distances: Mapping[tuple[str, str], float], name: str) -> float:
    """Smallest distance of the pairs with a view; 0 without a pair."""
    return min((value for pair, value in distances.items() if name in pair), default=0.0)


def _joints(view: View) -> Array:
    assert view.joints_px is not None
    return view.joints_px


def _fits(
    labels: Labels, sights: list[Sight], cameras: Mapping[int, Camera] | None = None
) -> Iterator[tuple[Sight, Array, float]]:
    """Offset and size of boxes relative to the projected joints, for people who are completely in the image.

    Args:
        labels: labels with the true people.
        sights: people of one view.
        cameras: index of a sample -> camera to project with; None: the view's camera.

    Yields:
        A person; distance (2,) of the centre of the box from the centre of the joints, in sides of the box; and longer
        side of the joints' extent, in longer sides of the box.
    """
    for sight in sights:
        camera = sight.camera if cameras is None else cameras.get(sight.sample)
        is_finite = np.isfinite(labels.joints_mm[sight.person]).all(axis=-1)
        if camera is None or sight.box_px is None or is_finite.mean() < _WHOLE:
            continue
        points = camera.project(labels.joints_mm[sight.person])[is_finite]
        size = np.array([side or np.inf for side in camera.size])
        corners = sight.box_px.reshape(2, 2)
        # A box ends where the image ends. A box that is computed from joints is of those in the image.
        complete = corners if labels.facts.boxes == "annotated" else points
        if np.all((complete >= 0) & (complete <= size)) and np.isfinite(points).all():
            sides = corners[1] - corners[0]
            centre, extent = (points.min(axis=0) + points.max(axis=0)) / 2, np.ptp(points, axis=0)
            yield sight, (corners.mean(axis=0) - centre) / sides, float(extent.max() / sides.max())


def _offset(labels: Labels, boxes_of: str, camera_of: str) -> float:
    """Median distance of a view's boxes from people projected by another camera, in box sides; 0: too few people."""
    cameras = {index: view.camera for index, view in labels.views.get(camera_of, ())}
    fits = _fits(labels, labels.sights[boxes_of], None if boxes_of == camera_of else cameras)
    offsets = [float(np.linalg.norm(offset)) for _, offset, _ in fits]
    if not offsets:
        return 0.0 if boxes_of == camera_of else np.inf
    return float(np.median(offsets))


def _of_points(points: list[tuple[View, Array]], in_boxes: bool = False) -> list[tuple[str, str]]:
    """Problem and remedy of 2D points (P, J, 2) of one view in several samples; empty if they are plausible.

    Args:
        points: views and their points.
        in_boxes: whether the points of each person must be in the enlarged box of the person, not only in the image.
    """
    inside = np.zeros((2, 2))  # x, y in order or exchanged; number of points inside, and in all
    extents: list[float] = []
    for view, of_view in points:
        size = np.array(view.camera.size, dtype=np.float64)
        if min(size) <= 0 or (in_boxes and len(of_view) != len(view.boxes_px)):
            continue
        lower, upper = np.zeros(2), size
        if in_boxes:
            lower, upper = view.boxes_px[:, None, :2], view.boxes_px[:, None, 2:]
        margin = (upper - lower).max(axis=-1, keepdims=True) * _MARGIN
        is_finite = np.isfinite(of_view).all(axis=-1)
        for row, pairs in enumerate((of_view, of_view[..., ::-1])):
            within = np.all((pairs >= lower - margin) & (pairs < upper + margin), axis=-1)
            inside[row] += within.sum(), is_finite.sum()
        of_people = _extents(of_view).max(axis=1) / size.max()
        extents += of_people[is_finite.sum(axis=1) > 1].tolist()
    if not inside[0, 1]:
        return []
    share, exchanged = inside[:, 0] / inside[:, 1]
    if share < LEAST_SHARE or (in_boxes and share < _SURE_SHARE <= exchanged):
        where = "the boxes of their people" if in_boxes else "the image"
        problem = f"{share:.0%} of the joints are in {where}, and {exchanged:.0%} with x and y exchanged"
        remedy = "write x before y" if exchanged >= _SURE_SHARE else "give pixels of the full image, x to the right"
        return [(problem, remedy)]
    if extents and (extent := float(np.median(extents))) < _LEAST_EXTENT:
        problem = f"the median person is {extent:.2g} image sides large, not {_LEAST_EXTENT:g} or more"
        return [(problem, "they look normalised: multiply by the size of the image")]
    return []


def _single_detections(labels: Labels, name: str, views: list[tuple[int, View]]) -> Iterator[Finding]:
    """Yield a warning for detections without joints, with all joints in one point, or outside of the image."""
    bad: dict[str, list[int]] = {}
    edges = np.array((labels.detected or labels.skeleton).edge_indices)
    for index, view in views:
        joints, size = _joints(view), np.array(view.camera.size, dtype=np.float64)
        is_finite: NDArray[np.bool_] = np.all(np.isfinite(joints), axis=-1)
        many = is_finite.sum(axis=1) >= 3
        dots = many & (_extents(joints).max(axis=1) < _DOT * max(size.max(), 1.0))
        margin = _MARGIN * size.max()
        inside: NDArray[np.bool_] = np.all((joints >= -margin) & (joints < size + margin), axis=-1) & is_finite
        outside = is_finite.any(axis=1) & ~inside.any(axis=1) & bool(size.min() > 0)
        absent = ~is_finite.any(axis=1) & (not labels.facts.associated)
        for problem, rows in (
            ("have all joints in one point", dots),
            ("have all joints outside of the image", outside),
            ("have no joint", absent),
            ("have joints at exactly 0 0", (joints == 0).all(axis=-1).any(axis=1)),
            ("have joints that look rolled", many & _look_rolled(joints, edges)),
        ):
            bad.setdefault(problem, []).extend([index] * int(rows.sum()))
    for problem, samples in bad.items():
        if samples:
            remedy = "leave out people who are not detected"
            people = f"{len(samples)} of {sum(len(_joints(view)) for _, view in views)} people"
            key = labels.key(samples[0])
            yield Finding(f"view {name}: detections", f"{people} {problem}", remedy, is_error=False, key=key)


def _look_rolled(joints: Array, edges: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether the edges of people (P, J, 2) are much shorter with the joints rolled by 1 or 2: mask (P,)."""
    if not len(edges):
        return np.zeros(len(joints), dtype=np.bool_)

    def length(of: Array) -> Array:
        return np.asarray(np.linalg.norm(of[:, edges[:, 0]] - of[:, edges[:, 1]], axis=-1).sum(axis=1))

    rolled = np.stack([length(np.roll(joints, by, axis=1)) for by in (1, -1, 2, -2)]).min(axis=0)
    return np.asarray(rolled < _ROLLED * length(joints))  # false for NaN


def _far_joints(labels: Labels) -> Iterator[Finding]:
    """A warning if people have sure joints that are far from their neighbours, compared with the median person."""
    edges = np.array((labels.detected or labels.skeleton).edge_indices)
    people = [
        (index, np.where((view.confidence >= _SURE_SCORE)[..., None], view.joints_px, np.nan), _extents(view.joints_px))
        for index, sample in enumerate(labels.samples)
        for view in sample.views
        if view.joints_px is not None and view.confidence is not None
    ]
    if not len(edges) or sum(len(joints) for _, joints, _ in people) < FEW:
        return
    of_sample = np.repeat([index for index, _, _ in people], [len(joints) for _, joints, _ in people])
    joints = np.concatenate([joints for _, joints, _ in people])
    extents = np.linalg.norm(np.concatenate([of_people for _, _, of_people in people]), axis=1)
    lengths = np.linalg.norm(joints[:, edges[:, 0]] - joints[:, edges[:, 1]], axis=-1) / extents[:, None]
    known = np.isfinite(lengths).any(axis=0)
    lengths = lengths[:, known]
    far = (lengths - np.nanmedian(lengths, axis=0) > _FAR_EDGE).any(axis=1)
    if far.sum() >= max(1.0, SOME * len(far)):
        problem = f"{int(far.sum())} of {len(far)} people have a joint with a high score far from its neighbours"
        key = labels.key(int(of_sample[np.argmax(far)]))
        yield Finding("detections", problem, "check single joints", is_error=False, key=key)


def _undetected(labels: Labels, name: str, views: list[tuple[int, View]]) -> Iterator[Finding]:
    """A warning if a view has no detection although a true person is completely in its image."""
    with_people = [
        (index, view)
        for index, view in views
        if any(share_in_image(view.camera, pose) == 1 for pose in labels.truths[index].joints_mm)
    ]
    empty = [index for index, view in with_people if not np.isfinite(_joints(view)).any()]
    if empty and len(empty) >= SOME * len(with_people):
        problem = f"none in {len(empty)} of {len(with_people)} samples with a complete true person in the image"
        yield Finding(f"view {name}: detections", problem, "detect people again", False, labels.key(empty[0]))


def _missed(labels: Labels) -> Iterator[Finding]:
    """Yield a warning if true people are far from the detections in all views in which they are visible."""
    detected = labels.detected or labels.skeleton
    common = [joint for joint in labels.skeleton.joints if joint in detected.joints]
    if len(common) < 3:
        return
    of_truth, of_detection = labels.skeleton.indices(common), detected.indices(common)
    missed, compared = [], 0
    for index, (sample, truth) in enumerate(zip(labels.samples, labels.truths, strict=True)):
        poses_mm = truth.joints_mm[:, of_truth]
        for pose_mm in poses_mm[np.isfinite(poses_mm).all(axis=(1, 2))]:
            distances = [
                _nearest(points, _joints(view)[:, of_detection]) / max(float(np.linalg.norm(np.ptp(points, axis=0))), 1)
                for view in sample.views
                if view.joints_px is not None and np.isfinite(view.joints_px).any()
                for points in (view.camera.project(pose_mm),)
                if share_in_image(view.camera, pose_mm) == 1
            ]
            compared += bool(distances)
            if distances and min(distances) > _DETECTION_AWAY:
                missed.append(index)
    if len(missed) > SOME * compared:
        problem = f"{len(missed)} of {compared} true people are far from the detections in all views"
        remedy = "check that detections, truth and cameras are of the same frames"
        yield Finding("joints", problem, remedy, is_error=False, key=labels.key(missed[0]))


def _away_from_truth(labels: Labels, name: str, views: list[tuple[int, View]]) -> Iterator[Finding]:
    """A finding if true people are far from every detection of a view."""
    detected = labels.detected or labels.skeleton
    common = [joint for joint in labels.skeleton.joints if joint in detected.joints]
    if len(common) < 3:
        return
    of_truth, of_detection = labels.skeleton.indices(common), detected.indices(common)
    away: list[tuple[float, float]] = []
    exchanged_people: list[int] = []
    for index, view in views:
        poses = labels.truths[index].joints_mm[:, of_truth]
        projected = view.camera.project(poses[np.isfinite(poses).all(axis=(1, 2))])
        if not len(projected) or not np.isfinite(_joints(view)).all(axis=-1).any():
            continue
        joints = _joints(view)[:, of_detection]
        for person in projected:
            extent = np.linalg.norm(np.ptp(person, axis=0))
            distances = [_nearest(person, order) / max(float(extent), 1.0) for order in (joints, joints[..., ::-1])]
            away.append((distances[0], distances[1]))
        for person in joints[np.isfinite(joints).all(axis=(1, 2))]:
            size_px = float(np.linalg.norm(np.ptp(person, axis=0)))
            own, other = (_nearest(order, projected) / max(size_px, 1.0) for order in (person, person[:, ::-1]))
            exchanged_people += [index] if own > _DETECTION_AWAY > 3 * other else []
    if exchanged_people and len(exchanged_people) < len(away) / 2:
        problem = f"{len(exchanged_people)} people are a true person with x and y exchanged"
        key = labels.key(exchanged_people[0])
        yield Finding(f"view {name}: detections", problem, "write x before y", is_error=False, key=key)
    if len(away) < FEW // 2:
        return
    median, exchanged = np.median(away, axis=0)
    if median > _DETECTION_AWAY:
        problem = f"the median true person is {median:.2f} of its extent away from the nearest detection"
        remedy = "check that detections, truth and camera are of the same view and frames"
        if exchanged < _DETECTION_AWAY / 2:
            remedy = "write x before y"
        yield Finding(f"view {name}: detections", f"{problem}, not {_DETECTION_AWAY:g} or less", remedy)


def _nearest(person: Array, joints: Array) -> float:
    """Mean distance of a person (J, 2) from the nearest of people (P, J, 2); infinite without any."""
    apart = np.linalg.norm(person - joints, axis=-1)
    counts = np.isfinite(apart).sum(axis=1)
    means = np.nansum(apart, axis=1)[counts > 0] / counts[counts > 0]
    return float(means.min(initial=np.inf))


def _copied(labels: Labels) -> Iterator[Finding]:
    """Yield a finding if two views of one sample have the same detections."""
    copied: dict[tuple[str, str], list[int]] = {}
    for index, sample in enumerate(labels.samples):
        content: dict[bytes, str] = {}
        for view in sample.views:
            if view.joints_px is None or not np.isfinite(view.joints_px).any():
                continue
            other = content.setdefault(view.joints_px.tobytes(), view.name)
            if other != view.name:
                copied.setdefault((other, view.name), []).append(index)
    for (a, b), samples in copied.items():
        problem = f"are the same numbers in {len(samples)} of {len(labels.samples)} samples"
        remedy = "give each view the detections of its own images"
        yield Finding(f"views {a} and {b}: detections", problem, remedy, key=labels.key(samples[0]))


def _epipolar_distances(
    labels: Labels, calibration_of: Mapping[str, str] | None = None, flipped: Collection[str] = ()
) -> dict[tuple[str, str], float]:
    """Median epipolar distance of each pair of views, relative to the extent of people.

    Pairs with few people are left out.

    Args:
        labels: the samples.
        calibration_of: view -> view whose camera replaces its own.
        flipped: views in which x and y of the detections are exchanged.
    """
    calibration_of = calibration_of or {}
    distances: dict[tuple[str, str], list[Array]] = {}
    pairs = len(labels.views) * (len(labels.views) - 1) // 2
    for sample in labels.samples[:: -(-len(labels.samples) * pairs // _MOST_PAIRS) or 1]:
        cameras = {view.name: view.camera for view in sample.views}
        views = [view for view in sample.views if view.joints_px is not None and np.isfinite(view.joints_px).any()]
        for a, b in combinations(views, 2):
            of_a, of_b = (cameras.get(calibration_of.get(v.name, v.name), v.camera) for v in (a, b))
            if np.linalg.norm(of_a.centre_mm - of_b.centre_mm) > 0:
                of_views = [_joints(v)[..., ::-1] if v.name in flipped else _joints(v) for v in (a, b)]
                relative = _sampson(of_a, of_b, *of_views)
                distances.setdefault((a.name, b.name), []).extend((relative.min(axis=0), relative.min(axis=1)))
    medians = {}
    for pair, values in distances.items():
        flat = np.concatenate(values)
        flat = flat[np.isfinite(flat)]
        if len(flat) >= FEW:
            medians[pair] = float(np.median(flat))
    return medians


def _sampson(a: Camera, b: Camera, joints_a: Array, joints_b: Array) -> Array:
    """Median Sampson distance (P, Q) of people (P, J, 2) and (Q, J, 2), relative to their extents; infinite for NaN."""
    R = b.R @ a.R.T
    x, y, z = b.t - R @ a.t
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ R
    F = np.linalg.inv(b.K).T @ essential @ np.linalg.inv(a.K)
    of_a, of_b = (np.insert(c.undistort(joints), 2, 1.0, axis=-1) for c, joints in ((a, joints_a), (b, joints_b)))
    lines_b, lines_a = of_a @ F.T, of_b @ F
    algebraic = np.abs(np.einsum("pjk,qjk->pqj", lines_b, of_b))
    squared = (lines_b[..., :2] ** 2).sum(axis=-1)[:, None] + (lines_a[..., :2] ** 2).sum(axis=-1)[None]
    distances = np.where(np.isfinite(algebraic), algebraic, np.inf) / np.sqrt(np.maximum(squared, 1e-30))
    medians = np.median(np.where(np.isnan(distances), np.inf, distances), axis=-1)
    extents = [_extents(joints).max(axis=1) for joints in (joints_a, joints_b)]
    return np.asarray(medians / np.maximum(np.sqrt(extents[0][:, None] * extents[1]), 1.0))


def _extents(joints_px: Array) -> Array:
    """Width and height (P, 2) of people (P, J, 2)."""
    missing = np.isnan(joints_px)
    extents = np.where(missing, -np.inf, joints_px).max(axis=1) - np.where(missing, np.inf, joints_px).min(axis=1)
    return np.asarray(np.where(np.isfinite(extents), extents, 0.0))
