# Two commands: `make run` serves the demo, `make test` runs the whole suite. And a third: `make fleet` serves
# the demo with four processes, on the machine's own PostgreSQL and Redis, behind its nginx.
# Each sets up $(VENV) first, and again only when requirements.txt or the interpreter changes.

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8000
N      ?= 1000
ARGS   ?=
# For the faults: short or full; pubsub or core; how often each.
FORM   ?= short
LAYER  ?= pubsub
REPEAT ?= 1
MINUTES ?= 10

BIN := $(VENV)/bin
# "3.12", or nothing when $(PYTHON) is no Python at all.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMP := $(VENV)/.installed-$(or $(VERSION),none)

.PHONY: run fleet test faults soak crowd lint format types messages clean .venv-ready
.DEFAULT_GOAL := run

run: $(STAMP)
	@exec $(BIN)/python manage.py demo --port $(PORT)

fleet: $(STAMP)
	@exec $(BIN)/python manage.py fleet --port $(PORT)

test: $(STAMP)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# All faults, and whatever else takes its time; `make test` has the quick ones.
faults: $(STAMP)
	@SSE_POLLING_FAULT_FORM=$(FORM) SSE_POLLING_FAULT_LAYER=$(LAYER) SSE_POLLING_FAULT_REPEAT=$(REPEAT) \
	    $(BIN)/python -m pytest tests/faults -m '' $(ARGS)
	@$(BIN)/python -m pytest tests -m faults --ignore tests/faults $(ARGS)

soak: $(STAMP)
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --layer $(LAYER) $(ARGS)

crowd: $(STAMP)
	@exec $(BIN)/python manage.py crowd --clients $(N)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(STAMP)
	@$(BIN)/mypy

# What is translated: extracted anew, with what is missing left empty, and compiled. Needs Debian's gettext.
messages: $(STAMP)
	@cd sse_polling && ../$(BIN)/python -m django makemessages --all --no-obsolete --add-location file
	@sed -i '/^"POT-Creation-Date:/d' sse_polling/locale/*/LC_MESSAGES/django.po
	@cd sse_polling && ../$(BIN)/python -m django compilemessages

# The environment alone.
.venv-ready: $(STAMP)
	@$(BIN)/python -c 'import django, sys; print("Python", sys.version.split()[0], "and Django", django.__version__)'

clean:
	rm -rf .venv .venv-newest var build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per Python version: another PYTHON= makes the environment anew.
$(STAMP): requirements.txt
	@if [ -z "$(VERSION)" ]; then \
	    echo "sse_polling needs Python 3.11 or newer, and '$(PYTHON)' is not a Python that runs here. Choose one with: make PYTHON=python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "sse_polling needs Python 3.11 or newer, and '$(PYTHON)' is Python $(VERSION). Choose another with: make PYTHON=python3.12" >&2; exit 1; }
	@if [ "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "$(VERSION)" ]; then \
	    echo "Making $(VENV) with Python $(VERSION)"; \
	    $(PYTHON) -m venv --clear $(VENV); fi
	@echo "Installing requirements.txt into $(VENV)"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -r requirements.txt
	@rm -f $(VENV)/.installed-*
	@touch $@
