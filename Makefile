# Two commands: `make quickstart` trains a Llama on this machine, `make test` runs every test. Both make .venv themselves.

# The first Python on the PATH that is 3.11, 3.12 or 3.13; or say PYTHON=...
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && echo $$python && break; done)
BIN := .venv/bin
WORKERS ?= 2

.PHONY: quickstart test soak fuzz check audit format clean

quickstart: .venv/installed  ## raw text -> tokenizer -> shards -> training -> evaluation -> a sample; DATA=DIR takes your own text
	$(BIN)/python recipes/quickstart.py $(if $(DATA),--data "$(DATA)") $(ARGS)

test: .venv/installed  ## all tests, in two processes (WORKERS=1: one); those that need a GPU are skipped where there is none
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

soak: .venv/installed  ## 200 kills, every pair of engines and process counts up to four, an hour of random faults
	LLAMA_TRAIN_KILLS=200 LLAMA_TRAIN_WORLDS=all $(BIN)/python -m pytest tests/survival
	$(BIN)/python -m tests.survival.soak --minutes 60 $(ARGS)

fuzz: .venv/installed  ## 100,000 spoilt inputs for every parser of raw data
	LLAMA_DATA_MUTANTS=100000 $(BIN)/python -m pytest tests/data_pipelines -k "spoilt or whatever or mutants" $(ARGS)

audit: .venv/installed  ## known vulnerabilities in what is installed; needs the network
	test -x .venv/audit/bin/pip-audit || { $(BIN)/python -m venv .venv/audit && .venv/audit/bin/pip install --quiet pip-audit; }
	$(BIN)/python .ci/audit.py .venv/audit/bin/pip-audit

check: .venv/installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## forget .venv; runs stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache

# One environment for all commands: the quickstart's text is what is installed here, and stays the same after `make test`.
.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a few minutes, once)"
	$(BIN)/python -m pip install --quiet --editable ".[all,dev]"
	@touch $@
