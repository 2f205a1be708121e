# Needs make, and Python 3.11 or newer with its venv module. Everything else goes
# into .venv. The tests also use a few programs of the system: see .ci/run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# More options for the server: make run ARGS="--port 0"
ARGS ?=
# Only these tests: make test TESTS=tests.test_architecture
TESTS ?=

.PHONY: help run demo test lint docs bench clean

help:
	@echo "make run      start the server here, on port 7443, with its data in ./var"
	@echo "                (ARGS=\"--port 0\" gives it more options)"
	@echo "make demo     play the whole story: server, messages, files, in under a minute"
	@echo "make test     run ruff, mypy, Sphinx and all tests"
	@echo "                (TESTS=tests.test_architecture runs only these tests)"
	@echo "make lint     run ruff, mypy and Sphinx only"
	@echo "make docs     make docs/_build/index.html"
	@echo "make bench    measure how fast it receives, beside the ceiling"
	@echo "make clean    remove what the others made, but never ./var"

# --pidfile= because a server in the foreground needs none, and one that a crash
# left behind would keep the next one from starting.
run: $(VENV)/installed
	@exec $(BIN)/twistd -n --pidfile= securerecv --data ./var $(ARGS)

demo: $(VENV)/installed
	@$(BIN)/python -m demo

test: $(VENV)/installed-for-tests
	@$(BIN)/python -m tests.run $(TESTS)

lint: $(VENV)/installed-for-tests
	@$(BIN)/python -m tests.run --lint

docs: $(VENV)/installed-for-tests
	@$(BIN)/python -m sphinx -W -q -b html docs docs/_build
	@echo "look at docs/_build/index.html"

bench: $(VENV)/installed-for-bench
	@$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) _trial_temp* .mypy_cache .ruff_cache .hypothesis
	rm -rf docs/_build build dist securerecv.egg-info twisted/plugins/dropin.cache
	find securerecv tests bench twisted -name __pycache__ -prune -exec rm -rf {} +

# The installs are editable: what runs is the code of this folder as it is now,
# and an install is only done again when one of the two files has changed.
$(VENV)/installed: $(VENV)/made setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-for-bench: $(VENV)/made setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@ $(VENV)/installed

$(VENV)/installed-for-tests: $(VENV)/made setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/installed $(VENV)/installed-for-bench

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "securerecv needs Python 3.11 or newer; say make PYTHON=python3.x" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
