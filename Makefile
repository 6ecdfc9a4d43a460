# Each target does its own set-up; a second `make setup` answers at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ifeq ($(shell command -v nvidia-smi 2>/dev/null),)
export DS_ACCELERATOR := cpu
endif
export TORCH_EXTENSIONS_DIR := $(CURDIR)/$(VENV)/torch_extensions
export PATH := $(CURDIR)/$(BIN):$(PATH)
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: setup demo test unit check bench

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 13) and f"Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}: make setup PYTHON=python3.11")'
	@command -v c++ >/dev/null || { echo "a C++ compiler is needed for DeepSpeed's extensions: apt-get install g++"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the packages of constraints.txt into $(VENV) (some minutes, 2.5 GB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' 2>&1 | grep -v 'is ignored: it is neither' || true
	@$(BIN)/python -c 'import torch, ray, deepspeed, transformers' 2>/dev/null || { echo "the installation is incomplete: see pip's messages above, then make setup again"; exit 1; }
	@echo "compiling DeepSpeed's extensions once (about two minutes)"
	@$(BIN)/python -m jobs.extensions
	@touch $@

demo: setup
	@$(BIN)/slipway run -f cluster/demo.yaml
	@echo
	@echo '$$ slipway predict assistant "The for statement"'
	@$(BIN)/slipway predict -f cluster/demo.yaml assistant "The for statement" -p max_new_tokens=80
	@echo
	@echo 'next, with . $(BIN)/activate and in a folder of your own:'
	@echo '  slipway init book.txt && slipway run      your own text'
	@echo '  slipway models -f $(CURDIR)/cluster/demo.yaml   what there is'
	@echo '  slipway down -f $(CURDIR)/cluster/demo.yaml     ends the local cluster; its results stay'

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest tests/unit tests/manifests -q -n 2 --dist worksteal

test: unit
	$(BIN)/pytest tests/local_ray -q --durations=10

bench: setup
	$(BIN)/python -m tests.bench $(ROW)
