"""Paths of all files in results/."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from poseboard.protocols.condition import Condition
from poseboard.protocols.records import RowKind, check_name, row_folder, row_path


@dataclass(frozen=True)
class Layout:
    """Paths of the results of one profile.

    Args:
        home: folder of params.yaml.
        profile: name of the profile.
    """

    home: Path
    profile: str

    @property
    def results(self) -> Path:
        """Results folder of the profile, results/<profile>."""
        return self.home / "results" / check_name("profile", self.profile)

    @property
    def page(self) -> Path:
        """Folder of the pages that `poseboard report` writes."""
        return self.results / "leaderboard"

    @property
    def crops(self) -> Path:
        """Folder of the crop store, which all profiles share."""
        return self.home / "data" / "crops"

    @property
    def run_file(self) -> Path:
        """File with the name of the profile whose stages DVC runs; dvc.yaml reads the name for its paths."""
        return run_file(self.home)

    @property
    def plan(self) -> Path:
        """Output folder of the `plan` stage."""
        return self.results / "plan"

    @property
    def snapshot(self) -> Path:
        """Copy of params.yaml that the `plan` stage makes and the other stages read."""
        return self.plan / "params.yaml"

    @property
    def stage_times(self) -> Path:
        """Wall time of each stage in its last run: JSON, stage -> seconds."""
        return self.results / "stage-times.json"

    def dataset_file(self, kind: Literal["data", "comparisons"], dataset: str) -> Path:
        """File of results of a data set, results/<profile>/<kind>/<dataset>.json.

        Raises:
            InputError: the name of the data set is not a plain file name.
        """
        return self.results / kind / f"{check_name('data set', dataset)}.json"

    def row_path(self, kind: RowKind, row: str, dataset: str) -> Path:
        """File or folder of a row's results on a data set, in the layout of protocols/records.

        Raises:
            InputError: a name is not a plain file name.
        """
        return row_path(self.results, kind, row, dataset)

    def row_folder(self, kind: RowKind, row: str) -> Path:
        """Folder of a row's results of one kind, on all data sets."""
        return row_folder(self.results, kind, row)

    def row_lock(self, kind: RowKind, row: str, dataset: str) -> Path:
        """Lock file for `row_path`, outside the rows' folders, which have results only."""
        return self.results / kind / f".{check_name('row', row)}-{check_name('data set', dataset)}.lock"

    def checkpoint(self, dataset: str, row: str, seed: int) -> Path:
        """File of a row's final weights for one seed."""
        return self.row_path("checkpoints", row, dataset) / f"seed{seed}.pt"

    def predictions(self, dataset: str, row: str, condition: Condition, seed: int) -> Path:
        """File of a row's predictions for one condition and seed."""
        return self.row_path("predictions", row, dataset) / f"{condition.slug}-seed{seed}.parquet"

    def portable(self, text: str) -> str:
        """Make the paths in a text relative to this checkout, for files that are copied to other machines."""
        return text.replace(f"{self.home}{os.sep}", "")


def run_file(home: Path) -> Path:
    """File with the name of the profile whose stages DVC runs."""
    return home / "results" / "run.yaml"
