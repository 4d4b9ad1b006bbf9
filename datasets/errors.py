"""The one error that a user of Poseboard is shown: one line naming where, what and the remedy."""

from pathlib import Path


class InputError(ValueError):
    """Something given from outside (a file, a setting, an argument) cannot be used.

    Args:
        where: the file, setting or argument, with the field if there is one ("labels.npy: table.bbox_by_camera_tlbr").
        problem: what is wrong with it.
        remedy: what the user can do about it.
    """

    def __init__(self, where: str | Path, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(f"{where}: {problem}" + (f"; {remedy}" if remedy else ""))
