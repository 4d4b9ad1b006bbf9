"""Table of `check_rig` on simulated rigs: how often each mistake is named, and how often a clean rig is accused.

    python tests/rig_mistakes_table.py run --out FILE [--first 10000] [--count 100] [--clean 500] [--kinds NAME ...]
    python tests/rig_mistakes_table.py table FILE ...

`run` appends a JSON line per rig and skips those that the file has, so that it can be stopped and started again.
"""

from __future__ import annotations

import argparse
import collections
import json
import time
from pathlib import Path

import numpy as np
from simulated_rigs import KINDS, World, simulate

from poseboard.methods.geometry.rig_mistakes import check_rig


def check(seed: int, kind: str | None, world: World | None = None) -> dict[str, object]:
    """One rig: what was wrong and what was found."""
    rig = simulate(seed, kind, world)
    began = time.process_time()
    findings = check_rig(rig.cameras, rig.joints_px, rig.joints, rig.confidence)
    return {
        "seed": seed,
        "kind": kind,
        "concerned": rig.concerned,
        "magnitude": rig.magnitude,
        "views": len(rig.cameras),
        "seconds": round(time.process_time() - began, 2),
        "findings": [
            {
                "kind": f.kind,
                "cameras": f.cameras,
                "figures": {k: round(v, 4) for k, v in f.figures.items()},
                "score": round(f.certainty, 1),
                "one_of": [(a.kind, a.cameras) for a in f.alternatives],
            }
            for f in findings
        ],
    }


def run(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    done = set()
    if out.exists():
        done = {(r["kind"], r["seed"]) for r in map(json.loads, out.read_text().splitlines())}
    kinds = [None if k == "clean" else k for k in arguments.kinds or ["clean", *KINDS]]
    most = max(arguments.count, arguments.clean)
    jobs = [
        (kind, arguments.first + i)
        for i in range(most)
        for kind in kinds
        if i < (arguments.clean if kind is None else arguments.count)
    ]
    with out.open("a") as file:
        for kind, seed in jobs:
            if (kind, seed) not in done:
                file.write(json.dumps(check(seed, kind)) + "\n")
                file.flush()


def summary(records: list[dict]) -> str:
    """Markdown table by kind: rigs, named first, with the right cameras, as "one of", and the rest."""
    lines = ["| mistake | rigs | named | with its cameras | only as one of | second finding | said otherwise |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind in (None, *KINDS):
        of_kind = [r for r in records if r["kind"] == kind]
        if not of_kind:
            continue
        named = cameras = one_of = second = 0
        rest: collections.Counter[str] = collections.Counter()
        for r in of_kind:
            found = r["findings"]
            if kind is None:
                named += not found
                cameras += not found
                if found:
                    rest[found[0]["kind"]] += 1
                continue
            second += len(found) > 1
            if found and found[0]["kind"] == kind:
                named += 1
                cameras += found[0]["cameras"] == r["concerned"]
            elif found and kind in [k for k, _ in found[0]["one_of"]]:
                one_of += 1
            else:
                rest[found[0]["kind"] if found else "nothing"] += 1
        said = ", ".join(f"{name} {count}" for name, count in rest.most_common())
        name = kind or "none (clean rigs)"
        lines.append(f"| {name} | {len(of_kind)} | {named} | {cameras} | {one_of} | {second} | {said} |")
    seconds = np.array([r["seconds"] for r in records])
    lines.append(f"\nCPU seconds per rig: median {np.median(seconds):.1f}, longest {seconds.max():.1f}.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    of_run = commands.add_parser("run")
    of_run.add_argument("--out", required=True)
    of_run.add_argument("--first", type=int, default=10000)
    of_run.add_argument("--count", type=int, default=100)
    of_run.add_argument("--clean", type=int, default=500)
    of_run.add_argument("--kinds", nargs="*")
    of_run.set_defaults(command=run)
    of_table = commands.add_parser("table")
    of_table.add_argument("files", nargs="+")
    of_table.set_defaults(
        command=lambda a: print(
            summary([json.loads(line) for f in a.files for line in Path(f).read_text().splitlines()])
        )
    )
    arguments = parser.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
