"""A synthetic world in the layout of Human3.6M multi-view (learnable triangulation's labels, section of the release).

``<root>/processed/<S>/<Action-k>/imageSequence/<camera>/img_%06d.jpg`` is seen through the lens,
``imageSequence-undistorted`` is made from it, ``<root>/extra/human36m-multiview-labels-GTbboxes.npy`` holds cameras,
poses and boxes. ``<root>/manifest.json`` is written last: it marks the tree as ours and whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.contact_sheet import contact_sheet, spread
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.human36m import LABELS, Human36M
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.datasets.synthetic.body import Body, sample_body, sample_outfit
from poseboard.datasets.synthetic.manifest import TREES, labels_digest, read_manifest, write_manifest
from poseboard.datasets.synthetic.motion import ACTIONS, SEATS, Motion, move
from poseboard.datasets.synthetic.renderer import Backdrop, Light, Room, backdrop, rays, render
from poseboard.datasets.synthetic.scene import (
    FREESTANDING,
    Furniture,
    Person,
    assemble,
    free_place,
    make_room,
    put_screen,
    put_seat,
    sample_light,
    visible_joints,
)

GENERATOR = "human36m-1"
"""Version of the pictures: raised whenever equal options give other bytes."""
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
PUBLISHED_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
PUBLISHED_TEST = ("S9", "S11")
ACTION_NAMES = tuple(f"{action}-{trial}" for action in ACTIONS for trial in (1, 2))
_STARTED = "generation.json"
_FRAME_RATE_HZ = 50.0
_ROOM_FOR_OBJECTS_MM = (2500.0, 3300.0)

Subject = Annotated[str, Field(pattern=r"^S[1-9][0-9]{0,2}$")]


class WorldOptions(BaseModel):
    """What is generated. Equal options give equal bytes on one machine, whatever the number of processes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    side_px: Annotated[int, Field(ge=48, le=1000)] = 288
    train_subjects: tuple[Subject, ...] = ("S1", "S5", "S6", "S7", "S8", "S2", "S3", "S4")
    test_subjects: tuple[Subject, ...] = ("S9", "S11")
    train_frames: Annotated[int, Field(ge=0, le=500)] = 8
    test_frames: Annotated[int, Field(ge=0, le=500)] = 5
    frame_step: Annotated[int, Field(ge=1, le=65)] = 32
    """Between the frames that are kept, at 50 Hz."""
    actions: tuple[str, ...] = ACTIONS
    """Base names ("Walking"), both trials; the label file names all thirty."""
    occlusion: Annotated[float, Field(ge=0, le=1)] = 0.5
    jpeg_quality: Annotated[int, Field(ge=10, le=100)] = 92

    @model_validator(mode="after")
    def _consistent(self) -> WorldOptions:
        subjects = (*self.train_subjects, *self.test_subjects)
        if not subjects or len(set(subjects)) != len(subjects):
            raise ValueError("train_subjects and test_subjects must name every subject once, and at least one")
        if not set(self.test_subjects) <= set(PUBLISHED_TEST) or set(self.train_subjects) & set(PUBLISHED_TEST):
            raise ValueError(f"the layout's test subjects are {', '.join(PUBLISHED_TEST)}, and these only")
        unknown = [action for action in self.actions if action not in ACTIONS]
        if unknown or len(set(self.actions)) != len(self.actions):
            raise ValueError(f"actions: unknown or repeated {unknown or self.actions}; known are {', '.join(ACTIONS)}")
        return self

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects in the label file's order: the published ones first, as published, then the others by number."""
        asked = {*self.train_subjects, *self.test_subjects}
        others = sorted(asked - set(PUBLISHED_SUBJECTS), key=lambda name: int(name[1:]))
        return (*(name for name in PUBLISHED_SUBJECTS if name in asked), *others)

    def frames(self, subject: str) -> int:
        """Frames in each of a subject's sequences."""
        return self.test_frames if subject in self.test_subjects else self.train_frames

    def moments(self, split: str) -> int:
        """Samples of "train" or "test": instants that every camera sees."""
        subjects = self.test_subjects if split == "test" else self.train_subjects
        return len(subjects) * self.frames(subjects[0]) * 2 * len(self.actions) if subjects else 0


@dataclass(frozen=True, eq=False)
class Clip:
    """One generated sequence: what its rows of the table hold, and what was seen on the way."""

    keypoints_mm: Array
    boxes_tlbr: NDArray[np.int16]
    visibility: Array
    sha256: str
    size_bytes: int


@dataclass(frozen=True, eq=False)
class Take:
    """One sequence before it is rendered: the actor first among the people."""

    people: list[Person]
    furniture: Furniture
    light: Light


def _random(options: WorldOptions, *names: str) -> Generator:
    """A generator for a part of the world that depends on nothing but the seed and the part's name."""
    return np.random.default_rng([options.seed, *(zlib.crc32(name.encode()) for name in names)])


def rig(options: WorldOptions, subject: str) -> tuple[Camera, ...]:
    """The four cameras of a subject: one rig for all, moved by up to 4 cm; intrinsics belong to the camera.

    Values are rounded to float32, as the label file holds them.
    """
    rng = _random(options, "rig")
    cameras = []
    scale = options.side_px / 1000
    for name, (x, y) in zip(CAMERAS, ((1, -1), (-1, -1), (1, 1), (-1, 1)), strict=True):
        place = np.array([x * rng.uniform(1600, 2300), y * rng.uniform(4100, 5100), rng.uniform(1350, 1750)])
        target = np.array([*rng.uniform(-120, 120, 2), rng.uniform(840, 960)])
        focal, skewed = rng.uniform(1140, 1150), rng.uniform(-0.6, 0.6)
        K = np.array(
            [[focal, 0, 500 + rng.uniform(-14, 14)], [0, focal + skewed, 500 + rng.uniform(-14, 14)], [0, 0, 1]]
        )
        K[:2] *= scale
        dist = (
            rng.uniform(-0.21, -0.19), rng.uniform(0.22, 0.27), rng.uniform(-0.002, 0.002), rng.uniform(-0.002, 0.002),
            rng.uniform(-0.01, 0.0),
        )  # fmt: skip
        shift = _random(options, "rig", subject, name)
        place = place + shift.uniform(-40, 40, 3)
        target = target + shift.uniform(-40, 40, 3)
        forward = (target - place) / np.linalg.norm(target - place)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        cameras.append(
            Camera(
                K=K.astype(np.float32),
                R=R.astype(np.float32),
                t=(-R @ place).astype(np.float32),
                dist=np.array(dist, dtype=np.float32),
                size=(options.side_px, options.side_px),
                distortion="human36m",
            )
        )
    return tuple(cameras)


def subject_body(options: WorldOptions, subject: str) -> Body:
    """A subject's body, the same in every sequence."""
    return sample_body(_random(options, "body", subject))


def direct(options: WorldOptions, subject: str, name: str) -> Take:
    """Who does what, where, among which things: one sequence, not yet seen by a camera."""
    rng = _random(options, "take", subject, name)
    count = options.frames(subject)
    time_s = np.arange(count) * options.frame_step / _FRAME_RATE_HZ
    action = name.rsplit("-", 1)[0]
    body = subject_body(options, subject)
    outfit = sample_outfit(rng)
    motion = move(action, body, time_s, (rng.uniform(-200, 200), rng.uniform(-200, 200)), rng.uniform(600, 1000), rng)
    people, furniture = [Person(body, outfit, motion.figure)], Furniture()
    if SEATS.get(action) == "chair" and count:
        _seat(furniture, rng, body, motion)
    taken = motion.figure.joints_mm[..., :2].reshape(-1, 2) if count else np.zeros((1, 2))  # hands and feet reach out
    cameras = rig(options, subject)
    for _ in range(rng.poisson(2.2 * options.occlusion)):
        put = FREESTANDING[rng.integers(len(FREESTANDING))]
        place = free_place(rng, taken, (750, 1700), 500, _ROOM_FOR_OBJECTS_MM)
        if place is not None:
            put(furniture, rng, place, rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.4 * options.occlusion:
        camera = cameras[rng.integers(len(cameras))].centre_mm[:2]
        middle = taken.mean(0) + rng.uniform(-250, 250, 2)
        share = rng.uniform(0.35, 0.6)
        along = camera - middle
        spot = middle + share * along
        if np.linalg.norm(taken - spot, axis=1).min() > 350:
            yaw = float(np.arctan2(along[1], along[0]) + rng.uniform(-0.3, 0.3))
            put_screen(furniture, rng, (float(spot[0]), float(spot[1])), yaw)
    for _ in range(rng.poisson(1.0 * options.occlusion)):
        place = free_place(rng, taken, (850, 1900), 560, _ROOM_FOR_OBJECTS_MM)
        if place is None:
            continue
        other, wear = sample_body(rng), sample_outfit(rng)
        doing = str(rng.choice(["Discussion", "Waiting", "Posing", "TakingPhoto", "Phoning", "Directions", "Smoking"]))
        people.append(Person(other, wear, move(doing, other, time_s, place, 150, rng).figure))
        taken = np.concatenate([taken, [place]])
    return Take(people, furniture, sample_light(_random(options, "light", subject, name)))


def _seat(furniture: Furniture, rng: Generator, body: Body, motion: Motion) -> None:
    scale = body.height / 1720
    place = motion.root_mm.mean(0)
    turned = np.deg2rad(motion.yaw_deg)
    yaw = float(np.arctan2(np.sin(turned).mean(), np.cos(turned).mean()))
    height = float(motion.root_mm[:, 2].min() - 92 * scale * body.leg_girth)
    put_seat(furniture, rng, (float(place[0]), float(place[1])), yaw, max(220.0, height))


def square_tlbr(silhouette: NDArray[np.bool_], margin: float = 0.03) -> tuple[int, int, int, int]:
    """The published square box of a foreground mask: top, left, bottom, right; zeros where there is no foreground.

    Extents with an exclusive end, grown by a margin of the larger side plus two pixels; side = the larger one, start =
    round(centre - side / 2) with Python's rounding.
    """
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    if not rows.size:
        return 0, 0, 0, 0
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(bottom - top, right - left)
    side += 2 * round(margin * side + 2)
    upper, start = round((top + bottom) / 2 - side / 2), round((left + right) / 2 - side / 2)
    return upper, start, upper + side, start + side


def undistortion_map(camera: Camera) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Where each pixel of the undistorted image comes from, in OpenCV's fixed-point form (16SC2)."""
    width, height = camera.size
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
    source = camera.distort(grid).astype(np.float32)
    whole, part = cv2.convertMaps(source[..., 0], source[..., 1], cv2.CV_16SC2)
    return np.asarray(whole, np.int16), np.asarray(part, np.uint16)


@lru_cache(maxsize=2)
def _studio(options: WorldOptions) -> Room:
    return make_room(_random(options, "room"))


@lru_cache(maxsize=8)
def _directions(options: WorldOptions, v: int) -> Array:
    return rays(rig(options, options.subjects[0])[v])  # intrinsics are the same for all subjects


@lru_cache(maxsize=8)
def _lens_maps(options: WorldOptions, v: int) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    return undistortion_map(rig(options, options.subjects[0])[v])


@lru_cache(maxsize=8)
def _view(options: WorldOptions, subject: str, v: int) -> Backdrop:
    return backdrop(_studio(options), rig(options, subject)[v], _directions(options, v))


def _clip(root: Path, options: WorldOptions, job: tuple[str, str]) -> Clip:
    """One sequence: rendered, written, and told. Runs in any process and depends on its arguments only."""
    subject, name = job
    take = direct(options, subject, name)
    instants = assemble(take.people, take.furniture)
    actor = take.people[0]
    boxes = np.zeros((len(instants), len(CAMERAS), 4), np.int16)
    visibility = np.zeros((len(instants), len(CAMERAS)))
    folder = root / "processed" / subject / name
    jpegs: dict[tuple[int, int], tuple[bytes, bytes]] = {}
    for v in range(len(CAMERAS)):
        view = _view(options, subject, v)
        camera, (whole, part) = view.camera, _lens_maps(options, v)
        for tree in TREES:
            (folder / tree / CAMERAS[v]).mkdir(parents=True, exist_ok=True)
        gain = _random(options, "gain", CAMERAS[v]).uniform(0.95, 1.05, 3)
        light = replace(take.light, tint=take.light.tint * gain)
        for i, solids in enumerate(instants):
            noise = zlib.crc32(f"{options.seed}/{subject}/{name}/{i}/{v}".encode())
            picture = render(solids, view, light, noise << 20)
            boxes[i, v] = square_tlbr(picture.silhouette)
            visibility[i, v] = visible_joints(solids, actor, 0, i, camera).mean()
            through_lens = _jpeg(picture.image[..., ::-1], options.jpeg_quality)
            # As published: the undistorted tree is made from the stored pictures.
            stored = np.asarray(cv2.imdecode(np.frombuffer(through_lens, np.uint8), cv2.IMREAD_COLOR))
            flat = cv2.remap(stored, whole, part, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
            jpegs[i, v] = through_lens, _jpeg(np.asarray(flat, np.uint8), options.jpeg_quality)
    digest = hashlib.sha256()
    for (i, v), pair in sorted(jpegs.items()):
        number = i * options.frame_step + 1
        for tree, data in zip(TREES, pair, strict=True):
            digest.update(data)
            write_file(folder / tree / CAMERAS[v] / f"img_{number:06d}.jpg", data)
    size_bytes = sum(len(data) for pair in jpegs.values() for data in pair)
    return Clip(actor.figure.joints_mm, boxes, visibility, digest.hexdigest(), size_bytes)


def _jpeg(bgr: NDArray[np.uint8], quality: int) -> bytes:
    fine, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not fine:
        raise RuntimeError("the JPEG encoder refused an image")
    return bytes(data)


def jobs(options: WorldOptions) -> list[tuple[str, str]]:
    """Subjects and action names of all sequences, in the label file's order."""
    kept = [name for name in ACTION_NAMES if name.rsplit("-", 1)[0] in options.actions]
    return [(subject, name) for subject in options.subjects if options.frames(subject) for name in kept]


def label_file(options: WorldOptions, clips: list[Clip]) -> dict[str, Any]:
    """The published label dictionary; field names, types and orders are learnable triangulation's."""
    subjects = options.subjects
    cameras = np.zeros(
        (len(subjects), len(CAMERAS)),
        dtype=[
            ("R", np.float32, (3, 3)),
            ("t", np.float32, (3, 1)),
            ("K", np.float32, (3, 3)),
            ("dist", np.float32, 5),
        ],
    )
    for s, subject in enumerate(subjects):
        for v, camera in enumerate(rig(options, subject)):
            cameras[s, v] = (camera.R, camera.t[:, None], camera.K, camera.dist)
    table = np.zeros(
        sum(len(clip.keypoints_mm) for clip in clips),
        dtype=[
            ("subject_idx", np.int8),
            ("action_idx", np.int8),
            ("frame_idx", np.int16),
            ("keypoints", np.float32, (len(HUMAN36M), 3)),
            ("bbox_by_camera_tlbr", np.int16, (len(CAMERAS), 4)),
        ],
    )
    row = 0
    for (subject, name), clip in zip(jobs(options), clips, strict=True):
        count = len(clip.keypoints_mm)
        part = table[row : row + count]
        part["subject_idx"], part["action_idx"] = subjects.index(subject), ACTION_NAMES.index(name)
        part["frame_idx"] = np.arange(count) * options.frame_step
        part["keypoints"], part["bbox_by_camera_tlbr"] = clip.keypoints_mm, clip.boxes_tlbr
        row += count
    return {
        "subject_names": list(subjects),
        "camera_names": list(CAMERAS),
        "action_names": list(ACTION_NAMES),
        "cameras": cameras,
        "table": table,
    }


def generate(
    options: WorldOptions, root: Path, processes: int = 1, progress: Callable[[int, int], None] | None = None
) -> str:
    """Write a world, unless it is there already.

    Args:
        options: what to generate.
        root: folder of the data set; made if absent. An unfinished world, or a whole one of other options, is
            replaced.
        processes: that share the sequences; the bytes do not depend on it. With more than one, the caller's main module
            must be importable without side effects (processes are spawned, which is safe beside any threads).
        progress: called with the images done and their total.

    Returns:
        The manifest's sha256.

    Raises:
        InputError: the folder holds a tree that this generator did not write, or one that was changed since.
    """
    wanted = {"generator": GENERATOR, "options": json.loads(options.model_dump_json())}
    present = read_manifest(root)
    if present is not None:
        whole = Human36M(root, synthetic=True).verified(every_byte=True)
        if {key: present.get(key) for key in wanted} == wanted:
            if whole != present:
                write_manifest(root, whole)
            return str(present["sha256"])
    started = root / _STARTED
    if present is None and not started.exists() and any((root / part).exists() for part in ("processed", "extra")):
        raise InputError(root, "holds a data set that was not generated here", "choose another folder for the world")
    root.mkdir(parents=True, exist_ok=True)
    write_file(started, json.dumps(wanted).encode())  # from now on whatever lies here is ours and unfinished
    (root / "manifest.json").unlink(missing_ok=True)
    for part in ("processed", "extra"):
        shutil.rmtree(root / part, ignore_errors=True)
    todo = jobs(options)
    per_frame = len(CAMERAS)
    total = sum(options.frames(subject) for subject, _ in todo) * per_frame
    clips: list[Clip] = []
    done = 0
    for clip in _clips(root, options, todo, processes):
        clips.append(clip)
        done += len(clip.keypoints_mm) * per_frame
        if progress is not None:
            progress(done, total)
    labels = label_file(options, clips)
    (root / LABELS).parent.mkdir(parents=True, exist_ok=True)
    pickled = io.BytesIO()
    np.save(pickled, np.array(labels, dtype=object), allow_pickle=True)
    write_file(root / LABELS, pickled.getvalue())
    written = Human36M(root, synthetic=True)
    groups = {key: written.sample(key).group for split in ("train", "test") for key in written.keys(split)}
    sheet = contact_sheet(written, spread(groups))
    fine, picture = cv2.imencode(".png", sheet[..., ::-1])
    if not fine:
        raise RuntimeError("the PNG encoder refused the contact sheet")
    write_file(root / "contact_sheet.png", bytes(picture))
    seen = np.concatenate([clip.visibility for clip in clips]) if clips else np.zeros((0, per_frame))
    names = [labels[field] for field in ("subject_names", "camera_names", "action_names")]
    digest = labels_digest(names, labels["cameras"], labels["table"])
    images = {
        f"{subject}/{name}": {"sha256": clip.sha256, "bytes": clip.size_bytes}
        for (subject, name), clip in zip(todo, clips, strict=True)
    }
    labels_sha256 = digest.hexdigest()
    for clip in clips:
        digest.update(clip.sha256.encode())
    manifest = {
        **wanted,
        "sha256": digest.hexdigest(),
        "labels": labels_sha256,
        "images": images,
        "counts": {"sequences": len(todo), "frames": len(labels["table"]), "images": total, "trees": len(TREES)},
        "mean_joint_visibility": round(float(seen.mean()), 4) if seen.size else None,
    }
    write_manifest(root, manifest)
    started.unlink()
    return str(manifest["sha256"])


def _clips(root: Path, options: WorldOptions, todo: list[tuple[str, str]], processes: int) -> Iterator[Clip]:
    if processes <= 1 or len(todo) <= 1:
        yield from map(partial(_clip, root, options), todo)
        return
    # The first sequence is rendered here, which also leaves the compiled code in numba's cache for the others.
    yield _clip(root, options, todo[0])
    with ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from pool.map(partial(_clip, root, options), todo[1:])
