"""Many guesses in place of people: each gains nothing over the honest answer, or its row says how many it predicted."""

import numpy as np
import pytest
from crowd import STANDING_MM, crowd, told
from predicted import answered

from poseboard.datasets.mupots import MUPOTS
from poseboard.protocols.scoring import PREDICTED_PER_TRUE, score
from poseboard.protocols.table import Table

HONEST = 1.0
"""Predicted people per true person of the honest row."""
PARAMETERS = {
    "ap": {"protocol": "ap_people", "within_mm": 100},
    "mpjpe": {"protocol": "ap_people", "report": "mpjpe", "within_mm": 500},
    "recall": {"protocol": "ap_people", "report": "recall", "within_mm": 500},
    "ap-root": {"protocol": "ap_root"},
    "ap-root-published": {"protocol": "ap_root", "rule": "published"},
    "recall-root": {"protocol": "ap_root", "report": "recall"},
    "pck-root": {"protocol": "pck_people", "joints": ["root"]},
    "pck-root-matched": {"protocol": "pck_people", "joints": ["root"], "people": "matched"},
    "pck-abs": {"protocol": "pck_people"},
    "pck-rel": {"protocol": "pck_people", "relative": True},
    "pck-abs-published": {"protocol": "pck_people", "rule": "published"},
    "pck-rel-published": {"protocol": "pck_people", "rule": "published", "relative": True, "people": "matched"},
}
TABLES = {
    name: Table(id=name, title="t", dataset="crowd", protocol=parameters.pop("protocol"), parameters=parameters)
    for name, parameters in PARAMETERS.items()
}


class World:
    """People before a camera, and an honest answer with errors of 30 mm of the place and 40 mm of the joints."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.truth, self.joints = crowd((3, 2, 3), seed=4, skeleton=MUPOTS)
        noise = rng.normal(0, 30, (len(self.joints), 1, 3)) + rng.normal(0, 40, self.joints.shape)
        self.guesses = self.joints + noise
        self.scores = rng.uniform(0.6, 0.9, len(self.joints))
        rows = np.arange(len(self.joints))
        self.honest = self.predicted(self.guesses, rows, self.scores)

    def predicted(self, joints, rows, scores):
        return told(self.truth, joints, rows=rows, score=scores, roots_only=False)

    def everywhere(self, pelvises):
        """The mean pose at each of these places in each image."""
        images = self.truth.split_keys
        rows = np.repeat([np.flatnonzero(self.truth.keys == key)[0] for key in images], len(pelvises))
        joints = np.tile(pelvises[:, None] + STANDING_MM, (len(images), 1, 1))
        return self.predicted(joints, rows, np.full(len(rows), 0.5))

    def copies(self, number, noise, equal):
        """The honest answer, and copies with noise: of equal score, or less sure."""
        rows = np.tile(np.arange(len(self.joints)), number + 1)
        moves = np.random.default_rng(1).normal(0, 1, (number, *noise.shape)) * noise
        joints = np.concatenate([self.guesses, *(self.guesses + move for move in moves)])
        scores = np.concatenate([self.scores, np.full(number * len(self.joints), 0.5)])
        return self.predicted(joints, rows, np.full(len(rows), 0.5) if equal else scores)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def grid(*counts):
    axes = (np.linspace(*ends, n) for ends, n in zip(((-3500, 1500), (-600, 600), (2500, 8500)), counts, strict=True))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


CHEATS = {
    "grid of 3,150 roots": lambda world: world.everywhere(grid(21, 6, 25)),
    "968 mean poses": lambda world: world.everywhere(grid(11, 8, 11)),
    "100 shifted copies": lambda world: world.copies(100, np.full((len(world.joints), 1, 1), 200.0), equal=True),
    "300 jittered copies": lambda world: world.copies(300, np.full((*world.joints.shape[:2], 1), 60.0), equal=True),
    "300 less sure copies": lambda world: world.copies(300, np.full((*world.joints.shape[:2], 1), 60.0), equal=False),
}


def one(table, pred, world):
    (found,) = score(table, answered(pred), world.truth, resamples=10).scores
    return found


@pytest.mark.parametrize("cheat", CHEATS)
def test_many_guesses_gain_nothing_or_their_number_is_in_the_row(cheat: str, world: World) -> None:
    pred = CHEATS[cheat](world)
    per_true = {"grid of 3,150 roots": 3 * 3150 / 8, "968 mean poses": 3 * 968 / 8, "100 shifted copies": 101}
    for name, table in TABLES.items():
        honest, found = one(table, world.honest, world), one(table, pred, world)
        assert honest.secondary[PREDICTED_PER_TRUE] == HONEST
        assert found.secondary[PREDICTED_PER_TRUE] == pytest.approx(per_true.get(cheat, 301)), name
        if name in ("ap", "ap-root", "mpjpe") and "copies" in cheat:
            gain = found.value - honest.value
            assert (-gain if honest.lower_is_better else gain) <= 1e-9, f"{name}: nothing is gained"
    ap = one(TABLES["ap"], pred, world)
    if "copies" not in cheat:
        assert ap.value < 10 < one(TABLES["ap"], world.honest, world).value


def test_the_recall_of_guesses_everywhere_is_high_and_said_to_be_cheap(world: World) -> None:
    """What the flag is for: a grid of roots finds more people than the honest row does."""
    pred = CHEATS["grid of 3,150 roots"](world)
    found = one(TABLES["recall-root"], pred, world)
    assert (found.value, found.secondary[PREDICTED_PER_TRUE]) == (100, 3 * 3150 / 8)
    assert found.n_false == 3 * 3150 - 8


def test_one_joint_is_no_person(world: World) -> None:
    """Only the top of the head: the same number of people, and none is found; honest recall is 100 %."""
    head = np.full(world.guesses.shape, np.nan)
    head[:, 0] = world.joints[:, 0]
    pred = world.predicted(head, np.arange(len(head)), world.scores)
    assert one(TABLES["recall"], world.honest, world).value == 100
    for name, number in (("ap", 0), ("mpjpe", None), ("recall", 0)):
        found = one(TABLES[name], pred, world)
        assert (found.value, found.n_missing, found.secondary[PREDICTED_PER_TRUE]) == (number, len(head), 1), name
    rest = world.guesses.copy()
    rest[:, 8:] = np.nan
    eight_of_17 = world.predicted(rest, np.arange(len(rest)), world.scores)
    assert one(TABLES["recall"], eight_of_17, world).value == 0


def test_predicted_people_per_true_person_are_of_samples_with_people_and_of_all_seeds() -> None:
    truth, joints = crowd((2, 0, 3), skeleton=MUPOTS)
    table = TABLES["recall"]
    keys = np.append(truth.keys, truth.split_keys[[1, 1]])
    rows = [*range(len(truth)), 0, 1]
    with_others = told(truth, joints[rows], rows=rows, keys=keys, roots_only=False)
    (found,) = score(table, answered(with_others), truth, resamples=10).scores
    assert found.secondary[PREDICTED_PER_TRUE] == 1, "the two others are in an image without people"
    half = told(truth, joints[:2], rows=[0, 1], roots_only=False, seed=1)
    (found,) = score(table, answered(with_others, half), truth, resamples=10).scores
    assert found.secondary[PREDICTED_PER_TRUE] == pytest.approx((5 + 2) / 10)
    nothing = np.full((1, 17, 3), np.nan)
    lacking = told(truth, np.concatenate([joints, nothing]), rows=[*range(len(truth)), 0], roots_only=False)
    (found,) = score(table, answered(lacking), truth, resamples=10).scores
    assert found.secondary[PREDICTED_PER_TRUE] == 1, "a person without joints is none"
