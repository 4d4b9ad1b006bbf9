"""Skeletons: joint sets. Joints of different sets are matched by name, never by index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray


@dataclass(frozen=True)
class Skeleton:
    """Joint set: names, order, limbs and root.

    Args:
        name: name of the joint set in the metadata of files.
        joints: joint names in storage order.
        edges: pairs of joint names that are drawn as limbs.
        root: origin of relative metrics: a joint, or the mean of several; None: no root.
        flip_pairs: (left, right) names that a mirror image swaps.

    Raises:
        ValueError: a joint is named twice, or an edge, pair or root names an unknown joint.

    Example:
        >>> HUMAN36M.indices(["pelvis", "nose"])
        [6, 16]
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    root: str | tuple[str, ...] | None
    flip_pairs: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        joints = set(self.joints)
        named = {n for pair in (*self.edges, *self.flip_pairs, self.root_joints) for n in pair}
        if len(joints) != len(self.joints) or not named <= joints:
            raise ValueError(f"skeleton {self.name}: duplicate joints or unknown names {sorted(named - joints)}")

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def root_joints(self) -> tuple[str, ...]:
        """Joints whose mean is the root; empty if the joint set has no root."""
        if isinstance(self.root, tuple):
            return self.root
        return () if self.root is None else (self.root,)

    @property
    def root_index(self) -> int:
        """Index of the root joint; ValueError if there is no root, or if the root is the mean of several joints."""
        if not isinstance(self.root, str):
            raise ValueError(f"skeleton {self.name} has no root joint")
        return self.joints.index(self.root)

    def root_of(self, joints: NDArray[Any]) -> NDArray[Any]:
        """Root (..., 3) of poses (..., J, 3); NaN if a root joint is NaN. ValueError if the joint set has no root."""
        if not self.root_joints:
            raise ValueError(f"skeleton {self.name} has no root")
        mean: NDArray[Any] = joints[..., self.indices(self.root_joints), :].mean(axis=-2)
        return mean

    @property
    def edge_indices(self) -> list[tuple[int, int]]:
        """Edges as pairs of joint indices."""
        return [(self.joints.index(a), self.joints.index(b)) for a, b in self.edges]

    @property
    def flip_order(self) -> list[int]:
        """Index of each joint's mirror image, for example of the right knee for the left knee."""
        swap = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return [self.joints.index(swap.get(joint, joint)) for joint in self.joints]

    def indices(self, names: Iterable[str]) -> list[int]:
        """Indices of joints by name; ValueError for an unknown name."""
        index = {joint: i for i, joint in enumerate(self.joints)}
        try:
            return [index[name] for name in names]
        except KeyError as error:
            raise ValueError(f"skeleton {self.name} has no joint {error.args[0]!r}") from None


def sides(*parts: str) -> tuple[tuple[str, str], ...]:
    """Pairs of left and right joint names: ``sides("knee")`` is ``(("left_knee", "right_knee"),)``."""
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

ROOT = Skeleton(name="root", joints=("root",), edges=(), root="root", flip_pairs=())
"""Joint set of methods that predict only the root."""

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
    flip_pairs=sides("ankle", "knee", "hip", "shoulder", "elbow", "wrist"),
)
"""The 17 joints of Human3.6M in the storage order of learnable triangulation."""

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
    flip_pairs=sides("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
)
"""The 17 key points of MSCOCO. The root is the middle of the hips, as in learnable triangulation."""

HeatMaps = Literal["human36m", "coco"]
HEAT_MAP_JOINTS: Mapping[HeatMaps, Skeleton] = {"human36m": HUMAN36M, "coco": COCO}
"""Joints of the heat maps of published networks, by the value of `poseboard weights import --set joints=`."""
