# make demo   sets everything up and grades the sample generations
# make test   sets everything up and passes the tests (test-all: those too that take very long)
# None needs a GPU. PYTHON names the interpreter (3.11 or newer), VENV the environment.

PYTHON ?= python3
VENV ?= .venv
# The oldest torch that every test was run with; a GPU machine brings its own.
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin

.PHONY: setup demo test test-all lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml Makefile
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; name one with PYTHON=…')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

# The C++ samples are judged and clocked on the CPU. The CUDA samples run on a GPU where there is
# one, else on the emulated device: judged in full, and not clocked.
DEMO := build/demo
demo: export PATH := $(abspath $(BIN)):$(PATH)
demo: export KERNEL_HARNESS_CALL_SECONDS ?= 10
demo: export KERNEL_HARNESS_CLOCK_SECONDS ?= 1
demo: setup
	kernel-harness doctor
	kernel-harness batch examples/generations/cpp --device cpu --out $(DEMO)/cpp
	kernel-harness batch examples/generations/cuda --out $(DEMO)/cuda

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: export PATH := $(abspath $(BIN)):$(PATH)
test: setup
	python -m pytest -m "not gpu and not exhaustive"

test-all: export PATH := $(abspath $(BIN)):$(PATH)
test-all: setup
	python -m pytest -m "not gpu"

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
