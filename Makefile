# Each target does all of its own set-up: a virtual environment in .venv and the pinned packages of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench torture clean

demo: .venv/ready
	$(BIN)/overfeat demo

test: lint
	$(BIN)/python -m pytest -q --numprocesses 2

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/ready
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.examples
	$(BIN)/python -m benchmarks.other_scenes

# Two hours and a quarter of faults, a third of it for a bucket of ten million images; the results stand in docs/reliability.md.
torture: .venv/ready
	$(BIN)/python -m tests.torture --largest 10000000 --write docs/reliability.md

.venv/ready: pyproject.toml constraints.txt
	@echo "Installing into .venv: some minutes, PyTorch and Ray are large"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[pipelines,scenes,dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
