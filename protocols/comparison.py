"""Paired comparisons of methods within one table: differences with intervals, and intervals of ranks.

Two methods are compared on the poses that have a number for both in every seed, under the same resamples of groups.
So difficulty common to both cancels. A missing pose has no error in millimetres, but it has a PCK: its joints are
wrong. Predicted people cannot be paired. Methods are then compared on the samples that have a number for both, with
all records of these samples (``Protocol.paired_on``).

Ranks are over all poses, and only complete rows have one (`Score.complete`). A method chooses which poses it leaves
out and can choose the hard ones: its most confident fifth has a much smaller error than the whole. Any rule that ranks
such a row, on its own poses or on common ones, rewards leaving poses out. Bounds have no rank either.

:mod:`poseboard.protocols.decisions` decides which differences are significant: with the spread between training runs,
and for all pairs of ranked rows at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.protocols import area, bootstrap
from poseboard.protocols.base import Protocol
from poseboard.protocols.decisions import judge, places
from poseboard.protocols.records import PairedDifference, Score, SeedValue, Signature, TableComparison
from poseboard.protocols.scoring import Scored, groupings, seed_estimates, widest
from poseboard.protocols.table import Table


def compare(
    table: Table,
    methods: Mapping[str, Scored],
    resamples: int = bootstrap.RESAMPLES,
    *,
    learned: Collection[str] | None = None,
    reference: Mapping[str, Sequence[Score]] | None = None,
    bounds: Collection[str] = (),
) -> list[TableComparison]:
    """Compare methods on one table, once for each signature that at least two of them have.

    Of a curve over severities only the areas are compared, not each severity.

    Args:
        table: the table.
        methods: method -> its scores on this table with their per-pose errors.
        resamples: number of resamples of the bootstrap.
        learned: methods with trained weights; None: all.
        reference: method -> its scores in a run of several seeds.
        bounds: methods that are bounds (`ScoreFile.bound`).

    Returns:
        Pairs in the order of the scores (a before b). No pairs and no ranks for fewer than two common groups: one group
        resamples to itself, and its interval would have width zero. Pairs with a bound or an incomplete row are listed
        but never decided.
    """
    protocol = table.rule()
    sign = 1 if protocol.lower_is_better else -1
    curves = {_kind(score.signature) for scored in methods.values() for score in scored.scores if _is_area(score)}
    entries = [
        (sign * score.value, method, score, scored.errors[scored.errors["group"] == score.group])
        for method, scored in methods.items()
        for score in scored.scores
        if score.table == table.id and score.value is not None
        if _is_area(score) or _kind(score.signature) not in curves
    ]
    members: dict[str, dict[str, dict[int, pd.DataFrame]]] = {}
    scores: dict[str, dict[str, Score]] = {}
    signatures = {}
    for _, method, score, rows in sorted(entries, key=lambda entry: entry[:2]):
        key = str(score.signature)
        signatures[key] = (score.signature, score.unit)
        seeds = sorted(int(seed) for seed in rows["seed"].unique())
        members.setdefault(key, {})[method] = {
            seed: rows[rows["seed"] == seed].reset_index(drop=True) for seed in seeds
        }
        scores.setdefault(key, {})[method] = score
    return [
        judge(
            TableComparison(
                table=table.id,
                signature=signatures[key][0],
                unit=signatures[key][1],
                pairs=_pairs(protocol, tables, compared, resamples),
                ranks=places(ranked),
                unranked=[method for method in tables if method not in ranked],
            ),
            scores[key],
            {
                method: score
                for method, several in (reference or {}).items()
                for score in several
                if score.table == table.id and str(score.signature) == key
            },
            methods if learned is None else learned,
        )
        for key, tables in members.items()
        if len(tables) > 1
        for compared in (_compared(protocol, tables),)
        for ranked in ({name: one for name, one in scores[key].items() if one.complete and name not in bounds},)
    ]


def _is_area(score: Score) -> bool:
    return bool(score.signature.severities)


def _kind(signature: Signature) -> tuple[str, int] | None:
    """Kind and seed of a perturbation; None without one."""
    return None if signature.perturbation is None else (signature.perturbation.kind, signature.perturbation.seed)


Tables = Mapping[str, Mapping[int, pd.DataFrame]]
"""Method -> seed -> the protocol's rows."""


Compared = dict[tuple[str, int], pd.MultiIndex]
"""Method and seed -> what each of its rows is about: a person, or a sample."""


def _compared(protocol: Protocol, tables: Tables) -> Compared:
    """Person or sample of each row of a table; computed once, since methods are compared in hundreds of pairs."""
    severity = [area.SEVERITY] if area.is_area(_any(tables)) else []
    person = ["key", "person", "cameras", *severity]
    return {
        (method, seed): pd.MultiIndex.from_frame(
            rows[_of_sample(rows)].astype(str) if protocol.paired_on == "sample" else rows[person]
        )
        for method, seeds in tables.items()
        for seed, rows in seeds.items()
    }


def _common(protocol: Protocol, tables: Tables, compared: Compared) -> dict[str, dict[int, pd.DataFrame]]:
    """The rows of every method and seed for what has a number in all of them: people, in one order, or samples."""
    by_person = protocol.paired_on == "person"
    common: pd.MultiIndex | None = None
    for method, seeds in tables.items():
        for seed, rows in seeds.items():
            index, has_number = compared[method, seed], rows["error"].notna().to_numpy()
            answered = index if has_number.all() else index[has_number]
            if common is None:
                common = answered if by_person else answered.unique()
            elif not common.equals(answered):
                common = common[common.isin(answered)]
    assert common is not None
    return {
        method: {seed: _of(common, rows, compared[method, seed], by_person) for seed, rows in seeds.items()}
        for method, seeds in tables.items()
    }


def _of(common: pd.MultiIndex, rows: pd.DataFrame, index: pd.MultiIndex, by_person: bool) -> pd.DataFrame:
    """The rows about what is common: those of people in its order."""
    if index.equals(common):  # most methods predict everything
        return rows
    chosen = rows.set_axis(index).loc[common] if by_person else rows[index.isin(common)]
    return chosen.reset_index(drop=True)


def _n_samples(protocol: Protocol, tables: Tables) -> int:
    """Number of compared units: poses, or samples if the protocol is paired on samples."""
    rows = _any(tables)
    return len(rows) if protocol.paired_on == "person" else len(rows[_of_sample(rows)].drop_duplicates())


def _of_sample(rows: pd.DataFrame) -> list[str]:
    """Columns that identify a sample under a condition."""
    return ["key", "cameras", *([area.SEVERITY] if area.is_area(rows) else [])]


def _estimates(
    protocol: Protocol, tables: Tables, resamples: int, codes: Sequence[NDArray[np.integer]], groups: int
) -> list[NDArray[np.float64]]:
    """Each method's number, and then its resamples, (1 + R,), under the same draws of one of `groupings`."""
    multiplicity = np.ones((1, groups))
    if resamples:
        multiplicity = np.vstack([multiplicity, bootstrap.draws(groups, resamples)])
    estimates = []
    first = 0
    for seeds in tables.values():
        of_seeds = codes[first : first + len(seeds)]
        estimates.append(seed_estimates(protocol, list(seeds.values()), of_seeds, multiplicity))
        first += len(seeds)
    return estimates


class _Paired:
    """Numbers of pairs of methods over their common rows. Numbers over all rows are computed once.

    Most methods have a number for everything. Then their rows are about the same truths in the same order, and a
    method's number and its resamples are the same in each pair.

    Args:
        protocol: the protocol of the table.
        tables: rows of all methods.
        compared: person or sample of each row.
        resamples: number of resamples of the bootstrap.
    """

    def __init__(self, protocol: Protocol, tables: Tables, compared: Compared, resamples: int) -> None:
        self._protocol, self._tables, self._compared, self._resamples = protocol, tables, compared, resamples
        self._of_whole: dict[str, NDArray[np.float64]] = {}
        self._of_seeds: dict[str, dict[int, float | None]] = {}
        self._groups: tuple[pd.MultiIndex, NDArray[np.integer], int] | None = None

    def estimates(self, both: Tables) -> tuple[list[list[NDArray[np.float64]]], int]:
        """`_estimates` under each grouping with more than one group, and the number of groups in the first grouping.

        Args:
            both: the two methods -> their common records.
        """
        whole = self._groups_of_whole(both)
        if whole is None:
            ways = [way for way in groupings(self._protocol, _rows(both)) if way[1] > 1]
            found = [_estimates(self._protocol, both, self._resamples, *way) for way in ways]
            return found, ways[0][1] if ways else 0
        codes, groups = whole
        if groups < 2:
            return [], 0
        for method, seeds in both.items():
            if method not in self._of_whole:
                of_method = {method: seeds}
                estimated = _estimates(self._protocol, of_method, self._resamples, [codes] * len(seeds), groups)
                self._of_whole[method] = estimated[0]
        return [[self._of_whole[method] for method in both]], groups

    def _groups_of_whole(self, both: Tables) -> tuple[NDArray[np.integer], int] | None:
        """Group of each row, and the number of groups, if two methods are compared over all rows of the table.

        None if rows are left out or differ from those of the first such pair, and for predicted people and recovered
        rigs, whose groups do not follow from the true poses.
        """
        if self._protocol.records != "truth" or any("rig" in rows for rows in _rows(both)):
            return None
        if not all(map(self._has_all, both, both.values())):
            return None
        index = next(self._compared[method, seed] for method, seeds in both.items() for seed in seeds)
        if self._groups is None:
            codes, groups = groupings(self._protocol, _rows(both))[0]
            self._groups = index, codes[0], groups
        known, of_row, count = self._groups
        return (of_row, count) if known.equals(index) else None

    def _has_all(self, method: str, seeds: Mapping[int, pd.DataFrame]) -> bool:
        """Whether ``seeds`` contains all rows of a method."""
        return all(rows is self._tables[method][seed] for seed, rows in seeds.items())

    def of_equal_seeds(self, both: Tables) -> list[SeedValue]:
        """Difference for each seed; empty if the two methods have different seeds."""
        a, b = both.values()
        if a.keys() != b.keys():
            return []
        of_a, of_b = (self._numbers(method, seeds) for method, seeds in both.items())
        numbers = ((seed, of_a[seed], of_b[seed]) for seed in a)
        return [SeedValue(seed=seed, value=None if x is None or y is None else x - y) for seed, x, y in numbers]

    def _numbers(self, method: str, seeds: Mapping[int, pd.DataFrame]) -> dict[int, float | None]:
        """The number of each seed."""
        is_whole = self._has_all(method, seeds)
        if is_whole and method in self._of_seeds:
            return self._of_seeds[method]
        numbers = {seed: area.summarise(self._protocol, rows) for seed, rows in seeds.items()}
        if is_whole:
            self._of_seeds[method] = numbers
        return numbers


def _rows(tables: Tables) -> list[pd.DataFrame]:
    return [rows for seeds in tables.values() for rows in seeds.values()]


def _any(tables: Tables) -> pd.DataFrame:
    return next(iter(next(iter(tables.values())).values()))


def _pairs(protocol: Protocol, tables: Tables, compared: Compared, resamples: int) -> list[PairedDifference]:
    pairs = []
    paired = _Paired(protocol, tables, compared, resamples)
    for a, b in combinations(tables, 2):
        both = _common(protocol, {a: tables[a], b: tables[b]}, compared)
        drawn, groups = paired.estimates(both)
        ci95 = widest([protocol.interval(of_a[1:] - of_b[1:]) for of_a, of_b in drawn])
        if ci95 is None:
            continue
        of_a, of_b = drawn[0]
        pairs.append(
            PairedDifference(
                a=a,
                b=b,
                difference=float(of_a[0] - of_b[0]),
                ci95=ci95,
                n_samples=_n_samples(protocol, both),
                n_groups=groups,
                seeds=paired.of_equal_seeds(both),
            )
        )
    return pairs
