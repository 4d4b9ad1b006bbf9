#!/usr/bin/env bash
# Mutation testing by mutmut; [tool.mutmut] in pyproject.toml names the modules and their tests. Arguments: functions as
# "poseboard.protocols.metrics.*"; default: all. mutmut imports the package from src/, so it runs on a copy of the tree.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
command -v mutmut >/dev/null || { echo "run: .venv/bin/uv pip install -c constraints.txt -e '.[mutation]'" >&2; exit 2; }
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/src"
cp -rL .editable/poseboard "$copy/src/"
cp -r tests pyproject.toml "$copy"
cd "$copy"
mutmut run --max-children 2 "$@"
mutmut results | grep -v "not checked"
