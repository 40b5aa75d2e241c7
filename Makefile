# Needs Python >= 3.11, make and, for the kernels, g++ or clang++. Everything else comes from PyPI into .venv.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do command -v $$p; done))
VENV ?= .venv
WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
OPS := $(wildcard ops/CMakeLists.txt ops/cpu/* ops/cuda/* ops/include/brainsim/*)
CXX_FILES := $(wildcard ops/cpu/*.cc ops/cpu/*.h ops/cuda/*.cu ops/cuda/*.h ops/include/brainsim/*.h ops/tests/*.cc ops/tests/*.h \
  experiments/benchmarks/*.cc)
SAY_BACKEND := $(BIN)/python -c 'from brainsim.events import backend; print("event operators:", backend())'
PYTEST := $(BIN)/python -m pytest -q --dist worksteal

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

# --- Environments: one .venv, installed again when the dependencies or the kernels change.

$(BIN)/python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python >= 3.11 is needed; name one: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

define install
	@echo 'Installing brainsim[$(1)] into $(VENV); the first time this downloads its dependencies and takes some minutes.'
	@$(PIP) install --quiet --constraint .ci/constraints.txt --editable '.[$(1)]'
	@$(SAY_BACKEND)
endef

$(VENV)/.plot: pyproject.toml .ci/constraints.txt $(OPS) | $(BIN)/python
	$(call install,plot)
	@touch $@

$(VENV)/.dev: pyproject.toml .ci/constraints.txt $(OPS) | $(BIN)/python
	$(call install,dev)
	@touch $@ $(VENV)/.plot

.PHONY: install
install: $(VENV)/.dev  ## the development environment in .venv

# --- The two commands of the README

.PHONY: demo test
demo: $(VENV)/.plot  ## run the main job: a network like the paper's, training on Braille, a report
	$(BIN)/brainsim demo

test: $(VENV)/.dev  ## every check, as CI runs them
	@MAKEFLAGS= PYTHON='$(PYTHON)' VENV='$(VENV)' WORKERS='$(WORKERS)' .ci/checks

# --- The checks, one by one

.PHONY: backend lint types layers sanitize suite core shapes newest experiments slow docs wheel-check
backend: $(VENV)/.dev  ## which event operators are in use; with a compiler it must be the kernels
	@said=$$($(SAY_BACKEND)); echo "$$said"; \
	if command -v $${CXX:-c++} >/dev/null && [[ $$said != *': kernels' ]]; then \
	  echo 'A compiler is here, so the kernels should be in use.' >&2; exit 1; fi

lint: $(VENV)/.dev  ## ruff and clang-format, nothing changed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(if $(CXX_FILES),$(BIN)/clang-format --dry-run -Werror $(CXX_FILES))

types: $(VENV)/.dev  ## pyright, basic
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(VENV)/.dev  ## import-linter: the floors
	$(BIN)/lint-imports --no-cache

sanitize:  ## the kernels' loops under the sanitizers of threads, addresses and undefined behaviour
	@cxx=$${CXX:-c++}; command -v $$cxx >/dev/null || { echo 'No compiler here: nothing to sanitize.'; exit 0; }; \
	out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; jobs=(); status=0; \
	for s in thread address,undefined; do ( echo "-- $$s"; \
	  $$cxx -std=c++17 -O1 -g -ffp-contract=off -Wall -Wextra -fsanitize=$$s -fno-sanitize-recover=all \
	    -DBRAINSIM_WORTH_SHARING=64 -Iops/include ops/tests/driver.cc ops/cpu/draws.cc -o "$$out/$$s.driver" -pthread && \
	  "$$out/$$s.driver" ) > "$$out/$$s.log" 2>&1 & jobs+=($$!); done; \
	for job in "$${jobs[@]}"; do wait "$$job" || status=1; done; cat "$$out"/*.log; exit $$status

# Most of the time of the tests is XLA's. In a hurry it does half as much, and rounds elsewhere: tests that compare bits
# are not for that. `make suite HURRY=` and plain pytest compile everything as users do.
HURRY ?= --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false
DEFAULT := not slow and not experiment
# $(call both,WHICH,WHERE): those tests that compare bits, compiled as users do, then the others, in a hurry.
both = $(PYTEST) -n $(WORKERS) -m 'optimised and $(1)' $(2) || status=1; \
  XLA_FLAGS="$${XLA_FLAGS:-} $(HURRY)" $(PYTEST) -n $(WORKERS) -m 'not optimised and $(1)' $(2) || status=1

suite: $(VENV)/.dev  ## all tests and doctests: kernels, float32
	@status=0; $(call both,$(DEFAULT)); exit $$status

# With `suite`, which is kernels x float32, these make all four.
core: $(VENV)/.dev  ## the core subset in the other three: kernels x float64, pure x float32, pure x float64
	@status=0; for kernels_x64 in 'auto 1' 'off 0' 'off 1'; do set -- $$kernels_x64; \
	  echo "-- BRAINSIM_KERNELS=$$1 JAX_ENABLE_X64=$$2"; export BRAINSIM_KERNELS=$$1 JAX_ENABLE_X64=$$2; \
	  $(call both,core and not slow,tests); \
	done; exit $$status

shapes: $(VENV)/.dev  ## the core subset with annotations, shapes among them, checked at every call
	BRAINSIM_SHAPES=1 XLA_FLAGS="$${XLA_FLAGS:-} $(HURRY)" $(PYTEST) -n $(WORKERS) -m 'core and not slow' tests

newest:  ## the core tests with the newest JAX; since 0.11 it needs Python 3.12: make newest PYTHON=python3.12
	@venv=$$(mktemp -d); trap 'rm -rf "$$venv"' EXIT; $(PYTHON) -m venv "$$venv"; \
	"$$venv/bin/pip" install --quiet --editable '.[dev]'; "$$venv/bin/pip" list 2>/dev/null | grep '^jax '; \
	"$$venv/bin/python" -m pytest -q --dist worksteal -n $(WORKERS) -m 'core and not slow' tests

experiments: $(VENV)/.dev  ## the quick run of every experiment
	$(PYTEST) -n $(WORKERS) -m experiment tests/experiments

slow: $(VENV)/.dev  ## the tests of minutes, not part of `make test`
	$(PYTEST) -n $(WORKERS) -m slow tests

docs: $(VENV)/.dev  ## execute every notebook, build the site in build/site; a dead link or unknown name fails
	@rm -rf docs/notebooks; mkdir -p docs/notebooks
	@ls notebooks/*.md | xargs -P $(WORKERS) -I{} sh -c 'name=$$(basename {} .md) && \
	  $(BIN)/jupytext --quiet --to ipynb --execute --output docs/notebooks/$$name.ipynb {} && \
	  $(BIN)/jupyter-nbconvert --log-level ERROR --to markdown docs/notebooks/$$name.ipynb && rm docs/notebooks/$$name.ipynb && echo "executed {}"'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

wheel-check: $(VENV)/.dev  ## build the wheel with and without a compiler and use both
	.ci/check-wheel $(BIN)

# --- Work

.PHONY: format bench wheel clean
format: $(VENV)/.dev  ## let ruff and clang-format put the tree in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(CXX_FILES),$(BIN)/clang-format -i $(CXX_FILES))

bench: $(VENV)/.dev  ## the benchmarks beside those peers that are installed
	$(BIN)/python -m experiments.benchmarks

wheel: $(BIN)/python  ## the wheel, in dist/
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:  ## remove .venv, builds and caches
	rm -rf $(VENV) build dist docs/notebooks brainsim/events/_lib .pytest_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
