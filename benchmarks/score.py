"""The evaluate and compare stages: one JSON of scores per row, and one JSON of comparisons per data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from poseboard.benchmarks.jobs import progress
from poseboard.benchmarks.layout import Layout
from poseboard.benchmarks.pictures import examples, write_plans
from poseboard.benchmarks.plan import Plan, Run
from poseboard.benchmarks.predict import no_input, predict_stage, row_lock
from poseboard.benchmarks.provenance import provenance
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.skeleton import ROOT
from poseboard.methods.base import find_learner, predicts
from poseboard.protocols import doubts, predictions
from poseboard.protocols.base import TruthTable
from poseboard.protocols.comparison import compare, increases
from poseboard.protocols.condition import Condition
from poseboard.protocols.decisions import REFERENCE, same_row, trained
from poseboard.protocols.error_files import read_errors, write_errors
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import (
    ComparisonFile,
    ControlComparison,
    Score,
    ScoreFile,
    TableComparison,
    TrainingFile,
    check_name,
    row_path,
    row_paths,
)
from poseboard.protocols.recovered_cameras import RecoveredCameras
from poseboard.protocols.rig_plans import write_rig_plans
from poseboard.protocols.scoring import Predictions, Scored, answers, score_together
from poseboard.protocols.submissions import read_submission, submission_folders
from poseboard.protocols.table import Table


def score_stage(
    run: Run,
    files: Sequence[Path] | None = None,
    named: str | None = None,
    doubt: Callable[[str], None] = lambda line: None,
) -> ScoreFile:
    """Score a row in every table of a data set.

    Without ``files``, score the predictions of the predict stage, and write scores, errors of each pose and pictures.
    With ``files``, write nothing.

    Args:
        run: the row on a data set; for ``files``, their method (`Plan.submission`).
        files: predictions to score instead of those of the predict stage.
        named: name of the method in the record; None: the one that ``files`` state.
        doubt: called with a warning for each file that seems to have a wrong unit or another simple mistake, and for
            each split without predictions, whose tables are skipped.

    Raises:
        InputError: predictions are absent, damaged, of other data, with unknown keys or of several runs, or another
            process is predicting or scoring this row.
    """
    if named is not None and not files:
        raise InputError(f"--as {named}", "is used without --predictions", "add --predictions FILE")
    check_name("method" if named is None else "--as", named or run.row)
    with nullcontext() if files else row_lock(run):
        return _score(run, files, named, doubt)[0]


def score_files(
    run: Run, files: Sequence[Path], doubt: Callable[[str], None] = lambda line: None
) -> tuple[ScoreFile, dict[str, Scored]]:
    """Like `score_stage` with files, and return the errors of each pose too: table -> scores and errors.

    Args:
        run: their method on a data set (`Plan.submission`).
        files: predictions to score.
        doubt: see `score_stage`.

    Raises:
        InputError: see `score_stage`.

    Example:
        >>> record, scored = score_files(plan.submission("mine", "human36m"), [Path("mine.parquet")])  # doctest: +SKIP
        >>> scored["T1"].errors["error"].mean()  # doctest: +SKIP
        41.3
    """
    check_name("method", run.row)
    return _score(run, files, None, doubt)


def _score(
    run: Run,
    files: Sequence[Path] | None,
    named: str | None,
    doubt: Callable[[str], None],
) -> tuple[ScoreFile, dict[str, Scored]]:
    dataset, of_dataset = run.source.name, run.tables
    if not of_dataset:
        raise InputError(f"data set {dataset!r}", "no table is scored on it", "add one to benchmarks/tables")
    of_row = _given(files, None if named else run.row) if files else _predicted(run)
    method = named or run.row
    with progress(f"score {dataset}/{method}") as report:
        splits = _by_split(run, of_row, doubt, is_submission=bool(files))
        by_id: dict[str, Scored] = {}
        of_basis: dict[str, list[Table]] = defaultdict(list)
        for table in of_dataset:
            of_basis[table.basis].append(table)
        for done, alike in enumerate(of_basis.values(), start=1):
            for truth, by_condition in splits:
                tables = [t for t in alike if t.split == truth.split and _can_be_scored(t, by_condition, truth)]
                if tables:
                    by_id |= zip((t.id for t in tables), score_together(tables, by_condition, truth), strict=True)
            report(done, len(of_basis))
    scored = {table.id: by_id[table.id] for table in of_dataset if table.id in by_id}
    if not scored:
        raise InputError(
            f"{dataset}/{method}", "no table can be scored from these predictions", "see benchmarks/tables"
        )
    for line in _doubts(splits) if files else ():
        doubt(line)
    # Options and weights are taken from the predictions, since the train stage may have been run again since.
    own_last = sorted(
        ((condition, known) for _, of_split in splits for condition, known in of_split.items()),
        key=lambda of_condition: of_condition[0].trained_on is None,
    )
    info = {seed: of_seed.info for _, known in own_last for seed, of_seed in known.items()}
    seeds = sorted(info)
    record = ScoreFile(
        method=method,
        dataset=dataset,
        synthetic=run.dataset.synthetic,
        profile=run.layout.profile,
        warning=run.warning,
        source="submission" if files else "pipeline",
        bound=not files and run.is_bound,
        inputs=info[seeds[0]].inputs,
        scores=[score for of_table in scored.values() for score in of_table.scores],
        provenance=provenance(
            run.layout,
            name=f"{method}/score/{dataset}",
            options=info[seeds[0]].options,
            manifest=run.dataset.manifest(),
            checkpoints={seed: info[seed].checkpoint_sha256 for seed in seeds},
            weights=info[seeds[0]].weights,
        ),
    )
    if not files:
        errors = [of_table.errors.assign(table=name) for name, of_table in scored.items()]
        kinds = {"table": "category", "cameras": "str"}
        together = pd.concat(errors, ignore_index=True).astype(kinds)
        # Examples are of the most cameras: all of them, or one for monocular methods.
        truth, by_condition = next((known for known in splits if known[0].split == "test"), splits[0])
        own = [condition for condition in by_condition if condition.trained_on is None] or list(by_condition)
        unspoiled = [condition for condition in own if condition.perturbation is None] or own
        first = by_condition[max(unspoiled, key=lambda condition: (len(condition.cameras), condition.frames_per_rig))]
        of_page = examples(first[seeds[0]], truth, run.dataset)
        # Written together and last, so that an error leaves the files of the earlier run.
        with WholeFiles() as outputs:
            write_errors(run.path("errors"), together, record, outputs)
            outputs.write(
                run.path("examples"),
                lambda file: np.savez_compressed(file, **of_page),  # type: ignore[arg-type]  # as if arrays were flags
            )
            plans = run.path("examples").with_suffix("")
            drawn = write_plans(first[seeds[0]], run.dataset, plans, outputs)
            drawn |= write_rig_plans(_with_cameras(of_dataset, scored, splits, seeds[0]), plans, outputs)
            record.write(run.path("scores"), outputs)
        for path in plans.glob("*"):
            if path not in drawn:
                path.unlink()
    return record, scored


def _by_split(
    run: Run, of_row: Predictions, doubt: Callable[[str], None], *, is_submission: bool
) -> list[tuple[TruthTable, Predictions]]:
    """The truth and the predictions of each split that is predicted."""
    predicted: list[tuple[TruthTable, Predictions]] = []
    commands: list[str] = []
    for split in run.splits:
        of_split = {condition: by_seed for condition, by_seed in of_row.items() if condition.split == split}
        if of_split:
            points = {kind for table in run.tables if table.split == split and (kind := table.rule().points)}
            predicted.append((TruthTable.collect(run.dataset, split, points), of_split))
        else:
            commands.append(f"`poseboard predict {run.source.name} {run.row} --split {split}`")
    if is_submission:
        return predicted
    folder, remedy = run.path("predictions"), f"run `poseboard evaluate {run.source.name} {run.row}`"
    if not predicted:
        raise InputError(folder, "there are no predictions", f"run {commands[0]} first")
    by_condition = [by_seed for _, of_split in predicted for by_seed in of_split.values()]
    if len({frozenset(by_seed) for by_seed in by_condition}) > 1:
        raise InputError(folder, "some conditions have predictions of other seeds than others", remedy)
    _one_run([table for by_seed in by_condition for table in by_seed.values()], run.row, remedy)
    for command in commands:
        doubt(f"{run}: tables are left out whose split is not predicted; {command} does that")
    return predicted


def _with_cameras(
    tables: Sequence[Table],
    scored: Mapping[str, Scored],
    splits: Sequence[tuple[TruthTable, Predictions]],
    seed: int,
) -> list[tuple[TruthTable, PoseTable]]:
    """Predictions whose recovered cameras some table has judged, of one seed, with the truth of their split."""
    judged: dict[int, tuple[TruthTable, PoseTable]] = {}
    for table in tables:
        if table.id not in scored or not isinstance(rule := table.rule(), RecoveredCameras):
            continue
        truth, by_condition = next(known for known in splits if known[0].split == table.split)
        for offered in (condition for group in table.conditions(truth.views) for condition in group):
            if (of_seed := answers(rule, by_condition, offered).get(seed)) is not None:
                judged.setdefault(id(of_seed), (truth, of_seed))
    return list(judged.values())


def _can_be_scored(table: Table, by_condition: Predictions, truth: TruthTable) -> bool:
    """Whether a table can judge some predictions under its conditions, and has the true poses that it needs.

    A table of transfer needs predictions by weights of another data set.
    """
    rule = table.rule()
    tables = (of_seed for by_seed in by_condition.values() for of_seed in by_seed.values())
    if not rule.roots_suffice and any(of_seed.info.joints == ROOT.joints for of_seed in tables):
        return False
    if rule.records == "truth" and not len(table.select(truth)):
        return False
    offered = [condition for group in table.conditions(truth.views) for condition in group]
    elsewhere = [condition for condition in offered if condition.trained_on is not None]
    return any(answers(rule, by_condition, condition) for condition in elsewhere or offered)


def score_submissions(plan: Plan, dataset: str, doubt: Callable[[str], None]) -> dict[str, dict[str, Scored]]:
    """Score all submissions to a data set: name -> table -> scores and errors of each pose.

    Their scores are written; scores of submissions that no longer exist are removed. A submission that cannot be scored
    is left out.

    Args:
        plan: rows and data sets.
        dataset: name of the data set.
        doubt: called with a warning for each submission that is left out or seems to have a simple mistake.

    Example:
        >>> score_submissions(plan, "human36m", print)["mine"]["T1"].scores[0].value  # doctest: +SKIP
        41.3
    """
    submitted: dict[str, dict[str, Scored]] = {}
    for folder in submission_folders(plan.home):
        run = plan.submission(folder.name, dataset)
        try:
            if folder.name in plan.rows:
                raise InputError(folder, "has the name of a row of params.yaml", "submit it under another name")
            infos = {path: predictions.read_info(path) for path in read_submission(folder).files}
            if files := [path for path, info in infos.items() if info.dataset == dataset]:
                record, submitted[folder.name] = score_files(run, files, doubt)
                record.write(run.path("scores"))
        except InputError as error:
            doubt(f"{dataset}/{folder.name}: left out, {error}")
    for path in row_paths(plan.layout.results, "scores"):
        if path.stem == dataset and path.parent.name not in submitted and ScoreFile.read(path).source == "submission":
            path.unlink()
    return submitted


def compare_stage(
    dataset: str, runs: Sequence[Run], submitted: Mapping[str, dict[str, Scored]] = MappingProxyType({})
) -> ComparisonFile:
    """Compare all scored rows of a data set, table by table.

    The variance between trainings of a row with one seed is taken from profile `REFERENCE`, if that has the same row on
    the same data.

    Args:
        dataset: name of the data set.
        runs: runs on the data set; those without scores are skipped.
        submitted: scores of submissions (`score_submissions`). The spread between their trainings is not known.

    Raises:
        InputError: no row has scores, the errors of a row are missing or do not belong to its scores, or two rows were
            scored on different states of the data set.
        ResultError: a score file does not follow its schema.
    """
    scored_runs = [run for run in runs if run.path("scores").is_file()]
    if not scored_runs:
        raise InputError(f"data set {dataset}", "nothing has been scored on it", "run `poseboard score` first")
    layout, of_dataset = scored_runs[0].layout, scored_runs[0].tables
    scored: dict[str, dict[str, Scored]] = defaultdict(dict)
    synthetic, manifest, first = False, "", ""
    learned, bounds = set[str](), set[str]()
    reference: dict[str, list[Score]] = {}
    trainings = read_trainings(layout, dataset)
    for run in scored_runs:
        method, path = run.row, run.path("scores")
        record = ScoreFile.read(path)
        if first and record.provenance.data_manifest != manifest:
            raise InputError(
                f"{path}: provenance.data_manifest",
                f"{method} was scored on another state of {dataset} than {first}",
                f"run `poseboard predict` and `poseboard score {dataset}` for both, or `dvc repro`",
            )
        synthetic, manifest, first = record.synthetic, record.provenance.data_manifest, first or method
        if trained(record):
            learned.add(method)
        if record.bound:
            bounds.add(method)
        if several := reference_scores(run, record, trainings):
            reference[method] = several
        for name, of_table in read_scored(run, record).items():
            scored[name][method] = of_table
    for method, of_submission in submitted.items():
        learned.add(method)
        for name, of_table in of_submission.items():
            scored[name][method] = of_table
    tables: list[TableComparison] = []
    controls: list[ControlComparison] = []
    with progress(f"compare {dataset}") as report:
        for done, table in enumerate(of_dataset, 1):
            tables += compare(table, scored[table.id], learned=learned, reference=reference, bounds=bounds)
            control = next((each for each in of_dataset if each.id == table.control), None)
            if control is not None:
                controls += increases(table, control, scored[table.id], scored[control.id])
            report(done, len(of_dataset))
    compared = ComparisonFile(
        dataset=dataset,
        synthetic=synthetic,
        profile=layout.profile,
        tables=tables,
        controls=controls,
    )
    compared.write(layout.dataset_file("comparisons", dataset))
    return compared


def read_scored(run: Run, record: ScoreFile) -> dict[str, Scored]:
    """Read the recorded errors of a row: table -> its scores and errors of each pose.

    Args:
        run: the row on a data set.
        record: its scores.

    Raises:
        InputError: the file of errors is absent or damaged, or belongs to other scores.

    Example:
        >>> read_scored(run, ScoreFile.read(run.path("scores")))["T1"].scores[0].value  # doctest: +SKIP
        41.3
    """
    return {
        str(name): Scored([each for each in record.scores if each.table == name], rows.reset_index(drop=True))
        for name, rows in read_errors(run.path("errors"), record).groupby("table", observed=True)
    }


Trainings = tuple[dict[str, TrainingFile], dict[str, TrainingFile]]
"""Training records by row: of a profile, and of profile `REFERENCE`."""


def read_trainings(layout: Layout, dataset: str) -> Trainings:
    """Read the training records on a data set that `reference_scores` compares.

    Raises:
        ResultError: a training record does not follow its schema.

    Example:
        >>> read_trainings(plan.layout, "human36m")[0]["algebraic"].after  # doctest: +SKIP
        'backbone'
    """
    return _training(layout.results, dataset), _training(layout.home / "results" / REFERENCE, dataset)


def reference_scores(run: Run, record: ScoreFile, trainings: Trainings) -> list[Score]:
    """Scores of the same row in profile `REFERENCE`, which has several seeds; empty if it has none.

    Args:
        run: the row on a data set.
        record: its scores.
        trainings: training records on the data set (`read_trainings`).

    Raises:
        ResultError: the score file of that profile does not follow its schema.

    Example:
        >>> [len(score.seeds) for score in reference_scores(run, record, trainings)]  # doctest: +SKIP
        [3, 3]
    """
    path = row_path(run.layout.home / "results" / REFERENCE, "scores", run.row, run.source.name)
    if not path.is_file() or not same_row(record, other := ScoreFile.read(path), *trainings):
        return []
    return other.scores


def _training(results: Path, dataset: str) -> dict[str, TrainingFile]:
    """Training records of a profile on a data set, by row."""
    files = [TrainingFile.read(path) for path in row_paths(results, "training") if path.stem == dataset]
    return {file.method: file for file in files}


def lines(record: ScoreFile) -> list[str]:
    """One line per score: table, value, interval, missing predictions, signature."""
    return [f"{record.dataset}/{record.method}: {_line(score)}" for score in record.scores]


def _line(score: Score) -> str:
    digits = 3 if score.unit == "m" else 1
    value = "-" if score.value is None else f"{score.value:.{digits}f} {score.unit}"
    interval = "" if score.ci95 is None else f" [{score.ci95[0]:.{digits}f}, {score.ci95[1]:.{digits}f}]"
    counts = ((score.n_missing, "missing"), (score.n_false, "false"), (score.n_unjudged, "unjudged"))
    counted = "".join(f", {count} {what}" for count, what in counts if count)
    counted += ", not ranked: incomplete" if score.n_left_out else ""
    secondary = "".join(f", {name} {figure:.2f}" for name, figure in score.secondary.items() if figure is not None)
    return f"{score.table:<24} {value}{interval}{secondary}  n={score.n_samples}{counted}  {score.signature}"


def _predicted(run: Run) -> Predictions:
    """The predictions of the predict stage by condition, in the order of the tables, and seed."""
    of_tables = [condition for split in run.splits for condition in run.conditions(split)]
    by_place: dict[int, dict[Condition, dict[int, PoseTable]]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted(run.path("predictions").glob("*.parquet")):
        table = predictions.read(path)
        condition, seed = table.info.condition, table.info.seed
        if path != run.layout.predictions(run.source.name, run.row, condition, seed):
            remedy = f"run `poseboard evaluate {run.source.name} {run.row}`"
            raise InputError(
                f"{path}: metadata.condition", f"is {condition.slug}, seed {seed}, unlike the name", remedy
            )
        place = next((i for i, offered in enumerate(of_tables) if condition.is_reduced(offered)), None)
        if place is not None and seed in run.seeds:
            by_place[place][condition][seed] = table
    return {condition: by_seed for place in sorted(by_place) for condition, by_seed in by_place[place].items()}


def _one_run(tables: Sequence[PoseTable], method: str, remedy: str) -> None:
    """InputError unless all files are of this row, with the same options and one checkpoint per seed."""
    known: dict[tuple[str | None, int], PoseTable] = {}
    rooted: dict[tuple[str | None, int, str], PoseTable] = {}
    first: dict[str | None, PoseTable] = {}
    for table in tables:
        training, seed = table.info.condition.trained_on, table.info.seed
        same_seed, same = known.setdefault((training, seed), table), first.setdefault(training, table)
        same_split = rooted.setdefault((training, seed, table.info.condition.split), table)
        for field, other, of in (
            ("method", method, "this row"),
            ("checkpoint_sha256", same_seed.info.checkpoint_sha256, same_seed.source),
            ("roots_sha256", same_split.info.roots_sha256, same_split.source),
            ("options", same.info.options, same.source),
        ):
            if getattr(table.info, field) != other:
                raise InputError(f"{table.source}: metadata.{field}", f"differs from that of {of}", remedy)


def _given(files: Sequence[Path], method: str | None) -> Predictions:
    """Predictions by condition and seed; InputError for a file of another method than ``method``, if that is given."""
    by_condition: dict[Condition, dict[int, PoseTable]] = defaultdict(dict)
    for path in files:
        table = predictions.read(path)
        if method is not None and table.info.method != method:
            raise InputError(
                f"{path}: metadata.method",
                f"is {table.info.method!r}, scored as {method!r}",
                f"score it as {table.info.method}, or add --as {method}",
            )
        by_seed = by_condition[table.info.condition]
        if table.info.seed in by_seed:
            raise InputError(
                path, f"is a second file of seed {table.info.seed}, {table.info.condition.slug}", "give each file once"
            )
        by_seed[table.info.seed] = table
    return by_condition


def _doubts(splits: Sequence[tuple[TruthTable, Predictions]]) -> Iterator[str]:
    for truth, by_condition in splits:
        lines_of = (doubts.doubt(table, truth) for by_seed in by_condition.values() for table in by_seed.values())
        yield from filter(None, lines_of)


def evaluate_stage(runs: Iterable[Run]) -> Iterator[str]:
    """Predict and score the runs of a row; yields a line per file, score and skipped run.

    A row that predicts nothing is left out.

    Raises:
        InputError: a data set, the row, its checkpoint, its predictions or a table cannot be used.
    """
    for run in runs:
        if not predicts(find_learner(run.spec)):
            yield f"{run.row}: predicts no poses; other rows start from its weights"
            return
        if why := run.left_out or ("" if run.tables else "no table is run on it") or no_input(run):
            yield f"{run}: left out, {why}"
            continue
        for split in run.splits:
            yield from predict_stage(run, split)
        yield from lines(score_stage(run))
