"""What a row loses from a control: the same people in the same poses, shown as in training and otherwise.

Two numbers of one protocol differ for many reasons: other people, other actions, other cameras. A table with a control
leaves one of them. Both numbers are taken of the same groups, which are people, and resampled together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from poseboard.datasets.errors import InputError
from poseboard.protocols import area, bootstrap
from poseboard.protocols.base import Protocol
from poseboard.protocols.records import ControlComparison, Loss, Score, SeedValue, Signature
from poseboard.protocols.scoring import Scored, seed_estimates
from poseboard.protocols.table import Table


def losses(
    table: Table,
    control: Table,
    methods: Mapping[str, Scored],
    of_control: Mapping[str, Scored],
    resamples: int = bootstrap.RESAMPLES,
) -> list[ControlComparison]:
    """By how many percent the numbers of a table exceed those of its control, once for each signature of the table.

    A method counts where it has a number of equal signature in both, but for the split, in the same seeds. Poses
    without a number are left out of either mean, as in the scores.

    Args:
        table: that names the control.
        control: the table that it names.
        methods: name of the method -> its scores of the table and their per-pose errors.
        of_control: likewise of the control.
        resamples: of the bootstrap over people.

    Raises:
        InputError: the two tables have different protocols, or are not of the same people in the same sequences.

    Example:
        >>> losses(tables["rigs"], tables["rigs-known"], unseen, known)[0].losses[0].value  # doctest: +SKIP
        12.4
    """
    if (table.protocol, table.parameters) != (control.protocol, control.parameters):
        raise InputError(
            f"table {table.id}: control: {control.id}", "has another protocol", "choose one with the same parameters"
        )
    protocol = table.rule()
    found: dict[str, tuple[Signature, list[Loss]]] = {}
    for method in sorted(methods.keys() & of_control.keys()):
        by_signature = {_but_for_split(score): score for score in of_control[method].scores}
        for score in methods[method].scores:
            other = by_signature.get(_but_for_split(score))
            if other is None or not score.value or not other.value:
                continue
            seeds = _rows(methods[method], score), _rows(of_control[method], other)
            if seeds[0].keys() == seeds[1].keys():
                of_signature = found.setdefault(str(score.signature), (score.signature, []))
                of_signature[1].append(_loss(protocol, table, method, *seeds, resamples))
    return [
        ControlComparison(table=table.id, control=control.id, signature=signature, losses=of_signature)
        for signature, of_signature in found.values()
    ]


def _but_for_split(score: Score) -> str:
    return str(score.signature.model_copy(update={"split": ""}))


def _rows(scored: Scored, score: Score) -> dict[int, pd.DataFrame]:
    """Seed -> the protocol's rows of a number."""
    rows = scored.errors[scored.errors["group"] == score.group]
    seeds = sorted(map(int, rows["seed"].unique()))
    return {seed: rows[rows["seed"] == seed].reset_index(drop=True) for seed in seeds}


def _loss(
    protocol: Protocol,
    table: Table,
    method: str,
    here: Mapping[int, pd.DataFrame],
    there: Mapping[int, pd.DataFrame],
    resamples: int,
) -> Loss:
    """The loss of one method, its interval, and that of each seed."""
    every = [*here.values(), *there.values()]
    people = [pd.factorize(rows["subject"])[0] for rows in every]
    shown = [_shown(rows, codes) for rows, codes in zip(every, people, strict=True)]
    if not all(one.equals(shown[0]) for one in shown[1:]):
        problem = "shows others, or in another order"
        raise InputError(
            f"table {table.id}: control: {table.control}",
            problem,
            "name a table of the same people in the same sequences",
        )
    groups = int(people[0].max()) + 1
    multiplicity = np.vstack([np.ones((1, groups)), bootstrap.draws(groups, resamples)])
    # Of several seeds the scores are means, and so is what is compared.
    number, of_control = (
        seed_estimates(protocol, list(seeds.values()), [people[0]] * len(seeds), multiplicity)
        for seeds in (here, there)
    )
    excess = _percent(number, of_control)
    by_seed = {seed: (area.summarise(protocol, here[seed]), area.summarise(protocol, there[seed])) for seed in here}
    return Loss(
        method=method,
        value=float(excess[0]),
        ci95=bootstrap.interval(excess[1:]) if groups > 1 else None,
        n_groups=groups,
        seeds=[
            SeedValue(seed=seed, value=None if a is None or not b else 100 * (a / b - 1))
            for seed, (a, b) in by_seed.items()
        ],
    )


def _shown(rows: pd.DataFrame, people: bootstrap.Codes) -> pd.DataFrame:
    """What each row is about, with people by their order and not by their names, which differ between splits."""
    sample = rows["key"].astype(str).str.partition("/")[2]
    return pd.DataFrame({"people": people, "sample": sample, "person": rows["person"]})


def _percent(number: bootstrap.Array, of_control: bootstrap.Array) -> bootstrap.Array:
    share = np.divide(number, of_control, out=np.full(number.shape, np.nan), where=of_control > 0)
    return np.asarray(100 * (share - 1))
