"""A small made-up tree of every data set, in the published layout."""

from pathlib import Path

from made_up_human36m import write_human36m
from made_up_panoptic import write_panoptic
from made_up_panoptic_people import write_panoptic_people
from made_up_photographs import TREES, write_tree
from made_up_rhd import write_rhd
from made_up_rig import write_rig_tree
from made_up_shelf import write_shelf
from made_up_toolbox import write_toolbox


def write_made_up(name: str, folder: Path, large: bool = False) -> None:
    """Write the tree of an adapter of the catalogue into an existing folder.

    Args:
        name: name of the adapter.
        folder: existing folder.
        large: whether trees without images have enough people for all checks of `data check`.
    """
    if name in ("human36m", "human36m-rigs"):  # one layout
        write_human36m(folder)
    elif name == "rhd":
        write_rhd(folder)
    elif name == "rig":
        write_rig_tree(folder, frames=12 if large else 4)
    elif name == "panoptic":
        write_panoptic(folder)
    elif name == "panoptic-people":
        write_panoptic_people(folder, frames=(100,), all_detected=large)  # of which every twelfth is read
    elif name in TREES:
        write_tree(folder, name)
    elif name == "human36m-toolbox":
        write_toolbox(folder)
    else:
        assert name in ("shelf", "campus"), "write a made-up tree for the new adapter"
        write_shelf(folder, frames=12 if large else 4, name=name, all_detected=large)
