"""Records: the schema of every file in results/, one module for each kind.

``results/<profile>/checkpoints/<row>/<dataset>/``        weights, and what a killed training resumes from
``results/<profile>/training/<row>/<dataset>.json``       TrainingFile: curves and cost of the training
``results/<profile>/predictions/<row>/<dataset>/``        one Parquet per condition and seed; pictures/
``results/<profile>/scores/<row>/<dataset>.json``         ScoreFile, one per row and data set, kept in git
``results/<profile>/errors/<row>/<dataset>.parquet``      errors per pose, of every table (`error_files`)
``results/<profile>/examples/<row>/<dataset>.npz``        the predictions that are drawn on the page
``results/<profile>/examples/<row>/<dataset>/*``          plans with true and predicted roots, and their `PictureFile`
``results/<profile>/examples/<row>/<dataset>/rigs.json``  RigFile: true and recovered cameras of a few rigs
``results/<profile>/comparisons/<dataset>.json``          ComparisonFile: paired differences and rank intervals
``results/<profile>/data/<dataset>.json``                 DataFile: status and manifest of the data set
``results/<profile>/catalog/<dataset>.json``              DataFile: a data set that the suite knows and the run has not
``results/published/<table>.yaml``                        PublishedTable: numbers of the papers, each with its source
``results/speed/<name>.json``                             SpeedFile: ratios against a peer in the same run

`row_path` and `row_paths` are the only way to the files of a row. Names of profiles, rows, data sets and tables become
folders: `Name` checks them in every file, `check_name` elsewhere.
"""

from poseboard.protocols.records.comparison import (
    ComparisonFile,
    ControlComparison,
    Increase,
    PairedDifference,
    Rank,
    TableComparison,
)
from poseboard.protocols.records.data import DataFile
from poseboard.protocols.records.pictures import (
    DrawnPicture,
    PictureFile,
    PlannedCamera,
    PlanPoint,
    RigFile,
    RigPlan,
    SpacePoint,
)
from poseboard.protocols.records.provenance import Provenance, Weights
from poseboard.protocols.records.published import PublishedRow, PublishedTable
from poseboard.protocols.records.record import (
    Name,
    Record,
    ResultError,
    RowKind,
    check_name,
    row_folder,
    row_path,
    row_paths,
)
from poseboard.protocols.records.score import COVERAGE, CameraSets, Curve, Score, ScoreFile, SeedValue
from poseboard.protocols.records.signature import Measure, Signature
from poseboard.protocols.records.speed import SpeedFile
from poseboard.protocols.records.training import TrainingFile, TrainingRun

__all__ = [
    "COVERAGE",
    "CameraSets",
    "ComparisonFile",
    "ControlComparison",
    "Curve",
    "DataFile",
    "DrawnPicture",
    "Increase",
    "Measure",
    "Name",
    "PairedDifference",
    "PictureFile",
    "PlanPoint",
    "PlannedCamera",
    "Provenance",
    "PublishedRow",
    "PublishedTable",
    "Rank",
    "Record",
    "ResultError",
    "RigFile",
    "RigPlan",
    "RowKind",
    "Score",
    "ScoreFile",
    "SeedValue",
    "Signature",
    "SpacePoint",
    "SpeedFile",
    "TableComparison",
    "TrainingFile",
    "TrainingRun",
    "Weights",
    "check_name",
    "row_folder",
    "row_path",
    "row_paths",
]
