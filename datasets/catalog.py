"""Catalogue of the data sets. It lists only names; adapters are imported on first use.

An adapter's module has the name of its data set: "human36m-rigs" is read by `datasets.human36m_rigs`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import ConfigDict, create_model

from poseboard.datasets.adapter import Adapter
from poseboard.datasets.errors import InputError, validated
from poseboard.datasets.sample import Dataset, Status
from poseboard.datasets.skeleton import Skeleton


@dataclass(frozen=True)
class Entry:
    """Catalogue entry of a data set. Its properties are read from the adapter.

    Args:
        name: name of the data set in params.yaml.
        module: the adapter's module, which defines one `Adapter` of this name.
    """

    name: str
    module: str

    @property
    def adapter(self) -> type[Adapter]:
        """Class that reads the data set; the parameters of its constructor are the options in params.yaml."""
        content = vars(import_module(self.module)).values()
        return next(kind for kind in content if isinstance(kind, type) and vars(kind).get("name") == self.name)

    @property
    def title(self) -> str:
        """The authors' name of the data set."""
        return self.adapter.title

    @property
    def licence(self) -> str:
        """Summary of the licence; only the data set's own page is binding."""
        return self.adapter.licence

    @property
    def obtain(self) -> str:
        """Where to get the data set."""
        return self.adapter.obtain

    @property
    def layout(self) -> str | None:
        """Name of the module that writes synthetic worlds in this layout; None: no such module exists."""
        return self.adapter.layout

    @property
    def skeleton(self) -> Skeleton:
        """Joints of predictions."""
        return self.adapter.skeleton

    @property
    def writer_module(self) -> str | None:
        """Full name of the module that writes synthetic worlds in this layout."""
        return None if self.layout is None else f"poseboard.datasets.synthetic.layouts.{self.layout}"

    def writer(self) -> ModuleType:
        """Import the module that writes synthetic worlds in this layout.

        Raises:
            InputError: no module writes this layout.
        """
        if self.writer_module is None:
            names = ", ".join(entry.name for entry in _ENTRIES if entry.layout is not None)
            problem = "no synthetic world is written in its layout"
            raise InputError(f"data set {self.name!r}", problem, f"use one of {names}")
        return import_module(self.writer_module)

    def status(self, root: Path | None = None) -> Status:
        """Whether the data set can be used from the folder ``root``; never raises."""
        if root is None:
            return Status("missing", "no folder is named for it in params.yaml", self.obtain)
        return self.adapter(root).status()


_NAMES = (
    *("human36m", "human36m-rigs", "human36m-toolbox", "human36m-coco", "panoptic", "panoptic-people"),
    *("mupots", "muco", "mscoco", "mpii", "pw3d", "campus", "shelf", "rhd"),
    "rig",
)
_ENTRIES = tuple(Entry(name, f"poseboard.datasets.{name.replace('-', '_')}") for name in _NAMES)


def catalog() -> dict[str, Entry]:
    """All data sets: name -> entry."""
    return {entry.name: entry for entry in _ENTRIES}


def open_dataset(kind: str, options: Mapping[str, Any], name: str | None = None) -> Dataset:
    """Open a data set in its folder.

    Args:
        kind: name of the adapter in the catalogue.
        options: name -> value of the adapter's parameters.
        name: name of the data set in params.yaml; None: the name of the adapter.

    Raises:
        InputError: the data set or an option is unknown, or an option is missing or has an invalid value.

    Example:
        >>> dataset = open_dataset("human36m", {"root": "data/human36m"})
        >>> sample = dataset.sample(dataset.keys("test")[0])
    """
    entry = catalog().get(kind)
    if entry is None:
        raise InputError(f"data set {kind!r}", "there is no such data set", f"use one of {', '.join(catalog())}")
    adapter = entry.adapter
    hints = get_type_hints(adapter.__init__, include_extras=True)
    fields: dict[str, Any] = {
        parameter: (hints[parameter], ... if value.default is value.empty else value.default)
        for parameter, value in inspect.signature(adapter).parameters.items()
    }
    model = create_model("Options", __config__=ConfigDict(extra="forbid"), **fields)
    values = validated(model, options, f"data set {(name or kind)!r}")
    dataset = adapter(**{parameter: getattr(values, parameter) for parameter in fields})
    dataset.name = name or kind
    return dataset
