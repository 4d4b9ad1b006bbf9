"""Increase of the error over a control: the same people in the same poses, on the split of the training.

Two numbers of one protocol differ for many reasons: other people, other actions, other cameras. A table with a control
leaves one of them. Both numbers are of the poses that have one in both, and people are resampled together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from poseboard.datasets.errors import InputError
from poseboard.protocols import area, bootstrap, decisions
from poseboard.protocols.base import Protocol
from poseboard.protocols.decisions import Spread
from poseboard.protocols.records import ControlComparison, Increase, Score, SeedValue, Signature
from poseboard.protocols.scoring import Scored, seed_estimates
from poseboard.protocols.table import Table


def check_control(table: Table, control: Table) -> None:
    """Refuse a control that a table cannot be compared with.

    Raises:
        InputError: it is of another data set, of the same split, with another protocol or other samples, or the
            protocol states no error of each true pose.

    Example:
        >>> check_control(tables["rigs"], tables["rigs-known"])  # doctest: +SKIP
    """
    where, rule = f"table {table.id}: control: {control.id}", table.rule()
    if table.dataset != control.dataset or table.split == control.split:
        problem = "is of the same split" if table.dataset == control.dataset else f"is run on {control.dataset}"
        raise InputError(where, problem, f"name a table of another split of {table.dataset}")
    for field in ("protocol", "parameters", "groups", "every"):
        if getattr(table, field) != getattr(control, field):
            raise InputError(where, f"has other {field}", f"give both tables the same {field}")
    if rule.records != "truth" or not rule.lower_is_better:
        raise InputError(where, f"{table.protocol} states no error of each true pose", "leave the control out")


def increases(
    table: Table,
    control: Table,
    methods: Mapping[str, Scored],
    in_control: Mapping[str, Scored],
    resamples: int = bootstrap.RESAMPLES,
) -> list[ControlComparison]:
    """Increase of the errors over those in the control, in percent, for each signature of the table.

    A method counts where it has a number of equal signature in both, but for the split, in the same seeds, on poses
    that have one in both. Two subjects are the same person where their names are equal but for the letters before
    their number (R07 and K07), or equal.

    Args:
        table: that names the control.
        control: the table that it names, see `check_control`.
        methods: name of the method -> its scores of the table and their per-pose errors.
        in_control: likewise of the control.
        resamples: of the bootstrap over people.

    Raises:
        InputError: the control shows none of the people in the same sequences.

    Example:
        >>> increases(tables["rigs"], tables["rigs-known"], unseen, known)[0].increases[0].value  # doctest: +SKIP
        7.5
    """
    protocol = table.rule()
    found: dict[str, tuple[Signature, list[Increase]]] = {}
    for method in sorted(methods.keys() & in_control.keys()):
        by_signature = {str(score.signature): score for score in in_control[method].scores}
        for score in methods[method].scores:
            of_control = by_signature.get(str(score.signature.in_split(control.split)))
            if of_control is None or score.value is None or not of_control.value:
                continue
            rows, control_rows = _by_seed(methods[method], score), _by_seed(in_control[method], of_control)
            if rows.keys() != control_rows.keys():
                continue
            if not (paired := _paired(table, [*rows.values(), *control_rows.values()])):
                continue
            increase = _increase(protocol, method, (of_control.value, score.value), list(rows), paired, resamples)
            found.setdefault(str(score.signature), (score.signature, []))[1].append(increase)
    return [
        ControlComparison(table=table.id, control=control.id, signature=signature, increases=of_signature)
        for signature, of_signature in found.values()
    ]


def _by_seed(scored: Scored, score: Score) -> dict[int, pd.DataFrame]:
    """Seed -> the protocol's rows of a number."""
    rows = scored.errors[scored.errors["group"] == score.group]
    return {seed: rows[rows["seed"] == seed] for seed in sorted(map(int, rows["seed"].unique()))}


def _paired(table: Table, several: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The rows of each with a number in all, in one order, with the ``twin`` of each row; empty without any.

    Raises:
        InputError: no person is in all.
    """
    indexed = [rows.set_axis(_same_pose(rows)) for rows in several]
    common = indexed[0].index
    for rows in indexed[1:]:
        common = common[common.isin(rows.index)]
    if not len(common):
        where, problem = f"table {table.id}: control: {table.control}", "has none of its people in its sequences"
        raise InputError(where, problem, "name a table of the same people, or leave it out")
    for rows in indexed:
        common = common[rows["error"].loc[common].notna().to_numpy()]
    twin = common.get_level_values("twin").to_numpy()
    return [rows.loc[common].reset_index(drop=True).assign(twin=twin) for rows in indexed] if len(common) else []


def _same_pose(rows: pd.DataFrame) -> pd.MultiIndex:
    """What is equal for a pose and for the same pose in the control."""
    subject = rows["subject"].astype(str)
    number = subject.str.extract(r"(\d+)$", expand=False).fillna(subject)
    severity = [rows[area.SEVERITY]] if area.is_area(rows) else []
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
    """That of one method; ``paired``: its rows of each seed, and then those of the control."""
    codes, people = pd.factorize(paired[0]["twin"], sort=True)
    multiplicity = np.vstack([np.ones((1, len(people))), bootstrap.draws(len(people), resamples)])
    rows, control_rows = paired[: len(seeds)], paired[len(seeds) :]
    # Of several seeds the scores are means, and so is what is compared.
    percent = _percent(
        *(seed_estimates(protocol, of_seeds, [codes] * len(seeds), multiplicity) for of_seeds in (rows, control_rows))
    )
    of_seeds = [
        float(_percent(*(area.estimate(protocol, one, codes, multiplicity[:1]) for one in pair))[0])
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
