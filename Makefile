# Every target sets itself up: a fresh machine needs python >= 3.11, git and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export HF_HUB_OFFLINE ?= 1

.PHONY: install demo test soak check bench gpu clean

install: $(INSTALLED)       ## everything, into .venv

demo: $(INSTALLED)          ## tag photos, make data, train a small model, measure it, ask it: demo_out/index.html
	$(BIN)/python scripts/demo.py

test: $(INSTALLED)          ## every test
	$(BIN)/python -m pytest

soak: $(INSTALLED)          ## the fault tests in full: 20 kills of a 500-image run, 1,000 broken files, a failing server
	LLAVA_SOM_SOAK=1 $(BIN)/python -m pytest --timeout 3000 tests/e2e/test_unlosable.py tests/unit/data_gen/test_fuzzed_inputs.py

check: $(INSTALLED)         ## style, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(INSTALLED)         ## speed, as ratios measured in one run: scripts/results/bench_cpu.json
	$(BIN)/python scripts/bench.py

gpu:                        ## what a GPU changes, checked and timed with the packages already installed
	PYTHONPATH=. $(PYTHON) scripts/gpu_suite.py

clean:
	rm -rf .venv demo_out

$(INSTALLED): requirements.txt setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python >= 3.11 is needed; name one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (about 7 GB, some minutes; later runs skip this)."
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --editable .
	touch $@
