# The habits of this house. Each target works on a fresh machine with Python 3.11 or newer.
VENV ?= .venv
WORKERS ?= 2
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo quick test suite installed soak soak-training fuzz lint audit format triton bench gpu clean

demo: $(VENV)/.demo  ## from nothing to an answer: flowers drawn, LeNet trained, measured and exported, one image inferred
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

quick: $(INSTALLED) lint  ## linters, types, layers, and the tests that take a moment: 3 minutes on 2 cores
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

# `TRITON=1 make test` tests against a real Triton too: 1 GB of packages, which exist for this platform alone.
ifeq ($(TRITON)$(shell uname -sm),1Linux x86_64)
installed suite: .triton/.installed
endif
test: lint suite  ## linters, types, layers, then the whole suite; beside each other by `make --jobs 2 test`, as CI does

# For a third of their time tests wait, for servers mostly: `make test WORKERS=3` keeps two cores busier.
suite: $(INSTALLED)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

installed: $(INSTALLED)  ## the packages alone

soak: $(INSTALLED)  ## a server under honest clients and abuse at once, for two hours: MINUTES=120 SEED=1 (SHARE=0.3 of a processor; 0: all)
	$(BIN)/python -m tests.serving.soak --minutes $(or $(MINUTES),120) --seed $(or $(SEED),1) --share $(or $(SHARE),0)

soak-training: $(INSTALLED)  ## thousands of random faults thrown at trainings, of a seed to choose: FAULTS=2000 SEED=1
	NANOCV_FAULTS=$(or $(FAULTS),2000) NANOCV_FAULTS_SEED=$(or $(SEED),1) OMP_NUM_THREADS=1 \
		$(BIN)/pytest -s tests/training/test_faults.py

fuzz: $(INSTALLED)  ## bytes of strangers by the million, for so long for each target: MINUTES=60 TARGETS="http labels" (Linux, x86-64)
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),60) $(TARGETS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: .audit/.installed  ## flaws that are known of the packages that constraints.txt names (asks PyPI)
	.audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

sbom.json: .audit/.installed constraints.txt pyproject.toml  ## those packages as a list of components (CycloneDX)
	.audit/bin/cyclonedx-py requirements constraints.txt --pyproject pyproject.toml --output-reproducible --output-file $@

.audit/.installed: Makefile
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet pip-audit==2.10.1 cyclonedx-bom==7.5.0
	touch $@

format: $(INSTALLED)  ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

triton: .triton/.installed  ## a real Triton server in an environment of its own (Linux, x86-64)

.triton/.installed: constraints-triton.txt
	$(PYTHON) -m venv .triton
	.triton/bin/python -m pip install --quiet --constraint constraints-triton.txt nvidia-pytriton onnxruntime pillow
	touch $@

bench: $(INSTALLED)  ## the figures that docs/figures.md quotes, as ratios measured in one run
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.infer
	$(BIN)/python -m benchmarks.train
	$(BIN)/python -m benchmarks.serving --all
	$(BIN)/python -m benchmarks.saturation --out .cache/saturation.png
	$(BIN)/python -m benchmarks.served
	$(BIN)/python -m benchmarks.instances
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.analysis

# With PYTHON's own packages: those that a machine with a GPU has beside its driver.
gpu:  ## on a machine with a CUDA device: its tests, and the figures that docs/gpu.md quotes
	$(PYTHON) -m pytest -m gpu tests/training/test_on_gpu.py
	$(PYTHON) -m benchmarks.gpu
	$(PYTHON) -m nanocv_cli.app analyze flops --model resnet18 --gpu local --measure --device cuda --batch-sizes 32 --top 12

# A demonstration trains and exports; it serves nothing and checks no code.
$(VENV)/.demo: pyproject.toml constraints.txt
	@echo 'Installation, once: 2 to 10 minutes, most of it torch (up to 5 GB where that brings CUDA).'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dvc]'
	touch $@

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

clean:
	rm -rf $(VENV) .audit .triton .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache sbom.json
