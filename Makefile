.DEFAULT_GOAL := help
.PHONY: help setup quickstart serve test test-slow lint bench lock clean

PY := .venv/bin/python
# One BLAS thread per process: Ray runs several processes on the cores.
export OMP_NUM_THREADS ?= 1

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS='	' read -r target text; do printf '  make %-11s %s\n' "$$target" "$$text"; done

setup: ## .venv from requirements/lock.txt (once: about 3 minutes, 5 GB; later: nothing to do)
	@scripts/setup.sh

# The command line of Ray must be told of the token that a started cluster asks for.
quickstart: export RAY_AUTH_MODE ?= token
quickstart: setup ## the whole main job on this machine: data, critic, baseline, weighted policy, table
	@$(PY) -W ignore -m jobs.pipeline --config configs/quickstart/pipeline.yaml storage.root=$(CURDIR)/.wmtp \
	  $(if $(DASHBOARD_PORT),dashboard_port=$(DASHBOARD_PORT))

# Anything of ServeCommandConfig: make serve SERVE='critic.run=mine listen.port=9000'. The quickstart's policy has the
# whitening statistics of the quickstart's critic alone.
TRAINED := $(if $(findstring critic.,$(SERVE)),,$(wildcard .wmtp/runs/verifiable-quickstart/result.json))
serve: export RAY_AUTH_MODE ?= token
serve: setup ## the quickstart's critic over HTTP, with its page, at http://localhost:8000
	@$(PY) -W ignore -m serve storage.root=$(CURDIR)/.wmtp $(if $(TRAINED),critic.statistics_run=quickstart) $(SERVE)

test: setup ## the tests (at most 12 minutes on 2 cores)
	@$(PY) -m pytest

test-slow: setup ## fault, hostile-program and fuzz tests (at most 40 minutes on 2 cores)
	@$(PY) -m pytest -m 'slow and not gpu' --timeout 1200

lint: setup ## ruff and pyright
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 .venv/bin/pyright

bench: setup ## every figure beside its counterpart, into benchmarks/results.md
	@$(PY) -m benchmarks --results benchmarks/results.md

# torch's CPU build is found in PyTorch's own index, or, say, with TORCH='--find-links DIRECTORY'.
TORCH ?= --torch-backend cpu
lock: setup ## requirements/lock.txt anew from pyproject.toml, keeping what still fits (all anew: UPGRADE=--upgrade)
	@.venv/bin/uv pip compile --quiet pyproject.toml --extra cpu --extra embedded --extra dev \
	  --overrides requirements/overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  $(TORCH) $(UPGRADE) --annotation-style line --custom-compile-command 'make lock' --output-file requirements/lock.txt

clean: ## remove .venv, caches and the quickstart's results (.wmtp)
	@rm -rf .venv .wmtp .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
