# Two commands matter: `make up` (a three-member TLS cluster on loopback) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Beside the editable install an ordinary one, as a user has it: with its core compiled (setup.py), by the system's own Python
# where that will do (3.11, fit to make environments and to compile for). Distributions build theirs with optimisations, which
# is worth a tenth of a lone put; many a Python of one's own is built without. PYTHON=... is taken for both.
COMPILED := .venv-compiled
SYSTEM_PYTHON := /usr/bin/python3
WILL_DO := import ensurepip, os, shutil, sys, sysconfig as s; \
	sys.exit(sys.version_info < (3, 11) or not os.path.exists(s.get_path("include") + "/Python.h") \
	or not shutil.which(s.get_config_var("CC").split()[0]))
COMPILED_PYTHON = $(if $(filter file,$(origin PYTHON)),$(shell \
	$(SYSTEM_PYTHON) -c '$(WILL_DO)' 2>/dev/null && echo $(SYSTEM_PYTHON) || echo $(PYTHON)),$(PYTHON))
SOURCES := $(shell find src -name '*.py' -o -name '*.proto') setup.py

.PHONY: up test judges test-sources test-compiled lint bench bench-scale clean test-hosts

$(BIN)/tercet: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/test: pyproject.toml $(BIN)/tercet
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	@touch $@

up: $(BIN)/tercet
	@$(BIN)/tercet up $(ARGS)

$(COMPILED)/test: pyproject.toml $(SOURCES)
	$(COMPILED_PYTHON) -m venv $(COMPILED)
	rm -rf build
	TERCET_COMPILE=1 $(COMPILED)/bin/python -m pip install --quiet '.[test]'
	rm -rf build
	@touch $@

test: test-sources test-compiled

test-sources: $(VENV)/test lint judges
	$(BIN)/python -m pytest $(or $(ARGS),-n 3 --dist loadfile)

# What the compiled modules take part in; the rest is the same code as above.
test-compiled: $(COMPILED)/test
	$(COMPILED)/bin/python -m pytest $(or $(ARGS),-n 3 --dist loadfile) tests/raft tests/mvcc tests/lease tests/replica tests/storage \
		tests/rpc tests/peer tests/services tests/sim tests/server tests/cluster tests/mixed tests/differential

test-hosts: $(VENV)/test
	TEST_HOSTS=1 $(BIN)/python -m pytest -rs tests/hosts $(ARGS)

# Judges that are Debian packages, where this is Debian and we are root; elsewhere the tests that need them skip, and say why.
judges:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { [ -x /usr/sbin/sshd ] && command -v cfssl && command -v openssl; } >/dev/null; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openssh-server golang-cfssl openssl >/dev/null || true; fi

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(COMPILED)/test
	$(COMPILED)/bin/python -m tercet.bench.compare $(ARGS)

bench-scale: $(COMPILED)/test
	$(COMPILED)/bin/python -m tercet.bench.scale $(ARGS)

clean:
	rm -rf $(VENV) $(COMPILED) .venv-clients build tercet-data .bench
