"""Skeletons: named joints, so that joint sets are mapped by name and never by bare index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Skeleton:
    """A joint set.

    Args:
        name: of the joint set, as it stands in file metadata.
        joints: names in storage order.
        edges: pairs of joint names that are drawn as limbs.
        root: what relative metrics subtract: a joint; or several, whose mean it is; or None if the set has none.
        flip_pairs: (left, right) names that a mirrored image swaps.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    root: str | tuple[str, ...] | None
    flip_pairs: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        known = set(self.joints)
        named = {n for pair in (*self.edges, *self.flip_pairs, self.root_joints) for n in pair}
        if len(known) != len(self.joints) or not named <= known:
            raise ValueError(f"skeleton {self.name}: duplicate joints or unknown names {sorted(named - known)}")

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def root_joints(self) -> tuple[str, ...]:
        """Joints whose mean is the root; empty if the joint set has none."""
        if isinstance(self.root, tuple):
            return self.root
        return () if self.root is None else (self.root,)

    @property
    def root_index(self) -> int:
        """Index of the root joint; ValueError if there is none, or if the root is the mean of several."""
        if not isinstance(self.root, str):
            raise ValueError(f"skeleton {self.name} has no root joint")
        return self.joints.index(self.root)

    def root_of(self, joints: NDArray[Any]) -> NDArray[Any]:
        """The root (..., 3) of poses (..., J, 3), NaN where one of its joints is; ValueError if the set has none."""
        if not self.root_joints:
            raise ValueError(f"skeleton {self.name} has no root")
        mean: NDArray[Any] = joints[..., self.indices(self.root_joints), :].mean(axis=-2)
        return mean

    @property
    def edge_indices(self) -> list[tuple[int, int]]:
        """Edges as index pairs."""
        return [(self.joints.index(a), self.joints.index(b)) for a, b in self.edges]

    @property
    def flip_order(self) -> list[int]:
        """Permutation that a mirrored image applies to the joints."""
        swap = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return [self.joints.index(swap.get(joint, joint)) for joint in self.joints]

    def indices(self, names: Iterable[str]) -> list[int]:
        """Indices of the named joints; ValueError names one that is missing."""
        index = {joint: i for i, joint in enumerate(self.joints)}
        try:
            return [index[name] for name in names]
        except KeyError as error:
            raise ValueError(f"skeleton {self.name} has no joint {error.args[0]!r}") from None


def _sides(*parts: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"left_{part}", f"right_{part}") for part in parts)


_LIMBS = (
    ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"),
    ("right_hip", "pelvis"),
    ("left_ankle", "left_knee"),
    ("left_knee", "left_hip"),
    ("left_hip", "pelvis"),
    ("pelvis", "spine"),
    ("spine", "thorax"),
    ("thorax", "nose"),
    ("head_top", "nose"),
    ("thorax", "right_shoulder"),
    ("right_elbow", "right_shoulder"),
    ("right_wrist", "right_elbow"),
    ("thorax", "left_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
)

HUMAN36M = Skeleton(
    name="human36m-17",
    joints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "spine",
        "thorax",
        "head_top",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "nose",
    ),
    edges=_LIMBS,
    root="pelvis",
    flip_pairs=_sides("ankle", "knee", "hip", "shoulder", "elbow", "wrist"),
)
"""Learnable triangulation's 17 joints of Human3.6M, in its storage order."""

COCO = Skeleton(
    name="coco-17",
    joints=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    edges=(
        ("left_ankle", "left_knee"),
        ("left_knee", "left_hip"),
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("left_hip", "right_hip"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_shoulder", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
        ("left_eye", "right_eye"),
        ("nose", "left_eye"),
        ("nose", "right_eye"),
        ("left_eye", "left_ear"),
        ("right_eye", "right_ear"),
    ),
    root=("left_hip", "right_hip"),
    flip_pairs=_sides("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
)
"""MSCOCO's 17 key points. Their root is no key point: the middle of the hips, as learnable triangulation has it."""
