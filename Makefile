# `make repro` regenerates every table, `make page` shows the recorded ones, `make test` checks the code. Each does all
# set-up by itself.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PROFILE ?=
# A machine that keeps wheels on disk names their folder once, for pip; uv takes the same.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# Imports are three times slower without bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help page repro test setup lock clean runs

help: ## Show the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/ready ## Make .venv with everything (each command does it by itself)

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Poseboard needs Python 3.11 or newer; name one with PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[test,peers,cluster]"
	@$(BIN)/poseboard plan --write >/dev/null
	@touch $@

page: $(VENV)/ready ## Write the page of the recorded results, without data or training
	@$(BIN)/poseboard report $(if $(PROFILE),--profile $(PROFILE))

repro: $(VENV)/ready ## Regenerate every table, run and page; PROFILE=smoke|default|seeds|full chooses the size of this run
	@$(BIN)/poseboard repro $(if $(PROFILE),--profile $(PROFILE))

# tests/report first: its long files, begun last, would leave the other processes idle.
test: $(VENV)/ready ## Run the tests
	@$(BIN)/python -m pytest tests/report tests --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lock: $(VENV)/ready ## Compile constraints.txt anew
	UV_FIND_LINKS= $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra test --extra peers --extra cluster --extra mutation --no-header --no-annotate --no-emit-index-url -o constraints.txt constraints.in pyproject.toml

clean: ## Remove what was generated (not your data and weights in data/, nor the results kept in git)
	rm -rf data/synthetic-* data/crops .venv results/smoke results/run.yaml mlruns mlflow.db dvc.lock
	rm -rf $(foreach made,leaderboard predictions errors checkpoints examples catalog plan settings speed costs mlflow.json stage-times.json,results/*/$(made))

runs: $(VENV)/ready ## Browse the runs in MLflow: prints where they are
	@$(BIN)/poseboard runs
