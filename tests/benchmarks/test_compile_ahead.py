"""What is compiled ahead is all that callers of compiled loops need, for the types of their arguments."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import numpy as np
import torch
from numba.core.dispatcher import Dispatcher
from poseboard.benchmarks.stage_server import _IMPORTED, compile_ahead
from poseboard.datasets.synthetic.renderer import backdrop, first_hits, render
from poseboard.datasets.synthetic.scene import assemble, make_room
from poseboard.datasets.synthetic.world import WorldOptions, direct, rig
from poseboard.methods.geometry import compiled_triangulation, consensus
from poseboard.methods.geometry.relative_pose import estimate
from poseboard.methods.geometry.robust import ransac
from poseboard.methods.geometry.triangulation import dlt
from poseboard.methods.probabilistic.posterior import Sampling, sample_posterior, see_by_draws

def compiled():
    ours = [module for name, module in sys.modules.items() if name.startswith("poseboard.")]
    loops = {loop for module in ours for loop in vars(module).values() if isinstance(loop, Dispatcher)}
    of_callers = {loop for loop in loops if loop.stats.cache_path and not loop.__name__.startswith("_")}
    names = {loop: f"{loop.py_func.__module__.removeprefix('poseboard.')}.{loop.__name__}" for loop in of_callers}
    return {name: len(loop.signatures) for loop, name in names.items() if name not in INNER}

INNER = {"datasets.synthetic.casting.is_lit"}  # another loop calls it

assert not any(compiled().values())
compile_ahead()
ahead = compiled()
lacking = [name for name, count in ahead.items() if not count]
assert ahead and not lacking, lacking
listed = {module.__name__ for module in (compiled_triangulation, consensus)} | {"poseboard.datasets.synthetic.casting"}
assert listed <= set(_IMPORTED)  # what imports these does so when it is called

options = WorldOptions(side_px=48, train_frames=2)
take, camera = direct(options, "S1", f"{options.actions[0]}-1"), rig(options, "S1")[0]
solids = assemble(take.people, take.furniture)[1]
render(solids, backdrop(make_room(np.random.default_rng(0)), camera), take.light, 1)
first_hits(solids, camera.centre_mm, np.zeros((1, 3)))
P, points = np.ones((3, 3, 4)), np.ones((2, 3, 5, 2))
for weights in (None, np.ones((2, 3, 5))):
    for homogeneous in (False, True):
        dlt(P, points, weights, homogeneous=homogeneous)
for refined in (False, True):
    ransac(np.broadcast_to(P, (2, 3, 3, 4)), points, refined=refined)
observed = torch.rand(1, 3, 20, 2, dtype=torch.float64), torch.ones(1, 3, 20), torch.full((1, 3, 20), 1000.0)
recovered = estimate(*observed)
posterior = sample_posterior(recovered, *observed, Sampling(32, 2), torch.Generator())
see_by_draws(posterior.R, posterior.t, *observed, recovered.sigma_px)
assert compiled() == ahead, set(compiled().items()) ^ set(ahead.items())
"""


def test_callers_of_compiled_loops_compile_nothing_more() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
