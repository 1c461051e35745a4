# Everything here needs Python 3.11 or newer and a package index, and nothing else.
#
#   make train     set up .venv once, then train the word reader (and its letter reader first)
#   make test      set up .venv once, then run the tests
#
# `make PYTHON=/path/to/python3.12 ...` chooses the interpreter; ARGS are passed on:
# `make train ARGS="trainer.epochs=1"`, `make test ARGS="-k loop"`. The tests run in one process for each CPU, up to eight;
# `make test ARGS="-n 0 --pdb tests/text"` runs them in this one.

PYTHON ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BIOME := @biomejs/biome@2.3.0
DOCS := $(VENV)/.docs
PACKAGES := $(VENV)/.packages
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n auto --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup packages train test test-gpu test-all lint types golden docs bench clean

help:
	@echo "make train | test | test-gpu | test-all | lint | types | golden | docs | bench | setup | packages | clean"

setup: $(READY)

# The environment is made again only when what it is made from has changed.
$(READY): pyproject.toml constraints.txt
	@set -e; \
	python="$(PYTHON)"; \
	for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	  [ -z "$$python" ] || break; \
	  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$name"; fi; \
	done; \
	if ! "$${python:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  if [ -n "$$python" ]; then found="$$python is older or does not run"; else found="there is none on the PATH"; fi; \
	  echo "flowconf needs Python 3.11 or newer, and $$found; name one: make PYTHON=/path/to/python3.11 ..." >&2; \
	  exit 3; \
	fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  rm -rf $(VENV); \
	  if ! "$$python" -m venv $(VENV); then \
	    rm -rf $(VENV); \
	    echo "$$python cannot make a virtual environment; on Debian and Ubuntu, install the package python3-venv" >&2; \
	    exit 3; \
	  fi; \
	fi; \
	echo "setting up $(VENV) (once; a few minutes, most of it for torch)"; \
	$(PIP) -e '.[dev]'; \
	touch $(READY)

# Packages whose parts configs may use, for the tests that are skipped without them. torchvision comes without its
# dependencies: it would replace a torch of another build.
$(PACKAGES): $(READY)
	$(PIP) --no-deps torchvision timm
	$(PIP) -e '.[text,hub,huggingface]'
	touch $(PACKAGES)

packages: $(PACKAGES)

train: $(READY)
	$(BIN)/flowconf train configs/fbrl_word.yaml $(ARGS)

test: $(READY)
	$(PYTEST) $(PARALLEL) $(ARGS)

test-gpu: $(READY)
	$(PYTEST) -m gpu $(ARGS)

test-all: $(READY)
	$(PYTEST) $(PARALLEL) -m "" $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if npx --yes --prefer-offline $(BIOME) --version >/dev/null 2>&1; then npx --prefer-offline $(BIOME) lint; \
	else echo "the scripts of the page are not checked: npx cannot run $(BIOME)"; fi

types: $(READY)
	$(BIN)/mypy

# The golden texts, written again from what is printed now: read the difference before you commit it.
golden: $(READY)
	FLOWCONF_REWRITE=1 $(PYTEST) tests/mistakes/test_mistakes.py tests/mistakes/test_pages.py $(ARGS)
	$(BIN)/flowconf schema
	git diff --stat

# The site, in build/site; what builds it is installed the first time, and by nothing else.
$(DOCS): $(READY)
	$(PIP) -e '.[docs]'
	touch $(DOCS)

docs: $(DOCS)
	$(BIN)/python docs/pages.py build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build $(ARGS)

# The page is made from the tables that there are: one script that fails leaves out its own.
bench: $(READY)
	@rm -rf build/bench; failed=; \
	$(BIN)/python benchmarks/training.py --out build/bench $(ARGS) || failed=" training"; \
	for name in commands data peers checkpoints memory shares; do \
	  $(BIN)/python benchmarks/$$name.py --out build/bench || failed="$$failed $$name"; \
	done; \
	$(BIN)/python benchmarks/overhead.py --small --rounds 20 || failed="$$failed overhead"; \
	$(BIN)/python benchmarks/page.py build/bench; \
	[ -z "$$failed" ] || { echo "these failed:$$failed" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
