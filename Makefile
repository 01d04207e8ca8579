# Each target does all its set-up. What is built once is kept: .venv here, engines' environments, wheels and models in
# the user's cache directory (DISAGG_E2E_CACHE, default ~/.cache/disagg-e2e).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SCENARIOS ?= $(sort $(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml)))
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Tests of what is not installed are left out (docs/testing.md). Here they are not: engines' environments are built by the
# tests that need them, and what a target cannot do without is an error. Add to it what else has to be there.
DISAGG_E2E_REQUIRE ?=
override DISAGG_E2E_REQUIRE := $(DISAGG_E2E_REQUIRE),sglang,vllm,dynamo
export DISAGG_E2E_REQUIRE

.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make e2e       run the main job, real engines on the CPU
.PHONY: e2e
e2e: .venv/ready
	$(BIN)/python -m pyharness test_1p1d_erdma $(ARGS)

## make suite     every test case, real engines on the CPU (SUITE=sglang, vllm or mooncake for a part)
SUITE ?= all
.PHONY: suite
suite: .venv/ready
	$(BIN)/python -m pyharness --suite $(SUITE) $(ARGS)

## make test      unit, integration and sabotage tests, with the simulated engine; coverage
.PHONY: test
test: .venv/ready
	$(BIN)/pytest -m pre_merge -n 2 --cov --cov-report= --cov-fail-under=0 tests/unit $(ARGS)
	$(BIN)/pytest -m pre_merge --cov --cov-append --cov-report= --cov-fail-under=0 tests/integration tests/browser $(ARGS)
	$(BIN)/coverage report
	$(BIN)/pytest -m pre_merge -n 2 tests/sabotage $(ARGS)

## make unit      unit tests alone, in seconds
.PHONY: unit
unit: .venv/ready
	$(BIN)/pytest -m "pre_merge and unit" $(ARGS)

## make sabotage  real engines broken on purpose, one run each (about a minute each)
.PHONY: sabotage
sabotage: .venv/ready
	$(BIN)/pytest -m "nightly and not post_merge" tests/sabotage $(ARGS)

## make browser   the pages of results in Chromium; screenshots in run/browser (Debian: apt-get install chromium)
.PHONY: browser
browser: export DISAGG_E2E_REQUIRE := $(DISAGG_E2E_REQUIRE),chromium
browser: .venv/ready
	$(BIN)/pytest tests/browser $(ARGS)

## make molecule  the roles, one scenario after the other, on hosts made of containers (needs Docker and root)
.PHONY: molecule
molecule: .venv/ready
	$(BIN)/python -m pyharness lab up
	for scenario in $(SCENARIOS); do $(BIN)/molecule --base-config .config/molecule/config.yml test -s $$scenario $(ARGS); done

## make lab-test  the lab, runs on it, and faults in the middle of them (needs Docker and root)
.PHONY: lab-test
lab-test: export DISAGG_E2E_REQUIRE := $(DISAGG_E2E_REQUIRE),docker
lab-test: .venv/ready
	$(BIN)/pytest tests/lab $(ARGS)

## make bench     what the harness itself costs, from 2 to 64 nodes; run/bench (ARGS="--nodes 2 8 --runs 1": less of it)
.PHONY: bench
bench: .venv/ready
	$(BIN)/python -m pyharness.bench $(ARGS)

## make lint      ruff, mypy, yamllint, shellcheck, ansible-lint
.PHONY: lint
lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/shellcheck --external-sources tone_tests/scripts/*.sh .ci/run .ci/docker-engine
	$(BIN)/ansible-lint

## make clean     remove .venv and results (not the caches)
.PHONY: clean
clean:
	rm -rf .venv run .coverage .coverage.* htmlcov

.venv/ready: requirements.lock pyproject.toml pyharness/collections.py
	@test -n "$(PYTHON)" || { echo "error: no python3.11 on PATH; install it (Debian: apt-get install python3.11 python3.11-venv)" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "error: $(PYTHON) is not Python 3.11, which the engines' packages are pinned for; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments; install python3.11-venv" >&2; exit 2; }
	rm -rf .venv
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pyharness.collections
	touch $@
