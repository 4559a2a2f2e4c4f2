# Each target does its own set-up: on a fresh machine with Python 3.11, `make app` or `make test` is all there is to type.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: app test lint bench clean

app: .venv/app.done
	$(BIN)/streamlit run app.py

test: .venv/dev.done lint
	$(BIN)/pytest -n 2 --dist loadscope

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev.done
	@$(BIN)/python -m benchmarks.speed

clean:
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	@echo 'making .venv' >&2; $(PYTHON) -m venv .venv

.venv/app.done: requirements.txt pyproject.toml | .venv/bin/python
	@echo 'installing what requirements.txt names; some minutes the first time' >&2
	@$(BIN)/pip install --quiet --editable . >&2
	@touch $@

.venv/dev.done: requirements.txt pyproject.toml | .venv/bin/python
	@echo 'installing what requirements.txt and the dev extra name; some minutes the first time' >&2
	@$(BIN)/pip install --quiet --editable ".[dev]" >&2
	@touch $@ .venv/app.done
