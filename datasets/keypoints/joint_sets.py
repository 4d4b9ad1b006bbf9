"""Joint sets of 2D detectors, and skeletons of any named joints.

Joint names are those of `skeleton`: lower case, `left_` and `right_` first. `canonical_name` maps the spellings of
other tools (`LKnee`, `knee_l`, `Left Knee`) to them. Names without a canonical form are kept.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.skeleton import COCO, Skeleton, sides

_ARMS_AND_LEGS = (
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
)
_FEET = (
    ("left_ankle", "left_heel"),
    ("left_ankle", "left_big_toe"),
    ("left_big_toe", "left_small_toe"),
    ("right_ankle", "right_heel"),
    ("right_ankle", "right_big_toe"),
    ("right_big_toe", "right_small_toe"),
)
_FACE = (
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    ("left_eye", "left_ear"),
    ("right_eye", "right_ear"),
)
_TRUNK_WITH_NECK = (("neck", "left_shoulder"), ("neck", "right_shoulder"), ("neck", "nose"))
_TRUNK_WITH_PELVIS = (("pelvis", "left_hip"), ("pelvis", "right_hip"))
_BOX_TRUNK = (
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
)
_FACE_PAIRS = sides("eye", "ear")
_LIMB_PAIRS = sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_FOOT_PAIRS = sides("heel", "big_toe", "small_toe")

COCO_18 = Skeleton(
    name="openpose-coco-18",
    joints=(
        *("nose", "neck"),
        *("right_shoulder", "right_elbow", "right_wrist"),
        *("left_shoulder", "left_elbow", "left_wrist"),
        *("right_hip", "right_knee", "right_ankle"),
        *("left_hip", "left_knee", "left_ankle"),
        *("right_eye", "left_eye", "right_ear", "left_ear"),
    ),
    edges=(*_TRUNK_WITH_NECK, ("neck", "left_hip"), ("neck", "right_hip"), *_ARMS_AND_LEGS, *_FACE),
    root=("left_hip", "right_hip"),
    flip_pairs=(*_FACE_PAIRS, *_LIMB_PAIRS),
)
"""The 18 joints of OpenPose's COCO model."""

BODY_25 = Skeleton(
    name="openpose-body-25",
    joints=(
        *("nose", "neck"),
        *("right_shoulder", "right_elbow", "right_wrist"),
        *("left_shoulder", "left_elbow", "left_wrist"),
        "pelvis",
        *("right_hip", "right_knee", "right_ankle"),
        *("left_hip", "left_knee", "left_ankle"),
        *("right_eye", "left_eye", "right_ear", "left_ear"),
        *("left_big_toe", "left_small_toe", "left_heel"),
        *("right_big_toe", "right_small_toe", "right_heel"),
    ),
    edges=(*_TRUNK_WITH_NECK, ("neck", "pelvis"), *_TRUNK_WITH_PELVIS, *_ARMS_AND_LEGS, *_FACE, *_FEET),
    root="pelvis",
    flip_pairs=(*_FACE_PAIRS, *_LIMB_PAIRS, *_FOOT_PAIRS),
)
"""The 25 joints of OpenPose's default model; `pelvis` is its MidHip."""

HALPE_26 = Skeleton(
    name="halpe-26",
    joints=(
        *COCO.joints,
        *("head_top", "neck", "pelvis"),
        *("left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe", "left_heel", "right_heel"),
    ),
    edges=(
        *_TRUNK_WITH_NECK,
        *(("nose", "head_top"), ("neck", "pelvis")),
        *_TRUNK_WITH_PELVIS,
        *_ARMS_AND_LEGS,
        *_FACE,
        *_FEET,
    ),
    root="pelvis",
    flip_pairs=(*_FACE_PAIRS, *_LIMB_PAIRS, *_FOOT_PAIRS),
)
"""The 26 joints of Halpe, the default of RTMLib's BodyWithFeet and of Pose2Sim."""

BODY_23 = Skeleton(
    name="coco-wholebody-23",
    joints=(
        *COCO.joints,
        *("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"),
    ),
    edges=(*COCO.edges, *_FEET),
    root=("left_hip", "right_hip"),
    flip_pairs=(*_FACE_PAIRS, *_LIMB_PAIRS, *_FOOT_PAIRS),
)
"""Body and feet of COCO-WholeBody: the first 23 of its 133 joints."""

BLAZEPOSE = Skeleton(
    name="blazepose-33",
    joints=(
        "nose",
        *("left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer"),
        *("left_ear", "right_ear", "left_mouth", "right_mouth"),
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
        *("left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb"),
        *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
        *("left_heel", "right_heel", "left_big_toe", "right_big_toe"),
    ),
    edges=(
        *_BOX_TRUNK,
        *_ARMS_AND_LEGS,
        *(
            pair
            for side in ("left", "right")
            for pair in (
                ("nose", f"{side}_eye_inner"),
                (f"{side}_eye_inner", f"{side}_eye"),
                (f"{side}_eye", f"{side}_eye_outer"),
                (f"{side}_eye_outer", f"{side}_ear"),
                (f"{side}_wrist", f"{side}_pinky"),
                (f"{side}_wrist", f"{side}_index"),
                (f"{side}_wrist", f"{side}_thumb"),
                (f"{side}_ankle", f"{side}_heel"),
                (f"{side}_ankle", f"{side}_big_toe"),
            )
        ),
        ("left_mouth", "right_mouth"),
    ),
    root=("left_hip", "right_hip"),
    flip_pairs=(
        *_FACE_PAIRS,
        *_LIMB_PAIRS,
        *sides("eye_inner", "eye_outer", "mouth", "pinky", "index", "thumb", "heel", "big_toe"),
    ),
)
"""The 33 joints of BlazePose; `big_toe` is its foot_index."""

JOINT_SETS: Mapping[str, Skeleton] = {
    "coco": COCO,
    "coco_18": COCO_18,
    "body_25": BODY_25,
    "halpe_26": HALPE_26,
    "coco_133": BODY_23,
    "blazepose": BLAZEPOSE,
}
"""Joint sets of detectors by the value of `--joints`."""

_COUNTS: Mapping[str, int] = {name: len(skeleton) for name, skeleton in JOINT_SETS.items()} | {"coco_133": 133}
"""Number of joints that a file of the set has per person."""

_KNOWN = tuple(
    dict.fromkeys(
        joint
        for joints in (*(skeleton.joints for skeleton in JOINT_SETS.values()), ("head", "thorax", "spine", "chin"))
        for joint in joints
    )
)
"""Canonical names of joints."""

_EDGES = tuple(
    dict.fromkeys(
        (
            *_TRUNK_WITH_NECK,
            *(("neck", "pelvis"), ("nose", "head_top")),
            *(("thorax", "left_shoulder"), ("thorax", "right_shoulder"), ("thorax", "spine"), ("spine", "pelvis")),
            *(("thorax", "nose"), ("thorax", "head"), ("neck", "head")),
            *_TRUNK_WITH_PELVIS,
            *_ARMS_AND_LEGS,
            *_FEET,
            *_FACE,
            *BLAZEPOSE.edges[len(_BOX_TRUNK) + len(_ARMS_AND_LEGS) :],
        )
    )
)
"""Limbs between any of the canonical joints."""

_BODY_PARTS: Mapping[str, str] = {
    "mid_hip": "pelvis",
    "midhip": "pelvis",
    "hip": "pelvis",
    "hips": "pelvis",
    "c_hip": "pelvis",
    "chip": "pelvis",
    "hip_center": "pelvis",
    "hip_centre": "pelvis",
    "top_head": "head_top",
    "top_of_head": "head_top",
    "headtop": "head_top",
    "bigtoe": "big_toe",
    "foot_index": "big_toe",
    "smalltoe": "small_toe",
    "little_toe": "small_toe",
    "pinky_1": "pinky",
    "mouth_corner": "mouth",
}
"""Spellings of body parts without their side; `hip` without a side is the middle of the hips."""


def canonical_name(name: str) -> str | None:
    """Canonical name of a joint; None for an unknown name.

    Example:
        >>> [canonical_name(name) for name in ("LKnee", "knee_l", "Right Big Toe", "MidHip", "tail")]
        ['left_knee', 'left_knee', 'right_big_toe', 'pelvis', None]
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip())
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    side = ""
    for end in (0, -1):
        if len(words) > 1 and not side and words[end] in ("l", "left", "r", "right"):
            side = "left_" if words.pop(end).startswith("l") else "right_"
    part = "_".join(words)
    # A hip with a side is a hip; without a side it is the middle of the hips.
    part = "hip" if side and part in ("hip", "hips") else _BODY_PARTS.get(part, part)
    return side + part if side + part in _KNOWN else None


def canonical_names(names: Sequence[str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Canonical names of the joints of a file, and remarks on unknown names.

    Args:
        names: J names as in the file.
        where: file and field, for errors.

    Returns:
        J names, canonical where possible, and one remark per unknown name with the nearest canonical name.

    Raises:
        InputError: a name is empty, or two names mean the same joint.
    """
    joints = tuple(canonical_name(name) or name.strip() for name in names)
    first: dict[str, str] = {}
    for name, joint in zip(names, joints, strict=True):
        if not joint:
            raise InputError(where, "a joint has an empty name", "name every joint")
        if joint in first:
            raise InputError(where, f"{first[joint]!r} and {name!r} both mean {joint}", "rename one of the joints")
        first[joint] = name
    return joints, tuple(_remark(joint) for joint in unknown_joints(joints))


def unknown_joints(joints: Iterable[str]) -> dict[str, str | None]:
    """Unknown joint names, each with the most similar canonical name (None: no name is similar).

    Example:
        >>> unknown_joints(["left_knee", "left_kneee", "Schwanz"])
        {'left_kneee': 'left_knee', 'Schwanz': None}
    """
    nearest: dict[str, str | None] = {}
    for joint in joints:
        if joint not in _KNOWN:
            close = difflib.get_close_matches(joint.lower().replace(" ", "_"), _KNOWN, n=1, cutoff=0.6)
            nearest[joint] = close[0] if close else None
    return nearest


def _remark(joint: str) -> str:
    nearest = unknown_joints([joint])[joint]
    return f"joint {joint!r} is not known and has no limbs" + (f"; nearest: {nearest}" if nearest else "")


def skeleton_of(joints: Sequence[str]) -> Skeleton:
    """Skeleton of named joints; if names and order equal a joint set of this module, that joint set.

    Limbs connect the canonical joints among the names. The root is the pelvis, else the middle of the hips, else None.

    Args:
        joints: J distinct joint names.

    Raises:
        ValueError: a name occurs twice.

    Example:
        >>> skeleton_of(["left_hip", "left_knee", "tail"]).edges
        (('left_hip', 'left_knee'),)
    """
    names = tuple(joints)
    for skeleton in JOINT_SETS.values():
        if skeleton.joints == names:
            return skeleton
    edges = [edge for edge in _EDGES if set(edge) <= set(names)]
    if not {"neck", "thorax"} & set(names) or "pelvis" not in names:
        edges += [edge for edge in _BOX_TRUNK if set(edge) <= set(names) and edge not in edges]
    hips = ("left_hip", "right_hip")
    root = "pelvis" if "pelvis" in names else hips if set(hips) <= set(names) else None
    left = [name for name in names if name.startswith("left_")]
    pairs = [(name, "right_" + name.removeprefix("left_")) for name in left]
    flip_pairs = tuple(pair for pair in pairs if pair[1] in names)
    return Skeleton(f"rig-{len(names)}", names, tuple(edges), root, flip_pairs)


def joint_set_of(count: int, name: str | None, where: str) -> tuple[Skeleton, str]:
    """Joint set of files that list joints without names.

    Args:
        count: number of joints per person in the file.
        name: name of the set in `JOINT_SETS`; None: the only set with this number of joints.
        where: file and field, for errors.

    Returns:
        The joint set, and a remark that names it. Of 133 joints, only the first 23 are used.

    Raises:
        InputError: no set has this number of joints, or the named set has another number.
    """
    if name is not None:
        if name not in JOINT_SETS:
            raise InputError("joints", f"{name} is not a joint set", did_you_mean(name, JOINT_SETS))
        if _COUNTS[name] != count:
            raise InputError(
                where, f"has {count} joints per person, but {name} has {_COUNTS[name]}", f"use one of {_counts()}"
            )
        return JOINT_SETS[name], f"joints: {name}"
    for known, size in _COUNTS.items():
        if size == count:
            return JOINT_SETS[known], f"joints: {known}, by their number {count}"
    raise InputError(where, f"has {count} joints per person", f"use one of {_counts()}, or convert the file to Parquet")


def _counts() -> str:
    return ", ".join(f"{name} ({count})" for name, count in _COUNTS.items())
