# Everything runs in .venv, which these targets make. Python 3.11 or newer is all a machine needs;
# Apache Kafka for tests needs Java 17 and Maven too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# PyTorch from PyPI brings CUDA. For CPU only:  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# how many Apache Kafka nodes: 1 or 3; without it, kafka-down and kafka-status mean what runs
BROKERS ?=
# Tests mostly wait: for brokers, for processes that start. More workers than cores make them slower.
TEST_WORKERS ?= 2
PYTEST_OPTIONS ?=

.DEFAULT_GOAL := help
.PHONY: help demo install test coverage check lint types format schemas kafka-up kafka-down kafka-status bench model load-backlog \
	bench-gpu load-end-to-end load-faults load-network load-sigterm load-delivery-cost load-framework-cost \
	load-backpressure load-fairness load-scale load-cache load-few-shot load-start wheel tools lint-docker audit compare-variants clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; run: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=24'
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet --index-url $(TORCH_INDEX) torch)
	@touch $@

$(VENV)/.run: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing (PyTorch is large: a few minutes the first time) ..."
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

install: $(VENV)/.run  ## make the environment

demo: $(VENV)/.run  ## label the shipped tickets and posts: no Kafka, no network, no settings
	@$(BIN)/streamer demo

test: $(VENV)/.test  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_WORKERS) --dist loadscope $(PYTEST_OPTIONS)

coverage:  ## run the tests and show their branch coverage; takes a quarter longer
	$(MAKE) test PYTEST_OPTIONS='--cov --cov-report=term:skip-covered'

check: lint types test  ## what CI runs

lint: $(VENV)/.test  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test  ## mypy --strict
	$(BIN)/mypy

format: $(VENV)/.test  ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(VENV)/.run  ## write schemas/ and deploy/metrics.md from the code
	$(BIN)/python -m streamer.schemas schemas
	$(BIN)/python -m deploy.helm.generate
	$(BIN)/python -m streamer.metrics_table deploy/metrics.md

tools:  ## install what some tests need besides: helm, kubeconform, promtool, hadolint, compose-spec, Chromium
	@PYTHON=$(PYTHON) deploy/tools.sh

lint-docker:  ## hadolint on the Dockerfile; a test of `make check` does the same
	@PYTHON=$(PYTHON) deploy/tools.sh hadolint
	.tools/bin/hadolint deploy/docker/Dockerfile

# In an environment of its own, so that it brings nothing into what is tested. --strict: what PyPI does not know fails.
AUDIT := .tools/audit
audit:  ## known weaknesses of the pinned dependencies, as PyPI knows them; needs the internet, no part of check
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install --quiet 'pip-audit==2.10.1'
	$(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

kube-schemas: $(VENV)/.test  ## make the schemas anew by which tests check what the Helm chart renders (Go, minutes)
	tests/deploy/kube_schemas/remake.sh

kafka-up:  ## start Apache Kafka on 127.0.0.1 (jars from Maven Central); BROKERS=3: three nodes that can lose one
	@BROKERS=$(BROKERS) deploy/kafka/kafka.sh up

kafka-down:  ## stop it; BROKERS=3: the three nodes
	@BROKERS=$(BROKERS) deploy/kafka/kafka.sh down

kafka-status:  ## say whether it runs, and where; BROKERS=3: the three nodes
	@BROKERS=$(BROKERS) deploy/kafka/kafka.sh status

bench: $(VENV)/.test  ## speed on this machine, by stage and against gliclass
	$(BIN)/streamer bench --json

# CORPUS is no part of the project: MODEL_CARD.md says what it holds. ENCODER is a copy of all-MiniLM-L6-v2.
TRAIN = $(BIN)/streamer pretrain --data $(CORPUS) --split train --wordnet $(WORDNET)
model: $(VENV)/.test  ## train the bundled model: CORPUS=file.parquet WORDNET=folder ENCODER=folder OUT=folder
	$(TRAIN) --start $(ENCODER) --out $(OUT)-first --steps 4000 --stop-after 1500 --seed 1
	$(TRAIN) --start $(OUT)-first --out $(OUT) --written streamer/tuning/written.jsonl --steps 2000 --seed 2 \
		--fewest-labels 12 --most-labels 20

load-backlog: $(VENV)/.test  ## 200,000 records through Apache Kafka: memory flat, none lost
	$(BIN)/python -m load_tests.backlog

load-end-to-end: $(VENV)/.test  ## the bundled model through Apache Kafka beside its engine alone, by turns
	$(BIN)/python -m load_tests.end_to_end

load-faults: $(VENV)/.test  ## kills, pauses and rebalances, three brokers, 100,000 records, either delivery: none lost
	$(BIN)/python -m load_tests.faults.run --delivery exactly_once
	$(BIN)/python -m load_tests.faults.run --delivery at_least_once

load-network: $(VENV)/.test  ## the same through a bad network (toxiproxy, built by Go)
	$(BIN)/python -m load_tests.faults.network --delivery exactly_once
	$(BIN)/python -m load_tests.faults.network --delivery at_least_once

load-sigterm: $(VENV)/.test  ## 20 stops under load: drained, committed, exit code 0
	$(BIN)/python -m load_tests.faults.sigterm --delivery exactly_once
	$(BIN)/python -m load_tests.faults.sigterm --delivery at_least_once

load-delivery-cost: $(VENV)/.test  ## exactly_once against at_least_once, without a model's work and with it
	$(BIN)/python -m load_tests.delivery_cost
	$(BIN)/python -m load_tests.delivery_cost --model bundled

load-backpressure: $(VENV)/.test  ## a model and a broker that are far too slow: memory bounded, membership kept
	$(BIN)/python -m load_tests.backpressure

load-fairness: $(VENV)/.test  ## how long tickets wait while posts flood in
	$(BIN)/python -m load_tests.fairness
	$(BIN)/python -m load_tests.fairness --weight 4
	$(BIN)/python -m load_tests.fairness --max-records 128

load-scale: $(VENV)/.test  ## 1, 2 and 4 processes: what each adds, and what it costs when one comes, leaves or is killed
	$(BIN)/python -m load_tests.scale

bench-gpu: $(VENV)/.test  ## everything only a GPU can show: tests, goals, latency; exit code 2 without one
	$(BIN)/python -m load_tests.gpu

load-framework-cost: $(VENV)/.test  ## CPU of a record from poll to commit, with a model that does nothing
	$(BIN)/python -m load_tests.framework_cost

load-cache: $(VENV)/.test  ## what the score cache costs and gives
	$(BIN)/python -m load_tests.cache

load-few-shot: $(VENV)/.test  ## eight examples a label, each benchmark set: CORPUS=file.parquet WORK=folder; goes on where it was
	$(BIN)/python -m load_tests.few_shot $(CORPUS) --work $(WORK)

compare-variants: $(VENV)/.test  ## three ways for labels to meet a text, three seeds: as for model, but WORK=folder; goes on where it was
	$(BIN)/python -m load_tests.compare_variants $(CORPUS) --start $(ENCODER) --work $(WORK) \
		$(if $(WORDNET),--wordnet $(WORDNET)) --written streamer/tuning/written.jsonl --leave-out stackoverflow20

load-start: $(VENV)/.test  ## from start to ready, stage by stage
	$(BIN)/python -m load_tests.start

wheel: $(VENV)/.test  ## build the wheel: model and demo inside
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what the targets above made
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
