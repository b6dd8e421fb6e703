# setup, demo, test, test-services, check, clean. Each target installs what it needs into .venv; downloads stay in pip's own cache.
#
#   make demo                                  ask Genesis a question with the default model
#   make demo BOOK=path QUESTION="..."         ask any other text
#   make setup TORCH_INDEX=<address>           take torch from another index (see README, "Which torch")

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --quiet

# Idle OpenMP threads must sleep, not spin: on few cores they take the time of the one that works.
RUN := OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0

.PHONY: setup demo test test-services check clean
.DELETE_ON_ERROR:

setup: $(VENV)/.stamp-all
	@echo "Ready: $(VENV)/bin/readthrough --help"

demo: $(VENV)/.stamp-demo
	@$(RUN) $(PY) examples/demo.py $(if $(BOOK),--book "$(BOOK)") $(if $(QUESTION),--question "$(QUESTION)")

# Two processes with a thread each; every one loads the small model once. The long files, of few tests, come first and
# not last, where one process would wait for the other. PYTEST="tests/unit -k name" takes their place.
PYTEST ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: $(VENV)/.stamp-test
	@$(RUN) OMP_NUM_THREADS=1 $(PY) -m pytest $(PYTEST)

# Against real servers, started from packages: PostgreSQL, Ray, `transformers serve`, and the Qdrant of QDRANT_URL.
test-services: $(VENV)/.stamp-services
	@$(RUN) OMP_NUM_THREADS=1 $(PY) -m pytest -m services

check: $(VENV)/.stamp-test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Making $(VENV) and installing $(TORCH) (the largest download, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH)"
	@touch $@

# One recipe for the sets of extras: what the demo, the tests and the tests with real servers need, everything.
EXTRAS-demo := cpu,code,demo,embedded
EXTRAS-test := cpu,code,dev,embedded-small
EXTRAS-services := cpu,code,embedded-small,services
EXTRAS-all := all
$(VENV)/.stamp-%: $(VENV)/.stamp-torch pyproject.toml
	@echo "Installing readthrough[$(EXTRAS-$*)] ..."
	@$(PIP) -e ".[$(EXTRAS-$*)]"
	@touch $@
