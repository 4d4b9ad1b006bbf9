"""Which method is better, and how sure that is: paired differences and rank intervals within one table.

Two methods are compared on the poses that both predict in every seed, under the same resamples of the groups, so that
what is hard for both cancels; ranks are over the poses that all methods predict.
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
        Pairs in the order of the ranks (a before b); no pair where less than two groups are common, no ranks where
        no pose is common to all.
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
    """The rows of every method and seed for the people that all of them predict, in the same order."""
    indexed = {
        method: [seed.set_index(["key", "person"], drop=False) for seed in seeds] for method, seeds in tables.items()
    }
    common: pd.Index | None = None
    for seeds in indexed.values():
        for seed in seeds:
            given = seed.index[~seed["missing"].to_numpy(dtype=bool)]
            common = given if common is None else common[common.isin(given)]
    assert common is not None
    return {method: [seed.loc[common].reset_index(drop=True) for seed in seeds] for method, seeds in indexed.items()}


def _estimates(
    protocol: Protocol, tables: dict[str, list[pd.DataFrame]], multiplicity: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.array([seed_estimates(protocol, seeds, multiplicity) for seeds in tables.values()])


def _pairs(protocol: Protocol, tables: dict[str, list[pd.DataFrame]], resamples: int) -> list[PairedDifference]:
    pairs = []
    for a, b in combinations(tables, 2):
        both = _common({a: tables[a], b: tables[b]})
        codes_from = both[a][0]
        groups = group_codes(codes_from)[1]
        if groups < 2:
            continue
        point = _estimates(protocol, both, np.ones((1, groups)))
        estimates = _estimates(protocol, both, bootstrap.draws(groups, resamples))
        ci95 = bootstrap.interval(estimates[0] - estimates[1])
        if ci95 is None:
            continue
        pairs.append(
            PairedDifference(
                a=a,
                b=b,
                difference=float(point[0, 0] - point[1, 0]),
                ci95=ci95,
                n_samples=len(codes_from),
                n_groups=groups,
            )
        )
    return pairs


def _ranks(protocol: Protocol, tables: dict[str, list[pd.DataFrame]], resamples: int) -> list[Rank]:
    common = _common(tables)
    groups = group_codes(next(iter(common.values()))[0])[1]
    if groups < 1:
        return []
    point = bootstrap.ranks(_estimates(protocol, common, np.ones((1, groups))), protocol.lower_is_better)[:, 0]
    places = bootstrap.ranks(_estimates(protocol, common, bootstrap.draws(groups, resamples)), protocol.lower_is_better)
    ranks = [
        Rank(method=method, rank=int(point[i]), ci95=bootstrap.rank_interval(places[i]))
        for i, method in enumerate(common)
    ]
    return sorted(ranks, key=lambda rank: (rank.rank, rank.method))
