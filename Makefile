# make demo       install into .venv, then segment phantom scans by text; pictures go to demo/
# make test       lint, types, arrows between rooms, and the tests; some minutes
# make test-full  what is full-size or repeats a training, with the coverage of all tests
# make docs       build the documentation into site/
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   ?= demo

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo docs test test-full install lint types tests clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/lexiseg demo --out $(DEMO)

install: $(VENV)/.installed

# The variable silences a notice of the theme about another program.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html is the documentation"

test: lint types tests

lint: $(VENV)/.dev
	$(BIN)/ruff check src recipe tests benchmarks examples
	$(BIN)/ruff format --check src recipe tests benchmarks examples
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

# Two processes of one thread each: on two cores that is faster than one process of two.
tests: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not fullsize"

test-full: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --cov=lexiseg --cov-report=term:skip-covered --cov-fail-under=95

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or later is needed, this is {v.major}.{v.minor}")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "installing lexiseg with PyTorch: some minutes, and up to 6 GB with its CUDA libraries"
	$(BIN)/pip install --progress-bar on -c constraints.txt -e '.[serve]' \
		| { grep --line-buffered -E "Downloading|Installing|Successfully|ERROR|error" || true; }
	@touch $@

# The reference CRF has no wheels: where it does not build, the tests that compare with it are skipped and say so.
$(VENV)/.dev: $(VENV)/.installed
	@echo "installing what the tests need"
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@$(BIN)/pip install -q -c constraints.txt 'pydensecrf2>=1.1' >/dev/null 2>&1 || echo "pydensecrf2 does not build here: its comparison is skipped"
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) site .mypy_cache .pytest_cache .ruff_cache
