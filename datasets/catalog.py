"""The data sets that the suite knows, and opening those with an adapter.

Adapters are named here and imported when they are used, so that a data set does not depend on the others' adapters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import ConfigDict, create_model

from poseboard.datasets.errors import InputError, validated
from poseboard.datasets.sample import Dataset, Status
from poseboard.datasets.skeleton import Skeleton


@dataclass(frozen=True)
class Entry:
    """A data set that the suite knows.

    Args:
        name: in params.yaml.
        title: as its authors call it.
        licence: summary; only the data set's own page is binding.
        opened_by: the adapter as "package.module:Class"; the module also has ``OBTAIN``, where to get the data.
        layout: module of ``datasets.synthetic.layouts`` that writes a synthetic world in the data set's layout, with
            its ``WorldOptions`` and ``generate``; None if there is none.
    """

    name: str
    title: str
    licence: str
    opened_by: str
    layout: str | None = None

    @property
    def module(self) -> str:
        """Name of the adapter's module."""
        return self.opened_by.partition(":")[0]

    @property
    def adapter(self) -> Callable[..., Dataset]:
        """Opens the data set. Its parameters are the options in params.yaml."""
        adapter: Callable[..., Dataset] = getattr(import_module(self.module), self.opened_by.partition(":")[2])
        return adapter

    @property
    def obtain(self) -> str:
        """Where to get the data set."""
        return str(import_module(self.module).OBTAIN)

    @property
    def writer_module(self) -> str | None:
        """Name of the module that `layout` names."""
        return None if self.layout is None else f"poseboard.datasets.synthetic.layouts.{self.layout}"

    @property
    def skeleton(self) -> Skeleton | None:
        """Whose joints its samples have; one of the catalogue."""
        skeleton: Skeleton | None = getattr(self.adapter, "skeleton", None)
        return skeleton

    def writer(self) -> ModuleType:
        """The module that `layout` names; imported here, as few commands render a world.

        Raises:
            InputError: the suite writes no synthetic world of the data set.
        """
        if self.writer_module is None:
            known = ", ".join(entry.name for entry in _ENTRIES if entry.layout is not None)
            raise InputError(
                f"data set {self.name!r}", "no synthetic world is written in its layout", f"one of {known}"
            )
        return import_module(self.writer_module)

    def status(self, root: Path | None = None) -> Status:
        """Whether the data set can be used from the folder ``root``; never raises."""
        if root is None:
            return Status("missing", "no folder is named for it in params.yaml", self.obtain)
        return self.adapter(root=root).status()


_ENTRIES = (
    Entry(
        "human36m",
        "Human3.6M (multi-view labels of learnable triangulation)",
        "academic use by registration and signed agreement, no redistribution",
        "poseboard.datasets.human36m:Human36M",
        layout="human36m",
    ),
    Entry(
        "human36m-rigs",
        "Unseen rigs (in the layout of Human3.6M multi-view)",
        "none: rendered, or your own",
        "poseboard.datasets.human36m_rigs:Human36MRigs",
        layout="human36m_rigs",
    ),
    Entry(
        "human36m-toolbox",
        "Human3.6M (H36M-Toolbox annotations, as epipolar transformers)",
        "academic use by registration and signed agreement, no redistribution",
        "poseboard.datasets.human36m_toolbox:Human36MToolbox",
    ),
    Entry(
        "human36m-coco",
        "Human3.6M (COCO-style annotations of RootNet)",
        "academic use by registration and signed agreement, no redistribution",
        "poseboard.datasets.human36m_coco:Human36MCoco",
        layout="human36m_coco",
    ),
    Entry(
        "panoptic",
        "CMU Panoptic",
        "non-commercial research",
        "poseboard.datasets.panoptic:Panoptic",
        layout="panoptic",
    ),
    Entry(
        "panoptic-people",
        "CMU Panoptic, several people with given 2D detections",
        "non-commercial research",
        "poseboard.datasets.panoptic_people:PanopticPeople",
        layout="panoptic_people",
    ),
    Entry(
        "mupots",
        "MuPoTS-3D",
        "non-commercial research, no redistribution",
        "poseboard.datasets.mupots:MuPoTS",
        layout="mupots",
    ),
    Entry(
        "muco",
        "MuCo-3DHP",
        "non-commercial research, no redistribution",
        "poseboard.datasets.muco:MuCo",
        layout="muco",
    ),
    Entry(
        "mscoco",
        "MSCOCO 2017 key points",
        "annotations CC BY 4.0; images under their Flickr licences",
        "poseboard.datasets.mscoco:MsCoco",
        layout="mscoco",
    ),
    Entry(
        "mpii",
        "MPII Human Pose",
        "annotations for research, no commercial use; images are YouTube frames",
        "poseboard.datasets.mpii:Mpii",
    ),
    Entry("pw3d", "3DPW", "research only", "poseboard.datasets.pw3d:Pw3d", layout="pw3d"),
    Entry("campus", "Campus (TUM)", "research", "poseboard.datasets.campus:Campus"),
    Entry("shelf", "Shelf (TUM)", "research", "poseboard.datasets.shelf:Shelf"),
    Entry(
        "rhd",
        "Rendered Hand Pose",
        "see the data set's page",
        "poseboard.datasets.rhd:Rhd",
    ),
)


def catalog() -> dict[str, Entry]:
    """Name -> entry of all data sets that the suite knows."""
    return {entry.name: entry for entry in _ENTRIES}


def open_dataset(name: str, options: Mapping[str, Any]) -> Dataset:
    """Open a data set from its folder.

    Args:
        name: in the catalog.
        options: of the adapter.

    Raises:
        InputError: the name is unknown, or an option is unknown, missing or of a wrong type.

    Example:
        >>> dataset = open_dataset("human36m", {"root": "data/human36m"})
        >>> sample = dataset.sample(dataset.keys("test")[0])
    """
    entry = catalog().get(name)
    if entry is None:
        raise InputError(f"data set {name!r}", "there is no such data set", f"known: {', '.join(catalog())}")
    parameters = inspect.signature(entry.adapter).parameters
    hints = get_type_hints(entry.adapter.__init__ if inspect.isclass(entry.adapter) else entry.adapter)
    fields: dict[str, Any] = {
        parameter: (hints[parameter], ... if value.default is value.empty else value.default)
        for parameter, value in parameters.items()
    }
    model = create_model("Options", __config__=ConfigDict(extra="forbid"), **fields)
    values = validated(model, options, f"data set {name!r}")
    return entry.adapter(**{parameter: getattr(values, parameter) for parameter in fields})
