"""MuPoTS-3D: up to three people, indoors and outdoors, with one camera per scene; for testing.

On disk, below one root, as RootNet publishes the annotations:

    data/MuPoTS-3D.json                  intrinsic; is_valid, bbox, keypoints_cam (mm), keypoints_img, keypoints_vis
    data/MultiPersonTestSet/             images TS{1..20}/img_%06d.jpg
    bbox/bbox_mupots_output.json         optional, a detector's: image_id, bbox, score

World frame: the camera frame, mm. Joints: `MUPOTS`. Annotations with ``is_valid`` 0 are left out. Images without people
are kept. Some visible people are not annotated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from poseboard.datasets.coco_json import (
    Boxes,
    File,
    Flag,
    Focal,
    Image,
    Images,
    LeftOut,
    Posed,
    boxed,
    check_millimetres,
    decode,
    posed_joints,
    read_detections,
    single_people,
)
from poseboard.datasets.facts import BoxSource, Facts
from poseboard.datasets.muco import MUCO
from poseboard.datasets.photographs import Photographs, Photos, people_of
from poseboard.datasets.skeleton import Skeleton

_JOINTS = MUCO.joints[:17]
MUPOTS = Skeleton(
    name="mupots-17",
    joints=_JOINTS,
    edges=tuple((a, b) for a, b in MUCO.edges if a in _JOINTS and b in _JOINTS),
    root=MUCO.root,
    flip_pairs=tuple((a, b) for a, b in MUCO.flip_pairs if a in _JOINTS),
)
"""The first 17 of MuCo's joints, without hands and toes."""


class _Image(Image, gc=False):
    intrinsic: tuple[Focal, Focal, float, float]


class _Annotation(Posed, kw_only=True, gc=False):
    is_valid: Flag


class MuPoTS(Photographs):
    """Adapter of MuPoTS-3D: images such as "TS1/img_000000", without a training split.

    The ground truth has all valid people. People without a usable box are in no view.

    Args:
        root: folder with ``data/``.
        boxes: "annotated": boxes of the annotations. "detected": boxes of the detector's file, with scores; their order
            and number differ from the people of the ground truth.
        synthetic: see `Adapter`.
    """

    name = "mupots"
    title = "MuPoTS-3D"
    licence = "non-commercial research, no redistribution"
    obtain = (
        "download the images from the SingleShotMultiPerson page of the MPI-INF graphics group (6 GB; non-commercial "
        "research, no redistribution), and MuPoTS-3D.json and the detector's boxes from the links in the RootNet README"
    )
    layout = "mupots"
    skeleton = MUPOTS

    def __init__(
        self, root: Path, boxes: Literal["annotated", "detected"] = "annotated", synthetic: bool = False
    ) -> None:
        super().__init__(root, synthetic)
        self._boxes = boxes

    def facts(self, split: str) -> Facts:
        """Facts of a split. Poses are recorded. The source of boxes is not documented; we assume the true joints."""
        boxes: BoxSource = "detected" if self._boxes == "detected" else "true joints"
        return Facts(boxes=boxes, truth=self.truth_source("motion capture"))

    def _file(self, split: str) -> Path | None:
        return self.root / "data" / "MuPoTS-3D.json" if split == "test" else None

    def _folder(self, split: str) -> Path:
        return self.root / "data" / "MultiPersonTestSet"

    def _other_files(self) -> list[Path]:
        return [self.root / "bbox" / "bbox_mupots_output.json"] if self._boxes == "detected" else []

    def _options(self) -> dict[str, object]:
        return {"boxes": self._boxes}

    def _read(self, split: str, path: Path) -> Photos:
        file = decode(path, File[_Image, _Annotation], self.obtain)
        images, left_out = Images.of(path, file.images), LeftOut()
        joints_mm, joints_px, seen = posed_joints(file.annotations, len(MUPOTS), path)
        check_millimetres(joints_mm, MUPOTS.root_index, f"{path}: keypoints_cam")
        valid = np.array([a.is_valid != 0 for a in file.annotations], dtype=np.bool_)
        valid = left_out.keep(valid, single_people(file, left_out), "people that are not valid")
        if self._boxes == "detected":
            boxes = read_detections(self._other_files()[0], images, self.obtain, left_out)
        else:
            boxed_people = people_of(images, file.annotations, boxed(file, images, valid, left_out), seen, None, None)
            boxes = Boxes(boxed_people.image, boxed_people.boxes_px, None)
        return Photos(
            images,
            np.array([i.intrinsic for i in file.images], dtype=np.float64).reshape(-1, 4),
            people_of(images, file.annotations, valid, seen, joints_mm, joints_px),
            left_out,
            boxes=boxes,
            sequences=[name.partition("/")[0] for name in images.names],
            empty=True,
        )
