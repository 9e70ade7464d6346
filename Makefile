# One target a stage; each line only calls the command line. `make help` lists them.
RECIPE ?= recipes/demo.yaml
RUN ?=
SET ?=
SMALL ?=
PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
OPTIONS := $(if $(RUN),--run $(RUN)) $(if $(SMALL),--small) $(foreach pair,$(SET),--set $(pair))
STAGE = $(BIN)/espalier run $(RECIPE) $(OPTIONS)

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm test-vllm demo all sweep curate base sft pairs reward ppo evaluate report test test-all test-gpu setup-peers check bench bench-curate bench-train bench-curves bench-evaluate clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo "  variables: RECIPE=recipes/mine.yaml RUN=name SET='train.sft.epochs=2 seed=3' SMALL=1 NPROC=2"

$(STAMP):
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the packages of constraints.txt into $(VENV) (once; some minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@rm -f $(VENV)/.installed-* && touch $@

setup: $(STAMP) ## create .venv with the tested versions

setup-vllm: ## create .venv-vllm: vLLM for the CPU, or for a GPU where there is one
	@$(PYTHON) espalier/engines/vllm_setup.py .venv-vllm

test-vllm: setup-vllm ## the tests that need vLLM
	@.venv-vllm/bin/python -m pytest -q -m vllm

demo: setup ## the whole way on a tiny model, offline, ends in runs/demo/report.html
	@$(BIN)/espalier run recipes/demo.yaml $(OPTIONS)

all: setup ## every stage of RECIPE
	@$(STAGE)

sweep: setup ## all members of RECIPE's section `sweep`, and one page about them
	@$(BIN)/espalier sweep $(RECIPE) $(OPTIONS) $(if $(NPROC),--processes $(NPROC))

curate: setup ## stage 1: seeds or raw data -> dataset
	@$(STAGE) --stage curate --stage data_report

base: setup ## the tiny base model, where the recipe asks for one
	@$(STAGE) --stage base

sft: setup ## stage 2a: supervised fine-tuning (with its base, where the recipe trains one)
	@$(BIN)/espalier train sft --recipe $(RECIPE) $(OPTIONS)

pairs: setup ## judged samples of the SFT model
	@$(STAGE) --stage pairs

reward: setup ## stage 2b: pairs and both reward models
	@$(BIN)/espalier train reward --recipe $(RECIPE) $(OPTIONS)

ppo: setup ## stage 2c: PPO or A2C
	@$(STAGE) --stage ppo

evaluate: setup ## stage 3: answers and scores of every model
	@$(STAGE) --stage evaluate

report: setup ## stage 4: the HTML page
	@$(STAGE) --stage report

test: setup ## the fast tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all: setup ## everything: slow, multi-process, kill tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not gpu and not vllm"

test-gpu: setup ## the training suites on a CUDA device
	@$(BIN)/python -m pytest -q -rs -m gpu

setup-peers: setup ## create .venv-trl, .venv-trl-ppo and .venv-lm-eval: what ours is held against
	@$(BIN)/python benchmarks/setup_peers.py

check: setup ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench-curate: setup ## duplicates and novelty against their peers (half an hour, alone)
	@$(BIN)/python benchmarks/bench_curate.py

bench-train: setup-peers ## training against TRL (an hour, alone)
	@$(BIN)/python benchmarks/bench_train.py

bench-curves: setup-peers ## learning curves on real data beside TRL (half an hour)
	@$(BIN)/python benchmarks/bench_curves.py

bench-evaluate: setup setup-vllm ## scores and answers against their peers (half an hour, alone)
	@$(BIN)/python benchmarks/setup_peers.py .venv-lm-eval
	@for name in rouge significance contamination perplexity answers; do \
	  $(BIN)/python benchmarks/bench_$$name.py || exit 1; done

bench: setup ## the benchmarks; tables go to benchmarks/results/
	@for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean: ## remove caches and build output (runs/ and .venv stay)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
