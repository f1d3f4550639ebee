# Everything runs in .venv, which is made from requirements.lock on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# `ray` and its workers are found by name, so the environment comes first on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export RAY_DEDUP_LOGS := 1
# Despite its name this decides on Linux too where a Ray started here listens: 0 keeps every port on loopback.
# Set it to 1 where these targets are to use a cluster of several machines (RAY_ADDRESS).
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER ?= 0
unexport PYTHONPATH

.DELETE_ON_ERROR:
.PHONY: table1 test lint bench clean

table1: $(STAMP)
	$(BIN)/python -m jobs.run --config jobs/configs/mnist_logistic.toml --out runs/mnist

test: lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m jobs.bench

# Results in runs/ are kept: they may be worth hours.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find schemas pipeline jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew whenever the lock changes, so that nothing of an older one stays behind. torch comes first and alone:
# whichever build of the pinned version is offered (CPU or CUDA) then satisfies the lock.
$(STAMP): requirements.lock pyproject.toml
	rm -rf $(VENV)
	@command -v $(PYTHON) >/dev/null || { \
	  echo "expected $(PYTHON) on PATH, found none: install python3.11 and python3.11-venv," \
	       "or name another Python >= 3.11: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	touch $@
