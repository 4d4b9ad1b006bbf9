"""A small truth table with unequal actions, and predictions of it."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from poseboard.datasets.skeleton import HUMAN36M, Skeleton
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.table import Table

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
SEQUENCES = {"Walking-1": 7, "Walking-2": 5, "Sitting-1": 3, "Greeting-2": 2}

MakeTruth = Callable[..., TruthTable]
MakePredictions = Callable[..., PoseTable]
MakeBoard = Callable[..., Table]


@pytest.fixture
def make_truth() -> MakeTruth:
    def make(seed: int = 0, skeleton: Skeleton = HUMAN36M, sequences: Mapping[str, int] = SEQUENCES) -> TruthTable:
        rng = np.random.default_rng(seed)
        rows = [(s, q, f) for s in ("S9", "S11") for q, n in sequences.items() for f in range(n)]
        keys = np.array([f"{s}/{q}/{f:06d}" for s, q, f in rows], dtype=object)
        joints = rng.normal(0, 300, (len(rows), len(skeleton), 3)) + rng.normal(0, 1500, (len(rows), 1, 3))
        return TruthTable(
            keys=keys,
            person=np.zeros(len(rows), dtype=np.int32),
            joints_mm=np.round(joints * 4) / 4,  # quarters of a mm: shifts by whole mm are exact in float32
            subject=pd.Categorical([s for s, _, _ in rows]),
            action=pd.Categorical([q.split("-")[0] for _, q, _ in rows]),
            sequence=pd.Categorical([q for _, q, _ in rows]),
            split_keys=keys,
            skeleton=skeleton,
            dataset="human36m",
            split="test",
            views=CAMERAS,
            manifest="m",
        )

    return make


@pytest.fixture
def make_predictions() -> MakePredictions:
    def make(
        truth: TruthTable,
        joints_mm: NDArray | None = None,
        keys: NDArray | None = None,
        joints: tuple[str, ...] | None = None,
        size_mm: float | None = None,
        elsewhere: str | None = None,
        **info: object,
    ) -> PoseTable:
        """Fields of the condition (cameras, root, root_cameras, split) are given beside those of the metadata.

        ``elsewhere``: the data set whose training a condition asks for.
        """
        fields = set(Condition.model_fields) - {"trained_on"}
        condition = {"split": truth.split, "cameras": truth.views, "trained_on": elsewhere}
        condition |= {field: info.pop(field) for field in list(info) if field in fields}
        info |= {} if elsewhere is None else {"trained_on": elsewhere}
        columns = {} if size_mm is None else {"size_mm": np.full(len(truth if keys is None else keys), size_mm, "f4")}
        keys = truth.keys if keys is None else keys
        values = truth.joints_mm if joints_mm is None else joints_mm
        return PoseTable(
            keys=keys,
            person=np.zeros(len(keys), dtype=np.int32),
            score=np.ones(len(keys), dtype=np.float32),
            frame=np.array(["world"] * len(keys), dtype=object),
            joints_mm=values.astype(np.float32),
            info=PredictionInfo.model_validate(
                {
                    "skeleton": truth.skeleton.name,
                    "joints": joints or truth.skeleton.joints,
                    "dataset": truth.dataset,
                    "condition": condition,
                    "columns": dict.fromkeys(columns, ()),
                    "manifest": truth.manifest,
                    "method": "oracle",
                    **info,
                }
            ),
            columns=columns,
        )

    return make


@pytest.fixture
def make_table() -> MakeBoard:
    def make(protocol: str, **fields: object) -> Table:
        parameters = {key: fields.pop(key) for key in list(fields) if key not in Table.model_fields}
        values = {"id": "B", "title": "A table", "dataset": "human36m", "protocol": protocol, "parameters": parameters}
        return Table.model_validate({**values, **fields})

    return make
