# What a newcomer types. `make up` and `make test` install what they need.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

# The index that `make up` starts: its port, its first user, and (with PPCTL_HOME) its home.
PORT ?=
NAME ?= $(shell id -un)

# Without internet: a directory that everything comes from, filled by `make wheels` on another machine.
WHEELS ?= $(wildcard wheels)
OFFLINE = $(if $(WHEELS),UV_OFFLINE=1 UV_FIND_LINKS="$(abspath $(WHEELS))")

PYTEST_ARGS ?=
JOBS        ?= 2

# With byte code, also where the environment says to keep none: the tests start Python some thousand times.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.10 --no-header \
	    --no-emit-index-url --no-emit-find-links

DOWNLOAD = $(BIN)/python -m pip download --quiet --disable-pip-version-check --dest wheels

.PHONY: help up down fleet wheels test unit lint format docs lock bench wheel clean

help:
	@echo "make up      a private package index on this machine (PORT=4000, NAME=alice, PPCTL_HOME=DIR)"
	@echo "make down    stop it; its packages and users stay"
	@echo "make fleet   for many hosts: ppctl and Ansible in .venv, and a wheelhouse for hosts without internet"
	@echo "make wheels  fill the directory wheels: with it make up needs no internet (WHEELS=DIR: another one)"
	@echo "make test    every test;  make unit: the quick ones"
	@echo "make lint    ruff, mypy, yamllint, ansible-lint, shellcheck;  make format: ruff format"
	@echo "make docs    write the generated reference pages;  make bench: the benchmarks"
	@echo "make lock    resolve the versions that a release holds anew"
	@echo "make wheel   the wheel of ppctl in dist;  make clean: remove what these have made"

up: $(VENV)/.ppctl
	@$(BIN)/ppctl init --quiet --keep $(if $(PORT),--port "$(PORT)")
	@$(OFFLINE) $(BIN)/ppctl up --first-user "$(NAME)"

down: $(VENV)/.ppctl
	@$(BIN)/ppctl down

fleet: $(VENV)/.fleet
	@$(BIN)/ppctl wheelhouse wheelhouse

wheels: $(VENV)/.ppctl
	@rm -rf wheels
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir wheels .
	@$(DOWNLOAD) . hatchling editables
	@$(DOWNLOAD) --require-hashes --requirement ppctl/server/requirements-cache.lock
	@echo "wheels: everything that make up needs on a machine without internet, for $$($(BIN)/python -V)"

test: $(VENV)/.dev
	@scripts/install-test-tools
	$(PYTEST) -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

unit: $(VENV)/.dev
	PPCTL_QUICK_TESTS=1 $(PYTEST) -n $(JOBS) --dist loadfile -m "not e2e and not hosts" \
	    -o faulthandler_timeout=30 -o timeout=120 -o tmp_path_retention_policy=failed $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH="$(abspath $(BIN)):$$PATH" ANSIBLE_COLLECTIONS_PATH=$(abspath ansible/collections) $(BIN)/ansible-lint -q
	$(BIN)/shellcheck $$(git ls-files 'scripts/*' 'molecule/hosts/*' .ci/run | xargs grep -lE '^#!.*\b(ba|da)?sh\b')

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev
	$(BIN)/python scripts/generate-collection-readme
	$(BIN)/python scripts/generate-reference

lock: $(VENV)/.dev
	$(COMPILE) --upgrade ppctl/server/requirements.in -o ppctl/server/requirements.lock
	$(COMPILE) --upgrade --constraint ppctl/server/requirements.lock \
	    ppctl/server/requirements-cache.in -o ppctl/server/requirements-cache.lock

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

wheel: $(VENV)/.ppctl
	$(BIN)/uv build --quiet --wheel --out-dir dist

clean:
	rm -rf $(VENV) dist build wheelhouse wheels .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.ppctl: pyproject.toml scripts/make-venv
	@WHEELS="$(WHEELS)" scripts/make-venv $(PYTHON) $(VENV)
	@touch $@

$(VENV)/.fleet: $(VENV)/.ppctl pyproject.toml
	@scripts/make-venv $(PYTHON) $(VENV) --requirement pyproject.toml --extra fleet
	@touch $@

$(VENV)/.dev: $(VENV)/.ppctl pyproject.toml
	@scripts/make-venv $(PYTHON) $(VENV) --group test --group lint
	@touch $@

$(VENV)/.bench: $(VENV)/.dev pyproject.toml
	@scripts/make-venv $(PYTHON) $(VENV) --group bench
	@touch $@
