"""Paired comparisons within one table: of two methods, and of one method in two splits.

Two methods are compared on the poses that have a number for both in every seed, under the same resamples of groups.
So difficulty common to both cancels. A missing pose has no error in millimetres, but it has a PCK: its joints are
wrong. Predicted people cannot be paired. Methods are then compared on the samples that have a number for both, with
all records of these samples (``Protocol.paired_on``).

Ranks are over all poses, and only complete rows have one (`Score.complete`). A method chooses which poses it leaves
out and can choose the hard ones: its most confident fifth has a much smaller error than the whole. Any rule that ranks
such a row, on its own poses or on common ones, rewards leaving poses out. Bounds have no rank either.

:mod:`poseboard.protocols.decisions` decides which differences are significant: with the spread between training runs,
and for all pairs of ranked rows at once.

A table with a control has the same people in the same poses on the training split (`Table.control`). Two numbers
of one protocol differ for many reasons, such as other people, actions and cameras; a control leaves only one of them.
The increase of an error over the control is over poses with a number in both, and people are resampled together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from poseboard.datasets.errors import InputError
from poseboard.protocols import bootstrap, decisions
from poseboard.protocols.base import Protocol
from poseboard.protocols.decisions import Spread, judge, places
from poseboard.protocols.records import (
    ControlComparison,
    Increase,
    PairedDifference,
    Score,
    SeedValue,
    Signature,
    TableComparison,
)
from poseboard.protocols.scoring import SEVERITY, Scored, estimate, groupings, is_area, number, seed_estimates, widest
from poseboard.protocols.table import Table

BySeed = dict[int, pd.DataFrame]
"""Training seed -> records of a method."""


def compare(
    table: Table,
    methods: Mapping[str, Scored],
    resamples: int = bootstrap.RESAMPLES,
    *,
    learned: Collection[str] | None = None,
    reference: Mapping[str, Sequence[Score]] | None = None,
    bounds: Collection[str] = (),
) -> list[TableComparison]:
    """Compare methods on one table, once for each signature that at least two methods share.

    For a curve over severities, only the areas under the curves are compared.

    Args:
        table: the table.
        methods: method -> scores on this table with the errors of all poses.
        resamples: number of resamples of the bootstrap.
        learned: methods with trained weights; None: all.
        reference: method -> its scores in a run of several seeds.
        bounds: methods that are bounds (`ScoreFile.bound`).

    Returns:
        Comparisons with pairs in the order of the scores (a before b). With fewer than two common groups there are no
        pairs and no ranks, because resampling one group gives an interval of width zero. Pairs with a bound or an
        incomplete row are listed without a decision.
    """
    protocol = table.rule()
    sign = 1 if protocol.lower_is_better else -1
    every = [(method, score) for method, scored in methods.items() for score in scored.scores]
    curves = {_kind(score.signature) for _, score in every if score.signature.severities}
    members: dict[str, dict[str, Score]] = {}
    for _, method, score in sorted(
        (
            (sign * score.value, method, score)
            for method, score in every
            if score.table == table.id and score.value is not None
            if score.signature.severities or _kind(score.signature) not in curves
        ),
        key=lambda entry: entry[:2],
    ):
        members.setdefault(str(score.signature), {})[method] = score
    compared = []
    for key, scores in members.items():
        if len(scores) < 2:
            continue
        ranked = {name: score for name, score in scores.items() if score.complete and name not in bounds}
        several = {
            method: score
            for method, of_method in (reference or {}).items()
            for score in of_method
            if score.table == table.id and str(score.signature) == key
        }
        first = next(iter(scores.values()))
        records = {name: records_by_seed(methods[name], score) for name, score in scores.items()}
        unjudged = TableComparison(
            table=table.id,
            signature=first.signature,
            unit=first.unit,
            pairs=paired_differences(protocol, records, resamples),
            ranks=places(ranked),
            unranked=[method for method in scores if method not in ranked],
        )
        compared.append(judge(unjudged, scores, several, methods if learned is None else learned))
    return compared


def _kind(signature: Signature) -> tuple[str, int] | None:
    """Kind and seed of a perturbation; None without one."""
    return None if signature.perturbation is None else (signature.perturbation.kind, signature.perturbation.seed)


def records_by_seed(scored: Scored, score: Score) -> BySeed:
    """Records of one score by training seed.

    Args:
        scored: scores of a method on a table, with their records.
        score: one of these scores.

    Example:
        >>> list(records_by_seed(scored, scored.scores[0]))  # doctest: +SKIP
        [0, 1, 2]
    """
    rows = scored.errors[scored.errors["group"] == score.group]
    return {seed: rows[rows["seed"] == seed].reset_index(drop=True) for seed in sorted(map(int, rows["seed"].unique()))}


def paired_differences(
    protocol: Protocol, methods: Mapping[str, BySeed], resamples: int = bootstrap.RESAMPLES
) -> list[PairedDifference]:
    """Differences a - b of all pairs of methods, on the poses or samples with a number for both methods.

    The intervals are over groups (subject × sequence) only; :func:`poseboard.protocols.decisions.judge` adds the
    spread between training runs.

    Args:
        protocol: protocol of the records.
        methods: method -> its records by training seed: all records of one score, or the same subset for all methods.
        resamples: number of resamples of the bootstrap.

    Returns:
        Pairs in the order of ``methods``. Pairs with fewer than two common groups are left out.

    Example:
        >>> pair = paired_differences(table.rule(), {"A": records_of_a, "B": records_of_b})[0]  # doctest: +SKIP
        >>> pair.difference, pair.ci95  # doctest: +SKIP
        (-0.5, (-0.9, -0.1))
    """
    units = {method: [_units(protocol, rows) for rows in by_seed.values()] for method, by_seed in methods.items()}
    pairs = []
    for a, b in combinations(methods, 2):
        rows = [*methods[a].values(), *methods[b].values()]
        common = _common(protocol, rows, units[a] + units[b])
        seeds, split = [*methods[a], *methods[b]], len(methods[a])
        drawn, n_groups = [], 0
        for codes, groups in groupings(protocol, common):
            if groups > 1:
                multiplicity = np.vstack([np.ones((1, groups)), bootstrap.draws(groups, resamples)])
                of_a, of_b = (
                    seed_estimates(protocol, common[part], codes[part], multiplicity)
                    for part in (slice(split), slice(split, None))
                )
                drawn.append(of_a - of_b)
                n_groups = n_groups or groups
        ci95 = widest([protocol.interval(differences[1:]) for differences in drawn])
        if ci95 is None:
            continue
        of_seeds = []
        if seeds[:split] == seeds[split:]:
            for seed, x, y in zip(seeds, common[:split], common[split:], strict=False):
                ours, theirs = number(protocol, x), number(protocol, y)
                value = None if ours is None or theirs is None else ours - theirs
                of_seeds.append(SeedValue(seed=seed, value=value))
        pairs.append(
            PairedDifference(
                a=a,
                b=b,
                difference=float(drawn[0][0]),
                ci95=ci95,
                n_samples=len(common[0]) if protocol.paired_on == "person" else _units(protocol, common[0]).nunique(),
                n_groups=n_groups,
                seeds=of_seeds,
            )
        )
    return pairs


def _units(protocol: Protocol, rows: pd.DataFrame) -> pd.MultiIndex:
    """Index that identifies the compared unit (person or sample) and the condition of each record."""
    severity = [SEVERITY] if is_area(rows) else []
    if protocol.paired_on == "person":
        return pd.MultiIndex.from_frame(rows[["key", "person", "cameras", *severity]])
    return pd.MultiIndex.from_frame(rows[["key", "cameras", *severity]].astype(str))


def _common(protocol: Protocol, several: Sequence[pd.DataFrame], units: Sequence[pd.MultiIndex]) -> list[pd.DataFrame]:
    """Reduce tables of records to the people or samples that have a number in all tables, in one order."""
    by_person = protocol.paired_on == "person"
    with_number = [index[rows["error"].notna().to_numpy()] for rows, index in zip(several, units, strict=True)]
    common = with_number[0] if by_person else with_number[0].unique()
    for numbered in with_number[1:]:
        if not common.equals(numbered):
            common = common[common.isin(numbered)]
    chosen = []
    for rows, index in zip(several, units, strict=True):
        if index.equals(common):  # most methods predict everything
            chosen.append(rows)
        else:
            left = rows.set_axis(index).loc[common] if by_person else rows[index.isin(common)]
            chosen.append(left.reset_index(drop=True))
    return chosen


def increases(
    table: Table,
    control: Table,
    methods: Mapping[str, Scored],
    in_control: Mapping[str, Scored],
    resamples: int = bootstrap.RESAMPLES,
) -> list[ControlComparison]:
    """Increase of each method's error over the control, percent, for each signature of the table.

    A method is included if it has scores on both tables with the same seeds, and signatures that differ only in the
    split. Poses with a number on both tables count. Two subjects are the same person if their names are equal, or equal
    except for the letters before their number (R07 and K07).

    Args:
        table: table with a control.
        control: its control (`Table.check_control`).
        methods: method -> its scores on the table with their per-pose errors.
        in_control: method -> its scores on the control with their per-pose errors.
        resamples: number of resamples of the bootstrap over people.

    Raises:
        InputError: the control has none of the people in the same sequences.

    Example:
        >>> increases(tables["rigs"], tables["rigs-known"], unseen, known)[0].increases[0].value  # doctest: +SKIP
        7.5
    """
    protocol = table.rule()
    found: dict[str, ControlComparison] = {}
    for method in sorted(methods.keys() & in_control.keys()):
        by_signature = {str(score.signature): score for score in in_control[method].scores}
        for score in methods[method].scores:
            of_control = by_signature.get(str(score.signature.in_split(control.split)))
            if of_control is None or score.value is None or not of_control.value:
                continue
            rows = records_by_seed(methods[method], score)
            control_rows = records_by_seed(in_control[method], of_control)
            if rows.keys() != control_rows.keys():
                continue
            several = [*rows.values(), *control_rows.values()]
            units = [_same_pose(one) for one in several]
            if not units[0].isin(units[-1]).any():
                where, problem = f"table {table.id}: control: {control.id}", "has none of its people in its sequences"
                raise InputError(where, problem, "name a table of the same people, or remove the control")
            people = [one.assign(twin=unit.get_level_values("twin")) for one, unit in zip(several, units, strict=True)]
            paired = _common(protocol, people, units)
            if not len(paired[0]):
                continue
            increase = _increase(protocol, method, (of_control.value, score.value), list(rows), paired, resamples)
            key = str(score.signature)
            if key not in found:
                found[key] = ControlComparison(
                    table=table.id, control=control.id, signature=score.signature, increases=[]
                )
            found[key].increases.append(increase)
    return list(found.values())


def _same_pose(rows: pd.DataFrame) -> pd.MultiIndex:
    """Index that identifies a pose across the table and its control."""
    subject = rows["subject"].astype(str)
    number = subject.str.extract(r"(\d+)$", expand=False).fillna(subject)
    severity = [rows[SEVERITY]] if is_area(rows) else []
    return pd.MultiIndex.from_arrays(
        [
            (number if number.nunique() == subject.nunique() else subject).rename("twin"),
            rows["key"].astype(str).str.partition("/")[2],
            *(rows[name] for name in ("person", "cameras")),
            *severity,
        ]
    )


def _increase(
    protocol: Protocol,
    method: str,
    scores: tuple[float, float],
    seeds: Sequence[int],
    paired: Sequence[pd.DataFrame],
    resamples: int,
) -> Increase:
    """Increase of one method. ``paired`` holds the records of each seed, followed by the records in the control."""
    codes, people = pd.factorize(paired[0]["twin"], sort=True)
    multiplicity = np.vstack([np.ones((1, len(people))), bootstrap.draws(len(people), resamples)])
    rows, control_rows = paired[: len(seeds)], paired[len(seeds) :]
    # Of several seeds the scores are means, and so is what is compared.
    percent = _percent(
        *(seed_estimates(protocol, of_seeds, [codes] * len(seeds), multiplicity) for of_seeds in (rows, control_rows))
    )
    of_seeds = [
        float(_percent(*(estimate(protocol, one, codes, multiplicity[:1]) for one in pair))[0])
        for pair in zip(rows, control_rows, strict=True)
    ]
    value = float(percent[0])
    over_people = protocol.interval(percent[1:]) if len(people) > 1 else None
    ci95 = over_people
    if over_people is not None and len(seeds) > 1:
        ci95 = decisions.interval(value, over_people, Spread.of(of_seeds, len(seeds)))
    return Increase(
        method=method,
        value=value,
        ci95=ci95,
        ci95_people=over_people if len(seeds) > 1 else None,
        n_samples=len(codes),
        n_people=len(people),
        scores=scores,
        seeds=[SeedValue(seed=seed, value=of_seed) for seed, of_seed in zip(seeds, of_seeds, strict=True)],
    )


def _percent(number: bootstrap.Array, of_control: bootstrap.Array) -> bootstrap.Array:
    """Increase of a number over the control, in percent; NaN where the control is 0."""
    share = np.divide(number, of_control, out=np.full(number.shape, np.nan), where=of_control > 0)
    return np.asarray(100 * (share - 1))
