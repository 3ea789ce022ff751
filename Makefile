# `make demo` and `make test` do all on a fresh machine: they need python3 (3.11 or newer) only.
# Another Python: `make test VENV=.venv-3.13 PYTHON=python3.13`.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
# Kept, also where the environment says otherwise: each process would compile JAX's files anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test suite quick durations lint docs site bench parity golden clean

demo: $(VENV)/.demo
	$(RUN)/python -m examples.letter_mlp
	$(RUN)/python -m examples.digits_cnn

# Lint takes one core only, and fails at the end like the tests.
test: $(VENV)/.dev
	$(MAKE) --no-print-directory -j2 lint suite

suite: $(VENV)/.dev
	$(RUN)/python -m pytest -n auto --dist worksteal

# The inner loop: without the tests that tests/DURATIONS.md lists.
quick: $(VENV)/.dev
	$(RUN)/python -m pytest -n auto --dist worksteal -m "not slow"

durations: $(VENV)/.dev
	$(RUN)/python -m pytest -n auto --dist worksteal --junitxml=out/durations.xml
	$(RUN)/python tests/durations.py out/durations.xml > out/DURATIONS.md
	mv out/DURATIONS.md tests/DURATIONS.md

lint: $(VENV)/.dev
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy

# Draws the figures, writes the pages of all public names and of all behaviours, runs every block and docstring, and fails where a public name has no text.
docs: $(VENV)/.dev
	$(RUN)/python docs/figures.py
	$(RUN)/python docs/api.py
	$(RUN)/python docs/catalogue.py
	$(RUN)/python -m pytest -n auto tests/test_docs.py tests/test_catalogue.py tests/test_migrating.py

# The pages as a site, out/site/index.html; a link or a section that is not there is an error.
site: $(VENV)/.dev
	$(RUN)/python -m pip install --quiet "mkdocs>=1.6.1,<2"
	$(RUN)/python -m mkdocs build

bench: $(VENV)/.dev
	$(RUN)/python -m benchmarks.first

# The drop-ins beside the real packages, which have an environment of their own (2 GB, CPU only).
# Less of it: `make parity PARITY="--draws 1 --steps 100 torch keras"`.
parity: $(VENV)-peers/.made
	PYTHONPATH=tests:. JAX_PLATFORMS=cpu $(VENV)-peers/bin/python -W ignore tests/parity.py $(PARITY)
	PYTHONPATH=tests:. JAX_PLATFORMS=cpu $(VENV)-peers/bin/python tests/back_again.py

golden: $(VENV)-peers/.made
	PYTHONPATH=tests:. JAX_PLATFORMS=cpu $(VENV)-peers/bin/python -W ignore -m golden.write

clean:
	rm -rf $(VENV) $(VENV)-peers out build dist

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --editable ".[examples]"
	touch $@

# Not compiled: a fifth of the files is ever imported.
$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --no-compile --editable ".[dev]"
	touch $@

# PyTorch alone from its own index of builds for the CPU, if PIP_EXTRA_INDEX_URL names it.
$(VENV)-peers/.made: tests/golden/peers.txt tests/golden/alone.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --editable . --requirement tests/golden/peers.txt
	$(VENV)-peers/bin/python -m pip install --quiet --no-deps --requirement tests/golden/alone.txt
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
