"""Submissions: check predictions of other people and copy them into the workspace (:mod:`protocols.submissions`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path

import numpy as np
import yaml

from poseboard.benchmarks.exchange.differences import fold, input_of
from poseboard.benchmarks.plan import Plan
from poseboard.benchmarks.score import score_stage
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.protocols import predictions
from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import ScoreFile
from poseboard.protocols.scoring import check_origin
from poseboard.protocols.submissions import FOLDER, check_files, read_card, read_submission
from poseboard.report.formatting import number


def submit(
    plan: Plan, files: Sequence[Path], card_path: Path, *, replace: bool = False, check: bool = False
) -> tuple[Path, list[ScoreFile]]:
    """Check predictions and write them with their card to submissions/<name>.

    The metadata of the copies have the card's ``name`` as the method, and a hash of the content. Everything else is
    copied unchanged.

    Args:
        plan: rows and data sets.
        files: predictions, of one or several data sets.
        card_path: YAML file with the card.
        replace: whether an earlier submission of this name is overwritten.
        check: whether to write nothing, and to check that the folder of the card and the metadata of the files have the
            card's ``name``, as in submissions/<name>.

    Returns:
        Path of the folder, and one score file per data set.

    Raises:
        InputError: the card is invalid, its name is taken, or the predictions cannot be scored, seem to have a simple
            mistake (`score_stage`) or lack samples; with ``check``, the folder or a file has another name.
        OSError: a file cannot be written.

    Example:
        >>> folder, (record,) = submit(plan, [Path("mine.parquet")], Path("card.yaml"))  # doctest: +SKIP
        >>> folder.as_posix(), record.source  # doctest: +SKIP
        ('submissions/mine', 'submission')
    """
    card = read_card(card_path)
    folder = plan.home / FOLDER / card.name
    if card.name in plan.rows:
        raise InputError(f"{card_path}: name", f"{card.name} is a row of params.yaml", "choose another name")
    if check:
        read_submission(card_path.resolve().parent)
    elif folder.exists() and not replace:
        raise InputError(folder, "exists", "use --replace to overwrite it, or choose another name")
    check_files(files, card_path)
    records, copies = [], []
    for dataset, of_dataset in files_by_dataset(files, card.name if check else None).items():
        doubts: list[str] = []
        records.append(score_stage(plan.submission(card.name, dataset), of_dataset, card.name, doubts.append))
        if doubts:
            raise InputError(doubts[0], "a submission must not have this mistake", "correct the file")
        truths: dict[str, TruthTable] = {}
        for place, path in enumerate(of_dataset):
            table = predictions.read(path)
            split = table.info.condition.split
            truth = truths.setdefault(split, TruthTable.collect(plan.source(dataset).dataset, split))
            check_origin(table, truth)  # also of a file that no table takes
            _check_samples(table, truth)
            stated = {
                "method": card.name,
                "logical_sha256": truth.logical_sha256,
                "answers_sha256": table.answers_sha256(),
            }
            copies.append((f"{dataset}-{place}.parquet", changed(table, info=table.info.model_copy(update=stated))))
    if check:
        return folder, records
    with WholeFiles() as outputs:
        for name, copy in copies:
            predictions.write(folder / name, copy, outputs)
        text = yaml.safe_dump(card.model_dump(exclude_none=True), sort_keys=False, allow_unicode=True)
        outputs.write(folder / "card.yaml", text.encode())
    for path in folder.glob("*.parquet"):
        if path.name not in dict(copies):
            path.unlink()
    return folder, records


def lines(record: ScoreFile) -> list[str]:
    """Scores as a table of at most `WIDTH` columns, without their signatures.

    Args:
        record: scores of a submission.

    Example:
        >>> lines(record)[1]  # doctest: +SKIP
        'T1                       all 4             79.1 mm   [72.1, 86.5]          300'
    """
    text = [f"{f'{record.dataset}/{record.method}'[:39]:<39} {'number':>7} {'':<4} {'95 % CI':<18} {'poses':>6}"]
    for score in record.scores:
        numbers = [number(value, score.unit) for value in (score.value, *(score.ci95 or ()))]
        interval = f"[{numbers[1]}, {numbers[2]}]" if score.ci95 else ""
        row = f"{score.table:<24.24} {input_of(score.signature):<14.14} {numbers[0]:>7} {score.unit:<4} "
        counts = ((score.n_missing, "missing"), (score.n_false, "false"), (score.n_unjudged, "unjudged"))
        notes = [f"{count} {what}" for count, what in counts if count]
        notes += ["not ranked: incomplete"] if score.n_left_out else []
        text += fold(f"{row}{interval:<18} {score.n_samples:>6}  {', '.join(notes)}".rstrip())
    return text


def files_by_dataset(files: Sequence[Path], method: str | None = None) -> dict[str, list[Path]]:
    """Predictions files grouped by data set.

    Args:
        files: predictions files.
        method: method that the metadata of each file must have; None: any.

    Raises:
        InputError: a file cannot be read or has another method.

    Example:
        >>> {name: len(files) for name, files in files_by_dataset(submission.files).items()}  # doctest: +SKIP
        {'human36m': 2}
    """
    by_dataset: dict[str, list[Path]] = {}
    for path in files:
        info = predictions.read_info(path)
        if method not in (None, info.method):
            remedy = "run `poseboard submit FILE --card CARD --replace`, which writes the name"
            raise InputError(f"{path}: metadata.method", f"is {info.method!r}, unlike the submission", remedy)
        by_dataset.setdefault(info.dataset, []).append(path)
    return by_dataset


def _check_samples(table: PoseTable, truth: TruthTable) -> None:
    """Raise InputError if a sample with true people has no row. Methods that detect people may skip samples."""
    condition = table.info.condition
    if condition.people != "each":
        return
    chosen = condition.samples(list(truth.split_keys))
    missing = np.setdiff1d(np.intersect1d(chosen, truth.keys), table.keys)
    if missing.size:
        problem = f"{missing.size} samples of split {condition.split!r} have no record, first {str(missing[0])!r}"
        raise InputError(f"{table.source}: key", problem, "write a record of NaN for a pose that is not predicted")
