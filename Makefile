# `make help` lists the targets. PYTHON chooses the interpreter (3.11 or newer) that makes .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
RUN := runs/quickstart

.PHONY: help demo test slow kernels fuzz soak bench check lint format types clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

# Versions are pinned by constraints.txt; the package's own requirements are ranges.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)  ## train the quickstart model (about 2 minutes with set-up), let it write, let it score
	@rm -rf $(RUN)
	$(BIN)/charlm train config:quickstart --out $(RUN)
	@echo
	$(BIN)/charlm sample $(RUN) --prompt "The river " --length 400 --seed 1
	@echo
	$(BIN)/charlm score $(RUN) "The river was high in the morning." "The rievr was high in the morning." \
	  "The morning was high in the river." "morning the in high was river The."

# As many tests at a time as there are cores, each with one thread: more would wait for each other.
test: $(READY)  ## run the tests but for the slow ones (under three minutes)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto -m "not slow"

slow: $(READY)  ## run the slow tests: kills, damaged files, added cells and experts, kernels under sanitizers
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto -m slow

kernels: $(READY)  ## test kernels.c alone: every compiler here, three processors, sanitizers (half a minute)
	$(BIN)/pytest -q -n auto tests/cells/test_kernels_in_c.py

fuzz: $(READY)  ## damage run folders in 50,000 ways (about half an hour)
	CHARLM_FUZZ=10000 $(BIN)/pytest -q tests/test_fuzz.py

soak: $(READY)  ## kill trainings 1,000 times and see that nothing is lost (about ten minutes)
	$(BIN)/python tests/kills.py --kills 1000

bench: $(READY)  ## measure speed and memory beside plain torch, into docs/performance.md (ten minutes, nothing else running)
	$(BIN)/python benchmarks/run_all.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint types test slow  ## all that must pass before a commit: format, lint, strict types, all tests

clean:  ## remove the environment and caches; runs are kept
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
