# Everything runs in .venv, which is created by the first target that needs it.
#   make train   trains DreamerV3 on CartPole on this machine and prints where the curve, the video and the policy are
#   make test    runs the tests, in three parallel processes, since many of them wait
# Another interpreter: make PYTHON=python3.12 test. Options of pytest: make test ARGS="-m slow". One process: WORKERS=0.

PYTHON ?= python3
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: setup train test lint bench

setup: $(STAMP)

# Installed again only if the requirements have changed. torch comes first and in its exact version, so that no other
# package's requirement of "any torch" installs a different build. Triton, which interprets kernels in tests, stays
# apart: torch would import it beside Mesa, and their two LLVMs crash.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Nexus needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Could not create $(VENV); on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV); the first time this takes a few minutes."
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) --editable '.[dev]'
	@test "$$(uname -s)" != Linux || $(PIP) --no-deps --target $(VENV)/triton --upgrade "$$(grep '^triton==' constraints.txt)"
	@touch $(STAMP)

train: setup
	@$(BIN)/nexus train gym:CartPole-v1 --preset quick --mode local --logdir runs/cartpole $(ARGS)

test: setup
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup
	@$(BIN)/python -m tests.benchmarks.learner --preset dmc_proprio --size size1m --device cpu --threads 1 --json
	@$(BIN)/python -m tests.benchmarks.learner --preset dmc_vision --size size12m --device cpu --threads 1 --json
