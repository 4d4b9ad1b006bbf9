"""MSCOCO 2017 person key points: photographs of people with manual 2D annotations.

On disk, below one root:

    annotations/person_keypoints_{train,val}2017.json      bbox, num_keypoints, keypoints = 17 x (x, y, v)
    images/{train,val}2017/%012d.jpg                       or {train,val}2017/ next to annotations/, as unpacked

Cameras are not calibrated. As in RootNet, we assume a focal length of 1500 px and the centre of the image.
All labelled joints (v > 0), occluded ones included, count as visible. Split "test" is val2017. Joints: `skeleton.COCO`.
Annotations of single people with key points are used.
"""

from __future__ import annotations

from pathlib import Path

from poseboard.datasets.coco_json import File, Image, KeyPoints, decode
from poseboard.datasets.facts import Facts
from poseboard.datasets.photographs import Photographs, Photos, labelled_photos
from poseboard.datasets.skeleton import COCO

_SETS = {"train": "train2017", "test": "val2017"}


class MsCoco(Photographs):
    """Adapter of MSCOCO: photographs such as "val2017/000000000785", with 2D ground truth only.

    Args:
        root: folder with ``annotations/`` and the images.
        synthetic: see `Adapter`.
    """

    name = "mscoco"
    title = "MSCOCO 2017 key points"
    licence = "annotations CC BY 4.0; images under their Flickr licences"
    obtain = (
        "download the 2017 train and val images (19 GB; under their Flickr licences) and train/val annotations "
        "(CC BY 4.0) from cocodataset.org"
    )
    layout = "mscoco"
    skeleton = COCO

    def facts(self, split: str) -> Facts:
        """Facts of a split. Boxes and joints are annotated by hand."""
        return Facts(boxes="annotated", truth=self.truth_source("annotated"))

    def _file(self, split: str) -> Path:
        return self.root / "annotations" / f"person_keypoints_{_SETS[split]}.json"

    def _folder(self, split: str) -> Path:
        nested = self.root / "images" / _SETS[split]
        return nested if nested.is_dir() else self.root / _SETS[split]

    def _prefix(self, split: str) -> str:
        return f"{_SETS[split]}/"

    def _read(self, split: str, path: Path) -> Photos:
        file = decode(path, File[Image, KeyPoints], self.obtain)
        return labelled_photos(file, path, len(COCO), self._prefix(split), counted=True)
