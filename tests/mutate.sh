#!/usr/bin/env bash
# Mutation testing by mutmut: change one expression of a module at a time, and run the tests of the module.
# usage: tests/mutate.sh [PART]    PART: only modules whose path contains it, such as swaps; default: all, in hours
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
command -v mutmut >/dev/null || { echo "run: .venv/bin/uv pip install -c constraints.txt -e '.[mutation]'" >&2; exit 2; }

modules='
protocols/metrics.py protocols/test_metric_functions.py
protocols/average_precision.py protocols/test_average_precision.py
protocols/bootstrap.py protocols/test_bootstrap.py
protocols/recovered_cameras.py protocols/test_recovered_cameras.py
methods/geometry/association.py methods/test_association.py
methods/geometry/bundle.py methods/test_bundle.py
methods/geometry/compiled_rigs.py methods/test_compiled_rigs.py
methods/geometry/compiled_triangulation.py methods/test_triangulation.py
methods/geometry/consensus.py methods/test_consensus.py
methods/geometry/factorization.py methods/test_factorization.py
methods/geometry/observations.py methods/test_observations.py
methods/geometry/relative_pose.py methods/test_relative_pose.py methods/test_recovered_rigs.py
methods/geometry/robust.py methods/test_robust.py golden/test_geometry.py
methods/geometry/rotations.py methods/test_rotations.py
methods/geometry/swaps.py methods/test_swaps.py methods/test_swap_back.py
methods/geometry/triangulation.py methods/test_triangulation.py
methods/geometry/rig_mistakes/body.py methods/test_rig_body.py
methods/geometry/rig_mistakes/comparison.py methods/test_rig_comparison.py
methods/geometry/rig_mistakes/compiled_pairs.py methods/test_compiled_pairs.py
methods/geometry/rig_mistakes/epipolar_fit.py methods/test_epipolar_fit.py methods/test_compiled_pairs.py
methods/geometry/rig_mistakes/explanations.py methods/test_rig_explanations.py
methods/geometry/rig_mistakes/findings.py methods/test_rig_findings.py
methods/geometry/rig_mistakes/rig_state.py methods/test_rig_state.py
'
[ $# -eq 0 ] || modules=$(grep -F -- "$1" <<<"$modules") || { echo "no module has $1 in its path" >&2; exit 2; }

while read -r module tests; do
  [ -n "$module" ] || continue
  echo "== $module"
  copy=$(mktemp -d)
  trap 'rm -rf "$copy"' EXIT
  mkdir "$copy/src"
  cp -rL .editable/poseboard "$copy/src/" # mutmut imports the package from src/
  cp -r tests "$copy"
  # Compiled loops run as Python, because numba would need seconds for each mutant. Python warns where numba does not.
  sed -i -E '/^@_(inner|kept|summing)$/d' "$copy/src/poseboard/$module"
  quoted=$(printf '"tests/%s", ' $tests)
  { cat pyproject.toml; cat <<EOF
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/poseboard/$module"]
timeout_multiplier = 6.0
pytest_add_cli_args = ["--hypothesis-profile=mutation", "-W", "ignore::RuntimeWarning"]
pytest_add_cli_args_test_selection = [$quoted]
EOF
  } >"$copy/pyproject.toml"
  (cd "$copy" && mutmut run --max-children 2 </dev/null && { mutmut results | grep -v "not checked" || true; })
  rm -rf "$copy"
done <<<"$modules"
