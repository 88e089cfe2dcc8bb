# Two commands on a machine that has Python 3.11 or newer and make:
#
#   make reproduce    set up .venv, run the preset `quick`, print the main table and the path of the report
#   make test         set up .venv and run the whole test suite
#   make site         build the documentation into build/site
#
# PRESET=smoke make reproduce runs another preset. TORCH=cuda installs the default (CUDA) build of torch; without it a machine
# that has no NVIDIA driver gets the CPU build.

SHELL := /bin/bash
PYTHON ?= python3
PRESET ?= quick
TORCH ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)
RUN := source .venv/bin/activate &&
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint lock docs site clean

help:
	@sed -n '3,10s/^# \{0,1\}//p' Makefile

setup: $(STAMP)

reproduce: $(STAMP)
	@$(RUN) acodm reproduce $(PRESET)

test: $(STAMP)
	@$(RUN) python -m pytest --numprocesses 2 --dist loadfile

lint: $(STAMP)
	@$(RUN) ruff check . && ruff format --check .

# torch first and by itself: its CPU build lives on an index of its own, and everything else then finds it installed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(RUN) python -m pip install --quiet --retries 2 uv -c constraints.txt
ifeq ($(TORCH),cpu)
	@$(RUN) python -c 'import torch' 2>/dev/null \
	  || python -m pip install --quiet --retries 0 --extra-index-url $(TORCH_CPU_INDEX) 'torch==$(TORCH_VERSION)+cpu' -c constraints.txt \
	  || { echo "The CPU build of torch cannot be reached: taking the default build" >&2; \
	       python -m pip install --quiet 'torch==$(TORCH_VERSION)' -c constraints.txt; }
endif
	@$(RUN) uv pip install --quiet -c constraints.txt -e '.[test]' || python -m pip install --quiet -c constraints.txt -e '.[test]'
# Where Python is told to write no bytecode, every program would compile all that it imports: 2 of the 6 seconds of a training's start.
ifdef PYTHONDONTWRITEBYTECODE
	@$(RUN) python -m compileall -qq -j 0 .venv/lib || true # a few packages ship templates that are no Python
endif
	@touch $@

# Rewrite the lock from what pyproject.toml allows. torch brings its own exact pins of NVIDIA's packages, so they stay out.
lock: $(STAMP)
	@$(RUN) printf 'uv\ntorch==%s\n' '$(TORCH_VERSION)' \
	  | uv pip compile --quiet --universal --python-version 3.11 --extra test --no-header --no-annotate pyproject.toml - \
	  | grep -vE '^(nvidia|cuda|triton)' | sed -E 's/^(torch==[0-9.]+).*/\1/' | uniq > constraints.part && mv constraints.part constraints.txt

# The documents that are generated: from the code, and from the corpus of the preset once it is built.
docs: $(STAMP)
	@$(RUN) acodm reference methods > docs/reference/methods.md
	@$(RUN) acodm reference models > docs/reference/models.md
	@$(RUN) acodm reference signals > docs/reference/signals.md
	@$(RUN) acodm reference configuration > docs/reference/configuration.md
	@$(RUN) acodm reference cli > docs/reference/cli.md
	@$(RUN) acodm reference defaults > workflow/schemas/defaults.yaml
	@$(RUN) acodm reference schema > workflow/schemas/experiment.schema.json
	@$(RUN) acodm data card data/corpora/$$(python -c 'import json; print(json.load(open("results/$(PRESET)/experiment.json"))["corpus"]["id"])') > docs/reference/corpus.md
	@$(RUN) acodm board pages

# What is missing, misspelt or outside the navigation is an error.
site: $(STAMP)
	@$(RUN) NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict && echo build/site/index.html

clean:
	rm -rf .venv .snakemake build *.egg-info
