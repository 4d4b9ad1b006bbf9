"""MSCOCO 2017 person key points: photographs of people, annotated by hand in the image alone.

On disk, below one root:

    annotations/person_keypoints_{train,val}2017.json      bbox, num_keypoints, keypoints = 17 x (x, y, v)
    images/{train,val}2017/%012d.jpg                       or {train,val}2017/ beside annotations/, as they are unpacked

No camera is known: each has the focal length of 1500 px and the principal point (width / 2, height / 2), as RootNet
assumes. A joint counts as seen where it is labelled (v > 0), hidden or not. Split "test" is val2017. Joints:
`skeleton.COCO`, whose root is the middle of the hips. Used are annotations of single people with key points.
"""

from __future__ import annotations

from pathlib import Path

from poseboard.datasets.coco_json import File, Image, KeyPoints, decode
from poseboard.datasets.facts import Facts
from poseboard.datasets.photographs import Photographs, Photos, labelled_photos
from poseboard.datasets.skeleton import COCO

OBTAIN = (
    "cocodataset.org: 2017 train and val images (19 GB; under their Flickr licences) and train/val annotations "
    "(CC BY 4.0)"
)
_SETS = {"train": "train2017", "test": "val2017"}


class MsCoco(Photographs):
    """The adapter: a `Dataset` of photographs "val2017/000000000785" with 2D truth alone.

    Args:
        root: folder with the files above.
        synthetic: see `Photographs`.
    """

    name = "mscoco"
    skeleton = COCO
    obtain = OBTAIN

    def facts(self, split: str) -> Facts:
        """Boxes and joints drawn by hand."""
        return Facts(boxes="annotated", truth=self._truth_of("annotated"))

    def _file(self, split: str) -> Path:
        return self.root / "annotations" / f"person_keypoints_{_SETS[split]}.json"

    def _folder(self, split: str) -> Path:
        nested = self.root / "images" / _SETS[split]
        return nested if nested.is_dir() else self.root / _SETS[split]

    def _prefix(self, split: str) -> str:
        return f"{_SETS[split]}/"

    def _read(self, split: str, path: Path) -> Photos:
        return labelled_photos(decode(path, File[Image, KeyPoints], OBTAIN), path, len(COCO), self._prefix(split))
