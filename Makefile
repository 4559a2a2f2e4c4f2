# Each target does its own set-up: on a fresh machine with Python 3.11, `make app` or `make test` is all there is to type.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: app test chromium lint bench bench-app clean

app: .venv/app.done
	$(BIN)/streamlit run app.py

test: .venv/dev.done lint chromium
	$(BIN)/pytest -n 2 --dist loadscope

# The browser tests drive a real one; where none is installed and none can be, they say so.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { echo 'installing chromium for the browser tests' >&2; apt-get update -qq >&2 && apt-get install -y -qq chromium >&2; } \
	  || { echo 'No Chromium here and apt-get cannot install it: install Chromium or Chrome, then run make test again.' >&2; exit 1; }

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Some sections only: make bench ONLY=step1,neighbours
bench: .venv/dev.done
	@$(BIN)/python -m benchmarks.speed $(if $(ONLY),--only $(ONLY))

bench-app: .venv/dev.done chromium
	@$(BIN)/python -m benchmarks.app

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
