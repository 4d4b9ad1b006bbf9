"""From predictions to scores: the one function that the score stage calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.protocols import bootstrap
from poseboard.protocols.base import Board, Breakdown, Protocol, TruthTable, ViewSet, view_text
from poseboard.protocols.decisions import with_training
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.scores import Curve, Score, SeedValue, Signature


@dataclass(frozen=True, eq=False)
class Scored:
    """What scoring one method on one table gives.

    Args:
        scores: one a set of cameras; most tables have one, and protocols that pool give one.
        errors: the protocol's rows of all sets and seeds, with the columns ``views`` (as in the signature),
            ``cameras`` (the set that the row is from) and ``seed`` added.
    """

    scores: list[Score]
    errors: pd.DataFrame


def score(
    board: Board,
    predictions: Mapping[str, Mapping[int, PoseTable]],
    truth: TruthTable,
    resamples: int = bootstrap.RESAMPLES,
) -> Scored:
    """Score one method on one table.

    The number is the mean over seeds of each seed's number; its interval is over the groups that are evaluated and,
    where there are several, over seeds (:mod:`poseboard.protocols.decisions`). Sets of cameras without predictions
    that the protocol judges have no score. Where a table lets a root come from more cameras than are seen, predictions
    of a method that was handed no root are taken as they are.

    Args:
        board: the table.
        predictions: name of the set of cameras (`ViewSet.name`) -> training seed -> predictions.
        truth: the whole split; the board chooses its rows.
        resamples: of the bootstrap.

    Raises:
        InputError: predictions of another split, data set state or set of cameras, unknown keys, unusable joints.
        ValueError: no set of cameras has predictions, or the table is for another data set or split.
    """
    if (board.dataset, board.split) != (truth.dataset, truth.split):
        raise ValueError(f"table {board.id} is for {board.dataset}/{board.split}, not {truth.dataset}/{truth.split}")
    protocol = board.rule()
    chosen = board.select(truth)
    wanted = board.view_sets(truth.views)
    sets = {view_set: found for view_set in wanted if (found := answers(protocol, predictions, view_set, truth.views))}
    if not sets:
        raise ValueError(f"table {board.id}: no predictions for any of {[s.name(truth.views) for s in wanted]}")
    scores: list[Score] = []
    errors: list[pd.DataFrame] = []
    grows = not protocol.pools and len({len(view_set.cameras) for view_set in wanted}) > 1
    for part in [list(sets)] if protocol.pools else [[view_set] for view_set in sets]:
        true_root = any(table.info.true_root for view_set in part for table in sets[view_set].values())
        stated = [view_set.plain for view_set in part] if true_root else part
        views = view_text(stated, truth.views, spelt=board.views != "all")
        tables = _tables(protocol, {view_set: sets[view_set] for view_set in part}, truth, chosen)
        title = f"{board.title}, {len(part[0].cameras)} cameras" if grows else board.title
        signature = protocol.signature(board, truth.skeleton, views)
        if true_root:  # another number than that of methods that had to find it
            given = "root" if signature.given == "nothing" else f"root, {signature.given}"
            signature = signature.model_copy(update={"given": given})
        scores.append(_summary(board, protocol, title, signature, tables, resamples))
        errors += [
            rows.assign(seed=seed, views=pd.Categorical([views]).repeat(len(rows))) for seed, rows in tables.items()
        ]
    if grows and len(scores) > 1:
        sweep = Curve(
            x=[float(len(view_set.cameras)) for view_set in sets],
            y=[found.value for found in scores],
            x_label="cameras",
            y_label=f"{scores[0].signature.metric} ({scores[0].unit})",
        )
        scores = [found.model_copy(update={"curves": {**found.curves, "cameras": sweep}}) for found in scores]
    together = errors[0] if len(errors) == 1 else pd.concat(errors, ignore_index=True)
    return Scored(scores, together.astype({"views": "category", "cameras": "category"}))


def answers(
    protocol: Protocol, predictions: Mapping[str, Mapping[int, PoseTable]], view_set: ViewSet, names: Sequence[str]
) -> Mapping[int, PoseTable]:
    """Predictions by seed from a set of cameras; those without a root where none with such a root are there.

    None where the protocol does not judge such predictions.
    """
    found = predictions.get(view_set.name(names))
    if not found:
        plain = predictions.get(view_set.plain.name(names), {})
        found = plain if all(table.info.root_views is None for table in plain.values()) else {}
    return found if all(protocol.judges(table.info) for table in found.values()) else {}


def _tables(
    protocol: Protocol, sets: Mapping[ViewSet, Mapping[int, PoseTable]], truth: TruthTable, chosen: TruthTable
) -> dict[int, pd.DataFrame]:
    """The protocol's rows of all sets together by seed, with the column ``cameras``: the set of each row."""
    seeds = {frozenset(by_seed) for by_seed in sets.values()}
    if len(seeds) > 1:
        source = next(iter(next(iter(sets.values())).values())).source
        raise InputError(source, "its set of cameras has other seeds than the sets beside it", "predict all of them")
    names = pd.Index([view_text([view_set.plain], truth.views) for view_set in sets], dtype=object)
    found: dict[int, list[pd.DataFrame]] = {seed: [] for seed in sorted(next(iter(seeds)))}
    for place, (view_set, by_seed) in enumerate(sets.items()):
        for seed, parts in found.items():
            _check_origin(by_seed[seed], truth, view_set)
            rows = protocol.errors(by_seed[seed], chosen)
            cameras = pd.Categorical.from_codes(np.full(len(rows), place, dtype=np.int8), categories=names)
            parts.append(rows.assign(cameras=cameras))
    return {seed: parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True) for seed, parts in found.items()}


def group_codes(table: pd.DataFrame) -> tuple[NDArray[np.int64], int]:
    """Group (subject × sequence) of each row as a number in [0, G), in order of name; and G."""
    subject, _ = pd.factorize(table["subject"], sort=True)
    sequence, sequences = pd.factorize(table["sequence"], sort=True)
    pair = subject * len(sequences) + sequence
    there = np.flatnonzero(np.bincount(pair))
    number = np.zeros(int(there[-1]) + 1 if there.size else 0, dtype=np.int64)
    number[there] = np.arange(len(there))
    return number[pair], len(there)


def seed_estimates(
    protocol: Protocol, tables: list[pd.DataFrame], codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean over seeds of the number under each resample, (R,); a seed without a number there is left out.

    Args:
        protocol: that judged.
        tables: one a seed, of the same people in the same order.
        codes: (N,) their groups.
        multiplicity: (R, G) how often each counts.
    """
    return mean_without_nan(np.array([protocol.estimate(table, codes, multiplicity) for table in tables]))


def mean_without_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is there; NaN where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _summary(
    board: Board,
    protocol: Protocol,
    title: str,
    signature: Signature,
    tables: dict[int, pd.DataFrame],
    resamples: int,
) -> Score:
    rows = list(tables.values())
    codes, groups = group_codes(rows[0])
    seeds = [SeedValue(seed=seed, value=protocol.summarise(table)) for seed, table in tables.items()]
    given = [found.value for found in seeds if found.value is not None]
    ci95 = None
    if groups > 1:  # one group resamples to itself: an interval of width zero would be a lie
        ci95 = bootstrap.interval(seed_estimates(protocol, rows, codes, bootstrap.draws(groups, resamples)))
    found = Score(
        table=board.id,
        title=title,
        protocol=protocol.name,
        signature=signature,
        unit=protocol.unit,
        lower_is_better=protocol.lower_is_better,
        value=float(np.mean(given)) if given else None,
        ci95=ci95 if given else None,
        n_samples=len(rows[0]),
        n_missing=sum(int(table["missing"].sum()) for table in rows),
        n_groups=groups,
        seeds=seeds,
        breakdown=_mean_breakdown([protocol.breakdown(table) for table in rows]),
        curves=protocol.curves(rows[0] if len(rows) == 1 else pd.concat(rows, ignore_index=True)),
        notes=list(board.notes),
    )
    return with_training(found)


def _mean_breakdown(breakdowns: list[Breakdown]) -> Breakdown:
    """Entry by entry, the mean over seeds of those that have a number."""

    def mean(field: str, name: str) -> float | None:
        found = [b[field][name] for b in breakdowns]
        given = [value for value in found if value is not None]
        return float(np.mean(given)) if given else None

    return {field: {name: mean(field, name) for name in entries} for field, entries in breakdowns[0].items()}


def _check_origin(table: PoseTable, truth: TruthTable, view_set: ViewSet) -> None:
    """InputError unless the predictions say that they are of this split, on this data, from these cameras."""
    info = table.info
    roots = view_set.roots if info.root_views is None else info.root_views
    for field, found, wanted in (
        ("dataset", info.dataset, truth.dataset),
        ("split", info.split, truth.split),
        ("manifest", info.manifest, truth.manifest),
        ("views", ", ".join(sorted(info.views)), ", ".join(sorted(view_set.cameras))),
        ("root_views", ", ".join(sorted(roots)), ", ".join(sorted(view_set.roots))),
    ):
        if found != wanted:
            raise InputError(
                f"{table.source}: metadata.{field}", f"is {found!r}, scored against {wanted!r}", "predict it again"
            )
