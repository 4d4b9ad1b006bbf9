"""From predictions to scores: the one function that the score stage calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.protocols import bootstrap
from poseboard.protocols.base import Breakdown, Protocol, TruthTable, errors_of, number_or_none
from poseboard.protocols.condition import Condition
from poseboard.protocols.decisions import with_training
from poseboard.protocols.predictions import PoseTable, positions
from poseboard.protocols.records import Curve, Score, SeedValue, Signature
from poseboard.protocols.table import Table

Predictions = Mapping[Condition, Mapping[int, PoseTable]]
"""Of one row: what it was shown -> training seed -> its answers."""
PREDICTED_PER_TRUE = "predicted per true person"
"""Secondary figure of protocols that match several people: copies of people show in it."""
SEVERITY = "severity"
"""Column of the records of several severities, whose number is the area under the curve over the severities."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of one method on one table, with the errors behind them.

    Args:
        scores: one score for each group of conditions that has predictions.
        errors: records of the protocol for all groups and seeds, with the columns ``group`` (`Score.group`),
            ``cameras`` (cameras of the input) and ``seed``.
    """

    scores: list[Score]
    errors: pd.DataFrame


def score(table: Table, predictions: Predictions, truth: TruthTable, resamples: int = bootstrap.RESAMPLES) -> Scored:
    """Score one method on one table; see :func:`score_together`."""
    return score_together([table], predictions, truth, resamples)[0]


def score_together(
    tables: Sequence[Table],
    predictions: Predictions,
    truth: TruthTable,
    resamples: int = bootstrap.RESAMPLES,
) -> list[Scored]:
    """Score one method on several tables with equal `Table.basis`. People are matched only once.

    A score is the mean over training seeds. Its interval is over the evaluated groups (subject × sequence) and, with
    several seeds, over seeds (:mod:`poseboard.protocols.decisions`). A group of conditions has a score if any of its
    conditions, reduced to the row's inputs (`Condition.reduced`), has predictions with the columns that the protocol
    needs. If a method uses the same number of frames per rig in two groups, only the first group has a score.

    Args:
        tables: tables that share samples, conditions and protocol.
        predictions: predictions of the method, by condition and seed.
        truth: ground truth of the whole split; the tables select its rows.
        resamples: number of resamples of the bootstrap.

    Returns:
        Scores of each table, in the order of ``tables``.

    Raises:
        InputError: predictions are of another split or another state of the data set, have unknown keys or lack joints.
        ValueError: no group has predictions, the tables differ in more than their numbers, or they are for another data
            set or split.
    """
    first = tables[0]
    if (first.dataset, first.split) != (truth.dataset, truth.split):
        raise ValueError(f"table {first.id} is for {first.dataset}/{first.split}, not {truth.dataset}/{truth.split}")
    if any(table.basis != first.basis for table in tables):
        raise ValueError(f"tables {', '.join(table.id for table in tables)} differ in more than their numbers")
    rules = [table.rule() for table in tables]
    chosen = first.select(truth)
    groups = first.conditions(truth.views)
    answered = _answered_groups(first, rules[0], predictions, groups)
    if not answered:
        raise ValueError(f"table {first.id}: no predictions for any of {[c.slug for group in groups for c in group]}")
    scores: list[list[Score]] = [[] for _ in tables]
    errors: list[list[pd.DataFrame]] = [[] for _ in tables]
    for number, of_group in answered.items():
        by_rule = _errors(rules, of_group, truth, chosen)
        ratio = _predicted_per_true(of_group, chosen) if rules[0].several_people else None
        for place, (table, rule, of_seeds) in enumerate(zip(tables, rules, by_rule, strict=True)):
            summary = _summary(table, rule, _signature(table, rule, of_group, truth), of_seeds, resamples)
            of_sets = (
                _over_cameras(rule, list(of_seeds.values()), of_group) if first.all_groups[number][0].subsets else []
            )
            update: dict[str, Any] = {"group": number, "over_cameras": of_sets}
            if rule.several_people:
                update["secondary"] = {**summary.secondary, PREDICTED_PER_TRUE: ratio}
            scores[place].append(summary.model_copy(update=update))
            for seed, rows in of_seeds.items():
                errors[place].append(rows.assign(seed=seed, group=np.full(len(rows), number, dtype=np.int16)))
    sizes = {number: len(conditions[0].cameras) for number, conditions in enumerate(groups) if conditions}
    return [
        Scored(
            _with_camera_curve(of_table, sizes),
            (rows[0] if len(rows) == 1 else pd.concat(rows, ignore_index=True)).astype({"cameras": "category"}),
        )
        for of_table, rows in zip(scores, errors, strict=True)
    ]


def _answered_groups(
    table: Table, protocol: Protocol, predictions: Predictions, groups: Sequence[Sequence[Condition]]
) -> dict[int, dict[Condition, Mapping[int, PoseTable]]]:
    """Predictions of each group of conditions: index of the group -> condition -> seed -> predictions.

    Groups without a score are left out.
    """
    answered: dict[int, dict[Condition, Mapping[int, PoseTable]]] = {}
    scored: set[tuple[Condition, ...]] = set()
    for number, ((group, perturbations), conditions) in enumerate(zip(table.all_groups, groups, strict=True)):
        of_group = {offered: by_seed for offered in conditions if (by_seed := answers(protocol, predictions, offered))}
        used = tuple(starmap(_with_frames_used, of_group.items()))
        whole = len(of_group) == len(conditions) or not (len(perturbations) > 1 or group.subsets)
        if used and used not in scored and whole:
            answered[number] = of_group
            scored.add(used)
    return answered


def _with_camera_curve(scores: list[Score], sizes: Mapping[int, int]) -> list[Score]:
    """Add a curve over the number of cameras if the groups differ in it. ``sizes``: group -> number of cameras."""
    if len(set(sizes.values())) < 2 or len(scores) < 2:
        return scores
    sweep = Curve(
        x=[float(sizes[score.group]) for score in scores],
        y=[score.value for score in scores],
        x_label="cameras",
        y_label=f"{scores[0].signature.metric} ({scores[0].unit})",
    )
    return [score.model_copy(update={"curves": {**score.curves, "cameras": sweep}}) for score in scores]


def answers(protocol: Protocol, predictions: Predictions, offered: Condition) -> Mapping[int, PoseTable]:
    """Predictions, by seed, that a protocol can judge for a condition of a table; empty without any.

    A protocol cannot judge predictions without the columns that it needs. A protocol in the world frame cannot judge
    methods without extrinsics. Predictions with more frames per rig are preferred, then those with a predicted root,
    without a root, and with the true root.
    """
    reduced = [condition for condition in predictions if condition.is_reduced(offered)]
    by_seed = predictions[max(reduced, key=_preference)] if reduced else {}
    judged = all(
        (protocol.any_frame or not table.info.extrinsics_withheld)
        and all(name in table.columns for name in protocol.columns)
        for table in by_seed.values()
    )
    return by_seed if judged else {}


def _preference(condition: Condition) -> tuple[int, int, bool, bool]:
    root = ("truth", "none", "predicted").index(condition.root)
    return condition.frames_per_rig, root, not condition.hand, condition.people == "each"


def _with_frames_used(offered: Condition, by_seed: Mapping[int, PoseTable]) -> Condition:
    """Copy of the condition with the number of frames per rig that the predictions use."""
    frames = max(table.info.condition.frames_per_rig for table in by_seed.values())
    return offered.model_copy(update={"frames_per_rig": frames})


def _signature(
    table: Table, protocol: Protocol, answered: Mapping[Condition, Mapping[int, PoseTable]], truth: TruthTable
) -> Signature:
    """Build the signature of a group from the protocol's measure, the table's samples and the row's input."""
    measure = protocol.measure(truth.skeleton)
    infos = [answer.info for by_seed in answered.values() for answer in by_seed.values()]
    shown = [info.condition for info in infos]
    true_root = any(condition.root == "truth" for condition in shown)
    hand = any(condition.hand for condition in shown)
    # another number than that of methods that had to find it
    handed = (*(("root",) if true_root else ()), *(("hand",) if hand else ()))
    measure = measure.model_copy(update={"given": (*handed, *measure.given)})
    facts = truth.facts
    spoiled = [one.perturbation for one in answered]
    severities = sorted({0 if one is None else one.severity for one in spoiled})
    elsewhere = {name for one in answered if one.root_cameras != one.cameras for name in one.root_cameras}
    return Signature(
        **dict(measure),
        split=table.split,
        every=table.every,
        exclusions=table.exclude,
        cameras=tuple(dict.fromkeys(offered.cameras for offered in answered)),
        cameras_of_dataset=len(truth.views),
        perturbation=max((one for one in spoiled if one is not None), key=lambda one: one.severity, default=None),
        severities=tuple(severities) if len(severities) > 1 else (),
        frames_per_rig=max(condition.frames_per_rig for condition in shown),
        extrinsics="withheld" if all(info.extrinsics_withheld for info in infos) else "given",
        root_cameras=() if true_root else tuple(name for name in truth.views if name in elsewhere),
        boxes=None if facts is None else facts.boxes,
        truth=None if facts is None else facts.truth,
        trained_on=_trained_on([answer for by_seed in answered.values() for answer in by_seed.values()]),
    )


def _trained_on(answered: Sequence[PoseTable]) -> tuple[str, ...] | None:
    """Data sets on which the weights of a row were trained; None for the evaluated data set, or without training.

    Raises:
        InputError: the predictions of one score state different data sets.
    """
    first = answered[0]
    for answer in answered:
        if answer.info.trained_on != first.info.trained_on:
            stated, other = (json.dumps(one.info.trained_on) for one in (answer, first))
            problem = f"is {stated}, that of {first.source} is {other}"
            raise InputError(
                f"{answer.source}: metadata.trained_on", problem, "score files with the same trained_on together"
            )
    return None if first.info.trained_on == (first.info.dataset,) else first.info.trained_on


def _errors(
    rules: Sequence[Protocol],
    answered: Mapping[Condition, Mapping[int, PoseTable]],
    truth: TruthTable,
    chosen: TruthTable,
) -> list[dict[int, pd.DataFrame]]:
    """Records of each protocol over all conditions of a group, by seed, with the column ``cameras`` of the input."""
    seeds = {frozenset(by_seed) for by_seed in answered.values()}
    if len(seeds) > 1:
        source = next(iter(next(iter(answered.values())).values())).source
        raise InputError(
            source, "has other seeds than the files of other conditions", "predict every seed in every condition"
        )
    labels = [", ".join(offered.cameras) for offered in answered]
    names = pd.Index(list(dict.fromkeys(labels)), dtype=object)
    severities = [0 if offered.perturbation is None else offered.perturbation.severity for offered in answered]
    parts: list[dict[int, list[pd.DataFrame]]] = [{seed: [] for seed in sorted(next(iter(seeds)))} for _ in rules]
    for label, severity, by_seed in zip(labels, severities, answered.values(), strict=True):
        place = names.get_loc(label)
        for seed, pred in by_seed.items():
            check_origin(pred, truth)
            for of_rule, of_pred in zip(parts, errors_of(rules, pred, chosen), strict=True):
                rows = _with_rigs(of_pred, pred, truth)
                cameras = pd.Categorical.from_codes(np.full(len(rows), place, dtype=np.int8), categories=names)
                rows = rows.assign(cameras=cameras)
                rows = rows.assign(**{SEVERITY: np.float32(severity)}) if len(set(severities)) > 1 else rows
                of_rule[seed].append(rows)
    return [
        {seed: rows[0] if len(rows) == 1 else pd.concat(rows, ignore_index=True) for seed, rows in of_rule.items()}
        for of_rule in parts
    ]


def _predicted_per_true(answered: Mapping[Condition, Mapping[int, PoseTable]], truth: TruthTable) -> float | None:
    """Predicted people per true person, over conditions, seeds and samples with true people; None without any."""
    annotated = np.isfinite(truth.joints_mm).all(axis=2).any(axis=1)
    true = np.bincount(truth.place[annotated], minlength=len(truth.split_keys))
    if not true.any():
        return None
    tables = [table for by_seed in answered.values() for table in by_seed.values()]
    predicted = sum(
        int(((true[positions(table, truth.split_keys)] > 0) & np.isfinite(table.joints_mm).any(axis=(1, 2))).sum())
        for table in tables
    )
    return predicted / (len(tables) * int(true.sum()))


def _over_cameras(
    protocol: Protocol, tables: Sequence[pd.DataFrame], answered: Mapping[Condition, object]
) -> list[float | None]:
    """Score of each set of cameras, mean over seeds, in the order of ``answered``."""
    of_seeds = [protocol.by("cameras", rows) for rows in tables]
    labels = dict.fromkeys(", ".join(offered.cameras) for offered in answered)
    values = np.array([[np.nan if (one := of.get(label)) is None else one for label in labels] for of in of_seeds])
    means = mean_without_nan(values)
    return [float(mean) if np.isfinite(mean) else None for mean in means]


def _with_rigs(rows: pd.DataFrame, answer: PoseTable, truth: TruthTable) -> pd.DataFrame:
    """Add the column ``rig`` if cameras are recovered from several samples: equal for samples of one estimate."""
    frames = answer.info.condition.frames_per_rig
    if frames == 1 or truth.seen_by is None:
        return rows
    rigs = truth.seen_by.together(frames)
    return rows.assign(
        rig=rigs[pd.Index(truth.split_keys).get_indexer(pd.Index(rows["key"].astype(str)))].astype(np.float32)
    )


def group_codes(table: pd.DataFrame) -> tuple[NDArray[np.int64], int]:
    """Group (subject × sequence) of each row as an index in [0, G), in order of name, and the number of groups G."""
    subject, _ = pd.factorize(table["subject"], sort=True)
    sequence, sequences = pd.factorize(table["sequence"], sort=True)
    pair = subject * len(sequences) + sequence
    pairs = np.flatnonzero(np.bincount(pair))
    number = np.zeros(int(pairs[-1]) + 1 if pairs.size else 0, dtype=np.int64)
    number[pairs] = np.arange(len(pairs))
    return number[pair], len(pairs)


def groupings(protocol: Protocol, tables: Sequence[pd.DataFrame]) -> list[tuple[Sequence[NDArray[np.integer]], int]]:
    """Groupings for the bootstrap: sequences, and rigs if all rows have recovered cameras.

    Errors are correlated within a sequence and within an estimated rig. One rig has frames of many sequences, so
    neither grouping covers both, and the wider of the two intervals is reported.
    """
    of_sequences = _of_sequences(protocol, tables)
    if not all("rig" in table and table["rig"].notna().all() for table in tables):
        return [of_sequences]
    sizes = [len(table) for table in tables]
    codes, rigs = pd.factorize(pd.concat([table["rig"] for table in tables], ignore_index=True), sort=True)
    return [of_sequences, (np.split(codes, np.cumsum(sizes)[:-1]), len(rigs))]


def widest(intervals: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    """Widest of several intervals; None if all are None."""
    return max((one for one in intervals if one is not None), key=lambda one: one[1] - one[0], default=None)


def _of_sequences(protocol: Protocol, tables: Sequence[pd.DataFrame]) -> tuple[list[NDArray[np.int64]], int]:
    """`group_codes` of several tables with common group numbers, and the number of groups.

    If records are true poses, all tables have the same rows and groups. Predicted people differ between tables.
    """
    if protocol.records == "truth" or len(tables) == 1:
        codes, groups = group_codes(tables[0])
        return [codes] * len(tables), groups
    codes, groups = group_codes(pd.concat([table[["subject", "sequence"]] for table in tables], ignore_index=True))
    return np.split(codes, np.cumsum([len(table) for table in tables])[:-1]), groups


def is_area(table: pd.DataFrame) -> bool:
    """Whether the records have several severities, so that the score is an area under a curve."""
    return SEVERITY in table and bool(table[SEVERITY].notna().any())


def estimate(
    protocol: Protocol, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Score (R,) of records for each row of ``multiplicity``; with several severities, the area under the curve.

    The area is divided by the range of severities, so it has the unit of the score. NaN if a severity has no score.
    """
    if not is_area(table):
        return protocol.estimate(table, codes, multiplicity)
    severity = table[SEVERITY].to_numpy()
    levels = np.unique(severity)
    values = [protocol.estimate(table[severity == level], codes[severity == level], multiplicity) for level in levels]
    return _mean_height(np.array(values), levels)


def number(protocol: Protocol, table: pd.DataFrame) -> float | None:
    """Score of the records of one seed; None if the score, or its value at any severity, is undefined."""
    return number_or_none(estimate(protocol, table, np.zeros(len(table), dtype=np.int64), np.ones((1, 1)))[0])


def _breakdown(protocol: Protocol, table: pd.DataFrame) -> Breakdown:
    """Breakdown of the records; with several severities, each entry is the area under its curve."""
    if not is_area(table):
        return protocol.breakdown(table)
    levels = np.unique(table[SEVERITY])
    of_levels = [protocol.breakdown(table[table[SEVERITY] == level]) for level in levels]

    def area(field: str, name: str) -> float | None:
        values = np.array([of_level[field].get(name) for of_level in of_levels], dtype=np.float64)  # None: NaN
        return number_or_none(_mean_height(values[:, None], levels)[0])

    return {field: {name: area(field, name) for name in entries} for field, entries in of_levels[0].items()}


def _mean_height(values: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean (R,) of values (S, R) over the range of the levels (S,), by the trapezoidal rule."""
    widths = np.diff(levels)[:, None]
    return np.asarray((widths * (values[1:] + values[:-1]) / 2).sum(axis=0) / (levels[-1] - levels[0]))


def seed_estimates(
    protocol: Protocol,
    tables: Sequence[pd.DataFrame],
    codes: Sequence[NDArray[np.integer]],
    multiplicity: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean score over seeds in each resample, (R,); seeds without a score are left out.

    Args:
        protocol: protocol of the records.
        tables: records of each seed.
        codes: group of each record, in [0, G), one array for each seed.
        multiplicity: (R, G) weight of each group in each resample.
    """
    pairs = zip(tables, codes, strict=True)
    of_seeds = [estimate(protocol, table, of_table, multiplicity) for table, of_table in pairs]
    return mean_without_nan(np.array(of_seeds))


def mean_without_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis without NaN; NaN where no value is finite."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    total = np.where(finite, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _summary(
    table: Table,
    protocol: Protocol,
    signature: Signature,
    tables: dict[int, pd.DataFrame],
    resamples: int,
) -> Score:
    rows = list(tables.values())
    of_sequences, *of_rigs = groupings(protocol, rows)
    aside = {
        name: [int(of_seed[name].sum()) if name in of_seed else 0 for of_seed in rows] for name in ("false", "unjudged")
    }
    judged = [len(of_seed) - false - unjudged for of_seed, false, unjudged in zip(rows, *aside.values(), strict=True)]
    seeds = [SeedValue(seed=seed, value=number(protocol, of_seed)) for seed, of_seed in tables.items()]
    numbers = [of_seed.value for of_seed in seeds if of_seed.value is not None]
    ci95 = widest(
        [
            protocol.interval(seed_estimates(protocol, rows, codes, bootstrap.draws(groups, resamples)))
            for codes, groups in (of_sequences, *of_rigs)
            if groups > 1  # one group resamples to itself: an interval of width zero would be a lie
        ]
    )
    summary = Score(
        table=table.id,
        title=table.title,
        published=table.published,
        headline=table.headline,
        protocol=protocol.name,
        signature=signature,
        unit=protocol.unit,
        lower_is_better=protocol.lower_is_better,
        value=float(np.mean(numbers)) if numbers else None,
        ci95=ci95 if numbers else None,
        n_samples=round(np.mean(judged)),
        n_missing=sum(int(of_seed["missing"].sum()) for of_seed in rows),
        n_left_out=sum(int((of_seed["missing"] & of_seed["error"].isna()).sum()) for of_seed in rows),
        n_false=sum(aside["false"]),
        n_unjudged=sum(aside["unjudged"]),
        counted="people" if protocol.records == "predicted" else "poses",
        n_groups=of_sequences[1],
        seeds=seeds,
        breakdown=_mean_breakdown([_breakdown(protocol, of_seed) for of_seed in rows]),
        secondary={} if signature.severities else _mean_figures([protocol.secondary(of_seed) for of_seed in rows]),
        curves={}
        if signature.severities
        else protocol.curves(rows[0] if len(rows) == 1 else pd.concat(rows, ignore_index=True)),
        notes=list(table.notes),
    )
    return with_training(summary)


def _mean_breakdown(breakdowns: list[Breakdown]) -> Breakdown:
    """Mean of each entry of several breakdowns over the seeds with a number."""
    return {kind: _mean_figures([breakdown[kind] for breakdown in breakdowns]) for kind in breakdowns[0]}


def _mean_figures(of_seeds: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Mean of each named number over the seeds that have it."""

    def mean(name: str) -> float | None:
        numbers = [value for figures in of_seeds if (value := figures[name]) is not None]
        return float(np.mean(numbers)) if numbers else None

    return {name: mean(name) for name in of_seeds[0]}


def check_origin(table: PoseTable, truth: TruthTable) -> None:
    """Raise InputError if the predictions are of another split or of a data set with other content.

    Example:
        >>> check_origin(predictions.read(Path("mine.parquet")), truth)  # doctest: +SKIP
    """
    info = table.info
    is_equal = info.manifest == truth.manifest or (
        info.logical_sha256 is not None and info.logical_sha256 == truth.logical_sha256  # stored in other bytes
    )
    again = f"predict {truth.dataset} again"
    for field, stated, expected, remedy in (
        ("dataset", info.dataset, truth.dataset, f"score it on {info.dataset}, or {again}"),
        ("condition.split", info.condition.split, truth.split, f"predict split {truth.split}"),
        (
            "manifest",
            info.manifest,
            info.manifest if is_equal else truth.manifest,
            f"{again}, or correct metadata.dataset",
        ),
    ):
        if stated != expected:
            raise InputError(f"{table.source}: metadata.{field}", f"is {stated!r}, scored against {expected!r}", remedy)
