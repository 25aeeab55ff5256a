# make up: a three-member TLS cluster on this host. make quick: tests of the core in two minutes. make test: everything.
SHELL := bash
.SHELLFLAGS := -o pipefail -ec
PYTHON ?= python3
# tercet contains its client, also where this is an unpacked source distribution (packages/README.md).
export TERCET_WHOLE := 1
VENV := .venv
BIN := $(VENV)/bin
# The second environment is an ordinary install, with the core compiled (setup.py), by the system's Python where that is 3.11
# or newer, can create environments and has headers and a compiler. Distributions build Python with optimisations, which make
# a lone put a tenth faster; a Python built by pyenv or uv often lacks them. PYTHON=... overrides both.
COMPILED := .venv-compiled
SYSTEM_PYTHON := /usr/bin/python3
SUITABLE := import ensurepip, os, shutil, sys, sysconfig as s; \
	sys.exit(sys.version_info < (3, 11) or not os.path.exists(s.get_path("include") + "/Python.h") \
	or not shutil.which(s.get_config_var("CC").split()[0]))
COMPILED_PYTHON = $(if $(filter file,$(origin PYTHON)),$(shell \
	$(SYSTEM_PYTHON) -c '$(SUITABLE)' 2>/dev/null && echo $(SYSTEM_PYTHON) || echo $(PYTHON)),$(PYTHON))
SOURCES := $(shell find src -name '*.py' -o -name '*.proto') setup.py
WORKERS ?= 4
PARALLEL := -n $(WORKERS) --dist loadfile
# Packages whose tests need the compiled modules; the others test the same code as on the sources.
COMPILED_TESTS := $(addprefix tests/,auth raft mvcc lease replica storage rpc peer services sim simulation server cluster mixed differential)
# Prints each package on the same line as pip collects it.
PACKAGES_AS_THEY_COME := awk '/build dependencies: started/ { printf " build tools,"; fflush() } \
	/^ *Collecting/ { sub(/[^[:alnum:]_.-].*/, "", $$2); printf " %s", $$2; fflush() } END { print "" }'

# `make soak`: seeds to simulate, and the time after which no more are started.
SOAK_SEEDS ?= 10000-29999
SOAK_SECONDS ?= 3600

.PHONY: mutants soak soak-clients deep up quick test test-sources test-compiled test-hosts test-hosts-all reference-tools lint dist-check bench bench-clients bench-scale bench-watches bench-hostile docs clean

$(BIN)/tercet: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tercet needs Python 3.11 or newer: make PYTHON=python3.12")'
	@echo "Creating a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@printf "Installing tercet and its dependencies:"
	@$(BIN)/python -m pip install --disable-pip-version-check --editable . | $(PACKAGES_AS_THEY_COME)
	@touch $@

$(VENV)/test: pyproject.toml $(BIN)/tercet
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[test,dev]'
	@touch $@

up: $(BIN)/tercet
	@exec $(BIN)/tercet up $(ARGS)

# Built from a copy, so that the build leaves nothing in the tree and other builds may run at the same time.
$(COMPILED)/test: pyproject.toml $(SOURCES)
	$(COMPILED_PYTHON) -m venv $(COMPILED)
	rm -rf $(COMPILED)/source && mkdir $(COMPILED)/source
	cp -r src setup.py pyproject.toml README.md LICENSE $(COMPILED)/source
	TERCET_COMPILE=1 $(COMPILED)/bin/python -m pip install --disable-pip-version-check --quiet './$(COMPILED)/source[test]'
	rm -rf $(COMPILED)/source
	@touch $@

# Tests of the core, without server processes and with few simulator seeds: under two minutes.
quick: lint
	$(BIN)/python -m pytest -n 2 tests/raft tests/mvcc tests/lease tests/replica tests/sim -m "not server_process and not soak" $(ARGS)

# Both halves run even if the first fails.
test:
	@status=0; \
	$(MAKE) --no-print-directory test-sources || status=1; \
	$(MAKE) --no-print-directory test-compiled || status=1; \
	exit $$status

test-sources: $(VENV)/test lint
	$(BIN)/python -m pytest $(or $(ARGS),$(PARALLEL))

test-compiled: $(COMPILED)/test
	$(COMPILED)/bin/python -m pytest $(or $(ARGS),$(PARALLEL)) $(COMPILED_TESTS)

test-hosts: $(VENV)/test
	TEST_HOSTS=1 $(BIN)/python -m pytest -rs tests/hosts -m "not long" $(ARGS)

# With the stories that take minutes each.
test-hosts-all: $(VENV)/test
	TEST_HOSTS=1 $(BIN)/python -m pytest -rs tests/hosts $(ARGS)

# Debian packages of sshd, cfssl and openssl, which some tests compare with; without them those tests skip and say so.
reference-tools:
	@if [ -x /usr/sbin/sshd ] && command -v cfssl >/dev/null && command -v openssl >/dev/null; then echo "already installed"; else \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openssh-server golang-cfssl openssl >/dev/null; fi

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin & $(BIN)/mypy; wait $$!

# Build the sdist and the wheel, and check what they contain.
dist-check: $(VENV)/test
	$(BIN)/python -m pytest tests/packaging -m packaging $(ARGS)

# Property tests with examples that differ from run to run, TEST_EXAMPLES times as many as in `make test`.
deep: export TEST_EXAMPLES ?= 20
deep: $(VENV)/test
	$(BIN)/python -m pytest -m hypothesis $(or $(ARGS),$(PARALLEL))

# Planted bugs, each of which the simulator must catch (tests/mutants); about half an hour on two cores.
mutants: $(VENV)/test
	$(BIN)/python -m tests.mutants.run $(ARGS)

# Thousands of simulated clusters.
soak: $(COMPILED)/test
	$(COMPILED)/bin/tercet sim --seeds $(SOAK_SEEDS) --seconds $(SOAK_SECONDS) --jobs $(shell nproc) $(ARGS)

# Three days of a cluster and its clients in virtual time: most of an hour.
soak-clients: $(COMPILED)/test
	$(COMPILED)/bin/python -m tests.client.soak $(ARGS)

bench: $(COMPILED)/test
	$(COMPILED)/bin/python -m tercet.bench.compare $(ARGS)

# Python clients on one etcd; those of other projects are installed beside.
bench-clients: $(COMPILED)/test
	$(COMPILED)/bin/python -m pip install --disable-pip-version-check --quiet 'aetcd>=1,<2' 'etcd3==0.12.0' 'etcd-client-py>=0.5'
	$(COMPILED)/bin/python -m tercet.bench.clients $(ARGS)

bench-scale: $(COMPILED)/test
	$(COMPILED)/bin/python -m tercet.bench.scale $(ARGS)

bench-watches: $(COMPILED)/test
	$(COMPILED)/bin/python -m tercet.bench.watches $(ARGS)

bench-hostile: $(COMPILED)/test
	$(COMPILED)/bin/python -m tercet.bench.hostile $(ARGS)

# The pages of docs/ with an API reference made from the docstrings, in site/.
docs: $(VENV)/test
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet $(ARGS)
	@echo "site/index.html"

clean:
	rm -rf $(VENV) $(COMPILED) .venv-clients build dist site tercet-data .bench
