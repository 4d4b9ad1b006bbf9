"""Typed example of the Python API: score a method, save its predictions, compare them with a row."""

import numpy as np
from numpy.typing import NDArray

import poseboard as pb


def origin(sample: pb.Sample) -> NDArray[np.float64]:
    """Every joint at the origin of the world."""
    return np.zeros((17, 3))


def report() -> str:
    """Score and comparison in two lines."""
    samples = pb.load("human36m", split="test", inputs=pb.Inputs(images=False))
    score: pb.Score = pb.evaluate(origin, "T1")
    joints_mm = np.stack([origin(sample) for sample in samples])
    file = pb.write_predictions("origin.parquet", samples.keys, joints_mm, dataset="human36m", method="origin")
    difference = pb.compare("dlt", file, table="T1")
    value = score.value if score.value is not None else float("nan")
    worst: str = str(score.per_joint.idxmax())
    return f"{value:.1f} {score.unit}, worst {worst}\n{difference.difference} {difference.ci95} {difference.decided}"


if __name__ == "__main__":
    print(report())
