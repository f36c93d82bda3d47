# make demo | test | page | check | bench. Each sets itself up in .venv first, and does nothing twice.
#
# PYTHON=python3.12     another interpreter to build .venv with
# PIP_ARGS="..."        handed to pip, for example to ask for a CPU build of torch (see README.md)
# TESTS=tests/operator  run a part of the tests

PYTHON ?= python3
PIP_ARGS ?=
TESTS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt

.PHONY: help demo test page check format lint types bench clean git
.DEFAULT_GOAL := help

help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: .venv/.installed  ## translate three sentences and show what every head looked at
	@$(BIN)/polyhead see 我爱吃苹果。 --layer 2
	@$(BIN)/polyhead see 他说她没来。 虽然下雨，但我很开心。 --layer 2 --links

test: git .venv/.developer  ## the quick tests
	$(BIN)/python -m pytest $(TESTS)

page: git .venv/.developer  ## the tests of the page in a real browser: Debian's chromium, which is installed if need be
	bash tests/page/chromium.sh
	POLYHEAD_PAGE=1 $(BIN)/python -m pytest tests/page

check: lint types test  ## format, lint, types, structure and tests: what every change must pass

format: .venv/.developer  ## rewrite the source in the one format, and the tables of docs/families.md
	$(BIN)/ruff format .
	$(BIN)/python -m tests.structure.families_tables
	$(BIN)/ruff check --fix .

lint: .venv/.developer  ## format and lint, without changing anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.developer  ## types of source and tests
	$(BIN)/pyright

bench: .venv/.bench  ## measure against the peers on this machine
	$(BIN)/python benchmarks/run.py

git:
	@command -v git >/dev/null || { echo "polyhead's tests need git, to know which files are the project's: install git" >&2; exit 2; }

clean:  ## remove the environment and every cache
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis

# Three stages, each with a stamp: what the demo needs, what the checks need, what the peers need.

.venv/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) -e .
	@touch $@

.venv/.developer: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) -e '.[dev]'
	@touch .venv/.installed $@

.venv/.bench: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) -e '.[bench]'
	@touch .venv/.installed $@

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "polyhead needs Python 3.11 or newer, and '$(PYTHON)' is not there: install it, or name another with PYTHON=" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "polyhead needs Python 3.11 or newer, and '$(PYTHON)' is older ($$($(PYTHON) -V)): name another with PYTHON=" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "polyhead needs Python's venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
