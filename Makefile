# Each target does its own set-up: on a fresh machine with Python 3.11, `make app` or `make test` is all there is to type.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/python tools/uv.py

.PHONY: app test wheel-test chromium lint lock bench bench-app clean

app: .venv/app.done
	$(BIN)/crystalgan app

test: .venv/dev.done lint chromium
	$(BIN)/pytest -n 2 --dist loadscope

# Part of `make test`: a wheel, installed into an empty environment and used from an empty folder.
wheel-test: .venv/dev.done chromium
	$(BIN)/pytest tests/browser/test_wheel.py

# The browser tests drive a real one; where none is installed and none can be, they say so.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { echo 'installing chromium for the browser tests' >&2; apt-get update -qq >&2 && apt-get install -y -qq chromium >&2; } \
	  || { echo 'No Chromium here and apt-get cannot install it: install Chromium or Chrome, then run make test again.' >&2; exit 1; }

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Some sections only: make bench ONLY=step1,neighbours
bench: .venv/dev.done
	@$(BIN)/python -m benchmarks.speed $(if $(ONLY),--only $(ONLY))

bench-app: .venv/dev.done chromium
	@$(BIN)/python -m benchmarks.app

# The versions that every target here installs, from the ranges in pyproject.toml. Versions stay as they are where they may;
# `make lock UPGRADE=--upgrade` takes the newest. Of torch the build for processors, which pip has to know where to find.
lock: .venv/uv.done
	sed -i 's/^torch==[0-9.]*$$/&+cpu/' requirements-dev.txt
	$(UV) pip compile -q pyproject.toml --extra dev $(LOCKED) $(UPGRADE) -o requirements-dev.txt
	$(UV) pip compile -q pyproject.toml -c requirements-dev.txt $(LOCKED) -o requirements.txt
	sed -i 's/+cpu$$//' requirements.txt requirements-dev.txt
LOCKED := --python-version 3.11 --no-annotate --custom-compile-command 'make lock'

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.venv/bin/python:
	@echo 'making .venv' >&2; $(PYTHON) -m venv .venv

# uv installs in a fraction of pip's time; where it cannot, pip does.
.venv/uv.done: requirements-dev.txt | .venv/bin/python
	@$(BIN)/pip install --quiet --constraint requirements-dev.txt uv >&2
	@touch $@

.venv/app.done: requirements.txt pyproject.toml .venv/uv.done
	@echo 'installing what requirements.txt names; some minutes the first time' >&2
	@$(UV) pip install --quiet -r requirements.txt --editable . >&2 \
	  || $(BIN)/pip install --quiet -r requirements.txt --editable . >&2
	@touch $@

.venv/dev.done: requirements.txt requirements-dev.txt pyproject.toml .venv/uv.done
	@echo 'installing what requirements-dev.txt names; some minutes the first time' >&2
	@$(UV) pip install --quiet -r requirements-dev.txt --editable . >&2 \
	  || $(BIN)/pip install --quiet -r requirements-dev.txt --editable . >&2
	@touch $@ .venv/app.done
