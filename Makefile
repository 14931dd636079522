# `make app` and `make test` work from a bare clone. PYTHON= chooses the Python (3.11 or newer);
# PIP_FLAGS= is passed to pip, for example to take torch's small CPU build (README, "Without a GPU").
PYTHON ?= python3
PIP_FLAGS ?=
PORT ?= 8501
# Test processes, with one thread each: one more than two cores, since browsers and engines are waited for.
JOBS ?= 3
BIN := .venv/bin

.PHONY: app test pytest test-oldest faults paper-dry-run lint demo demo-schools bench gpu clean

app: .venv/app.stamp
	$(BIN)/dtrak app --port $(PORT)

# The linters run beside the tests' first minutes, in which browsers and engines are waited for.
test: .venv/test.stamp
	@$(MAKE) --no-print-directory -j2 lint pytest

# Modules are compiled once for all Pythons that the tests start, whatever the environment says.
pytest: .venv/test.stamp
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long"

# The oldest versions that the requirements allow, in an environment of their own.
test-oldest: .venv-oldest/test.stamp
	.venv-oldest/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not long and not browser"

faults: .venv/test.stamp
	STUDIO_FAULTS=docs/reliability.md $(BIN)/python -m pytest -m faults

paper-dry-run: .venv/test.stamp
	STUDIO_PAPER=docs/reproduce.md $(BIN)/python -m pytest -m paper tests/test_paper.py tests/test_true_size.py

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: .venv/app.stamp
	$(BIN)/dtrak demo

demo-schools: .venv/app.stamp
	$(BIN)/dtrak demo-schools

bench: .venv/test.stamp
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/kernel.py
	$(BIN)/python benchmarks/ui.py
	$(BIN)/python benchmarks/contention.py
	$(BIN)/python benchmarks/tables.py

# PYTHON_GPU= takes a Python that has all packages, the machine's own with its torch for example.
PYTHON_GPU ?= $(BIN)/python
gpu: $(if $(findstring $(BIN),$(PYTHON_GPU)),.venv/test.stamp)
	$(PYTHON_GPU) -m pytest -q -m gpu -p no:cacheprovider tests/test_gpu.py
	$(PYTHON_GPU) benchmarks/gpu.py

clean:
	rm -rf .venv .venv-oldest

.venv/app.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -e .
	touch $@

.venv/test.stamp: .venv/app.stamp tests/requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -r tests/requirements.txt
	touch $@

.venv-oldest/test.stamp: requirements.txt tests/requirements.txt
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install --disable-pip-version-check uv
	.venv-oldest/bin/uv pip install --python .venv-oldest/bin/python --resolution lowest-direct $(PIP_FLAGS) \
	  -r requirements.txt -r tests/requirements.txt
	touch $@
