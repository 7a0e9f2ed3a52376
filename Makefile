# `make help` lists the targets. PYTHON chooses the interpreter (3.11 or newer) that makes .venv.
PYTHON ?= python3
# What .venv holds beside the package: `dev,lm-eval` also tests with the lm-evaluation-harness (630 MB more).
EXTRAS ?= dev
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv/.tools
BROWSER := .venv/.browser
DOCS := .venv/.docs
RUN := runs/quickstart

.PHONY: help demo docs test slow kernels fuzz soak bench check lint format types clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

# Versions are pinned by constraints.txt; the package's own requirements are ranges.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(READY)

# The tools whose decoders charlm.decoders plugs into. pyctcdecode asks for numpy<2 and works with numpy 2: without its
# requirements, of which the development environment has the others. kenlm has to be compiled: where it cannot be,
# the tests that need it are skipped, and say so.
$(TOOLS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps pyctcdecode
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt kenlm
	@touch $(TOOLS)

# The browser in which reports are tested. Root can install it on Debian; elsewhere, where it is missing, the tests that
# need it are skipped, and say so.
$(BROWSER): $(READY)
	@command -v chromium > /dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null || \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
	  > /dev/null 2>&1 || echo "chromium could not be installed"
	@touch $(BROWSER)

demo: $(READY)  ## train the quickstart model (about 2 minutes with set-up), let it write, let it score
	@rm -rf $(RUN)
	$(BIN)/charlm train config:quickstart --out $(RUN)
	@echo
	$(BIN)/charlm sample $(RUN) --prompt "The river " --length 400 --seed 1
	@echo
	$(BIN)/charlm score $(RUN) "The river was high in the morning." "The rievr was high in the morning." \
	  "The morning was high in the river." "morning the in high was river The."

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $(DOCS)

docs: $(DOCS)  ## write docs/reference from the code, and build the documentation as a site, into site/
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "To read and search it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

# As many tests at a time as there are cores, each with one thread: more would wait for each other.
test: $(TOOLS) $(BROWSER)  ## run the tests but for the slow ones (under three minutes)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto -m "not slow"

slow: $(TOOLS) $(BROWSER)  ## run the slow tests: kills, damaged files, added cells and experts, kernels under sanitizers
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto -m slow

kernels: $(READY)  ## test kernels.c alone: every compiler here, the processors of a wheel, sanitizers (a minute)
	$(BIN)/pytest -q -n auto tests/kernels/test_kernels_in_c.py

fuzz: $(READY)  ## damage run folders in 50,000 ways (about half an hour)
	CHARLM_FUZZ=10000 $(BIN)/pytest -q tests/test_fuzz.py

soak: $(READY)  ## kill trainings 1,000 times and see that nothing is lost (about ten minutes)
	$(BIN)/python tests/kills.py --kills 1000

bench: $(READY)  ## measure speed and memory beside plain torch, into both performance pages (ten minutes, nothing else running)
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
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist site
