# make demo   sets everything up and grades the sample generations
# make test   sets everything up and passes the tests
# Neither needs a GPU. PYTHON names the interpreter (3.11 or newer), VENV the environment.

PYTHON ?= python3
VENV ?= .venv
# The oldest torch that every test was run with; a GPU machine brings its own.
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin

.PHONY: setup demo test lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml Makefile
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; name one with PYTHON=…')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: setup
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/kernel-harness demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: setup
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -m "not gpu"

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
