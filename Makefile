# Everything runs in .venv, which is made from requirements.lock on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# An independent library to compare with has an environment of its own, and real images that are not in the repository.
PEERS := .venv-peers
CIFAR10 ?= ../shared/data/cifar10

# `ray` and its workers are found by name, so the environment comes first on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export RAY_DEDUP_LOGS := 1
# Despite its name this decides on Linux too where a Ray started here listens: 0 keeps every port on loopback.
# Set it to 1 where these targets are to use a cluster of several machines (RAY_ADDRESS).
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER ?= 0
unexport PYTHONPATH

# The tests share the cores by files, each process with a Ray of its own where it needs one.
PROCESSES := 2
PYTEST := $(BIN)/python -m pytest --durations=20
TOGETHER := --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

# How long random inputs are tried.
FUZZ_SECONDS ?= 600

.DELETE_ON_ERROR:
.PHONY: help table1 browser test test-long test-cluster test-faults quick fuzz lint bench peers clean clean-all

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

table1: $(STAMP) ## reproduce Table 1 of the paper on the whole of MNIST, in runs/mnist
	$(BIN)/python -m jobs.run --config jobs/configs/mnist_logistic.toml --out runs/mnist

# Installed where that is possible: as root, with apt-get. What is missing after that is told by the tests, which skip
# what needs a browser; with RELATIF_BROWSER_REQUIRED set they fail instead.
browser: ## install Debian's Chromium, with which the tests open the report, where it may be installed
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing Chromium for the tests of pages" && \
	    export DEBIAN_FRONTEND=noninteractive APT_OPTIONS="-qq -o Acquire::Retries=2 -o Acquire::http::Timeout=30" && \
	    timeout 120 apt-get $$APT_OPTIONS update && \
	    timeout 600 apt-get $$APT_OPTIONS install -y --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	  echo "No Chromium on the PATH, and it can't be installed here: the tests of pages are skipped"

test: lint browser ## the linters, then all tests but those of the next three targets
	$(PYTEST) -m "not long and not cluster and not faults" $(TOGETHER)

test-long: $(STAMP) ## the long tests, two files at a time: installations, the docs' examples, a job that is killed
	$(PYTEST) -m "long and not cluster and not faults" $(TOGETHER)

test-cluster: $(STAMP) ## the tests of clusters, one after the other: nodes, equality, memory, resuming, submitted jobs
	$(PYTEST) -m cluster

test-faults: $(STAMP) ## the tests of faults, two files at a time: nodes lost in every stage, two drivers on one run directory
	$(PYTEST) -m faults $(TOGETHER)

quick: $(STAMP) ## the tests that need no Ray, in a minute and a half
	$(PYTEST) -m "not long and not cluster and not faults and not ray" $(TOGETHER)

fuzz: $(STAMP) ## feed made-up and damaged settings, data and records to their readers for FUZZ_SECONDS, 600 by default
	@end=$$(( $$(date +%s) + $(FUZZ_SECONDS) )); while [ $$(date +%s) -lt $$end ]; do \
	  $(BIN)/python -m pytest tests/test_fuzz.py tests/datasets/tables/test_any_bytes.py --quiet --no-header -p no:cacheprovider --timeout 0 \
	    --hypothesis-profile fuzz --hypothesis-seed random || exit 1; done

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## time the score stage against a bare matrix product
	$(BIN)/python -m jobs.bench

peers: export PATH := $(CURDIR)/$(PEERS)/bin:$(PATH)
peers: $(PEERS)/.installed ## compare with another library, in an environment of its own
	$(PEERS)/bin/python tests/peers/compare.py --cifar10 "$(CIFAR10)"

clean: ## remove what tools leave; the environments and results stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find schemas pipeline jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## remove the environments too
	rm -rf $(VENV) $(PEERS)

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

$(PEERS)/.installed: requirements.lock pyproject.toml tests/peers/requirements.txt
	rm -rf $(PEERS)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet "$$(grep '^torch==' requirements.lock)"
	$(PEERS)/bin/pip install --quiet -r requirements.lock -r tests/peers/requirements.txt
	$(PEERS)/bin/pip install --quiet --no-deps --no-build-isolation -e .
	$(PEERS)/bin/pip check
	touch $@
