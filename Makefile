# make demo    install into .venv, then segment phantom scans by text; pictures go to demo/
# make test    lint, types and every test
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   ?= demo

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test install lint types tests clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/lexiseg demo --out $(DEMO)

install: $(VENV)/.installed

test: lint types tests

lint: $(VENV)/.dev
	$(BIN)/ruff check src recipe tests benchmarks examples
	$(BIN)/ruff format --check src recipe tests benchmarks examples

types: $(VENV)/.dev
	$(BIN)/mypy

# Two processes of one thread each: on two cores that is faster than one process of two.
tests: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or later is needed, this is {v.major}.{v.minor}")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

# The reference CRF has no wheels: where it does not build, the tests that compare with it are skipped and say so.
$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@$(BIN)/pip install -q -c constraints.txt 'pydensecrf2>=1.1' >/dev/null 2>&1 || echo "pydensecrf2 does not build here: its comparison is skipped"
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .pytest_cache .ruff_cache
