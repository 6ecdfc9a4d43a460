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

.PHONY: setup demo test unit check hosts bench

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

# One request to a served model, shown with its answer.
ask = echo; echo '$$ slipway predict $(1)'; $(BIN)/slipway predict -f cluster/demo.yaml $(1)
comma := ,

demo: setup
	@$(BIN)/slipway run -f cluster/demo.yaml
	@$(BIN)/python -m jobs.samples runs/samples
	@$(call ask,packages "open a socket and wait for a connection")
	@$(call ask,digits runs/samples/seven.png)
	@$(call ask,words runs/samples/seven.wav)
	@$(call ask,modules "{history: [os$(comma) sys]}")
	@$(call ask,assistant "The for statement" -p max_new_tokens=80)
	@echo
	@$(BIN)/slipway serve -f cluster/demo.yaml
	@echo
	@echo 'Open that address in a browser to try the models: runs/samples has a picture and a sound to drop there.'
	@echo 'Next, with . $(BIN)/activate and in a folder of your own:'
	@echo '  slipway init book.txt && slipway run            your own text'
	@echo '  slipway status -f $(CURDIR)/cluster/demo.yaml   what is served, and how fast it answers'
	@echo '  slipway down -y -f $(CURDIR)/cluster/demo.yaml  ends the services and the cluster; results stay'

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	$(BIN)/pytest tests/unit tests/manifests -q -n 2 --dist worksteal

test: unit
	$(BIN)/pytest tests/local_ray -q --durations=10

hosts: setup
	$(BIN)/pytest tests/hosts -q -rs --durations=5

bench: setup
	$(BIN)/python -m tests.bench $(ROW)
