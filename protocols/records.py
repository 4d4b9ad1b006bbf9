"""Records: the schema of every file in results/.

``results/<profile>/checkpoints/<row>/<dataset>/``        weights, and the state to resume an interrupted training
``results/<profile>/training/<row>/<dataset>.json``       TrainingFile: curves and cost of the training
``results/<profile>/predictions/<row>/<dataset>/``        one Parquet per condition and seed; pictures/
``results/<profile>/scores/<row>/<dataset>.json``         ScoreFile, one per row and data set, kept in git
``results/<profile>/errors/<row>/<dataset>.parquet``      errors per pose, of every table (`error_files`)
``results/<profile>/examples/<row>/<dataset>/*``          plans with true and predicted roots, and their `PictureFile`
``results/<profile>/examples/<row>/<dataset>/rigs.json``  RigFile: true and recovered cameras of a few rigs
``results/<profile>/comparisons/<dataset>.json``          ComparisonFile: paired differences and rank intervals
``results/<profile>/comparisons/<dataset>.npz``           frames with the poses of all rows, which the pages draw
``results/<profile>/data/<dataset>.json``                 DataFile: status and manifest of the data set
``results/<profile>/catalog/<dataset>.json``              DataFile: status of a data set that the run does not have
``results/<profile>/costs/<dataset>.json``                CostFile: time and memory of the rows' predictions
``results/<profile>/mlflow.json``                         RunsFile: the runs in the MLflow store of this machine
``results/published/<table>.yaml``                        PublishedTable: numbers of the papers, each with its source
``results/speed/<name>.json``                             SpeedFile: ratios against a peer in the same run
``results/speed/rows/<dataset>.json``                     CostFile: recorded costs, for profiles without their own

`row_path` and `row_paths` are the only way to the files of a row. Names of profiles, rows, data sets and tables become
folders: `Name` checks them in every file, `check_name` elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
)

from poseboard.datasets.errors import InputError, printable, short
from poseboard.datasets.facts import BoxSource, DataState, TruthSource
from poseboard.datasets.files import WholeFiles, parse_json, parse_yaml, read_bytes, write_file
from poseboard.protocols.perturbation import Perturbation

RowKind = Literal["checkpoints", "training", "predictions", "scores", "errors", "examples"]
"""A folder of a profile's results that has a folder per row."""

_SUFFIXES: dict[RowKind, str] = {"training": ".json", "scores": ".json", "errors": ".parquet"}
"""Suffix of a row's file for each data set; the other kinds have a folder for each data set."""

_REMEDY = "correct the file, or run its stage again"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def check_name(where: str | Path, name: str) -> str:
    """Check that a name can be part of paths and stage names: at most 64 letters, digits, _ and - (not first).

    Args:
        where: file or setting with the name, for the error.
        name: name of a profile, row, data set, table or camera.

    Raises:
        InputError: the name has other characters.

    Example:
        >>> check_name("params.yaml: methods", "ransac_swap")
        'ransac_swap'
    """
    if not _NAME.fullmatch(name):
        raise InputError(where, f"{name[:80]!r} is not a name", "use letters, digits, _ and - (not first), at most 64")
    return name


Name = Annotated[str, AfterValidator(partial(check_name, "name"))]
"""Field of a file with a name that may be part of a path (`check_name`)."""


def row_path(profile: Path, kind: RowKind, row: str, dataset: str) -> Path:
    """Path of the file or folder with one kind of result of a row on a data set.

    Args:
        profile: folder results/<profile>.
        kind: kind of result.
        row: name of the row in params.yaml.
        dataset: name of the data set in params.yaml.

    Raises:
        InputError: one of the names is not a name (`check_name`).

    Example:
        >>> row_path(Path("results/default"), "scores", "dlt", "human36m").as_posix()
        'results/default/scores/dlt/human36m.json'
    """
    return row_folder(profile, kind, row) / f"{check_name('data set', dataset)}{_SUFFIXES.get(kind, '')}"


def row_folder(profile: Path, kind: RowKind, row: str) -> Path:
    """Path of the folder with one kind of result of a row, for all data sets."""
    return profile / kind / check_name("row", row)


def row_paths(profile: Path, kind: RowKind) -> list[Path]:
    """List existing files of one kind of result, sorted by data set, then by row."""
    return sorted(profile.glob(f"{kind}/*/*{_SUFFIXES.get(kind, '')}"), key=lambda path: (path.name, path.parent.name))


class ResultError(ValueError):
    """A file of results/ does not follow its schema; the message names file and field."""

    def __init__(self, message: str) -> None:
        super().__init__(short(printable(message)))


class Record(BaseModel):
    """Base class of all result files. Unknown fields and NaN raise an error. Files are written atomically."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    passing: ClassVar[frozenset[str]] = frozenset()
    """Fields such as the date, the cost and the commit, which do not count as a difference."""

    def text(self) -> str:
        """Encode as JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def write(self, path: Path, files: WholeFiles | None = None) -> None:
        """Write as JSON, atomically, unless the existing file differs only in date and timing.

        So a rerun with equal results changes no file, and a file states when, at which commit and at what cost its
        numbers were first computed. A file from uncommitted changes is replaced by a file from a clean commit.

        Args:
            path: path of the file.
            files: group of files that are replaced together; None: only this file.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            if path.is_file() and self.says_what(type(self).read(path)):
                return
        except ResultError:
            pass
        if files is None:
            write_file(path, self.text().encode())
        else:
            files.write(path, self.text().encode())

    def says_what(self, old: Self) -> bool:
        """Whether an older record is equal except for the `passing` fields, and has values for all of these."""
        return all(
            getattr(self, name) is None or getattr(old, name) is not None
            if name in self.passing
            else _same(getattr(self, name), getattr(old, name))
            for name in type(self).model_fields
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Parse a JSON or YAML file; ResultError names the file and the first wrong field."""
        try:
            text = read_bytes(path).decode()
            return cls.model_validate(parse_yaml(text) if path.suffix == ".yaml" else parse_json(text, _whole_number))
        except ValidationError as error:
            first = error.errors()[0]
            problem = first["msg"].removeprefix("Value error, ")  # which pydantic puts before the text of our checks
            raise ResultError(f"{path}: {'.'.join(map(str, first['loc']))}: {problem}; {_REMEDY}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise ResultError(f"{path}: cannot be read ({reason}); {_REMEDY}") from None


def _whole_number(digits: str) -> int:
    if len(digits) > 19:  # does not fit into 64 bits; from 309 digits, not into a float either
        raise ValueError(f"has an integer of {len(digits)} digits")
    return int(digits)


def _same(new: object, old: object) -> bool:
    if isinstance(new, Record) and isinstance(old, Record):
        return type(new) is type(old) and new.says_what(old)
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(map(_same, new, old))
    return new == old


class Weights(Record):
    """Origin and architecture of a checkpoint."""

    origin: Literal["trained", "imported"] = Field(description="trained here, or imported from a file of params.yaml")
    file: str | None = Field(default=None, description="path of an imported checkpoint")
    file_sha256: str | None = Field(default=None, description="hash of the imported file")
    architecture: dict[str, JsonValue] = Field(default_factory=dict, description="as stored in the checkpoint")
    trained_on: tuple[str, ...] = Field(
        default=(),
        description="data sets that the weights were trained on; empty: only the file's own data set for weights "
        "trained here, unknown for imported weights",
    )

    def stated(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Effective options of an imported row: ``options``, overridden by the checkpoint's architecture.

        Example:
            >>> Weights(origin="imported", architecture={"voxels": 64}).stated({"voxels": 32, "aggregation": "sum"})
            {'voxels': 64, 'aggregation': 'sum'}
        """
        return {key: self.architecture.get(key, value) for key, value in options.items()}

    @property
    def training_data(self) -> tuple[str, ...] | None:
        """Training data sets as stated in predictions: None for the evaluated data set; empty if unknown.

        Example:
            >>> Weights(origin="trained").training_data, Weights(origin="imported").training_data
            (None, ())
        """
        return None if self.origin == "trained" and not self.trained_on else self.trained_on


class Provenance(Record):
    """Provenance of a result."""

    passing = frozenset({"git_commit", "git_dirty", "created", "mlflow_run"})

    git_commit: str | None = Field(description="null: not known, as outside of a git checkout")
    git_dirty: bool | None = Field(description="whether the code had uncommitted changes; null: not known")
    options: dict[str, JsonValue] = Field(
        default_factory=dict, description="of the method, in force when this was made: given ones and defaults"
    )
    params_sha256: str = Field(description="of the options")
    data_manifest: str
    checkpoint_sha256: dict[str, str] = Field(description="'seed<k>' -> hash of the checkpoint file; empty if none")
    weights: Weights | None = Field(default=None, description="where the checkpoint comes from; null: no checkpoint")
    seeds: list[int]
    versions: dict[str, str]
    hardware: str
    created: str = Field(description="ISO 8601, UTC")
    mlflow_run: str = Field(description="name of the run that `poseboard sync` writes for this file")

    def says_what(self, old: Self) -> bool:
        """Like `Record.says_what`, but a clean commit replaces a commit with uncommitted changes."""
        return super().says_what(old) and (self.git_dirty is not False or old.git_dirty is False)

    @field_validator("created")
    @classmethod
    def _a_moment(cls, created: str) -> str:
        if datetime.fromisoformat(created).year < 1970:
            raise ValueError("is before 1970")
        return created


class TrainingRun(Record):
    """Training run of one seed."""

    passing = frozenset({"seconds", "processor_seconds", "gpu_seconds"})

    seed: int
    steps: int
    batch_size: int
    processes: int
    seconds: float = Field(description="wall time of all sessions together")
    processor_seconds: float | None = Field(
        default=None,
        description="user + system time of the steps, all processes and sessions; null on a GPU or not measured",
    )
    gpu_seconds: float | None = Field(
        default=None, description="wall time of all sessions x GPUs; null on processors or not measured"
    )
    curves: dict[str, Curve] = Field(description="loss name -> value by step")
    constants: dict[str, float] = Field(description="fitted on the training split after training")


class TrainingFile(Record):
    """Training of one method on one data set; ``runs`` is empty for a method without training."""

    format: Literal[1] = 1
    method: Name
    dataset: Name
    synthetic: bool
    profile: Name
    after: Name | None = Field(description="row whose checkpoint the training starts from")
    parameters: int = Field(description="number of learned parameters")
    training_manifests: dict[str, str] = Field(
        default_factory=dict,
        description="data set -> manifest, for all data sets of the training; empty: only this data set",
    )
    same_as: Name | None = Field(
        default=None,
        description="data set on which the same row has an equal training: its weights are used, and ``runs`` is empty",
    )
    runs: list[TrainingRun]
    provenance: Provenance

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of the training data sets."""
        weights = self.provenance.weights
        return (weights.trained_on if weights else ()) or (self.dataset,)


class Measure(Record):
    """Definition of what a number measures: the protocol's part of the signature."""

    metric: str = Field(description="mpjpe, pa_mpjpe, pck, mrpe, …")
    alignment: str = Field(description="none, root (the root is subtracted), procrustes")
    root: str = Field(description="joint that is subtracted, or none")
    joints: str = Field(description="joint set and how many of it are averaged")
    average: str = Field(
        description="frames: mean over frames; actions: of the action means; worst_subject: the worst subject's mean"
    )
    given: tuple[Literal["root", "hand", "size"], ...] = Field(
        default=(), description="truth in the input, or in the measure"
    )
    judged: str = Field(
        default="", description="in which views, and how people are paired; empty: in space, one by one"
    )
    version: int = Field(description="of the protocol")


class Signature(Measure):
    """Full definition of a number. Only numbers with equal signatures may be compared."""

    split: str
    every: int = Field(default=1, ge=1, description="every k-th sample from the first; 1: all")
    exclusions: tuple[str, ...] = Field(default=(), description="prefixes of the keys that are left out")
    cameras: tuple[tuple[str, ...], ...] = Field(
        min_length=1, description="sets of cameras of the input; the number is over the predictions from all sets"
    )
    cameras_of_dataset: int = Field(ge=1, description="how many cameras the data set has")
    root_cameras: tuple[str, ...] = Field(
        default=(), description="cameras that the root was predicted from, if other than those of the input"
    )
    boxes: BoxSource | None = Field(default=None, description="source of the boxes; null: not stated")
    truth: TruthSource | None = Field(default=None, description="source of the true poses; null: not stated")
    trained_on: tuple[str, ...] | None = Field(
        default=None,
        description="data sets that the weights were trained on, if other than that of the number; null: its training "
        "split, or no training; empty: not known",
    )
    perturbation: Perturbation | None = Field(default=None, description="of the input; null: none")
    severities: tuple[int, ...] = Field(
        default=(),
        description="the number is the area under the curve over these; empty: of one severity",
    )
    frames_per_rig: int = Field(
        default=1, ge=1, description="the most samples with the same cameras that were used together"
    )
    extrinsics: Literal["given", "withheld"] = Field(
        default="given", description="whether the input of several cameras has extrinsics"
    )

    def in_split(self, split: str) -> Signature:
        """Copy of the signature for another split of the data set."""
        return self.model_copy(update={"split": split})

    @property
    def whole(self) -> bool:
        """Whether the input has all cameras of the data set at once."""
        return len(self.cameras) == 1 and len(self.cameras[0]) == self.cameras_of_dataset

    @property
    def usual(self) -> bool:
        """Whether the input has no truth and no perturbation, and the weights are trained on this data set."""
        return not self.given and not self.trained_on and self.perturbation is None

    @property
    def each_alone(self) -> bool:
        """Whether every prediction uses a single camera."""
        return all(len(cameras) == 1 for cameras in self.cameras)

    @property
    def views(self) -> str:
        """Describe the cameras: "all 4", "a, b", "each alone" or "each of a, b / c", and the cameras of the root."""
        if self.whole:
            seen = f"all {self.cameras_of_dataset}"
        elif self.each_alone and len(self.cameras) == self.cameras_of_dataset:
            seen = "each alone"
        else:
            sets = " / ".join(", ".join(cameras) for cameras in self.cameras)
            seen = sets if len(self.cameras) == 1 else f"each of {sets}"
        return "; ".join([seen, *([self.root_from] if self.root_from else [])])

    @property
    def perturbed(self) -> str:
        """Description of the perturbation; empty without one."""
        if self.perturbation is None or not self.severities:
            return "" if self.perturbation is None else str(self.perturbation)
        levels = ", ".join(map(str, self.severities))
        return f"area under the curve over severities {levels}, up to {self.perturbation}"

    @property
    def root_from(self) -> str:
        """Description of `root_cameras`; empty if the root was predicted from the cameras of the input."""
        if not self.root_cameras:
            return ""
        whole = len(self.root_cameras) == self.cameras_of_dataset
        return f"root from {'all' if whole else ', '.join(self.root_cameras)}"

    @property
    def trained(self) -> str:
        """Description of `trained_on`."""
        if self.trained_on is None:
            return "this data set, where anything is"
        return ", ".join(self.trained_on) or "not known"

    @property
    def facts(self) -> dict[str, str]:
        """All facts, name -> description."""
        return {
            "metric": self.metric,
            "alignment": self.alignment,
            "root": self.root,
            "joints": self.joints,
            "split": self.split,
            "frames": "all" if self.every == 1 else f"every {self.every} from the first",
            "left out": ", ".join(self.exclusions) or "nothing",
            "cameras": " / ".join(", ".join(cameras) for cameras in self.cameras),
            "root from": ", ".join(self.root_cameras) or "these",
            "given": ", ".join(self.given) or "nothing",
            **({"perturbed": self.perturbed} if self.perturbation else {}),
            **({"extrinsics": self.extrinsics} if self.extrinsics == "withheld" else {}),
            **({"frames per rig": str(self.frames_per_rig)} if self.frames_per_rig > 1 else {}),
            **({"judged": self.judged} if self.judged else {}),
            "boxes": self.boxes or "not stated",
            "truth": self.truth or "not stated",
            "trained on": self.trained,
            "average": self.average,
            "protocol version": str(self.version),
        }

    def __str__(self) -> str:
        """Describe the signature in one line, for tables and logs."""
        return "|".join(f"{name}:{words}" for name, words in self.facts.items())


COVERAGE = "coverage"
"""Of `Score.curves`: percent of the true values in the region of a level, against that level in percent."""


class Curve(Record):
    """Curve to plot."""

    x: list[float]
    y: list[float | None]
    x_label: str
    y_label: str


class SeedValue(Record):
    """Number of one training seed."""

    seed: int
    value: float | None


@dataclass(frozen=True)
class CameraSets:
    """Spread of a number over several sets of cameras.

    Args:
        count: number of sets.
        sd: standard deviation between sets.
        lowest: smallest number.
        highest: largest number.
    """

    count: int
    sd: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> CameraSets:
        """Compute the spread of two or more numbers.

        Example:
            >>> CameraSets.of([40.0, 50.0, 60.0])
            CameraSets(count=3, sd=10.0, lowest=40.0, highest=60.0)
        """
        return cls(len(values), statistics.stdev(values), min(values), max(values))


class Score(Record):
    """One number with its signature, interval, counts and breakdowns."""

    table: Name = Field(description="id of the table it belongs to: file in benchmarks/tables/")
    group: int = Field(default=0, ge=0, description="which of the table's groups of conditions, in its order")
    title: str
    published: str | None = Field(default=None, description="id of the published table with the same number")
    headline: bool = Field(default=False, description="whether it is a column of its data set's main board")
    protocol: Name = Field(description="key of the protocol: file in protocols/")
    signature: Signature
    unit: str
    lower_is_better: bool = True
    value: float | None = Field(description="mean over seeds; null where every prediction is missing")
    ci95: tuple[float, float] | None = Field(
        description="over subject × sequence, and over seeds if there are several (`protocols.decisions`)"
    )
    ci95_groups: tuple[float, float] | None = Field(
        default=None, description="with several seeds: the part over subject × sequence"
    )
    n_samples: int = Field(
        description="number of records of one seed: true poses or predicted people; rounded mean if seeds differ"
    )
    n_missing: int = Field(description="samples without a usable prediction, over all seeds")
    n_left_out: int = Field(
        description="missing samples that are left out of the number; the other missing samples count as wrong"
    )
    n_false: int = Field(default=0, description="false people over all seeds, if the protocol counts them")
    n_unjudged: int = Field(
        default=0, description="predicted people in images without annotated people, over all seeds"
    )
    counted: Literal["poses", "people"] = Field(
        default="poses", description="what n_samples and the other counts refer to: true poses or predicted people"
    )
    n_groups: int = Field(description="subject × sequence groups that the bootstrap resamples")
    over_cameras: list[float | None] = Field(
        default_factory=list,
        description="number of each random set of cameras, in the order of the signature's cameras",
    )
    seeds: list[SeedValue]
    breakdown: dict[str, dict[str, float | None]] = Field(
        default_factory=dict, description="'action' -> value by action, 'joint' -> value by joint, 'subject' -> …"
    )
    secondary: dict[str, float | None] = Field(
        default_factory=dict,
        description="figures to read with the number, by name (unit): coverage and size of regions, predicted people "
        "per true person",
    )
    curves: dict[str, Curve] = Field(default_factory=dict, description="'pck' -> share of joints below a threshold, …")
    notes: list[str] = Field(default_factory=list, description="notes of the table")

    @property
    def sets(self) -> CameraSets | None:
        """Spread over the random sets of cameras; None for fewer than two sets."""
        values = [value for value in self.over_cameras if value is not None]
        return CameraSets.of(values) if len(values) > 1 else None

    @property
    def complete(self) -> bool:
        """Whether there is a number over all poses or people. Only complete scores are ranked."""
        return self.value is not None and self.n_left_out == 0


class ScoreFile(Record):
    """All numbers of one method on one data set."""

    format: Literal[1] = 1
    method: Name
    dataset: Name
    synthetic: bool
    profile: Name
    warning: str = Field(default="", description="of a profile whose numbers must not be quoted")
    source: Literal["pipeline", "submission"] = "pipeline"
    bound: bool = Field(default=False, description="whether the row is a bound, which is shown and never ranked")
    inputs: dict[str, JsonValue] | None = Field(
        default=None, description="declared inputs of the method, from its predictions; null: not stated"
    )
    scores: list[Score]
    provenance: Provenance

    def scores_sha256(self) -> str:
        """SHA-256 of all numbers with their tables, signatures, seeds and counts."""
        scores = [score.model_dump(mode="json") for score in self.scores]
        return hashlib.sha256(json.dumps(scores, sort_keys=True).encode()).hexdigest()


class PairedDifference(Record):
    """Mean of a - b over the poses with a number for both, with its paired interval (`protocols.decisions`)."""

    a: str
    b: str
    difference: float
    ci95: tuple[float, float] = Field(
        description="of this pair: over subject × sequence, and over trainings if `training` is known"
    )
    n_samples: int
    n_groups: int
    seeds: list[SeedValue] = Field(default_factory=list, description="difference of equal seeds")
    ci95_groups: tuple[float, float] | None = Field(default=None, description="only over subject × sequence")
    training: Literal["none", "own", "reference", "prior", "unknown"] | None = Field(
        default=None,
        description="source of the variation between trainings: nothing is trained; these seeds; results/seeds; the "
        "other pairs of the table; not known, and nothing is decided; null: not judged",
    )
    training_sd: float | None = Field(
        default=None, description="standard deviation between seeds of the difference, moderated by the other pairs"
    )
    training_seeds: int = Field(default=0, description="seeds of this pair that it is estimated from")
    training_df: float | None = Field(
        default=None, description="its degrees of freedom; null: not judged, or not known"
    )
    decided: bool | None = Field(
        default=None, description="whether one is better, all pairs of the table considered; null: not judged"
    )


class Rank(Record):
    """Rank of a method, 1 is best, with the interval of ranks that is consistent with the marks."""

    method: str
    rank: int
    ci95: tuple[int, int]


class TableComparison(Record):
    """Paired differences and ranks of the methods with one signature in a table."""

    table: Name
    signature: Signature
    unit: str
    pairs: list[PairedDifference]
    ranks: list[Rank]
    unranked: list[str] = Field(
        default_factory=list, description="rows with a number and no rank: bounds and incomplete rows"
    )
    marks: Literal["step-down"] | None = Field(
        default=None, description="how the decided pairs hold simultaneously; null: not judged"
    )

    @property
    def ranked_pairs(self) -> list[PairedDifference]:
        """Pairs of two ranked rows. Marks hold simultaneously for these pairs; no other pair gets a mark."""
        unranked = set(self.unranked)
        return [pair for pair in self.pairs if unranked.isdisjoint((pair.a, pair.b))]


class Increase(Record):
    """Increase of a method's error over the control, in percent (`protocols.controls`)."""

    method: str
    value: float
    ci95: tuple[float, float] | None = Field(
        description="over people, the same in both numbers, and over trainings if there are several seeds; null: one "
        "person, or a protocol without intervals"
    )
    ci95_people: tuple[float, float] | None = Field(default=None, description="only over people, with several seeds")
    n_samples: int = Field(description="poses with a number in both, in every seed")
    n_people: int
    seeds: list[SeedValue]
    scores: tuple[float, float] = Field(description="the numbers of the control and of the table that were compared")


class ControlComparison(Record):
    """Increases of errors over a control table: same people and poses, recorded by the training rig."""

    table: Name
    control: Name = Field(description="id of the table that the numbers are compared with")
    signature: Signature = Field(description="of the numbers in the table; those in the control differ in the split")
    increases: list[Increase]


class ComparisonFile(Record):
    """All comparisons of one data set."""

    format: Literal[1] = 1
    dataset: Name
    synthetic: bool
    profile: Name
    tables: list[TableComparison]
    controls: list[ControlComparison] = Field(default_factory=list)


class DataFile(Record):
    """Status of one data set at the time of a run."""

    format: Literal[1] = 1
    dataset: Name
    synthetic: bool
    state: DataState
    detail: str
    obtain: str
    manifest: str | None
    images: str | None = Field(default=None, description="SHA-256 over the sizes of the images, see images_sha256")
    counts: dict[str, int] = Field(default_factory=dict, description="samples by split, images, subjects, …")
    pictures: list[str] = Field(
        default_factory=list,
        description="files beside this one: contact sheets. Pages show those of synthetic data only",
    )
    warnings: list[str] = Field(
        default_factory=list,
        exclude_if=lambda warnings: not warnings,
        description="odd properties of the data that its numbers should be read with (`datasets.plausibility`)",
    )


class DrawnPicture(Record):
    """Picture of one prediction, drawn by the method."""

    file: str = Field(description="beside this one")
    key: str = Field(description="of the sample")
    title: str
    caption: str


class PictureFile(Record):
    """Pictures of a method's predictions for its page."""

    format: Literal[1] = 1
    pictures: list[DrawnPicture]


PlanPoint = tuple[float, float]
"""On the floor plan, m: first axis to the right, second upwards, as seen from above."""
SpacePoint = tuple[float, float, float]
"""A point of the plan and its height, m."""


class PlannedCamera(Record):
    """True and recovered position of one camera in a `RigPlan`."""

    name: str
    reference: bool = Field(description="whether the other cameras are relative to it; it has no error")
    true_m: PlanPoint = Field(description="centre")
    true_direction: PlanPoint = Field(description="horizontal part of the unit vector along the optical axis")
    recovered_m: PlanPoint
    recovered_direction: PlanPoint
    covariance_m2: tuple[float, float, float] | None = Field(
        default=None, description="of the recovered centre on the plan: xx, xy, yy; null: the row states none"
    )
    rotation_deg: float | None = Field(description="error of its rotation from the reference; null of the reference")
    direction_deg: float | None = Field(description="error of the direction from the reference; null of the reference")


class RigPlan(Record):
    """True and recovered rig, seen from above. The recovered rig is aligned with the true rig by a similarity.

    The similarity minimises squared distances over the centres of all cameras and the joints of the drawn pose.
    """

    place: Literal["median", "worst"] = Field(description="by rotation error, among all rigs that were recovered")
    rigs: int = Field(description="number of rigs that were recovered with all cameras")
    key: str = Field(description="key of the drawn sample")
    frames: int = Field(description="number of samples that the cameras were recovered from")
    frames_per_rig: int = Field(description="largest number of samples with the same cameras that may be used together")
    perturbation: Perturbation | None = Field(default=None, description="of the input")
    rotation_deg: float = Field(description="mean over the cameras but the reference")
    direction_deg: float = Field(description="likewise")
    scale: float = Field(description="of the similarity: mm of the world per mm of the answer")
    axes: tuple[str, str] = Field(description="of the world, to the right and upwards on the plan")
    cameras: list[PlannedCamera]
    edges: list[tuple[int, int]] = Field(description="joints that are connected")
    true_joints_m: list[SpacePoint | None]
    recovered_joints_m: list[SpacePoint | None]


class RigFile(Record):
    """True and recovered cameras of a few rigs of one row on one data set."""

    format: Literal[1] = 1
    plans: list[RigPlan]


class PublishedRow(Record):
    """Published row: its number in each source; null if a source does not list the row."""

    name: str
    method: str | None = Field(default=None, description="our method of that name, if there is one")
    values: dict[str, int | float | None] = Field(description="column -> number as printed, in the table's unit")
    note: str = ""


class PublishedTable(Record):
    """Transcribed table of a paper, without averaging or corrections."""

    id: str
    title: str
    paper: str
    dataset: str
    trained_on: tuple[str, ...] = Field(
        default=(), description="data sets that the weights were trained on, where not on ``dataset``"
    )
    unit: str
    sources: dict[str, str] = Field(description="column -> where it is printed")
    signature: dict[str, str] = Field(description="as far as the source states it")
    rows: list[PublishedRow]
    notes: list[str] = Field(default_factory=list)


class RunsFile(Record):
    """Runs in the MLflow store of this machine."""

    store: str
    runs: dict[str, Annotated[str, Field(pattern=r"^http://127\.0\.0\.1:\d+/#/experiments/\d+/runs/\w+$")]] = Field(
        description="name of the run (`Provenance.mlflow_run`) -> its address while `poseboard runs` serves it"
    )


class SpeedFile(Record):
    """Speed ratio to another library, measured in the same run on the same machine."""

    format: Literal[1] = 1
    name: str
    title: str
    peer: str = Field(description="what it is measured against, in words")
    ours_s: float = Field(description="median seconds")
    peer_s: float | None
    ratio: float | None = Field(description="peer_s / ours_s, higher is better")
    aim: str
    met: bool
    details: dict[str, float] = Field(default_factory=dict, description="errors, peak memory in MB, sizes")
    hardware: str
    created: str


class InferenceCost(Record):
    """Time and memory of a row's predictions, per sample."""

    method: Name
    views: int = Field(description="most views of a sample")
    batch: int = Field(description="samples of the largest call, as the evaluate stage makes it")
    ms_single: float = Field(description="median over calls with one sample")
    ms_batch: float = Field(description="median over calls with `batch` samples")
    memory_mib: float | None = Field(
        description="peak during a call with `batch` samples, above the loaded row and the images; null: not known"
    )
    parameters: int | None = Field(description="learned parameters; null: no training is recorded")
    gflops: float = Field(description="10^9 operations in convolutions and matrix products of PyTorch; others: none")


class CostFile(Record):
    """Costs of the predictions of all rows on one data set, measured on one machine in one run."""

    format: Literal[1] = 1
    dataset: Name
    synthetic: bool
    profile: Name
    samples: int = Field(description="size of the workload: the first samples of the test split")
    threads: int
    device: str = Field(description="cpu: times are processor time; name of a GPU: wall time")
    hardware: str
    created: str
    note: str = Field(default="", description="shown with the costs")
    reference: Name | None = Field(default=None, description="row whose time other times are given as multiples of")
    rows: list[InferenceCost]
