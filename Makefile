# Two commands are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
comma := ,

.PHONY: demo test docs faults bench install clean

demo: $(VENV)/.installed
	$(BIN)/semikit demo

WORKERS ?= 2
test: $(VENV)/.installed-dev
	$(BIN)/ruff check semikit tests benchmarks docs/_site
	$(BIN)/ruff format --check semikit tests benchmarks docs/_site
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

# The pages of docs/ with the reference made from the code, as a site in build/site that loads nothing from the network.
docs: $(VENV)/.installed
	$(PIP) -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The long trials of kills, broken files, hostile input, shared steps and compilation, and their counts: about an hour.
faults: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/faults tests/training tests/augment tests/models tests/reproduce tests/cli tests/accelerator tests/tasks tests/data tests/benchmarks tests/contracts -m "long or not long" \
	  --timeout=7200 --numprocesses $(WORKERS) --dist loadfile

# The step of each task beside the form of public code in fp32 and in bf16, with what is aimed at; short whole runs, and a
# pool of 20,000 images in shards in place of the million (under a minute of it): a quarter of an hour on a quiet machine;
# the numbers go to build/bench.
# CLOCK=cpu where others use the machine too; SEMIKIT_TEST_DATA adds CamVid to the whole runs.
CLOCK ?= wall
FAST = --precision bf16 --against reference --repeats 3 --clock $(CLOCK)
bench: $(VENV)/.installed-dev
	mkdir -p build/bench
	$(BIN)/python -m benchmarks.step seg --crop 126 --against reference --clock $(CLOCK) --json build/bench/seg.json
	$(BIN)/python -m benchmarks.step cd --crop 126 --against reference --clock $(CLOCK) --json build/bench/cd.json
	$(BIN)/python -m benchmarks.step cls --against reference --clock $(CLOCK) --json build/bench/cls.json
	$(BIN)/python -m benchmarks.step seg $(FAST) --crop 126,266,518 --json build/bench/seg-bf16.json
	$(BIN)/python -m benchmarks.step cd $(FAST) --crop 252 --json build/bench/cd-bf16.json
	$(BIN)/python -m benchmarks.step cls $(FAST) --json build/bench/cls-bf16.json
	$(BIN)/python -m benchmarks.step.targets build/bench
	rm -rf build/bench/whole
	$(BIN)/python benchmarks/whole_runs.py --out build/bench/whole --demo-iterations 100 \
	  --runs seg,cd,cls$(if $(SEMIKIT_TEST_DATA),$(comma)camvid)
	$(BIN)/python -m benchmarks.methods --steps 4 --json build/bench/methods.json | tee build/bench/methods.md
	rm -rf build/bench/pool
	$(BIN)/python benchmarks/shard_pool.py build/bench/pool --images 20000 --per-shard 200 > build/bench/shard_pool.txt
	cat build/bench/shard_pool.txt

install: $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "semikit needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Only what is imported is compiled, when it is: of 16,000 files of others most never are.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(PIP) -e ".[dev]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
