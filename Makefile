# Two commands matter: `make up` (a three-member TLS cluster on loopback) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: up test lint bench bench-scale clean

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

test: $(VENV)/test lint
	$(BIN)/python -m pytest $(or $(ARGS),-n 3 --dist loadfile)

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test
	$(BIN)/python -m tercet.bench.compare $(ARGS)

bench-scale: $(VENV)/test
	$(BIN)/python -m tercet.bench.scale $(ARGS)

clean:
	rm -rf $(VENV) .venv-clients tercet-data .bench
