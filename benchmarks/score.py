"""The evaluate and compare stages: one JSON file of scores per row, and one of comparisons per data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from poseboard.benchmarks.examples import examples
from poseboard.benchmarks.jobs import progress
from poseboard.benchmarks.layout import Layout
from poseboard.benchmarks.pictures import write_plans
from poseboard.benchmarks.plan import Plan, Run
from poseboard.benchmarks.predict import no_input, predict_stage, row_lock
from poseboard.benchmarks.provenance import provenance
from poseboard.datasets.errors import InputError, did_you_mean
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
from poseboard.protocols.scoring import Predictions, Scored, answers, check_origin, score_together
from poseboard.protocols.submissions import read_submission, submission_folders
from poseboard.protocols.table import Table


class NothingToScoreError(InputError):
    """Error for predictions that match no table."""


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
        run: the row on a data set; with ``files``, the run of their method (`Plan.submission`).
        files: predictions files to score instead of those of the predict stage.
        named: name of the method in the record; None: the method in the metadata of ``files``.
        doubt: called with a warning for each file that seems to have a wrong unit or another simple mistake, and for
            each split without predictions, whose tables are skipped.

    Returns:
        Scores of the row, as written to results/<profile>/scores.

    Raises:
        InputError: predictions are missing or damaged, belong to other data or several runs, or have unknown keys; or
            another process is predicting or scoring this row.
    """
    if named is not None and not files:
        raise InputError(f"--as {named}", "is used without --predictions", "add --predictions FILE")
    check_name("method" if named is None else "--as", named or run.row)
    submitted = _by_condition(map(predictions.read, files), None if named else run.row) if files else None
    with nullcontext() if files else row_lock(run):
        return _score(run, submitted, named, doubt, writes=not files)[0]


def score_files(
    run: Run, files: Sequence[Path], doubt: Callable[[str], None] = lambda line: None
) -> tuple[ScoreFile, dict[str, Scored]]:
    """Score predictions files like `score_stage`, and also return the error of each pose.

    Args:
        run: run of their method on a data set (`Plan.submission`).
        files: predictions files to score.
        doubt: called with warnings (`score_stage`).

    Returns:
        The record, and table -> scores and errors of each pose.

    Raises:
        InputError: the files cannot be scored (`score_stage`).

    Example:
        >>> record, scored = score_files(plan.submission("mine", "human36m"), [Path("mine.parquet")])  # doctest: +SKIP
        >>> scored["T1"].errors["error"].mean()  # doctest: +SKIP
        41.3
    """
    return score_submitted(run, _by_condition(map(predictions.read, files), run.row), doubt)


def score_submitted(
    run: Run, submitted: Predictions, doubt: Callable[[str], None] = lambda line: None
) -> tuple[ScoreFile, dict[str, Scored]]:
    """Score predictions that the predict stage did not make, without writing files.

    Args:
        run: run of their method on a data set (`Plan.submission`); its name is the method of the record.
        submitted: the predictions by condition and seed.
        doubt: called with warnings (`score_stage`).

    Returns:
        The record, and table -> scores and errors of each pose.

    Raises:
        InputError: the predictions cannot be scored (`score_stage`).

    Example:
        >>> record, scored = score_submitted(run, {table.info.condition: {0: table}})  # doctest: +SKIP
        >>> scored["T1"].scores[0].value  # doctest: +SKIP
        41.3
    """
    check_name("method", run.row)
    return _score(run, submitted, None, doubt, writes=False)


def score_stored(run: Run, doubt: Callable[[str], None] = lambda line: None) -> tuple[ScoreFile, dict[str, Scored]]:
    """Score the predictions of the predict stage like `score_stage`, without writing files.

    Args:
        run: the row on a data set; its ``tables`` may be a part of the tables on the data set.
        doubt: called with warnings (`score_stage`).

    Returns:
        The record, and table -> scores and errors of each pose.

    Raises:
        InputError: the predictions cannot be scored (`score_stage`).

    Example:
        >>> score_stored(plan.run("dlt", "human36m"))[0].scores[0].value  # doctest: +SKIP
        41.3
    """
    with row_lock(run):
        return _score(run, None, None, doubt, writes=False)


def _score(
    run: Run, submitted: Predictions | None, named: str | None, doubt: Callable[[str], None], *, writes: bool
) -> tuple[ScoreFile, dict[str, Scored]]:
    dataset, of_dataset = run.source.name, run.tables
    if not of_dataset:
        raise InputError(f"data set {dataset!r}", "no table is scored on it", "add one to benchmarks/tables")
    of_row = _predicted(run) if submitted is None else submitted
    method = named or run.row
    with progress(f"score {dataset}/{method}") as report:
        splits = _by_split(run, of_row, doubt, is_submission=submitted is not None)
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
        raise _nothing_to_score(run, of_row, {truth.split: truth for truth, _ in splits})
    for line in () if submitted is None else _doubts(splits):
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
        source="pipeline" if submitted is None else "submission",
        bound=submitted is None and run.is_bound,
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
    if writes:
        errors = [of_table.errors.assign(table=name) for name, of_table in scored.items()]
        kinds = {"table": "category", "cameras": "str"}
        together = pd.concat(errors, ignore_index=True).astype(kinds)
        _, by_condition = next((known for known in splits if known[0].split == "test"), splits[0])
        drawn_table = by_condition[_drawn(by_condition)][seeds[0]]
        # Written together and last, so that an error leaves the files of the earlier run.
        with WholeFiles() as outputs:
            write_errors(run.path("errors"), together, record, outputs)
            plans = run.path("examples")
            drawn = write_plans(drawn_table, run.dataset, plans, outputs)
            drawn |= write_rig_plans(_with_cameras(of_dataset, scored, splits, seeds[0]), plans, outputs)
            record.write(run.path("scores"), outputs)
        for path in plans.glob("*"):
            if path not in drawn:
                path.unlink()
    return record, scored


def _nothing_to_score(run: Run, of_row: Predictions, truths: Mapping[str, TruthTable]) -> NothingToScoreError:
    """Error for predictions that match no table: names the first field of their metadata that cannot match."""
    dataset, views, tables = run.source.name, run.dataset.views, [table.id for table in run.tables]
    on = f"table {tables[0]}" if len(tables) == 1 else f"any table on {dataset}"
    predicted = [table for by_seed in of_row.values() for table in by_seed.values()]
    for table in predicted:
        where, condition = f"{table.source}: metadata.condition", table.info.condition
        split = condition.split if condition.split in truths else run.splits[0]
        try:
            check_origin(table, truths[split] if split in truths else TruthTable.collect(run.dataset, split))
        except InputError as error:
            return NothingToScoreError(error.where, error.problem, error.remedy)
        for camera in condition.cameras:
            if camera not in views:
                problem = f"{camera!r} is not a camera of {dataset}"
                return NothingToScoreError(f"{where}.cameras", problem, did_you_mean(camera, views))
        offered = [each.cameras for each in run.conditions(condition.split)]
        if condition.cameras not in offered:
            problem = f"{', '.join(condition.cameras)} are not the cameras of {on}"
            most = max(offered, key=len)
            return NothingToScoreError(f"{where}.cameras", problem, f"predict with {', '.join(most)}, in this order")
    return NothingToScoreError(
        f"{predicted[0].source}: metadata.condition",
        f"cannot be scored in {on}",
        f"predict under a condition of {'it' if len(tables) == 1 else 'one'}, benchmarks/tables",
    )


def _drawn(conditions: Iterable[Condition]) -> Condition:
    """Condition of the pictures: own weights, no perturbation, the most cameras, and the fewest frames per rig."""
    conditions = list(conditions)
    own = [condition for condition in conditions if condition.trained_on is None] or conditions
    unspoiled = [condition for condition in own if condition.perturbation is None] or own
    return max(unspoiled, key=lambda condition: (len(condition.cameras), -condition.frames_per_rig))


def _by_split(
    run: Run, of_row: Predictions, doubt: Callable[[str], None], *, is_submission: bool
) -> list[tuple[TruthTable, Predictions]]:
    """Ground truth and predictions of each split with predictions."""
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
        raise NothingToScoreError(folder, "there are no predictions", f"run {commands[0]} first")
    by_condition = [by_seed for _, of_split in predicted for by_seed in of_split.values()]
    if len({frozenset(by_seed) for by_seed in by_condition}) > 1:
        raise InputError(folder, "conditions have predictions of different seeds", remedy)
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
    """Predictions of one seed whose recovered cameras were scored in a table, with the ground truth of their split."""
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
    """Whether there are predictions for the conditions of a table, and the ground truth that it needs.

    A transfer table needs predictions with weights of another data set.
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


def submitted_files(
    plan: Plan, dataset: str, doubt: Callable[[str], None] = lambda line: None
) -> list[tuple[Run, list[Path]]]:
    """Runs of the submissions on a data set, each with its predictions files.

    Args:
        plan: rows and data sets.
        dataset: name of the data set.
        doubt: called with a warning for each submission that cannot be read.

    Example:
        >>> [(run.row, len(files)) for run, files in submitted_files(plan, "human36m")]  # doctest: +SKIP
        [('mine', 1)]
    """
    submitted: list[tuple[Run, list[Path]]] = []
    for folder in submission_folders(plan.home):
        try:
            if folder.name in plan.rows:
                raise InputError(folder, "has the name of a row of params.yaml", "submit it under another name")
            infos = {path: predictions.read_info(path) for path in read_submission(folder).files}
        except InputError as error:
            doubt(f"{dataset}/{folder.name}: left out, {error}")
            continue
        if files := [path for path, info in infos.items() if info.dataset == dataset]:
            submitted.append((plan.submission(folder.name, dataset), files))
    return submitted


def score_submissions(plan: Plan, dataset: str, doubt: Callable[[str], None]) -> dict[str, dict[str, Scored]]:
    """Score all submissions on a data set, and write their scores.

    Scores of deleted submissions are removed. A submission that cannot be scored is skipped.

    Args:
        plan: rows and data sets.
        dataset: name of the data set.
        doubt: called with a warning for each submission that is skipped or seems to have a simple mistake.

    Returns:
        Name of the submission -> table -> scores and errors of each pose.

    Example:
        >>> score_submissions(plan, "human36m", print)["mine"]["T1"].scores[0].value  # doctest: +SKIP
        41.3
    """
    submitted: dict[str, dict[str, Scored]] = {}
    for run, files in submitted_files(plan, dataset, doubt):
        try:
            record, submitted[run.row] = score_files(run, files, doubt)
            record.write(run.path("scores"))
        except InputError as error:
            doubt(f"{run}: left out, {error}")
    for path in row_paths(plan.layout.results, "scores"):
        if path.stem == dataset and path.parent.name not in submitted and ScoreFile.read(path).source == "submission":
            path.unlink()
    return submitted


def compare_stage(
    dataset: str, runs: Sequence[Run], submitted: Mapping[str, dict[str, Scored]] = MappingProxyType({})
) -> ComparisonFile:
    """Compare all scored rows of a data set, table by table.

    For a row with one seed, the variance between trainings comes from profile `REFERENCE` if that profile has the same
    row on the same data.

    Args:
        dataset: name of the data set.
        runs: runs on the data set; runs without scores are skipped.
        submitted: scores of submissions (`score_submissions`). The spread between their trainings is unknown.

    Returns:
        Paired differences and rank intervals of each table, as written to results/<profile>/comparisons.

    Raises:
        InputError: no row has scores, the errors of a row are missing or do not match its scores, or two rows were
            scored on different versions of the data set.
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
    hardware: dict[str, None] = {}
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
        hardware[record.provenance.hardware] = None
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
    path = layout.dataset_file("comparisons", dataset)
    with WholeFiles() as outputs:
        compared.write(path, outputs)
        _write_examples(scored_runs, path.with_suffix(".npz"), "; ".join(hardware), outputs)
    return compared


def _write_examples(runs: Sequence[Run], path: Path, hardware: str, outputs: WholeFiles) -> None:
    """Write the examples file of a data set, from the predictions with the first seed of each row.

    An earlier file is kept if the data set is missing, and removed if there are no examples.
    """
    source = runs[0].source
    if source.is_absent:
        return
    split = "test" if "test" in runs[0].splits else runs[0].splits[0]
    tables: dict[str, PoseTable] = {}
    for run in runs:
        offered, of_row = run.conditions(split), defaultdict[int, dict[Condition, Path]](dict)
        for file in sorted(run.path("predictions").glob(f"*-seed{run.seeds[0]}.parquet")):
            condition = predictions.read_info(file).condition
            if (place := _place(condition, offered)) is not None:
                of_row[place][condition] = file
        if files := {condition: file for place in sorted(of_row) for condition, file in of_row[place].items()}:
            tables[run.row] = predictions.read(files[_drawn(files)])
    of_page = None
    if tables:
        of_page = examples(tables, TruthTable.collect(source.dataset, split), source.dataset, hardware)
    if of_page is None:
        path.unlink(missing_ok=True)
    else:
        outputs.write(path, of_page)


def _place(condition: Condition, offered: Sequence[Condition]) -> int | None:
    """Index of the table condition from which a row's condition was reduced; None: no such condition."""
    return next((i for i, each in enumerate(offered) if condition.is_reduced(each)), None)


def read_scored(run: Run, record: ScoreFile) -> dict[str, Scored]:
    """Read the recorded errors of a row.

    Args:
        run: the row on a data set.
        record: score file of the row.

    Returns:
        Table -> scores and errors of each pose.

    Raises:
        InputError: the file of errors is missing or damaged, or belongs to other scores.

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
    """Read the training records on a data set, for `reference_scores`.

    Raises:
        ResultError: a training record does not follow its schema.

    Example:
        >>> read_trainings(plan.layout, "human36m")[0]["algebraic"].after  # doctest: +SKIP
        'backbone'
    """
    return _training(layout.results, dataset), _training(layout.home / "results" / REFERENCE, dataset)


def reference_scores(run: Run, record: ScoreFile, trainings: Trainings) -> list[Score]:
    """Scores of the same row in profile `REFERENCE`, which has several seeds; empty: that profile has no such scores.

    Args:
        run: the row on a data set.
        record: score file of the row.
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
    """Format scores as text, one line per score: table, value, interval, missing predictions, signature."""
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
    """Predictions of the predict stage by condition (in the order of the tables) and seed."""
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
        if (place := _place(condition, of_tables)) is not None and seed in run.seeds:
            by_place[place][condition][seed] = table
    return {condition: by_seed for place in sorted(by_place) for condition, by_seed in by_place[place].items()}


def _one_run(tables: Sequence[PoseTable], method: str, remedy: str) -> None:
    """Raise InputError unless all files come from one row with the same options and one checkpoint per seed."""
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


def _by_condition(tables: Iterable[PoseTable], method: str | None) -> Predictions:
    """Predictions by condition and seed; raise InputError for those of another method (None: all are accepted)."""
    by_condition: dict[Condition, dict[int, PoseTable]] = defaultdict(dict)
    for table in tables:
        if method is not None and table.info.method != method:
            raise InputError(
                f"{table.source}: metadata.method",
                f"is {table.info.method!r}, scored as {method!r}",
                f"score it as {table.info.method}, or add --as {method}",
            )
        by_seed = by_condition[table.info.condition]
        if table.info.seed in by_seed:
            raise InputError(
                table.source,
                f"is a second file of seed {table.info.seed}, {table.info.condition.slug}",
                "pass one file per condition and seed",
            )
        by_seed[table.info.seed] = table
    return by_condition


def _doubts(splits: Sequence[tuple[TruthTable, Predictions]]) -> Iterator[str]:
    for truth, by_condition in splits:
        lines_of = (doubts.doubt(table, truth) for by_seed in by_condition.values() for table in by_seed.values())
        yield from filter(None, lines_of)


def evaluate_stage(runs: Iterable[Run]) -> Iterator[str]:
    """Predict and score the runs of a row; yield a line per file, score and skipped run.

    A row that predicts nothing is skipped.

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
