"""Repetition of recorded results: predict or train again, and name the first stage that differs.

The stages follow the pipeline: data, inputs, initial weights, training curve, checkpoint, predictions, scores. Each
stage is compared with the record of an earlier run. The repetition writes into a temporary folder
``results/verify-…``. Of the recorded results it reuses only checkpoints and predicted roots.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from poseboard.benchmarks.exchange.folders import FolderChanges, compare_files
from poseboard.benchmarks.exchange.submissions import files_by_dataset
from poseboard.benchmarks.harness import TrainingData
from poseboard.benchmarks.plan import Plan, Run
from poseboard.benchmarks.predict import predict_stage, row_lock
from poseboard.benchmarks.provenance import changed_code, file_sha256, hardware, versions
from poseboard.benchmarks.score import score_files
from poseboard.benchmarks.train import Processes, train
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.files import read_bytes, write_file
from poseboard.datasets.manifest import NAME as MANIFEST
from poseboard.datasets.manifest import verify_files
from poseboard.datasets.sample import Dataset, images_sha256
from poseboard.methods.base import find_learner, predicts
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols import predictions
from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import DataFile, Provenance, Record, ScoreFile, TrainingFile, TrainingRun
from poseboard.protocols.scoring import check_origin
from poseboard.protocols.submissions import FOLDER, Verification, read_submission

StageName = Literal["data", "inputs", "initial weights", "training curve", "checkpoint", "predictions", "scores"]

CURVE_TOLERANCE = 0.1
"""Half-width of the band around a recorded training curve, relative to each of its points."""
WEIGHTS_TOLERANCE = 1e-3
"""Largest relative difference, in Euclidean norm, of weights that count as equal."""
SCORE_TOLERANCE = 1e-6
"""Largest relative difference of numbers that are scored twice from the same file."""
_HINT_ROWS = 1000
"""Poses, at most, in which another order of joints is searched."""


class Stage(Record):
    """Outcome of the comparison of one stage."""

    name: StageName
    state: Literal["ok", "differs", "not checked"]
    detail: str = Field(description="what was compared, what differs, or why nothing was compared")


class Repetition(Record):
    """Outcome of repeating one row, or the files of a submission, on one data set."""

    format: Literal[1] = 1
    name: str = Field(description="of the row or submission")
    row: str | None = Field(description="row that was repeated; null: none")
    dataset: str
    profile: str
    stages: list[Stage]
    first: StageName | None = Field(description="first stage that differs; null: none")
    causes: list[str] = Field(description="changes since the record that can explain a difference")
    n_files: int = Field(description="recorded predictions files that were compared with those made again")
    scores_sha256: str | None = Field(description="`ScoreFile.scores_sha256` of the recorded predictions, scored again")

    @property
    def is_confirmed(self) -> bool:
        """Whether new predictions agree with the recorded ones and no stage differs."""
        return self.first is None and any(one.name == "predictions" and one.state == "ok" for one in self.stages)


@dataclass(frozen=True)
class Claim:
    """Recorded predictions and scores to verify, and the run that should reproduce them.

    Args:
        name: name of the row or submission.
        run: the row on a data set, or the run of a submission without a row.
        files: recorded predictions files.
        scores: path of the score file.
        is_submission: whether the predictions come from a submission, whose checkpoint may have another hash.
    """

    name: str
    run: Run
    files: tuple[Path, ...]
    scores: Path
    is_submission: bool = False

    @classmethod
    def of_row(cls, run: Run) -> Claim:
        """Claim of a row: its recorded results."""
        return cls(run.row, run, tuple(sorted(run.path("predictions").glob("*.parquet"))), run.path("scores"))


def verify(claim: Claim, tolerance_mm: float, *, again: bool = False, processes: int = 1) -> Repetition:
    """Repeat recorded results and compare each stage.

    Args:
        claim: recorded results to verify.
        tolerance_mm: predictions count as equal if no joint differs by more than this, in mm.
        again: whether to train the row again instead of using its recorded checkpoints.
        processes: number of training processes.

    Raises:
        InputError: the data set is missing, the row has no training of its own, or another process is predicting or
            scoring it.
        ResultError: a recorded file does not follow its schema.

    Example:
        >>> verify(Claim.of_row(plan.run("dlt", "human36m")), 0.1).first is None  # doctest: +SKIP
        True
    """
    run = claim.run
    status = run.source.open().status()
    if status.state == "missing":
        remedy = f"run `poseboard data prepare {run.source.name}`, or {status.obtain}"
        raise InputError(f"data set {run.source.name}", status.detail, remedy)
    if again and run.same_as is not None:
        problem = f"uses the weights of {run.same_as.source.name}"
        raise InputError(f"--train: {run}", problem, f"use --dataset {run.same_as.source.name}")
    with row_lock(run), _scratch(run) as repeat:
        return _Verification(claim, repeat, again, tolerance_mm, processes).result()


def claims(
    plan: Plan, name: str, row: str | None = None, dataset: str | None = None, tables: Sequence[str] = ()
) -> list[Claim]:
    """Claims of a row or a submission, one for each data set with results.

    Args:
        plan: rows and data sets.
        name: a row, a submission, or the folder of a submission.
        row: row that made the predictions of a submission; None: unknown.
        dataset: name of one data set; None: all.
        tables: ids of the tables to verify; empty: all.

    Raises:
        InputError: a name is unknown, results are missing, or ``row`` is used although ``name`` is a row.

    Example:
        >>> [claim.run.source.name for claim in claims(plan, "dlt")]  # doctest: +SKIP
        ['human36m', 'panoptic']
    """
    folder = plan.home / FOLDER / Path(name).name
    if dataset is not None:
        plan.source(dataset)
    if name in plan.rows:
        if row is not None:
            raise InputError(f"--row {row}", f"is used with {name}, which is a row", "leave it out")
        runs = [plan.run(name, each) for each in plan.may_run(name)]
        listed = [Claim.of_row(run) for run in runs if any(run.path(kind).exists() for kind in ("scores", "training"))]
    elif folder.is_dir() and Path(name) in (Path(folder.name), Path(FOLDER) / folder.name):
        listed = []
        for each, files in files_by_dataset(read_submission(folder).files).items():
            run = plan.submission(folder.name, each) if row is None else plan.run(row, each)
            scores = plan.layout.row_path("scores", folder.name, each)
            listed.append(Claim(folder.name, run, tuple(files), scores, is_submission=True))
    else:
        remedy = f"{did_you_mean(name, plan.rows)}; or a submission"
        raise InputError(f"{name[:80]!r}", f"is neither a row of params.yaml nor in {FOLDER}/", remedy)
    listed = [claim for claim in listed if dataset in (None, claim.run.source.name)]
    if not listed:
        where = f"{name} on {dataset}" if dataset else name
        raise InputError(where, "has no recorded results", f"run `poseboard evaluate {name}`")
    ids = {table.id for claim in listed for table in claim.run.tables}
    for table in tables:
        if table not in ids:
            raise InputError(f"--table {table}", "is not a table on these data sets", did_you_mean(table, sorted(ids)))
    chosen = [
        replace(claim, run=replace(claim.run, tables=tuple(one for one in claim.run.tables if one.id in tables)))
        for claim in listed
    ]
    return [claim for claim in chosen if claim.run.tables] if tables else listed


def mark_submission(folder: Path, repetitions: Sequence[Repetition], by: str) -> bool:
    """Write submissions/<name>/verified.json if every file is confirmed, and remove it if predictions differ.

    Args:
        folder: submissions/<name>.
        repetitions: one repetition per data set of the submission.
        by: software and row that confirmed the predictions, in a few words.

    Returns:
        Whether the submission is confirmed.

    Example:
        >>> mark_submission(Path("submissions/mine"), repetitions, "poseboard 1.0, row dlt")  # doctest: +SKIP
        True
    """
    path, submission = folder / "verified.json", read_submission(folder)
    confirmed = sum(one.n_files for one in repetitions if one.is_confirmed)
    if confirmed == len(submission.files):
        digests = [str(one.scores_sha256) for one in repetitions]
        together = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
        record = Verification(predictions_sha256=submission.predictions_sha256(), scores_sha256=together, by=by)
        record.write(path)
    elif any(stage.name == "predictions" and stage.state == "differs" for one in repetitions for stage in one.stages):
        path.unlink(missing_ok=True)
    return confirmed == len(submission.files)


def lines(repetition: Repetition) -> list[str]:
    """Repetition as text: one line per stage, then the first stage that differs and its possible causes.

    Args:
        repetition: result of `verify`.

    Example:
        >>> lines(repetition)[-1]  # doctest: +SKIP
        'predictions were made again, and nothing differs'
    """
    title = f"{repetition.dataset}/{repetition.name}"
    if repetition.row not in (None, repetition.name):
        title += f", repeated by row {repetition.row}"
    text = [title, *(f"  {one.name:<16}{one.state:<13}{one.detail}" for one in repetition.stages)]
    if repetition.first is not None:
        text.append(f"first difference: {repetition.first}")
    elif repetition.is_confirmed:
        text.append("predictions were made again, and nothing differs")
    else:
        text.append("predictions were not checked; nothing else differs")
    return text + [f"possible cause: {cause}" for cause in repetition.causes]


@contextmanager
def _scratch(run: Run) -> Iterator[Run]:
    """Copy of a run with its results in a temporary folder."""
    results = run.layout.home / "results"
    results.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="verify-", dir=results, ignore_cleanup_errors=True) as folder:
        yield replace(run, layout=replace(run.layout, profile=Path(folder).name), followers=())


class _Verification:
    """Comparison of the stages of one claim.

    Args:
        claim: recorded results to verify.
        repeat: run of the claim, with results in a temporary folder.
        again: whether to train the row again.
        tolerance_mm: largest difference of a joint in equal predictions, in mm.
        processes: number of training processes.
    """

    def __init__(self, claim: Claim, repeat: Run, again: bool, tolerance_mm: float, processes: int) -> None:
        self._claim, self._run, self._repeat = claim, claim.run, repeat
        self._again, self._tolerance_mm, self._processes = again, tolerance_mm, processes
        self._recorded: dict[str, PoseTable] = {}
        self._unreadable: list[str] = []
        for file in claim.files:
            try:
                self._recorded[file.name] = predictions.read(file)
            except InputError as error:
                self._unreadable.append(f"{file.name}: {error.problem}")
        path = self._run.path("training")
        self._training = TrainingFile.read(path) if self._run.code and path.is_file() else None
        self._scores = ScoreFile.read(claim.scores) if claim.scores.is_file() else None
        if not (claim.files or self._training or self._scores):
            raise InputError(str(self._run), "has no recorded results", f"run `poseboard evaluate {claim.name}`")
        self._repeated: list[PoseTable] = []
        self._pairs: list[_Pair] = []
        self._scores_sha256: str | None = None

    def result(self) -> Repetition:
        """Run all stages. Predictions come before inputs because their metadata describe the inputs."""
        order: tuple[tuple[StageName, Callable[[], str]], ...] = (
            ("data", self._data),
            ("initial weights", self._initial_weights),
            ("training curve", self._curve),
            ("checkpoint", self._checkpoint),
            ("predictions", self._predictions),
            ("inputs", self._inputs),
            ("scores", self._score),
        )
        stages: dict[StageName, Stage] = {}
        for name, compare in order:
            state: Literal["ok", "differs", "not checked"] = "ok"
            try:
                if name == "predictions" and self._unreadable:
                    raise _DiffersError("; ".join(self._unreadable))
                if not self._run.code and name not in ("data", "scores"):
                    raise _NotCheckedError("name the row that the predictions come from: --row ROW")
                detail = compare()
            except _DiffersError as difference:
                state, detail = "differs", str(difference)
            except _NotCheckedError as reason:
                state, detail = "not checked", str(reason)
            except InputError as error:  # a consequence of an earlier difference, else an error of the user
                if all(stage.state != "differs" for stage in stages.values()):
                    raise
                state, detail = "not checked", self._text(error)
            stages[name] = Stage(name=name, state=state, detail=detail)
        ordered = [stages[name] for name in get_args(StageName)]
        first = next((one.name for one in ordered if one.state == "differs"), None)
        return Repetition(
            name=self._claim.name,
            row=self._run.row if self._run.code else None,
            dataset=self._run.source.name,
            profile=self._run.layout.profile,
            stages=ordered,
            first=first,
            causes=[] if first in (None, "data") else list(self._causes()),
            n_files=len(self._pairs),
            scores_sha256=self._scores_sha256,
        )

    def _text(self, error: InputError) -> str:
        """Message of an error, with paths of recorded files instead of temporary copies."""
        profiles = self._repeat.layout.profile, self._run.layout.profile
        return self._run.layout.portable(str(error)).replace(*profiles)

    # Stages

    def _data(self) -> str:
        run = self._run
        try:
            dataset = run.dataset
            if run.source.world is not None and run.source.root is not None:
                # Human3.6M's layout has labels that are compared by content.
                getattr(dataset, "verified", partial(verify_files, run.source.root))(every_byte=True)
            now, recorded = dataset.manifest(), self._manifests()
        except InputError as error:
            raise _DiffersError(self._text(error) + _newer_images(run)) from None
        differing = [f"manifest {old[:12]}… in {of}, now {now[:12]}…" for of, old in recorded.items() if old != now][:1]
        for source in run.training:
            trained_on = {} if self._training is None else self._training.training_manifests
            if not source.is_absent and trained_on.get(source.name, manifest := source.dataset.manifest()) != manifest:
                differing.append(f"{source.name}, on which the row is trained, has another manifest")
        path, images = run.layout.dataset_file("data", run.source.name), "no images recorded"
        if path.is_file():
            record = DataFile.read(path)
            differing += _changed_counts(record, dataset)
            keys = [key for split in dataset.splits for key in dataset.keys(split)]
            images = f"sizes of the images of {len(keys)} samples"
            if record.images != images_sha256(map(dataset.sample, keys)):
                differing.append(f"sizes of images in {path.name}")
        if differing:
            raise _DiffersError("; ".join(differing))
        return f"manifest {now[:12]}…, {images if run.source.world is None else 'every byte of the generated world'}"

    def _initial_weights(self) -> str:
        run = self._run
        if run.weights is not None:
            return self._weights_of_file(run.weights)
        if run.start is not None:
            return self._weights_of_start(run.start)
        if self._training is None or not self._training.runs:
            raise _NotCheckedError("nothing is trained")
        if not self._again:
            raise _NotCheckedError("drawn from the seed; not recorded, use --train to compare the first losses")
        return self._compare_curves(first_only=True)

    def _weights_of_file(self, file: Path) -> str:
        """Compare the file that ``weights`` names with the record of its import."""
        weights = None if self._training is None else self._training.provenance.weights
        shown = self._run.layout.portable(str(file))
        if weights is None:
            raise _NotCheckedError(f"not recorded: the hash of {shown}")
        if not file.is_file() or file_sha256(file) != weights.file_sha256:
            raise _DiffersError(f"{shown} is not the recorded file")
        return shown

    def _weights_of_start(self, start: Run) -> str:
        """Compare the checkpoint of the row that ``after`` names with the record of its training."""
        record = start.path("training")
        recorded = TrainingFile.read(record).provenance.checkpoint_sha256 if record.is_file() else {}
        paths = [path for path in map(start.checkpoint, self._run.seeds) if path.stem in recorded]
        if not paths or not all(path.is_file() for path in paths):
            raise _NotCheckedError(f"not recorded, or not here: checkpoint of {start.row}")
        for path in paths:
            if file_sha256(path) != recorded[path.stem]:
                raise _DiffersError(f"checkpoint {path.stem} of {start.row} is not that of its recorded training")
        return f"checkpoint of {start.row}"

    def _curve(self) -> str:
        if self._training is None or not self._training.runs:
            raise _NotCheckedError("the row has no training of its own")
        if not self._again:
            raise _NotCheckedError("the row was not trained again; use --train")
        return self._compare_curves(first_only=False)

    def _compare_curves(self, *, first_only: bool) -> str:
        """Compare the losses of the repeated training with the recorded ones."""
        assert self._training is not None
        repeated = {one.seed: one for one in self._trained_again().runs}
        largest, place = 0.0, ""
        for one in self._training.runs:
            if one.seed not in repeated:
                raise _DiffersError(f"seed {one.seed} is recorded and was not trained again")
            if (one.steps, one.batch_size) != (repeated[one.seed].steps, repeated[one.seed].batch_size):
                raise _DiffersError(f"{_extent(one)} recorded, {_extent(repeated[one.seed])} now")
            for (loss, step), (old, new) in _points(one, repeated[one.seed], first_only=first_only).items():
                if old == new:
                    continue
                apart = math.inf if old is None or new is None else abs(new - old) / max(abs(old), 1e-12)
                if apart > largest:
                    largest, place = apart, f"{loss} of seed {one.seed} at step {step:g}: {old} recorded, {new} again"
        if largest > CURVE_TOLERANCE:
            raise _DiffersError(f"{100 * largest:.1f} % from the recorded curve, {place}")
        what = "first losses" if first_only else "all losses"
        return f"{what} within {100 * CURVE_TOLERANCE:g} %, largest difference {100 * largest:.2g} %"

    def _trained_again(self) -> TrainingFile:
        """Train again on the first call, and return the record of this training."""
        path = self._repeat.path("training")
        if not path.is_file():
            train(self._repeat, [self._repeat], Processes(self._processes))
        return TrainingFile.read(path)

    def _checkpoint(self) -> str:
        recorded = {} if self._training is None else self._training.provenance.checkpoint_sha256
        if self._training is not None and self._again:
            self._trained_again()
            return self._compare_weights(recorded)
        if self._training is not None:
            write_file(self._repeat.path("training"), read_bytes(self._run.path("training")))
        if not recorded and not any(path.is_file() for path in self._run.checkpoints.values()):
            raise _NotCheckedError("the row has no weights")
        missing = [path.stem for path in self._run.checkpoints.values() if not path.is_file()]
        if missing:
            raise _NotCheckedError(f"{', '.join(missing)} is not here; use --train to make it again")
        for seed, path in self._run.checkpoints.items():
            self._repeat.checkpoint(seed).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self._repeat.checkpoint(seed))
        changed = [path.stem for path in self._run.checkpoints.values() if recorded.get(path.stem) != file_sha256(path)]
        if changed and recorded:
            raise _DiffersError(f"{', '.join(changed)} is not the file that the training recorded")
        if not recorded:
            raise _NotCheckedError("no training is recorded")
        return f"{len(recorded)} as recorded"

    def _compare_weights(self, recorded: Mapping[str, str]) -> str:
        """Compare the checkpoints of the repeated training with the recorded ones."""
        details = []
        for seed, path in self._repeat.checkpoints.items():
            if file_sha256(path) == recorded.get(path.stem):
                details.append(f"{path.stem} bit-equal")
                continue
            own = self._run.checkpoint(seed)
            if not own.is_file():
                raise _NotCheckedError(f"{path.stem} is not here, and the repeated one has another hash")
            if file_sha256(own) != recorded.get(path.stem):
                raise _DiffersError(f"{path.stem} is not the file that the training recorded")
            apart = _relative_difference(Checkpoint.read(own), Checkpoint.read(path))
            if not apart <= WEIGHTS_TOLERANCE:
                raise _DiffersError(f"{path.stem}: relative difference of the weights {apart:.2g}")
            details.append(f"{path.stem}: relative difference {apart:.1g}")
        return ", ".join(details)

    def _predictions(self) -> str:
        run = self._run
        if not predicts(find_learner(run.spec)):
            raise _NotCheckedError("the row predicts no poses")
        if not run.tables:
            raise _NotCheckedError("no table is run on the data set")
        lacking = [path for path in self._repeat.checkpoints.values() if not path.is_file()]
        if lacking and not TrainingData(run).nothing_to_learn:
            raise _NotCheckedError("not made again: there is no checkpoint")
        for split in run.splits:
            for _ in predict_stage(self._repeat, split):
                pass
        paths = sorted(self._repeat.path("predictions").glob("*.parquet"))
        self._repeated = [predictions.read(path) for path in paths]
        again = {(table.info.condition, table.info.seed): table for table in self._repeated}
        for file, old in self._recorded.items():
            if (new := again.get((old.info.condition, old.info.seed))) is not None:
                self._pairs.append(_Pair(file, old, new))
        if not (self._recorded and self._repeated):
            raise _NotCheckedError("not recorded" if self._repeated else "the row predicts under no condition")
        if self._claim.is_submission and not self._pairs:
            raise _NotCheckedError("the row predicts under none of their conditions and seeds")
        if not self._claim.is_submission and len(self._pairs) < len(self._repeated):
            paired = {id(pair.new) for pair in self._pairs}
            files = [path.name for path, table in zip(paths, self._repeated, strict=True) if id(table) not in paired]
            raise _DiffersError(f"{len(files)} files are not recorded, first {files[0]}")
        return self._compare_predictions()

    def _compare_predictions(self) -> str:
        """Compare recorded and new predictions of the same condition and seed."""
        for pair in self._pairs:
            if problem := _other_rows(pair.old, pair.new):
                raise _DiffersError(f"{pair.file}: {problem}")
        aligned = [_Pair(pair.file, pair.old, _in_order_of(pair.old, pair.new)) for pair in self._pairs]
        differences = [_largest_difference(pair.old, pair.new) for pair in aligned]
        (apart_mm, sample), worst = max(zip(differences, aligned, strict=True), key=lambda entry: entry[0][0])
        if apart_mm > self._tolerance_mm:
            hints = [*_hints(worst.old, worst.new, self._tolerance_mm), *self._stale(worst)]
            raise _DiffersError("; ".join([f"largest difference {apart_mm:.4g} mm, {sample} of {worst.file}", *hints]))
        for pair in aligned:
            stale = "" if self._claim.is_submission else "".join(self._stale(pair))
            if problem := _other_columns(pair.old, pair.new) or stale:
                raise _DiffersError(f"{pair.file}: {problem}")
        total = len(self._recorded) if self._claim.is_submission else len(self._repeated)
        files = f"{len(aligned)} of {total} files"
        if apart_mm == 0:
            return f"{files}, joints bit-equal"
        return f"{files}, largest difference {apart_mm:.2g} mm, {sample} of {worst.file}"

    def _stale(self, pair: _Pair) -> Iterator[str]:
        """Note that recorded predictions are from another checkpoint, if the row was not trained again."""
        then, now = pair.old.info.checkpoint_sha256, pair.new.info.checkpoint_sha256
        if not self._again and then != now and not (self._claim.is_submission and then is None):
            yield f"stale: made with checkpoint {(then or 'none')[:12]}…, not with {(now or 'none')[:12]}…"

    def _inputs(self) -> str:
        """Compare the row's options, its declared inputs and the input summary of the first sample."""
        if not self._pairs:
            raise _NotCheckedError("no predictions were made again")
        compared: dict[str, bool] = {}
        for file, old, new in self._pairs:
            a, b = old.info, new.info
            facts = {"options": (a.options, b.options), "declared inputs": (a.inputs, b.inputs)}
            for what, (then, now) in facts.items():
                compared[what] = bool(then)
                if then and then != now:
                    raise _DiffersError(f"{file}: {what}: {_changed_field(then, now or {})}")
            compared["first sample"] = a.input_summary is not None
            if differing := _changed_summary(a.input_summary or {}, b.input_summary or {}):
                raise _DiffersError(f"{file}: first sample: {differing}")
        equal, unknown = ([what for what, known in compared.items() if known == of] for of in (True, False))
        remark = f"not recorded: {', '.join(unknown)}" if unknown else ""
        if not equal:
            raise _NotCheckedError(remark)
        return "; ".join(filter(None, (", ".join(equal), remark)))

    def _score(self) -> str:
        """Score the recorded predictions again, or the new predictions if none are recorded."""
        if self._unreadable:
            raise _NotCheckedError("recorded predictions cannot be read")
        recorded = [pair.old for pair in self._pairs] if not self._claim.is_submission else []
        tables = recorded or list(self._recorded.values()) or self._repeated
        if not tables:
            raise _NotCheckedError("there are no predictions")
        run = replace(self._run, row=tables[0].info.method)
        record, _ = score_files(run, [Path(table.source) for table in tables])
        self._scores_sha256 = record.scores_sha256()
        if self._scores is None:
            raise _NotCheckedError("not recorded; " + _shown(record))
        changes = FolderChanges(a="", b="", files=(1, 1))
        compare_files(changes, (record.dataset, record.method), self._scores, record, [one.id for one in run.tables])
        if changes.added or changes.gone or changes.signatures:
            place = [*changes.added, *changes.gone, *(one.table for one in changes.signatures)][0]
            raise _DiffersError(f"{place} is recorded otherwise")
        tolerance = SCORE_TOLERANCE if self._recorded else 1e-2
        for change in changes.changes:
            is_text = change.field.partition(".")[0] in ("title", "notes")  # of the table, which may be reworded
            if change.table and not is_text and not _is_close(change.old, change.new, tolerance):
                raise _DiffersError(f"{change.table} ({change.input}): {change.words}")
        of = "recorded predictions scored again" if self._recorded else "predictions made again within 1 %"
        return f"{len(self._scores.scores)} numbers, {of}"

    # Recorded facts

    def _manifests(self) -> dict[str, str]:
        """Data-set manifest in each recorded file. A submission may have another one if the samples are the same.

        Raises:
            InputError: the predictions of a submission belong to other data.
        """
        run, known = self._run, dict[str, str]()
        path = run.layout.dataset_file("data", run.source.name)
        if path.is_file() and (manifest := DataFile.read(path).manifest) is not None:
            known[path.name] = manifest
        if self._training is not None:
            known["the training"] = self._training.provenance.data_manifest
        for file, table in self._recorded.items():
            if self._claim.is_submission:
                check_origin(table, TruthTable.collect(run.dataset, table.info.condition.split))
            else:
                known[file] = table.info.manifest
        if self._scores is not None:
            known["the scores"] = self._scores.provenance.data_manifest
        return known

    def _causes(self) -> Iterator[str]:
        """Versions, hardware and code that changed since the record."""
        records = (self._training if self._again else None, None if self._claim.is_submission else self._scores)
        recorded: Provenance | None = next((one.provenance for one in records if one is not None), None)
        if recorded is None:
            yield "not recorded: versions, hardware and commit of the predictions"
            return
        now = versions()
        for package in dict.fromkeys([*recorded.versions, *now]):
            then = recorded.versions.get(package, "none")
            if then != now.get(package, "none"):
                yield f"{package} {then} when recorded, {now.get(package, 'none')} now"
        if recorded.hardware != hardware():
            yield f"hardware {recorded.hardware} when recorded, {hardware()} now"
        if recorded.git_commit is None:
            yield "not recorded: the commit of the code"
        elif (files := changed_code(self._run, recorded.git_commit)) is None:
            yield f"code: commit {recorded.git_commit[:12]} is not in this checkout"
        elif files:
            yield f"code: {len(files)} files changed since commit {recorded.git_commit[:12]}, first {files[0]}"
        if recorded.git_dirty:
            yield "code: recorded with uncommitted changes"


class _DiffersError(Exception):
    """A stage differs from its record; the message says where."""


class _NotCheckedError(Exception):
    """A stage cannot be compared; the message says why."""


def _newer_images(run: Run) -> str:
    """Note that names an image that is newer than its synthetic world; empty: there is none."""
    if run.source.world is None or run.source.root is None:
        return ""
    try:
        dataset, written = run.source.open(), (run.source.root / MANIFEST).stat().st_mtime_ns
        samples = (dataset.sample(key) for split in dataset.splits for key in dataset.keys(split))
        paths = (view.image_path for sample in samples for view in sample.views)
        newer = sorted({path for path in paths if path is not None and path.stat().st_mtime_ns > written})
    except (InputError, OSError):
        return ""
    return f"; {len(newer)} newer than the world, first {run.layout.portable(str(newer[0]))}" if newer else ""


def _changed_counts(record: DataFile, dataset: Dataset) -> list[str]:
    """Splits whose number of samples differs from the record."""
    now = {f"{split} samples": len(dataset.keys(split)) for split in dataset.splits}
    return [
        f"{then} {name} recorded, {now[name]} now"
        for name, then in record.counts.items()
        if name in now and now[name] != then
    ]


def _extent(training: TrainingRun) -> str:
    return f"{training.steps} steps with batch size {training.batch_size}"


def _points(
    old: TrainingRun, new: TrainingRun, *, first_only: bool
) -> dict[tuple[str, float], tuple[float | None, float | None]]:
    """Map (loss, step) to the recorded and the repeated value (None: missing or not finite)."""
    values: dict[tuple[str, float], list[float | None]] = {}
    for side, of_training in enumerate((old, new)):
        for loss, curve in of_training.curves.items():
            for step, value in list(zip(curve.x, curve.y, strict=True))[: 1 if first_only else None]:
                values.setdefault((loss, step), [None, None])[side] = value
    return {place: (pair[0], pair[1]) for place, pair in values.items()}


def _relative_difference(old: Checkpoint, new: Checkpoint) -> float:
    """Norm of the change of all weights, relative to the norm of the old weights; inf: names or shapes differ."""
    shapes = [{name: value.shape for name, value in one.state.items()} for one in (old, new)]
    if shapes[0] != shapes[1]:
        return math.inf
    apart = sum(float(((new.state[name].double() - value.double()) ** 2).sum()) for name, value in old.state.items())
    size = sum(float((value.double() ** 2).sum()) for value in old.state.values())
    return math.sqrt(apart / size) if size else math.sqrt(apart)


class _Pair(NamedTuple):
    """Recorded predictions, the name of their file, and new predictions."""

    file: str
    old: PoseTable
    new: PoseTable


def _places(old: PoseTable, new: PoseTable) -> NDArray[np.int64]:
    """For each row of ``old``, index of the row of ``new`` with the same key and person; -1: none."""
    a, b = (pd.MultiIndex.from_arrays([table.keys, table.person]) for table in (old, new))
    return np.asarray(b.get_indexer(a), dtype=np.int64)


def _other_rows(old: PoseTable, new: PoseTable) -> str:
    """First difference of joints, columns, people, frames or predicted joints in words; empty: none."""
    if set(old.info.joints) != set(new.info.joints):
        return f"joints {old.info.skeleton} recorded, {new.info.skeleton} again"
    if old.info.columns != new.info.columns:
        return f"columns {', '.join(old.columns) or 'none'} recorded, {', '.join(new.columns) or 'none'} again"
    differing = {"are only recorded": (old, _places(old, new) < 0), "are only made again": (new, _places(new, old) < 0)}
    if not any(rows.any() for _, rows in differing.values()):
        aligned = _in_order_of(old, new)
        missing = (np.isnan(old.joints_mm) != np.isnan(aligned.joints_mm)).any(axis=(1, 2))
        differing = {"have another frame": (old, old.frame != aligned.frame), "lack other joints": (old, missing)}
    for what, (table, rows) in differing.items():
        if rows.any():
            return f"{int(rows.sum())} of {len(table)} rows {what}, first {table.keys[int(np.argmax(rows))]!r}"
    return ""


def _in_order_of(old: PoseTable, new: PoseTable) -> PoseTable:
    """New predictions with rows and joints in the order of the recorded ones; both must have the same."""
    rows, info = _places(old, new), new.info.model_copy(update={"joints": old.info.joints})
    columns = {name: values[rows] for name, values in new.columns.items()}
    joints_mm, score, frame = new.mapped(old.info.joints)[rows], new.score[rows], new.frame[rows]
    return replace(old, joints_mm=joints_mm, score=score, frame=frame, info=info, columns=columns)


def _largest_difference(old: PoseTable, new: PoseTable) -> tuple[float, str]:
    """Largest distance between corresponding joints in mm, and its sample and joint."""
    apart_mm = np.nan_to_num(np.linalg.norm(old.joints_mm.astype(np.float64) - new.joints_mm, axis=-1))
    if not apart_mm.size:
        return 0.0, "no sample"
    row, joint = np.unravel_index(int(apart_mm.argmax()), apart_mm.shape)
    return float(apart_mm.max()), f"{old.keys[row]} ({old.info.joints[joint]})"


def _hints(old: PoseTable, new: PoseTable, tolerance_mm: float) -> Iterator[str]:
    """Simple mistakes that can explain the difference: another unit, joint order or precision."""
    a, b = (table.joints_mm.astype(np.float64) for table in (old, new))
    for factor, unit in ((0.001, "metres"), (0.1, "centimetres"), (1 / 25.4, "inches")):
        if np.allclose(a, b * factor, rtol=0.01, atol=tolerance_mm * factor, equal_nan=True):
            yield f"recorded in {unit}, not in millimetres"
    whole = np.flatnonzero(np.isfinite(a).all(axis=(1, 2)))[:_HINT_ROWS]
    if whole.size:
        apart_mm = np.linalg.norm(a[whole][:, :, None] - b[whole][:, None], axis=-1).max(axis=0)
        order = apart_mm.argmin(axis=1)
        if (order != np.arange(len(order))).any() and apart_mm.min(axis=1).max() <= tolerance_mm:
            joint = int(np.argmax(order != np.arange(len(order))))
            yield f"recorded in another joint order: {old.info.joints[joint]} is {old.info.joints[order[joint]]}"
    with np.errstate(over="ignore"):
        if np.array_equal(a, a.astype(np.float16).astype(np.float64), equal_nan=True):
            yield "recorded with the precision of float16"


def _other_columns(old: PoseTable, new: PoseTable) -> str:
    """First extra column, or the score, that differs by more than 0.1 %; empty: none."""
    again = {"score": new.score, **new.columns}
    for name, values in {"score": old.score, **old.columns}.items():
        if not np.allclose(values, again[name], rtol=1e-3, atol=1e-3, equal_nan=True):
            return f"column {name} differs"
    return ""


def _changed_field(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    name = next(name for name in [*then, *now] if then.get(name) != now.get(name))
    return f"{name} {then.get(name)!r} recorded, {now.get(name)!r} now"


def _changed_summary(then: Mapping[str, list[float | None]], now: Mapping[str, list[float | None]]) -> str:
    """First quantity of an input summary that differs by more than 0.1 and 0.01 %; empty: none."""
    for name in then:
        a, b = (np.array(of.get(name, []), dtype=np.float64) for of in (then, now))
        if a.shape != b.shape:
            return f"{name}: {len(a)} values recorded, {len(b)} now"
        differs = ~np.isclose(a, b, rtol=1e-4, atol=0.1, equal_nan=True)
        if differs.any():
            place = int(np.argmax(differs))
            return f"{name}: {a[place]:g} recorded, {b[place]:g} now (value {place + 1} of {len(a)})"
    return ""


def _shown(record: ScoreFile) -> str:
    """First headline score of a file, as text."""
    score = next((one for one in record.scores if one.headline), record.scores[0])
    return f"{score.table} is {'-' if score.value is None else f'{score.value:.4g}'} {score.unit}"


def _is_close(old: object, new: object, tolerance: float) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=tolerance, abs_tol=tolerance)
    return old == new
