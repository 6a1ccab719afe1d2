# Thin: a virtual environment in .venv, pip, the command. Everything is installed there and nowhere else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILT_FROM := pyproject.toml setup.py $(wildcard csrc/*/*) src/harmonium/_blas.pyx

.PHONY: help demo test bench lint format clean

help:
	@echo "make demo    train on handwritten digits, look at the pictures in harmonium-demo/"
	@echo "make test    run the tests"
	@echo "make bench   measure beside scikit-learn and PyTorch"
	@echo "make lint    check style and types;  make format  mends the style"

demo: $(VENV)/.with-plot
	$(BIN)/harmonium demo

test: $(VENV)/.with-test
	$(BIN)/python -m pytest

bench: $(VENV)/.with-bench
	$(BIN)/python benchmarks/run.py

lint: $(VENV)/.with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*/*)

format: $(VENV)/.with-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard csrc/*/*)

# One stamp per extra. The install is editable: changes to Python need no other step, changes to C++ are built here.
$(VENV)/.with-%: $(BUILT_FROM)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) build src/*.egg-info src/harmonium/*.so harmonium-demo
