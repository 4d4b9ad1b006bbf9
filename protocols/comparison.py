"""Which method is better, and how sure that is: paired differences and rank intervals within one table.

Two methods are compared on the poses that have a number for both in every seed, under the same resamples of the groups,
so that what is hard for both cancels; ranks are over the poses that have one for all methods. An error in millimetres
has none where a pose is missing; PCK has, since what is missing is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.protocols import bootstrap
from poseboard.protocols.base import Board, Protocol
from poseboard.protocols.scores import PairedDifference, Rank, TableComparison
from poseboard.protocols.scoring import Scored, group_codes, seed_estimates


def compare(board: Board, methods: Mapping[str, Scored], resamples: int = bootstrap.RESAMPLES) -> list[TableComparison]:
    """Compare methods on one table, once for each signature that at least two of them have.

    Args:
        board: the table.
        methods: name of the method -> its scores of this table and their per-pose errors.
        resamples: of the bootstrap.

    Returns:
        Pairs in the order of the scores (a before b); no pair and no ranks where less than two groups are common: one
        group resamples to itself, and its interval of width zero would be a lie.
    """
    protocol = board.rule()
    sign = 1 if protocol.lower_is_better else -1
    found = [
        (sign * score.value, method, score, scored.errors[scored.errors["views"] == score.signature.views])
        for method, scored in methods.items()
        for score in scored.scores
        if score.table == board.id and score.value is not None
    ]
    members: dict[str, dict[str, list[pd.DataFrame]]] = {}
    signatures = {}
    for _, method, score, rows in sorted(found, key=lambda entry: entry[:2]):
        key = str(score.signature)
        signatures[key] = (score.signature, score.unit)
        members.setdefault(key, {})[method] = [table for _, table in rows.groupby("seed", sort=True)]
    return [
        TableComparison(
            table=board.id,
            signature=signatures[key][0],
            unit=signatures[key][1],
            pairs=_pairs(protocol, tables, resamples),
            ranks=_ranks(protocol, tables, resamples),
        )
        for key, tables in members.items()
        if len(tables) > 1
    ]


def _common(tables: Mapping[str, list[pd.DataFrame]]) -> dict[str, list[pd.DataFrame]]:
    """The rows of every method and seed for the people that have a number in all of them, in the same order."""
    person = ["key", "person", "cameras"]
    indexed = {method: [seed.set_index(person, drop=False) for seed in seeds] for method, seeds in tables.items()}
    common: pd.Index | None = None
    for seeds in indexed.values():
        for seed in seeds:
            given = seed.index[seed["error"].notna().to_numpy()]
            common = given if common is None else common[common.isin(given)]
    assert common is not None
    return {method: [seed.loc[common].reset_index(drop=True) for seed in seeds] for method, seeds in indexed.items()}


def _estimates(
    protocol: Protocol, tables: dict[str, list[pd.DataFrame]], resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Each method's number (M,) and its resamples (M, R) under the same draws; and the number of groups."""
    codes, groups = group_codes(next(iter(tables.values()))[0])
    if not groups:
        return np.full(len(tables), np.nan), np.full((len(tables), 0), np.nan), 0
    multiplicity = np.vstack([np.ones((1, groups)), bootstrap.draws(groups, resamples)])
    found = np.array([seed_estimates(protocol, seeds, codes, multiplicity) for seeds in tables.values()])
    return found[:, 0], found[:, 1:], groups


def _pairs(protocol: Protocol, tables: dict[str, list[pd.DataFrame]], resamples: int) -> list[PairedDifference]:
    pairs = []
    for a, b in combinations(tables, 2):
        both = _common({a: tables[a], b: tables[b]})
        point, estimates, groups = _estimates(protocol, both, resamples)
        if groups < 2 or (ci95 := bootstrap.interval(estimates[0] - estimates[1])) is None:
            continue
        pairs.append(
            PairedDifference(
                a=a,
                b=b,
                difference=float(point[0] - point[1]),
                ci95=ci95,
                n_samples=len(both[a][0]),
                n_groups=groups,
            )
        )
    return pairs


def _ranks(protocol: Protocol, tables: dict[str, list[pd.DataFrame]], resamples: int) -> list[Rank]:
    common = _common(tables)
    point, estimates, groups = _estimates(protocol, common, resamples)
    if groups < 2:
        return []
    rank = bootstrap.ranks(point[:, None], protocol.lower_is_better)[:, 0]
    places = bootstrap.ranks(estimates, protocol.lower_is_better)
    ranks = [
        Rank(method=method, rank=int(rank[i]), ci95=bootstrap.rank_interval(places[i]))
        for i, method in enumerate(common)
    ]
    return sorted(ranks, key=lambda found: (found.rank, found.method))
